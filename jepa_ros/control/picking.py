# SPDX-License-Identifier: Apache-2.0
"""
The task of taking bins off a belt by their handles: all that is this task's own.

:class:`Picker` is driven like :class:`~jepa_ros.control.follower.Follower`, by a node or in lockstep::

    picker = Picker(PickSettings(), period=0.05, model=bundle.model_id)
    picker.calibration = Calibration(size, matrix, position, rotation)
    picker.enabled = True
    picker.futures.offer(path, path.stamp_ns, model, now_ns, steady_ns)   # a PredictedPath, whenever one comes
    picker.latents.offer(surprise, stamp_ns, model, now_ns, steady_ns)    # where max_surprise is above 0
    command = picker.step(now_ns, steady_ns, Tool(position, rotation), opening)

Poses, twists and places are in one frame, that of camera and tool: `base_link` on a robot, or `world`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

import numpy as np

from jepa_ros.control.calibration import Calibration
from jepa_ros.control.intercept import Arm, HandleState, HandleTrack, Intercept, TrackSettings, intercept
from jepa_ros.control.path import PredictedPath
from jepa_ros.control.watchdog import RefusedError, Watchdog, WatchdogSettings
from jepa_ros.errors import JepaError


class PickState(Enum):
    """What the picker is doing."""

    DISABLED = 'disabled'
    STOPPED = 'stopped'  # in doubt about what it acts on: zeros
    WAITING = 'waiting'  # at home, for a handle that will come into reach
    APPROACHING = 'approaching'  # to hover where the handle can be met
    TRACKING = 'tracking'  # hovering over the handle, at its speed
    LOWERING = 'lowering'
    CLOSING = 'closing'
    LIFTING = 'lifting'
    HOLDING = 'holding'
    CARRYING = 'carrying'  # to where bins are put down
    PLACING = 'placing'
    RELEASING = 'releasing'
    RETREATING = 'retreating'  # up, after an attempt that failed or a bin put down


@dataclass(frozen=True)
class PickSettings:
    """
    What the task is tuned with.

    :param track: belt, handles, and how futures are weighed.
    :param arm: limits of speed and place.
    :param watchdog: how old what it acts on may be.
    :param horizon: the delay from command to motion, s; the age of the futures is added, as it is.
    :param gain: share of the distance that is closed per second, 1/s.
    :param max_turn: limit of the turning speed, rad/s.
    :param max_error: largest standard deviation of the handle's place that is acted on, m.
    :param max_surprise: as for the follower; 0 does not watch it.
    :param patience: for how long an attempt goes on in doubt before it is given up, s.
    :param home: where the tool waits, m.
    :param hover: how far above the handle the tool waits for it, m.
    :param lift: how far a bin is lifted, m.
    :param hold: for how long it is held there, s.
    :param place: where bins are put down, m; empty: they are held for good.
    :param gripper_open: command that opens the gripper, one number per joint.
    :param gripper_closed: command that closes it.
    :param closing_time: for how long it is closed before the bin is lifted, s.
    :param min_opening: opening below which the closed gripper holds nothing, in the unit of the joints.
    """

    track: TrackSettings = field(default_factory=TrackSettings)
    arm: Arm = field(default_factory=Arm)
    watchdog: WatchdogSettings = field(default_factory=lambda: WatchdogSettings(0.2, 0.17, 0.05))
    horizon: float = 0.03
    gain: float = 5.0
    max_turn: float = 2.0
    max_error: float = 0.04
    max_surprise: float = 1.0
    patience: float = 0.3
    home: tuple[float, float, float] = (0.60, -0.04, 1.10)
    hover: float = 0.13
    lift: float = 0.17
    hold: float = 1.3
    place: tuple[float, ...] = ()
    gripper_open: tuple[float, ...] = (0.045,)
    gripper_closed: tuple[float, ...] = (0.0,)
    closing_time: float = 0.45
    min_opening: float = 0.006


@dataclass(frozen=True)
class Tool:
    """
    Where the tool is.

    :param position: float64 [3], between the finger tips, m.
    :param rotation: float64 [3, 3], its axes as columns: z out of the hand, y the way in which fingers close.
    :param stamp_ns: when it was there; 0: now.
    """

    position: np.ndarray
    rotation: np.ndarray
    stamp_ns: int = 0


@dataclass(frozen=True)
class PickCommand:
    """
    What is to be sent after one step.

    :param state: what it is doing.
    :param reason: why it does not go on, or why the last attempt was given up; empty while all is well.
    :param twist: float64 [6], velocity of the tool, linear (m/s) and angular (rad/s), along the axes of the
        frame; None: send nothing.
    :param gripper: one number per joint; empty: send nothing, it keeps what it holds.
    :param path: when (ns) and where the handle is expected, one per horizon; empty while nothing is known.
    :param intercept: where and when it can be met first; None: not within the horizons.
    """

    state: PickState
    reason: str
    twist: np.ndarray | None
    gripper: tuple[float, ...] = ()
    path: tuple[tuple[int, HandleState], ...] = ()
    intercept: Intercept | None = None
