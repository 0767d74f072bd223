# SPDX-License-Identifier: Apache-2.0
"""Where a handle on a belt will be, from a stream of predicted paths, and where an arm can meet it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from jepa_ros.control.bar import bar
from jepa_ros.control.belt_motion import BeltMotion, MotionSettings
from jepa_ros.control.calibration import Calibration
from jepa_ros.control.path import PredictedPath, PredictionError
from jepa_ros.control.steady_pose import PoseReading, SteadyPose

MISREAD = 8.0  # standard deviations up to which a bin that moves on as before is misread rather than another
MISTAKEN = 6.0  # standard deviations from which on what was felt is not the bar that is seen
SEEN = 0.03  # m along the belt: of a handle whose place is less certain, direction and height are guesses
STEP = 0.02  # s between the instants that an intercept is looked for at


@dataclass(frozen=True)
class TrackSettings:
    """
    What is known beforehand about belt and handles, and how the futures are weighed.

    :param belt_height: z of the belt's top, m.
    :param belt_yaw: direction in which the belt runs, from x of the frame, rad.
    :param lane: where across the belt handles ride, to the left of the frame's origin, m, and the standard
        deviation of that, generously, since it pulls at what is seen. It matters where the camera looks along the
        belt's plane rather than down on it: an error of the height, or upwards in the picture, is there several times
        as far across the belt.
    :param handle_height: of handles above the belt, m; a bundle may know better.
    :param handle_spread: standard deviation of that, m.
    :param handle_yaw: of the bar from the belt's direction, rad, where the bundle does not say it.
    :param motion: how belts move, and how futures err along them.
    :param gate: how far place across the belt, height and yaw may deviate where the motion did too, in standard
        deviations, before it is another bin.
    :param doubt: for how long they must where the motion did not, and by far more, before the bin was turned, s.
    :param memory: for how long without futures a handle is remembered, s.
    """

    belt_height: float = 0.60
    belt_yaw: float = 0.0
    lane: tuple[float, float] = (0.0, 0.06)
    handle_height: float = 0.20
    handle_spread: float = 0.05
    handle_yaw: float = 0.0
    motion: MotionSettings = field(default_factory=MotionSettings)
    gate: float = 3.0
    doubt: float = 0.3
    memory: float = 4.5


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


class HandleTrack:
    """
    The handle's way along the belt, estimated from the newest futures.

    A path says where the handle will be at each of its horizons, also while the handle is hidden. What paths say of
    the motion along the belt is brought together by a :class:`~jepa_ros.control.belt_motion.BeltMotion`, what they
    say of the place across the belt, the height and the direction of the bar, which belong to a bin and hardly
    change, by a :class:`~jepa_ros.control.steady_pose.SteadyPose`. Where both say that the handle is another one,
    what was before is forgotten at once, else with some patience.

    What the fingers felt is a measurement too, see :meth:`feel`.

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
        self._steady: SteadyPose | None = None
        self._origin_ns = self._newest_ns = 0

    def feel(self, height: float, deviation: float) -> bool:
        """
        Take in how high the bar is, as something felt that touched it; it holds for this bin.

        The ray on which the bar was seen leads to another place across and along the belt then. What is nowhere near
        the height that is seen was something else.

        :param height: of its axis above the belt, m; `deviation`: standard deviation of that, m.
        :returns: whether it was taken in.
        """
        if self._steady is None:  # nothing is known that it could belong to
            return False
        before = self._steady.height
        if not self._steady.feel(height, deviation, MISTAKEN):
            return False
        self._raise(self._steady.height - before)
        return True

    @property
    def felt(self) -> bool:
        """Whether the height of this bin's bar was felt."""
        return self._steady is not None and self._steady.felt

    def add(self, path: PredictedPath, calibration: Calibration) -> None:
        """
        Take the newest futures in.

        :param path: newer than those before, else it is passed over.
        :param calibration: of the camera now.
        :raises CalibrationError: its points do not lie on the plane of the handles, or their feet on the belt.
        :raises PredictionError: an attribute is not as `bar.bar` takes it.
        """
        settings, steady = self.settings, self._steady
        if steady is not None:
            after = (path.stamp_ns - self._newest_ns) / 1e9
            if after <= 0:
                return
            if after > settings.memory:
                self.reset()
                steady = None
        height = settings.handle_height if steady is None else steady.height
        told = self._told(path, calibration, height)
        places, variances, lean = self._places(path, calibration, height)  # raises before anything is taken in
        if steady is None:
            self._origin_ns = path.stamp_ns
        stamp = (path.stamp_ns - self._origin_ns) / 1e9
        self._calibration, self._newest_ns = calibration, path.stamp_ns
        changed = self._motion.add(stamp, stamp + path.horizons, places[:, 0], variances[:, 0])
        reading = PoseReading(places[0, 1] - lean * height, lean, variances[0, 1], *told)
        if steady is None or (
            variances[0, 0] <= SEEN**2
            and not steady.add(stamp, reading, settings.gate if changed else MISREAD)
            and (changed or stamp - steady.doubted >= settings.doubt)
        ):
            steady = self._steady = self._unknown(stamp, told)
            steady.add(stamp, reading, np.inf)
        self._raise(steady.height - height)

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
        along, speeds, variances = self._covered(instants_ns)
        forward, left = self._axes
        turn, turn_variance = self._steady.yaw
        yaw = self.settings.belt_yaw + turn
        shared = np.zeros((6, 6))
        shared[5, 5] = turn_variance
        states = []
        for position, speed, variance in zip(self._positions(along), speeds, variances):
            covariance = shared.copy()
            covariance[:2, :2] += variance * forward[:, None] * forward
            moves = np.zeros((3, 2))  # how the place moves with that across the belt, and with the height
            moves[:2, 0], moves[:2, 1], moves[2, 1] = left, forward * (self._lean(position) @ forward), 1.0
            covariance[:3, :3] += moves @ self._steady.across_height @ moves.T
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

    def _unknown(self, stamp: float, told) -> SteadyPose:
        """Return what is known of a bin of which nothing was seen."""
        settings = self.settings
        yaw = settings.handle_yaw if not told else None
        height = settings.handle_height, settings.handle_spread
        return SteadyPose(stamp, settings.lane, height, yaw)

    def _told(self, path: PredictedPath, calibration: Calibration, height: float) -> tuple[np.ndarray, ...]:
        """Return what the bundle says of the bar, mean and variance, [3] each; or nothing."""
        told = bar(path, calibration, self.settings.belt_height, height)
        return () if told is None else (told[0], told[1] ** 2)

    def _places(self, path: PredictedPath, calibration: Calibration, height: float):
        """
        Return where its points are, were the handle as high, m above the belt.

        :returns: places along and across the belt, and their variances, float64 [K, 2] each; by how much the first is
            elsewhere across it per metre of height.
        """
        met = calibration.on_plane(path.points, self.settings.belt_height + height)
        axes = self._axes
        spread = axes @ met.covariances(path.covariances) @ axes.T
        lean = float(met.by_height[0] @ axes[1])
        return met.places @ axes.T, np.maximum(np.diagonal(spread, axis1=1, axis2=2), 1e-8), lean

    def _raise(self, by: float) -> None:
        """Follow a height that turned out to be another: on its ray the handle is elsewhere along the belt too."""
        if by and self._motion.times.size:
            along = self._motion.at(self._motion.times[:1])[0]
            self._motion.shift(by * float(self._lean(self._positions(along)[0]) @ self._axes[0]))

    def _lean(self, place: np.ndarray) -> np.ndarray:
        """Return how a place, float64 [3], moves on its ray with the height, float64 [2]."""
        ray = place - self._calibration.position
        return ray[:2] / ray[2]

    def _covered(self, instants_ns: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if not self._motion.times.size:
            raise PredictionError('there are no futures to take the handle from')
        first, last = self.span_ns
        for instant_ns in instants_ns:
            if not first <= instant_ns <= last:
                now = self._newest_ns
                raise PredictionError(
                    f'the instant to aim for is {(instant_ns - now) / 1e9:.3f} s after the newest frame, but '
                    f'the futures cover {(first - now) / 1e9:.3f}..{(last - now) / 1e9:.3f} s'
                )
        return self._motion.at((np.array(instants_ns) - self._origin_ns) / 1e9)

    def _positions(self, along: np.ndarray) -> np.ndarray:
        height = np.full(len(along), self.settings.belt_height + self._steady.height)
        flat = np.stack([along, np.full(len(along), self._steady.across)], axis=1) @ self._axes
        return np.column_stack([flat, height])


@dataclass(frozen=True)
class Arm:
    """
    Where and how fast the tool can be.

    :param max_speed: m/s.
    :param max_acceleration: m/s^2.
    :param workspace: first and last place along the belt's direction where handles are taken, m.
    :param base: x and y of the axis that the arm turns about, m.
    :param reach: smallest and largest distance from that axis, m.
    :param wrist: by how much the hand can be turned from how the arm points, either way, rad; wrists end somewhere.
    """

    max_speed: float = 0.6
    max_acceleration: float = 2.5
    workspace: tuple[float, float] = (0.05, 0.62)
    base: tuple[float, float] = (0.80, -0.54)
    reach: tuple[float, float] = (0.40, 1.02)
    wrist: float = 2.5

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
