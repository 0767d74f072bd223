# SPDX-License-Identifier: Apache-2.0
"""The servo of the manipulator: a Cartesian velocity becomes joint velocities, within all limits.

It stands for MoveIt Servo with a velocity controller of ros2_control, or an arm's own velocity interface.
"""

from __future__ import annotations

import numpy as np

from jepa_ros.sim.arm import (
    FINGER_VELOCITY,
    FINGERS,
    JOINTS,
    LIMITS,
    MAX_ACCELERATION,
    MAX_VELOCITY,
    OPEN,
)

SINGULAR = 0.08  # smallest singular value of the Jacobian from which on the arm is slowed down
DAMPING = 0.06
WINDUP = 0.15  # rad that a joint may lag behind what it was told to


class CartesianServo:
    """Damped least squares on six joints, and the gripper's travel.

    :param mujoco: the module.
    :param model, data: with the manipulator of `arm.manipulator`.
    """

    def __init__(self, mujoco, model, data):
        self._mujoco, self._model, self._data = mujoco, model, data
        joints = [model.joint(name) for name in JOINTS]
        self._qpos = np.array([joint.qposadr[0] for joint in joints])
        self._dof = np.array([joint.dofadr[0] for joint in joints])
        self._to_position = np.array([model.actuator(f'{name}_position').id for name in JOINTS])
        self._to_velocity = np.array([model.actuator(f'{name}_velocity').id for name in JOINTS])
        self._to_fingers = np.array([model.actuator(name).id for name in FINGERS])
        self._finger_qpos = np.array([model.joint(name).qposadr[0] for name in FINGERS])
        self._tool = model.site('tool0').id
        self._jacobian = np.zeros((6, model.nv))
        self._velocity = np.zeros(6)
        self._opening = self._wanted_opening = OPEN

    @property
    def joints(self) -> np.ndarray:
        """Joint angles, float64 [6], rad."""
        return self._data.qpos[self._qpos]

    @property
    def joint_velocities(self) -> np.ndarray:
        """Joint velocities, float64 [6], rad/s."""
        return self._data.qvel[self._dof]

    @property
    def fingers(self) -> np.ndarray:
        """Travel of each finger from closed, float64 [2], m."""
        return self._data.qpos[self._finger_qpos]

    @property
    def position(self) -> np.ndarray:
        """Place of tool0 in the world, float64 [3], m."""
        return self._data.site_xpos[self._tool].copy()

    @property
    def rotation(self) -> np.ndarray:
        """Axes of tool0 in the world as columns, float64 [3, 3]."""
        return self._data.site_xmat[self._tool].reshape(3, 3).copy()

    def place(self, joints: np.ndarray) -> None:
        """Put the arm there at once, at rest, with the gripper open."""
        self._data.qpos[self._qpos] = self._target = np.array(joints, float)
        self._data.qpos[self._finger_qpos] = OPEN
        self._velocity[:] = self._data.qvel[self._dof] = 0
        self._opening = self._wanted_opening = OPEN
        self.drive(0.0)

    def grip(self, travel: float) -> None:
        """Tell each finger its travel from closed, m; it is clipped to what the fingers can do."""
        self._wanted_opening = float(np.clip(travel, 0.0, OPEN))

    def plan(self, twist: np.ndarray, dt: float) -> None:
        """Turn a twist into joint velocities for the next dt s.

        Direction is kept where speed or acceleration is too much: all joints are slowed down alike. A joint
        brakes in time before its limit.

        :param twist: float64 [6], linear (m/s) and angular (rad/s) velocity of tool0 along the world's axes.
        """
        wanted = self._solve(twist)
        wanted *= min(1.0, float(np.min(MAX_VELOCITY / np.maximum(np.abs(wanted), 1e-9))))
        change = wanted - self._velocity
        most = MAX_ACCELERATION * dt
        change *= min(1.0, float(np.min(most / np.maximum(np.abs(change), 1e-9))))
        below, above = self._target - LIMITS[:, 0], LIMITS[:, 1] - self._target
        slowest, fastest = (
            np.sqrt(2 * MAX_ACCELERATION * np.maximum(room - 0.01, 0)) for room in (below, above)
        )
        self._velocity = np.clip(self._velocity + change, -slowest, fastest)

    def drive(self, dt: float) -> None:
        """Set the actuators for a physics step of dt s."""
        data = self._data
        now = data.qpos[self._qpos]
        # not np.clip, which takes several times longer for so few numbers: this is called at every step
        target = np.minimum(np.maximum(self._target + self._velocity * dt, now - WINDUP), now + WINDUP)
        self._target = np.minimum(np.maximum(target, LIMITS[:, 0]), LIMITS[:, 1])
        step = FINGER_VELOCITY * dt
        self._opening += min(max(self._wanted_opening - self._opening, -step), step)
        data.ctrl[self._to_position] = self._target
        data.ctrl[self._to_velocity] = self._velocity
        data.ctrl[self._to_fingers] = self._opening

    def _solve(self, twist: np.ndarray) -> np.ndarray:
        if not np.any(twist):
            return np.zeros(6)
        full = self._jacobian
        self._mujoco.mj_jacSite(self._model, self._data, full[:3], full[3:], self._tool)
        u, s, vt = np.linalg.svd(full[:, self._dof])
        near = max(0.0, 1 - (s[-1] / SINGULAR) ** 2)
        return vt.T @ (s / (s**2 + near * DAMPING**2) * (u.T @ twist))
