# SPDX-License-Identifier: Apache-2.0
"""Where a handle on a belt will be, from a stream of predicted paths, and where an arm can meet it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from jepa_ros.control.belt_motion import BeltMotion, MotionSettings
from jepa_ros.control.calibration import Calibration
from jepa_ros.control.path import PredictedPath, PredictionError

GRASP = 'grasp'  # the attribute that is understood: cos 2ψ, sin 2ψ, height above the belt in m
FORGET = 3.0  # times `slow_memory` after which nothing of a path is left
UNKNOWN = 1.0  # m^2, variance of a height of which the bundle says nothing
STEP = 0.02  # s between the instants that an intercept is looked for at


@dataclass(frozen=True)
class TrackSettings:
    """
    What is known beforehand about belt and handles, and how the futures are weighed.

    :param belt_height: z of the belt's top, m.
    :param belt_yaw: direction in which the belt runs, from x of the frame, rad.
    :param lane: where across the belt handles ride, to the left of the frame's origin, m, and the standard
        deviation of that. It matters where the camera looks along the belt's plane rather than down on it: an
        error of the height, or upwards in the picture, is there several times as far across the belt.
    :param handle_height: of handles above the belt, m; a bundle may know better.
    :param handle_spread: standard deviation of that, m.
    :param handle_yaw: of the bar from the belt's direction, rad, where the bundle does not say it.
    :param motion: how belts move, and how futures err along them.
    :param slow_memory: for how long what is nearly constant is remembered: place across the belt, height, yaw, s.
    :param gate: how far these may deviate from those before, in standard deviations.
    """

    belt_height: float = 0.60
    belt_yaw: float = 0.0
    lane: tuple[float, float] = (0.0, 0.03)
    handle_height: float = 0.20
    handle_spread: float = 0.03
    handle_yaw: float = 0.0
    motion: MotionSettings = field(default_factory=MotionSettings)
    slow_memory: float = 1.5
    gate: float = 3.0


@dataclass(frozen=True)
class HandleState:
    """
    The handle at one instant.

    :param position: float64 [3], m.
    :param velocity: float64 [3], m/s.
    :param yaw: direction of the bar from x of the frame, rad, modulo pi.
    :param covariance: float64 [6, 6] of x, y, z (m) and of turns about x, y, z (rad), as in
        geometry_msgs/PoseWithCovariance; about x and y nothing is known, they count as level.
    """

    position: np.ndarray
    velocity: np.ndarray
    yaw: float
    covariance: np.ndarray

    @property
    def deviation(self) -> float:
        """Standard deviation along the horizontal direction in which it is largest, m."""
        return float(np.sqrt(max(np.linalg.eigvalsh(self.covariance[:2, :2])[-1], 0.0)))


@dataclass(frozen=True)
class _Evidence:
    """One path: when (s), its points, and its mean of what is nearly constant, with variances."""

    stamp: float
    times: np.ndarray
    points: np.ndarray
    covariances: np.ndarray
    grasp: np.ndarray  # [3]
    grasp_variance: np.ndarray


class HandleTrack:
    """
    The handle's way along the belt, estimated from the newest futures.

    A path says where the handle will be at each of its horizons, also while the handle is hidden. What paths say of
    the motion along the belt is brought together by a :class:`~jepa_ros.control.belt_motion.BeltMotion`. Place across
    the belt, height and yaw belong to a bin and hardly change: they are averaged. A path that deviates from those
    before it is put aside. If the next one agrees with it, another bin has come and what was before is forgotten; if
    not, it was an outlier.

    Errors of successive futures are alike, since they come from nearly the same frames and the same bin: nothing
    becomes more certain by averaging. What the fingers felt is a measurement too, see :meth:`feel`.

    :param settings: see there; may be replaced at any time.
    """

    def __init__(self, settings: TrackSettings):
        self._motion = BeltMotion(settings.motion)
        self.settings = settings
        self.reset()

    @property
    def settings(self) -> TrackSettings:
        """What it believes; those of the motion go on to it."""
        return self._settings

    @settings.setter
    def settings(self, settings: TrackSettings) -> None:
        self._settings, self._motion.settings = settings, settings.motion

    def reset(self) -> None:
        """Forget everything."""
        self._calibration: Calibration | None = None
        self._motion.reset()
        self._slow = _Recent()
        self._origin_ns = 0
        self._grasp = np.zeros(3), np.zeros(3)  # mean and variance
        self._across, self._across_height = 0.0, np.zeros((2, 2))  # m; covariance of it and the height
        self._felt: tuple[float, float] | None = None  # height above the belt, and its standard deviation, m

    def feel(self, height: float, deviation: float) -> None:
        """
        Take in how high the bar is, as something felt that touched it; it holds for this bin.

        The ray on which the bar was seen leads to another place across and along the belt then.

        :param height: of its axis above the belt, m; `deviation`: standard deviation of that, m.
        """
        if self._slow.held:  # else there is nothing known that it could belong to
            self._felt = height, deviation
            self._fuse_slow()

    def add(self, path: PredictedPath, calibration: Calibration) -> None:
        """
        Take the newest futures in.

        :param path: newer than those before, else it is passed over.
        :param calibration: of the camera now.
        :raises CalibrationError: its points do not lie on the plane of the handles.
        :raises PredictionError: its attribute `grasp` has not three elements.
        """
        settings = self.settings
        if self._slow.held:
            after = (path.stamp_ns - self._origin_ns) / 1e9 - self._slow.newest.stamp
            if after <= 0:
                return
            if after > FORGET * settings.slow_memory:
                self.reset()
        if not self._slow.held:
            self._origin_ns = path.stamp_ns
        evidence = self._read(path)
        calibration.on_plane(path.points, settings.belt_height + evidence.grasp[2])  # raises
        self._calibration = calibration
        if not self._slow.offer(evidence, self._same_bin, FORGET * settings.slow_memory):
            self._felt = None
        self._fuse_slow()
        places, variances = self._places([evidence], self._grasp[0][2])
        self._motion.add(evidence.stamp, evidence.times, places[:, 0], variances[:, 0])

    @property
    def span_ns(self) -> tuple[int, int]:
        """First and last instant that the futures cover, ns; (0, 0) while there are none."""
        times = self._motion.times
        return (self._ns(self._motion.first), self._ns(times[-1])) if times.size else (0, 0)

    @property
    def instants_ns(self) -> list[int]:
        """The instants of the newest futures' horizons, ns."""
        return [self._ns(time) for time in self._motion.times]

    def at(self, instant_ns: int) -> HandleState:
        """
        The handle at an instant that the futures cover.

        :raises PredictionError: they do not, or there are none.
        """
        return self.states([instant_ns])[0]

    def states(self, instants_ns: Sequence[int]) -> list[HandleState]:
        """The handle at several instants: see :meth:`at`."""
        settings, grasp, grasp_variance = self.settings, *self._grasp
        along, speeds, variances = self._covered(instants_ns)
        forward, left = self._axes
        # half the angle: a quarter of the variance, which a short mean of unlike directions makes larger
        length = max(np.hypot(*grasp[:2]), 1e-3)
        yaw = settings.belt_yaw + float(np.arctan2(grasp[1], grasp[0])) / 2
        shared = np.zeros((6, 6))
        shared[5, 5] = min(grasp_variance[:2].mean() / (4 * length**2), (np.pi / 2) ** 2)
        states = []
        for position, speed, variance in zip(self._positions(along), speeds, variances):
            covariance = shared.copy()
            covariance[:2, :2] += variance * forward[:, None] * forward
            moves = np.zeros((3, 2))  # how the place moves with that across the belt, and with the height
            moves[:2, 0], moves[:2, 1], moves[2, 1] = left, forward * (self._lean(position) @ forward), 1.0
            covariance[:3, :3] += moves @ self._across_height @ moves.T
            velocity = np.array([speed * forward[0], speed * forward[1], 0.0])
            states.append(HandleState(position, velocity, yaw, covariance))
        return states

    def positions(self, instants_ns: Sequence[int]) -> np.ndarray:
        """Where the handle is at several instants, float64 [n, 3], m: see :meth:`at`."""
        return self._positions(self._covered(instants_ns)[0])

    # Inside. Times in s count from the first path's stamp, so that floats will do.

    @property
    def _axes(self) -> np.ndarray:
        """Along and across the belt, [2, 2]."""
        cosine, sine = np.cos(self.settings.belt_yaw), np.sin(self.settings.belt_yaw)
        return np.array([[cosine, sine], [-sine, cosine]])

    def _ns(self, time: float) -> int:
        return self._origin_ns + round(time * 1e9)

    def _read(self, path: PredictedPath) -> _Evidence:
        stamp = (path.stamp_ns - self._origin_ns) / 1e9
        grasp = path.attributes.get(GRASP)
        if grasp is None:
            twice = 2 * self.settings.handle_yaw
            mean = np.array([np.cos(twice), np.sin(twice), self.settings.handle_height])
            variance = np.array([0.0, 0.0, UNKNOWN])
        elif grasp[0].shape[1] != 3:
            raise PredictionError(
                f"expected the attribute '{GRASP}' to have 3 elements, found {grasp[0].shape[1]}"
            )
        else:
            weights = 1 / np.maximum(grasp[1], 1e-4) ** 2
            mean = (weights * grasp[0]).sum(axis=0) / weights.sum(axis=0)
            variance = len(weights) / weights.sum(axis=0)
        return _Evidence(stamp, stamp + path.horizons, path.points, path.covariances, mean, variance)

    def _places(self, held: list[_Evidence], height: float) -> tuple[np.ndarray, np.ndarray]:
        """Return places along and across the belt of all points, and their variances, [n, 2] each."""
        points, covariances = (
            np.concatenate([getattr(evidence, name) for evidence in held])
            for name in ('points', 'covariances')
        )
        met = self._calibration.on_plane(points, self.settings.belt_height + height)
        axes = self._axes
        spread = axes @ met.covariances(covariances) @ axes.T
        return met.places @ axes.T, np.maximum(np.diagonal(spread, axis1=1, axis2=2), 1e-8)

    def _lean(self, place: np.ndarray) -> np.ndarray:
        """Return how a place, float64 [3], moves on its ray with the height, float64 [2]."""
        ray = place - self._calibration.position
        return ray[:2] / ray[2]

    def _fuse_slow(self) -> None:
        """Bring together what the futures say of yaw, height and the place across, and what is known of them."""
        settings, held = self.settings, self._slow.held
        grasp, variance = self._mean_grasp(held)
        across, across_variance = self._mean_across(held, grasp[2])
        middle = np.array([0.0, across]) @ self._axes
        # the ray holds the place across to the height: where one is known, so is the other
        lean = self._lean(np.array([*middle, settings.belt_height + grasp[2]])) @ self._axes[1]
        felt, deviation = self._felt or (0.0, np.inf)
        seen = np.array([[1.0, -lean], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        values = np.array([across - lean * grasp[2], grasp[2], settings.lane[0], settings.handle_height, felt])
        spreads = np.array([settings.lane[1], settings.handle_spread, deviation]) ** 2
        weights = 1 / np.maximum([across_variance, variance[2], *spreads], 1e-8)
        self._across_height = np.linalg.inv(seen.T * weights @ seen)
        self._across, height = self._across_height @ (seen.T * weights @ values)
        if self._motion.times.size:  # on the ray on which it was seen it is elsewhere along the belt too
            along = self._motion.at(self._motion.times[:1])[0]
            self._motion.shift((height - self._grasp[0][2]) * (self._lean(self._positions(along)[0]) @ self._axes[0]))
        self._grasp = np.array([*grasp[:2], height]), np.array([*variance[:2], self._across_height[1, 1]])

    def _mean_grasp(self, held: list[_Evidence]) -> tuple[np.ndarray, np.ndarray]:
        values = np.array([evidence.grasp for evidence in held])
        return self._mean(held, values, np.array([evidence.grasp_variance for evidence in held]))

    def _mean_across(self, held: list[_Evidence], height: float) -> tuple[float, float]:
        """Return the place across the belt, and its variance."""
        places, variances = self._places(held, height)
        starts = np.cumsum([0, *(len(evidence.times) for evidence in held[:-1])])
        weights = np.add.reduceat(1 / variances[:, 1], starts)
        values = np.add.reduceat(places[:, 1] / variances[:, 1], starts) / weights
        counts = np.diff([*starts, len(places)])
        mean, variance = self._mean(held, values[:, None], (counts / weights)[:, None])
        return float(mean[0]), float(variance[0])

    def _mean(self, held, values: np.ndarray, variances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean [P] over paths of values [n, P], and its variance."""
        settings = self.settings
        ages = held[-1].stamp - np.array([evidence.stamp for evidence in held])
        weights = np.exp(-ages / settings.slow_memory)[:, None] / np.maximum(variances, 1e-8)
        weights /= weights.sum(axis=0)
        return (weights * values).sum(axis=0), (weights * np.sqrt(variances)).sum(axis=0) ** 2

    def _covered(self, instants_ns: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if not self._motion.times.size:
            raise PredictionError('there are no futures to take the handle from')
        first, last = self.span_ns
        for instant_ns in instants_ns:
            if not first <= instant_ns <= last:
                now = self._ns(self._slow.newest.stamp)
                raise PredictionError(
                    f'the instant to aim for is {(instant_ns - now) / 1e9:.3f} s after the newest frame, but '
                    f'the futures cover {(first - now) / 1e9:.3f}..{(last - now) / 1e9:.3f} s'
                )
        return self._motion.at((np.array(instants_ns) - self._origin_ns) / 1e9)

    def _positions(self, along: np.ndarray) -> np.ndarray:
        height = np.full(len(along), self.settings.belt_height + self._grasp[0][2])
        flat = np.stack([along, np.full(len(along), self._across)], axis=1) @ self._axes
        return np.column_stack([flat, height])

    def _same_bin(self, new: _Evidence, held: list[_Evidence]) -> bool:
        expected, expected_variance = self._mean_grasp(held)
        spread = new.grasp_variance + expected_variance + 1e-8
        deviations = list((new.grasp - expected) ** 2 / spread)
        across, across_variance = self._mean_across(held, expected[2])
        value, variance = self._mean_across([new], expected[2])
        deviations.append((value - across) ** 2 / (variance + across_variance))
        return np.sqrt(max(deviations)) < self.settings.gate


class _Recent:
    """The newest evidence that agrees with itself."""

    def __init__(self):
        self.held: list[_Evidence] = []
        self._aside: _Evidence | None = None

    @property
    def newest(self) -> _Evidence:
        return self.held[-1]

    def offer(
        self, new: _Evidence, agrees: Callable[[_Evidence, list[_Evidence]], bool], memory: float
    ) -> bool:
        """
        Hold it, put it aside, or begin anew with it.

        :return: False where it began anew.
        """
        self.held = [evidence for evidence in self.held if new.stamp - evidence.stamp <= memory]
        first = not self.held
        if first or agrees(new, self.held):
            self.held.append(new)
            self._aside = None
            return not first
        if self._aside is None:
            self._aside = new
            return True
        # Two in a row: the world is no longer as it was, and nothing is gained by waiting for a third.
        self.held = [self._aside, new] if agrees(new, [self._aside]) else [new]
        self._aside = None
        return False


@dataclass(frozen=True)
class Arm:
    """
    Where and how fast the tool can be.

    :param max_speed: m/s.
    :param max_acceleration: m/s^2.
    :param workspace: first and last place along the belt's direction where handles are taken, m.
    :param base: x and y of the axis that the arm turns about, m.
    :param reach: smallest and largest distance from that axis, m.
    """

    max_speed: float = 0.6
    max_acceleration: float = 2.5
    workspace: tuple[float, float] = (0.05, 0.62)
    base: tuple[float, float] = (0.80, -0.54)
    reach: tuple[float, float] = (0.40, 1.02)

    def time_to(self, distance: float) -> float:
        """:return: s from rest to rest, with the speed trapezoid of both limits."""
        if distance < self.max_speed**2 / self.max_acceleration:
            return 2 * float(np.sqrt(distance / self.max_acceleration))
        return distance / self.max_speed + self.max_speed / self.max_acceleration

    def reaches(self, place: np.ndarray) -> bool:
        """:return: whether it is within reach of the base."""
        return bool(self.reach[0] <= np.hypot(*(np.asarray(place)[:2] - self.base)) <= self.reach[1])


@dataclass(frozen=True)
class Intercept:
    """When the tool can be at the handle, and the handle then."""

    stamp_ns: int
    handle: HandleState


def intercept(
    track: HandleTrack, tool: np.ndarray, start_ns: int, arm: Arm, allowed: Callable[[np.ndarray], bool]
) -> Intercept | None:
    """
    The first moment at which the tool can be where the handle is then.

    :param tool: float64 [3], where the tool is, m.
    :param start_ns: when a command sent now begins to move the arm.
    :param arm: its limits.
    :param allowed: whether a handle may be taken at a place, float64 [3].
    :return: None where there is none that the futures cover.
    """
    first, last = track.span_ns
    instants = list(range(max(start_ns, first), last + 1, round(STEP * 1e9)))
    for instant_ns, place in zip(instants, track.positions(instants) if instants else ()):
        needed = arm.time_to(float(np.linalg.norm(place - tool)))
        if start_ns + needed * 1e9 <= instant_ns and allowed(place):
            return Intercept(instant_ns, track.at(instant_ns))
    return None
