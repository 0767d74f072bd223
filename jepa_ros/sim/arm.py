# SPDX-License-Identifier: Apache-2.0
"""The MJCF of the mobile manipulator: a parked base, six turning joints, a parallel gripper, a camera.

With all joints at zero the arm is stretched out forward and the hand points down. Frames: `base_link` on the
floor, x forward, z up; `tool0` between the finger tips, z out of the hand, y the way in which the fingers
close.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jepa_ros.angles import wrapped
from jepa_ros.sim.world import BELT_TOP, PAINTS, Fixture, box, element, geom

JOINTS = ('shoulder_pan', 'shoulder_lift', 'elbow', 'wrist_pitch', 'wrist_roll', 'wrist_yaw')
FINGERS = ('finger_left', 'finger_right')
LIMITS = np.array([(-2.9, 2.9), (-2.4, 0.9), (0.1, 2.8), (-2.6, 2.6), (-1.8, 1.8), (-3.05, 3.05)])  # rad
MAX_VELOCITY = np.array([2.1, 2.1, 3.1, 3.1, 3.1, 3.1])  # rad/s
MAX_ACCELERATION = np.array([12.0, 12.0, 18.0, 25.0, 25.0, 25.0])  # rad/s^2
OPEN = 0.045  # m, travel of each finger
FINGER_VELOCITY = 0.15  # m/s

SHOULDER = 0.90  # m, height of the shoulder's lifting axis
UPPER, FOREARM = 0.58, 0.54  # m
HAND = 0.325  # m from the axis of wrist_pitch to tool0, while the hand points down
REACH = 0.40, 1.02  # m from the axis of shoulder_pan that the hand, pointing down, may work in
RACK_TOP = 0.56  # m

_GAINS = ((8000, 500), (8000, 500), (5000, 260), (1200, 50), (800, 25), (400, 12))  # N m/rad, N m s/rad
_TORQUES = (400, 400, 250, 80, 60, 40)  # N m
_TOUCH = {'contype': 2, 'conaffinity': 1}  # meets everything but other parts of the manipulator


@dataclass(frozen=True)
class Station:
    """Where the manipulator is parked.

    :param x, y: of its base on the floor, m.
    :param yaw: its heading, rad.
    """

    x: float
    y: float
    yaw: float

    @property
    def rack(self) -> np.ndarray:
        """Middle of the rack's top beside it, float64 [3], m."""
        return np.array([self.x + 0.56, self.y + 0.02, RACK_TOP])

    def joints(self, tool: np.ndarray) -> np.ndarray:
        """Return the joints, float64 [6], with which tool0 is at a place (m, world) and the hand points down.

        :raises ValueError: when that is out of reach.
        """
        x, y = tool[0] - self.x, tool[1] - self.y
        out, up = np.hypot(x, y), tool[2] + HAND - SHOULDER
        cosine = (out**2 + up**2 - UPPER**2 - FOREARM**2) / (2 * UPPER * FOREARM)
        if not -1 < cosine < 1:
            raise ValueError(f'expected a place within reach, found {tool}')
        elbow = np.arccos(cosine)
        lift = -np.arctan2(up, out) - np.arctan2(FOREARM * np.sin(elbow), UPPER + FOREARM * np.cos(elbow))
        pan = wrapped(np.arctan2(y, x) - self.yaw)
        return np.array([pan, lift, elbow, -lift - elbow, 0.0, 0.0])


def station(rng: np.random.Generator) -> Station:
    """Draw a place in front of the belt, downstream of all pillars, beside the fixed camera's picture."""
    return Station(
        rng.uniform(0.76, 0.84), -0.54 + rng.uniform(-0.02, 0.02), np.pi / 2 + rng.uniform(-0.1, 0.1)
    )


def manipulator(rng: np.random.Generator, at: Station) -> Fixture:
    """Return the manipulator on its base, and the rack beside it, in colours of a seed."""
    accent = np.array(PAINTS[rng.choice(['blue', 'orange', 'teal', 'green', 'red', 'violet'])])
    shell = np.full(3, rng.uniform(0.62, 0.9))
    dark = np.full(3, rng.uniform(0.12, 0.24))

    def servo(joint: str, gains, torque: float) -> list[str]:
        # a velocity command is followed without lag: its integral by one actuator, itself by the other
        kp, kv = gains
        force = {'joint': joint, 'forcerange': (-torque, torque)}
        return [
            element('position', name=f'{joint}_position', kp=kp, **force),
            element('velocity', name=f'{joint}_velocity', kv=kv, **force),
        ]

    actuators = [
        line for joint, gains, torque in zip(JOINTS, _GAINS, _TORQUES) for line in servo(joint, gains, torque)
    ]
    actuators += [
        element('position', name=finger, joint=finger, kp=2500, kv=60, forcerange=(-35, 35))
        for finger in FINGERS
    ]
    # both fingers move as one
    gear = element('joint', joint1=FINGERS[0], joint2=FINGERS[1], polycoef=(0, 1, 0, 0, 0), solref=(0.004, 1))
    return Fixture([_base(at, shell, dark, accent), *_rack(at, dark, shell)], actuators, [gear])


def _body(name: str, pos, parts: list[str], **more) -> str:
    head = element('body', name=name, pos=pos, **more).replace('/>', '>')
    return '\n      '.join([head, *parts, '</body>'])


def _joint(index: int, axis) -> str:
    look = {'type': 'hinge', 'armature': 0.4 if index < 3 else 0.05, 'damping': 1.0}
    return element('joint', name=JOINTS[index], axis=axis, range=LIMITS[index], limited='true', **look)


def _tube(radius: float, start, end, paint, mass: float, **more) -> str:
    return geom('capsule', radius, None, paint, fromto=(*start, *end), mass=mass, **_TOUCH, **more)


def _drum(radius: float, start, end, paint, mass: float) -> str:
    return geom('cylinder', radius, None, paint, fromto=(*start, *end), mass=mass, **_TOUCH)


def _base(at: Station, shell, dark, accent) -> str:
    parts = [
        box((0.22, 0.31, 0.12), (0, 0, 0.20), shell * 0.55, **_TOUCH),
        box((0.225, 0.315, 0.015), (0, 0, 0.14), accent, solid=False),
        box((0.20, 0.29, 0.012), (0, 0, 0.332), dark, solid=False),
        geom('cylinder', (0.10, 0.21), (0, 0, 0.54), shell, solid=False),
        geom('cylinder', (0.13, 0.02), (0, 0, 0.36), accent, solid=False),
        element('site', name='base_link', pos=(0, 0, 0), size=0.001, rgba=(0, 0, 0, 0)),
    ]
    for x in (-0.14, 0.14):
        for y in (-0.27, 0.27):
            wheel = (x, y - 0.03, 0.08, x, y + 0.03, 0.08)
            parts.append(geom('cylinder', 0.08, None, dark, solid=False, fromto=wheel))
    parts.append(_shoulder(shell, dark, accent))
    return _body('base_link', (at.x, at.y, 0), parts, euler=(0, 0, at.yaw))


def _shoulder(shell, dark, accent) -> str:
    side = 0.115  # the upper arm runs beside the forearm
    upper = [
        _joint(1, (0, 1, 0)),
        _drum(0.072, (0, -0.06, 0), (0, side + 0.065, 0), accent, 2.0),
        _tube(0.052, (0, side, 0), (UPPER, side, 0), shell, 3.5),
        _forearm(side, shell, dark, accent),
    ]
    shoulder = [
        _joint(0, (0, 0, 1)),
        _drum(0.085, (0, 0, -0.04), (0, 0, 0.05), dark, 2.0),
        _drum(0.078, (0, 0, 0.05), (0, 0, 0.12), shell, 2.0),
        _body('upper_arm', (0, 0, SHOULDER - 0.78), upper, gravcomp=1),
    ]
    return _body('shoulder', (0, 0, 0.78), shoulder, gravcomp=1)


def _forearm(side: float, shell, dark, accent) -> str:
    parts = [
        _joint(2, (0, 1, 0)),
        _drum(0.055, (0, -0.05, 0), (0, side + 0.055, 0), accent, 1.0),
        _tube(0.041, (0, 0, 0), (FOREARM, 0, 0), shell, 2.0),
        _body('wrist_1', (FOREARM, 0, 0), _wrist(shell, dark, accent), gravcomp=1),
    ]
    return _body('forearm', (UPPER, 0, 0), parts, gravcomp=1)


def _wrist(shell, dark, accent) -> list[str]:
    hand = [
        _joint(5, (0, 0, -1)),
        _drum(0.036, (0, 0, 0), (0, 0, -0.035), dark, 0.3),
        box((0.022, 0.082, 0.016), (0, 0, -0.048), shell * 0.8, mass=0.3, **_TOUCH),
        # the camera looks across the bar between the fingers, from far enough to see it whole
        geom('capsule', 0.007, None, dark, solid=False, fromto=(0, 0.03, -0.02, 0, 0.125, 0.035)),
        box((0.022, 0.012, 0.012), (0, 0.13, 0.042), dark, solid=False),
        element(
            'camera',
            name='arm_camera',
            pos=(0, 0.13, 0.028),
            fovy=70,
            xyaxes=(1, 0, 0, 0, np.cos(0.42), -np.sin(0.42)),
        ),
        element('site', name='tool0', pos=(0, 0, -0.165), quat=(0, 1, 0, 0), size=0.001, rgba=(0, 0, 0, 0)),
        *(_finger(name, side, dark, accent) for name, side in zip(FINGERS, (1, -1))),
    ]
    roll = [
        _joint(4, (1, 0, 0)),
        _drum(0.040, (-0.05, 0, 0), (0.05, 0, 0), accent, 0.5),
        _tube(0.032, (0, 0, 0), (0, 0, -0.06), shell, 0.3),
        _body('hand', (0, 0, -0.07), hand, gravcomp=1),
    ]
    return [
        _joint(3, (0, 1, 0)),
        _drum(0.043, (0, -0.055, 0), (0, 0.055, 0), accent, 0.6),
        _tube(0.035, (0, 0, 0), (0, 0, -0.08), shell, 0.3),
        _body('wrist_2', (0, 0, -0.09), roll, gravcomp=1),
    ]


def _finger(name: str, side: int, dark, accent) -> str:
    # soft pads: friction in turning too, so that a bin hangs still
    grip = {'condim': 4, 'friction': (1.3, 0.02, 0.001), 'solref': (0.008, 1), 'mass': 0.06}
    parts = [
        element(
            'joint',
            name=name,
            type='slide',
            axis=(0, side, 0),
            range=(0, OPEN),
            limited='true',
            armature=0.1,
            damping=2,
        ),
        box((0.013, 0.007, 0.030), (0, side * 0.009, -0.032), dark, mass=0.05, **_TOUCH),
        box((0.013, 0.006, 0.028), (0, side * 0.006, -0.088), accent, name=f'{name}_pad', **grip, **_TOUCH),
    ]
    return _body(name, (0, 0, -0.06), parts, gravcomp=1)


def _rack(at: Station, dark, shell) -> list[str]:
    x, y, top = at.rack
    return [
        box((0.20, 0.22, 0.012), (x, y, top - 0.012), shell * 0.8, name='rack'),
        *(
            box((0.012, 0.012, top / 2 - 0.012), (x + dx, y + dy, top / 2 - 0.012), dark, solid=False)
            for dx in (-0.18, 0.18)
            for dy in (-0.2, 0.2)
        ),
    ]


HOME_HEIGHT = BELT_TOP + 0.50  # m, of tool0 while the arm waits
