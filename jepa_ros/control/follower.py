# SPDX-License-Identifier: Apache-2.0
"""The whole controller without ROS: from what arrives to what is commanded, and why nothing is."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from jepa_ros.control.path import PathPoint, PredictedPath
from jepa_ros.control.servo import Servo, ServoSettings
from jepa_ros.control.watchdog import RefusedError, Watchdog, WatchdogSettings
from jepa_ros.errors import JepaError


class Phase(Enum):
    """What the controller is doing."""

    DISABLED = 'disabled'
    STOPPED = 'stopped'
    FOLLOWING = 'following'


@dataclass(frozen=True)
class FollowerSettings:
    """
    What the controller is tuned with.

    :param servo: the law.
    :param watchdog: how old what it acts on may be.
    :param horizon: how far ahead of now it aims, in s: the delay from command to motion.
    :param max_deviation: largest standard deviation of the followed point that is acted on, 0..1 of the
        image.
    :param max_surprise: largest mean surprise of the newest latents that is acted on (mean squared difference
        of normalised latents: 0 as foreseen, about 2 unrelated); 0 does not watch it.
    :param grasp_radius: the gripper closes nearer to the target than this and opens beyond twice this, in m;
        0: never.
    :param gripper_open: command that opens the gripper, one number per joint; empty if there is no gripper.
    :param gripper_closed: command that closes it.
    """

    servo: ServoSettings = field(default_factory=ServoSettings)
    watchdog: WatchdogSettings = field(default_factory=WatchdogSettings)
    horizon: float = 0.2
    max_deviation: float = 0.1
    max_surprise: float = 1.0
    grasp_radius: float = 0.0
    gripper_open: tuple[float, ...] = ()
    gripper_closed: tuple[float, ...] = ()


@dataclass(frozen=True)
class Command:
    """
    What is to be sent after one step.

    :param phase: what the controller is doing.
    :param reason: why it does not follow; empty while it does.
    :param velocity: float64 [2], m/s along x and y of the camera's optical frame; None: send nothing.
    :param gripper: one number per joint; empty: send nothing, the gripper keeps what it holds.
    :param target: the followed point at the instant aimed for; None while there is none to act on.
    :param target_stamp_ns: that instant.
    """

    phase: Phase
    reason: str
    velocity: np.ndarray | None
    gripper: tuple[float, ...]
    target: PathPoint | None
    target_stamp_ns: int


class Follower:
    """
    Follows a predicted point as long as there is no doubt about it.

    It starts disabled. Disabled, it commands nothing but still says what it would aim at. In doubt it
    commands explicit zeros, at every step, and goes on from rest when the doubt is gone.

    :param settings: how it is tuned; may be replaced between steps.
    :param period: time between two steps in s.
    :param model: hash of the only model that it acts on.
    """

    def __init__(self, settings: FollowerSettings, period: float, model: int):
        self._servo = Servo(settings.servo, period)
        self.futures: Watchdog[PredictedPath] = Watchdog('futures', settings.watchdog, model)
        self.latents: Watchdog[float] = Watchdog('latents', settings.watchdog, model)
        self._enabled = self._closed = False
        self.settings = settings

    @property
    def settings(self) -> FollowerSettings:
        """How it is tuned."""
        return self._settings

    @settings.setter
    def settings(self, settings: FollowerSettings) -> None:
        self._settings = settings
        self._servo.settings = settings.servo
        self.futures.settings = self.latents.settings = settings.watchdog

    @property
    def enabled(self) -> bool:
        """Whether it may command motion. Disabling also forgets the speed it had."""
        return self._enabled

    @enabled.setter
    def enabled(self, enabled: bool) -> None:
        self._enabled = enabled
        self._servo.stop()

    def step(self, now_ns: int, steady_ns: int) -> Command:
        """
        Decide what to send now; called once per period.

        :param now_ns: now in ns on the clock that stamps are made with.
        :param steady_ns: now in ns on a steady clock.
        """
        instant_ns = now_ns + round(self.settings.horizon * 1e9)
        try:
            point, reason = self._aim(now_ns, steady_ns), ''
        except JepaError as error:
            point, reason = None, str(error)
        if not self._enabled:
            return Command(Phase.DISABLED, reason or 'disabled', None, (), point, instant_ns)
        if point is None:
            self._servo.stop()
            return Command(Phase.STOPPED, reason, np.zeros(2), (), None, instant_ns)
        velocity = self._servo.step(point)
        return Command(Phase.FOLLOWING, '', velocity, self._gripper(point), point, instant_ns)

    def _aim(self, now_ns: int, steady_ns: int) -> PathPoint:
        settings = self.settings
        path = self.futures.check(now_ns, steady_ns)
        # Horizons count from the newest frame, which is this old by now.
        point = path.at(self.futures.age(now_ns) + settings.horizon)
        if point.deviation > settings.max_deviation:
            raise RefusedError('the followed point is uncertain: its standard deviation is '
                               f'{point.deviation:.3f} of the image, {settings.max_deviation:g} allowed')
        if settings.max_surprise > 0:
            surprise = self.latents.check(now_ns, steady_ns)
            # NaN: perception had no forecast for exactly this instant, which says nothing against this one.
            if surprise > settings.max_surprise:
                raise RefusedError(
                    f'the scene surprises the model: {surprise:.2f}, {settings.max_surprise:g} allowed')
        return point

    def _gripper(self, point: PathPoint) -> tuple[float, ...]:
        settings = self.settings
        distance = np.hypot(*np.multiply(settings.servo.view_extent, point.position - settings.servo.target))
        self._closed = bool(distance < settings.grasp_radius * (2 if self._closed else 1))
        return settings.gripper_closed if self._closed else settings.gripper_open
