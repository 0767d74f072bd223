# SPDX-License-Identifier: Apache-2.0
"""A policy that knows everything: shows that the cell can be solved, and names what the arm does."""

from __future__ import annotations

import numpy as np

from jepa_ros.angles import wrapped
from jepa_ros.sim.arm import OPEN
from jepa_ros.sim.cell import ConveyorCell
from jepa_ros.sim.truth import Pose
from jepa_ros.sim.world import Bin

PHASES = ('wait', 'follow', 'lower', 'close', 'lift', 'hold', 'carry', 'place', 'release', 'return')
DIRECTIONS = ('still', 'left', 'right', 'near', 'far', 'down', 'up', 'turn')
ACTIONS = tuple(f'{phase}_{direction}' for phase in PHASES for direction in DIRECTIONS)

GAIN = 5.0  # 1/s
HOVER = 0.13  # m above the handle
FIRST, LAST = 0.05, 0.62  # m, the part of the belt where bins are taken
MAX_SPEED = 0.7  # m/s
MAX_TURN = 2.0  # rad/s
LIFT = 0.17  # m


class OraclePolicy:
    """Follows the true handle, closes the gripper around it, lifts the bin and puts it on the rack.

    :param cell: asked for what is true, and commanded, once per camera frame.

    Attribute `phase`: one of PHASES; `action`: one of ACTIONS, what the arm is told at the current frame.
    """

    def __init__(self, cell: ConveyorCell):
        self._cell = cell
        self._bin: Bin = cell.bin
        self.phase, self._since = 'wait', 0.0
        self._spot = cell.home
        self._yaw = self._flipped(cell.tool)
        self.action = 'wait_still'

    def step(self) -> np.ndarray:
        """Command the cell for the coming frame. Returns the twist, float64 [6], along the world's axes."""
        cell = self._cell
        phase = self.phase
        twist = getattr(self, f'_{phase}')()
        twist[:3] *= min(1.0, MAX_SPEED / max(np.linalg.norm(twist[:3]), 1e-9))
        twist[3:] *= min(1.0, MAX_TURN / max(np.linalg.norm(twist[3:]), 1e-9))
        cell.command(twist, 'world')
        self.action = f'{phase}_{direction(twist)}'
        self._since += 1 / cell.fps
        return twist

    # The phases: each returns a twist and may go on to another.

    def _wait(self) -> np.ndarray:
        """Hover where the handle will come into reach."""
        cell = self._cell
        cell.grip(OPEN)
        self._bin = cell.bin
        handle = cell.handle_pose(self._bin).position
        if cell.was_taken(self._bin) or handle[0] > LAST or handle[2] < 0.5:
            return self._towards(cell.home)
        self._align()
        if handle[0] > FIRST - 0.06 and cell.reaches(handle):
            self._go('follow')
        return self._towards((max(handle[0], FIRST), handle[1], handle[2] + HOVER))

    def _follow(self) -> np.ndarray:
        """Hover over the handle and match its speed."""
        error, velocity = self._errors()
        if self._lost():
            return self._go('return')
        self._align()
        if np.hypot(*error[:2]) < 0.006 and abs(self._turn_left()) < 0.06:
            self._go('lower')
        return self._towards(self._handle() + (0, 0, HOVER), velocity)

    def _lower(self) -> np.ndarray:
        error, velocity = self._errors()
        if self._lost():
            return self._go('return')
        if np.hypot(*error[:2]) > 0.03:
            self._go('follow')
        elif np.linalg.norm(error) < 0.009:
            self._go('close')
        twist = self._towards(self._handle(), velocity)
        twist[2] = np.clip(twist[2], -0.35, 0.35)
        return twist

    def _close(self) -> np.ndarray:
        self._cell.grip(0.0)
        if self._since > 0.45:
            self._spot = self._cell.tool.position + (0, 0, LIFT)
            self._go('lift' if self._cell.opening > 0.006 else 'return')
        return self._towards(self._handle(), self._errors()[1])

    def _lift(self) -> np.ndarray:
        """Go up, and stop moving along only on the way."""
        tool, velocity = self._cell.tool.position, self._errors()[1]
        left = self._spot[2] - tool[2]
        if left < 0.01:
            self._spot = tool
            self._go('hold')
        along = velocity[0] * np.clip((left - 0.08) / 0.06, 0, 1)
        return self._twist((along, 0.0, np.clip(GAIN * left, 0.05, 0.3)))

    def _hold(self) -> np.ndarray:
        if self._cell.was_taken(self._bin):
            self._go('carry')
        elif self._since > 2.0:
            self._go('return')
        return self._towards(self._spot)

    def _carry(self) -> np.ndarray:
        """Swing about the base to the rack, with the hand keeping its side towards the base."""
        station, tool = self._cell.station, self._cell.tool.position
        rack = station.rack - (station.x, station.y, 0)
        now = tool - (station.x, station.y, 0)
        angle, wanted = np.arctan2(now[1], now[0]), np.arctan2(rack[1], rack[0])
        out = np.hypot(*rack[:2]) - np.hypot(*now[:2])
        turn = float(np.clip(3.0 * (wanted - angle), -1.0, 1.0))
        if abs(wanted - angle) < 0.03 and abs(out) < 0.02:
            self._go('place')
        radial = np.array([np.cos(angle), np.sin(angle)])
        flat = 2.0 * np.clip(out, -0.15, 0.15) * radial + turn * np.hypot(*now[:2]) * np.array(
            [-radial[1], radial[0]]
        )
        self._yaw += turn / self._cell.fps
        twist = self._twist((*flat, GAIN * (self._spot[2] - tool[2])))
        twist[5] += turn
        return twist

    def _place(self) -> np.ndarray:
        bottom = self._cell.bin_pose(self._bin).position[2] - self._cell.station.rack[2]
        if bottom < 0.004 or self._since > 3.0:
            self._go('release')
        return self._twist((0.0, 0.0, -np.clip(2.0 * bottom, 0.03, 0.25)))

    def _release(self) -> np.ndarray:
        self._cell.grip(OPEN)
        if self._since > 0.4:
            self._go('return')
        return self._twist(np.zeros(3))

    def _return(self) -> np.ndarray:
        """Up first, then home."""
        cell = self._cell
        cell.grip(OPEN)
        tool, home = cell.tool.position, cell.home
        if home[2] - tool[2] > 0.12:
            return self._twist((0.0, 0.0, 0.4))
        left = home - tool
        self._yaw = self._flipped(cell.tool, np.pi / 2)
        waiting = cell.bin if not cell.was_taken(cell.bin) else None
        if np.linalg.norm(left) < 0.03 or (waiting and np.hypot(*left[:2]) < 0.4 and self._since > 0.5):
            self._go('wait')
        return self._towards(home)

    # What they share.

    def _go(self, phase: str) -> np.ndarray:
        self.phase, self._since = phase, 0.0
        return np.zeros(6)

    def _handle(self) -> np.ndarray:
        return self._cell.handle_pose(self._bin).position

    def _errors(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the way from the tool to the handle (m), and the handle's velocity (m/s)."""
        return self._handle() - self._cell.tool.position, self._cell.handle_velocity(self._bin)

    def _lost(self) -> bool:
        handle = self._handle()
        gone = self._bin is not self._cell.bin or handle[2] < 0.6
        return gone or not FIRST - 0.2 < handle[0] < LAST + (0.1 if self.phase == 'lower' else 0.0)

    def _align(self) -> None:
        """Want the fingers to close across the bar: of the two ways the nearer to how the arm points."""
        bar = self._cell.handle_pose(self._bin).rotation[:, 0]
        yaw = np.arctan2(bar[1], bar[0])
        pan = self._arm_yaw(self._handle())
        self._yaw = pan + wrapped(yaw - pan, np.pi)

    def _arm_yaw(self, place: np.ndarray) -> float:
        station = self._cell.station
        return float(np.arctan2(place[1] - station.y, place[0] - station.x))

    def _flipped(self, tool: Pose, most: float = np.pi) -> float:
        """Return the hand's yaw, within `most` of how the arm points."""
        pan = self._arm_yaw(tool.position)
        yaw = np.arctan2(tool.rotation[1, 0], tool.rotation[0, 0])
        return pan + float(np.clip(wrapped(yaw - pan), -most, most))

    def _turn_left(self) -> float:
        tool = self._cell.tool
        yaw = np.arctan2(tool.rotation[1, 0], tool.rotation[0, 0])
        return wrapped(self._yaw - yaw)

    def _towards(self, place, velocity=(0.0, 0.0, 0.0)) -> np.ndarray:
        """Close the distance to a place that moves with a velocity."""
        return self._twist(GAIN * (np.asarray(place) - self._cell.tool.position) + velocity)

    def _twist(self, linear) -> np.ndarray:
        """Add the turn that keeps the hand pointing down and the yaw as wanted."""
        down = self._cell.tool.rotation[:, 2]
        level = GAIN * np.cross(down, (0.0, 0.0, -1.0))
        return np.array([*linear, level[0], level[1], GAIN * self._turn_left()])


def direction(twist: np.ndarray) -> str:
    """Name the main direction of a twist along the world's axes, one of DIRECTIONS.

    Left, right, near and far are as the fixed camera sees them: the belt runs to the right.
    """
    axis = int(np.argmax(np.abs(twist[:3])))
    if abs(twist[axis]) < 0.02:
        return 'turn' if abs(twist[5]) > 0.1 else 'still'
    if abs(twist[5]) > 0.5 and abs(twist[5]) * 0.1 > abs(twist[axis]):
        return 'turn'
    names = (('left', 'right'), ('near', 'far'), ('down', 'up'))
    return names[axis][int(twist[axis] > 0)]
