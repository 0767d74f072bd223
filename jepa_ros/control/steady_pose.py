# SPDX-License-Identifier: Apache-2.0
"""What hardly changes of a handle while a belt carries it: the place across, the height, the direction of the bar."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jepa_ros.control.alike import AlikeFilter

TWICE, HEIGHT, ACROSS = slice(0, 2), 2, 3  # the state: cos and sin of twice the angle, m, m; then the errors of all
ALIKE = 20.0  # s after which errors become others: what is told wrong of a bin stays wrong
CAUTION = 1.0  # variance of the error that every reading has of its own besides, in units of what it claims
TURNING, DRIFT = 0.03, 0.003  # by how much twice the angle, and the place across, m, may change in a second
UNTOLD = 1.0  # of twice the angle, before anything was told of it


@dataclass(frozen=True)
class PoseReading:
    """
    What futures say of it.

    A camera sees a handle on a ray: of the place across it tells what it would be at one height, and what a metre
    more of height is worth.

    :param ray: place across the belt at height 0, m; `lean`: by how much it is elsewhere per metre of height.
    :param ray_variance: m^2.
    :param told: cos and sin of twice the bar's angle to the belt, and the height above it, m: float64 [3]; None: it
        does not say.
    :param told_variance: float64 [3].
    """

    ray: float
    lean: float
    ray_variance: float
    told: np.ndarray | None = None
    told_variance: np.ndarray | None = None


class SteadyPose:
    """
    Direction and height of a bar and its place across the belt, from successive readings that err alike.

    A reading that is far off is put aside. When all have been for a while, this is another thing, or it was turned:
    what was before is forgotten.

    :param stamp: from when on it is known, s.
    :param lane: place across the belt that is expected, and standard deviation of that, m; `height`: the same, m.
    :param yaw: of the bar to the belt that is expected, rad; None: nothing is.

    Attributes: `doubted`, since when (s) no reading was taken, or None; `felt`, whether :meth:`feel` took anything.
    """

    def __init__(
        self, stamp: float, lane: tuple[float, float], height: tuple[float, float], yaw: float | None = None
    ):
        twice = (0.0, 0.0) if yaw is None else (np.cos(2 * yaw), np.sin(2 * yaw))
        unknown = UNTOLD if yaw is None else 0.0
        variances = np.array([unknown, unknown, height[1] ** 2, lane[1] ** 2])
        self._filter = AlikeFilter(stamp, np.array([*twice, height[0], lane[0]]), np.diag(variances), errors=4)
        self.doubted: float | None = None
        self.felt = False

    @property
    def height(self) -> float:
        """Above the belt, m."""
        return float(self._filter.state[HEIGHT])

    @property
    def across(self) -> float:
        """Place across the belt, m."""
        return float(self._filter.state[ACROSS])

    @property
    def across_height(self) -> np.ndarray:
        """Covariance of the place across and the height, float64 [2, 2], m^2."""
        return self._filter.covariance[np.ix_((ACROSS, HEIGHT), (ACROSS, HEIGHT))]

    @property
    def yaw(self) -> tuple[float, float]:
        """Angle of the bar to the belt, rad, modulo pi, and the variance of that."""
        twice = self._filter.state[TWICE]
        # half the angle: a quarter of the variance, which a short mean of unlike directions makes larger
        length = max(np.hypot(*twice), 1e-3)
        variance = np.diagonal(self._filter.covariance)[TWICE].mean() / (4 * length**2)
        return float(np.arctan2(twice[1], twice[0])) / 2, min(float(variance), (np.pi / 2) ** 2)

    def add(self, stamp: float, reading: PoseReading, gate: float) -> bool:
        """
        Take a reading in.

        :param stamp: of its frame, s, later than that of the reading before.
        :param gate: how far it may be off, in standard deviations, before it is put aside.
        :returns: whether it was taken.
        """
        values, variances = np.array([0.0, 0.0, 0.0, reading.ray]), np.array([1.0, 1.0, 1.0, reading.ray_variance])
        if reading.told is not None:
            values[:3], variances[:3] = reading.told, reading.told_variance
        variances = np.maximum(variances, 1e-8)
        claims = np.sqrt(variances)
        rows = np.hstack([np.eye(4), np.diag(claims)])
        rows[ACROSS, HEIGHT] = -reading.lean
        said = slice(ACROSS if reading.told is None else 0, None)
        rows = rows[said]
        state, covariance = self._ahead(stamp, claims)
        off, spread = self._filter.compare(state, covariance, rows, values[said], np.diag(CAUTION * variances[said]))
        if _beyond(gate, off, spread):
            self.doubted = stamp if self.doubted is None else self.doubted
            return False
        self._filter.take(stamp, state, covariance, rows, off, spread, claims)
        self.doubted = None
        return True

    def feel(self, height: float, deviation: float, gate: float) -> bool:
        """
        Take in how high the bar is above the belt as something felt it that touched it.

        :param height: m; `deviation`: standard deviation of that, m.
        :param gate: how far it may be off, in standard deviations, before it is put aside.
        :returns: whether it was taken.
        """
        known = self._filter
        rows = np.zeros((1, 8))
        rows[0, HEIGHT] = 1.0
        now = known.state, known.covariance
        off, spread = known.compare(*now, rows, np.array([height]), deviation**2)
        if _beyond(gate, off, spread):
            return False
        self.felt = True
        known.take(known.time, *now, rows, off, spread)
        return True

    def _ahead(self, stamp, claims):
        span = max(stamp - self._filter.time, 0.0)
        noise = np.diag([TURNING**2, TURNING**2, 0.0, DRIFT**2]) * span
        return self._filter.ahead(stamp, np.eye(4), noise, ALIKE, claims)


def _beyond(gate: float, off: np.ndarray, spread: np.ndarray) -> bool:
    """Return whether anything is further off than so many standard deviations: see `AlikeFilter.compare`."""
    return bool((np.abs(off) > gate * np.sqrt(np.diag(spread))).any())
