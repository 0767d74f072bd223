# SPDX-License-Identifier: Apache-2.0
"""How a thing moves along a belt: a filter for predictions whose errors are alike for a while."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jepa_ros.control.alike import AlikeFilter

LEAST = 0.003  # m, standard deviation of what is never known of a predicted place
PLACE, SPEED = range(2)  # the state, before the errors of both


@dataclass(frozen=True)
class MotionSettings:
    """
    What is known of belts and of the errors of futures.

    :param belt_speed: mean and standard deviation of a belt's speed before anything was seen of it, m/s.
    :param restless: spectral density of the acceleration, m^2/s^3: how readily a belt changes its speed.
    :param alike: time in which the errors of futures become others, s.
    :param caution: variance of the error that every path has of its own besides, in units of what it claims.
    :param gate: how far a path may be off, in standard deviations, before it is put aside.
    """

    belt_speed: tuple[float, float] = (0.0, 0.2)
    restless: float = 0.0003
    alike: float = 2.0
    caution: float = 0.5
    gate: float = 3.0


class BeltMotion:
    """
    Place and speed along a belt, from the predicted places of successive paths.

    A Kalman filter with white noise in the acceleration. All points of a path are measurements of the one motion,
    with errors that they share: the path is off as a whole, and its speed is. A next path is off alike
    (:class:`~jepa_ros.control.alike.AlikeFilter`). A path that claims little moves little.

    :param settings: see there; may be replaced at any time.

    Attributes: `times`, those of the newest path, s, float64 [K], empty before the first one;
    `first`, from when on it can be asked: the first of these, or where there were paths before, its stamp.
    """

    def __init__(self, settings: MotionSettings):
        self.settings = settings
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.times, self.first = np.zeros(0), 0.0
        self._filter: AlikeFilter | None = None
        self._doubted = False  # whether the newest path was put aside

    def add(self, stamp: float, times: np.ndarray, places: np.ndarray, variances: np.ndarray) -> bool:
        """
        Take a path in.

        One that is far off is put aside. If the next one is far off too, the world has changed (the belt stops,
        another bin comes): what was before is forgotten, and nothing is gained by waiting for a third.

        :param stamp: of the frame that it follows, s, later than that of the path before.
        :param times: of its points, s, ascending, float64 [K].
        :param places: along the belt, m; `variances`: of these, m^2, as the path claims; float64 [K].
        :returns: whether the world has changed: it is the first path of what is known from now on.
        """
        leads, known = times - times[0], self._filter
        # of the speed: what the last place claims, over the time to it, and the path's own part likewise
        slope = np.sqrt((1 + self.settings.caution) * variances[-1]) / max(leads[-1], 1e-3)
        claims = np.array([np.sqrt(variances[0]), slope])
        if known is not None:
            ahead = self._ahead(stamp, claims)
            rows, off, spread = self._compared(*ahead, stamp, times, places, claims)
            self.times, self.first = times, stamp
            if abs(off[0]) <= self.settings.gate * np.sqrt(spread[0, 0]):
                known.take(stamp, *ahead, rows, off, spread, claims)
                self._doubted = False
                return False
            if not self._doubted:
                self._doubted = True
                return False
        mean, deviation = self.settings.belt_speed
        self._filter = AlikeFilter(stamp, np.array([places[0], mean]), np.diag([1e2, deviation**2]), errors=2)
        ahead = self._filter.state, self._filter.covariance
        compared = self._compared(*ahead, stamp, times, places, claims)
        self._filter.take(stamp, *ahead, *compared, claims)
        self.times, self.first, self._doubted = times, times[0], False
        return True

    def shift(self, by: float) -> None:
        """Move the place, m: it turned out that all of it was seen elsewhere."""
        self._filter.state[PLACE] += by

    def at(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        Return places (m), speeds (m/s) and the variances of the places (m^2), [n] each.

        :param times: s, float64 [n], not before the newest stamp.
        """
        ahead = [self._ahead(time) for time in times]
        states = np.array([state for state, _ in ahead]).reshape(-1, 4)
        return states[:, PLACE], states[:, SPEED], np.array([spread[PLACE, PLACE] for _, spread in ahead])

    def _compared(self, state, covariance, stamp, times, places, claims):
        """Return how a path depends on the state [K, 4], how far off it is [K], and the covariance of that [K, K]."""
        settings, ahead = self.settings, times - stamp
        rows = np.column_stack([np.ones_like(ahead), ahead, np.full_like(ahead, claims[0]), claims[1] * (times - times[0])])
        # the belt may change its speed on the way
        shorter, longer = np.minimum.outer(ahead, ahead), np.maximum.outer(ahead, ahead)
        way = settings.restless * shorter**2 * (longer / 2 - shorter / 6)
        noise = way + (settings.caution * claims[0] ** 2 + LEAST**2) * np.eye(len(ahead))
        return rows, *AlikeFilter.compare(state, covariance, rows, places, noise)

    def _ahead(self, time: float, claims: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return state and covariance at a time, without any further path."""
        span = time - self._filter.time
        longer = max(span, 0.0)
        noise = self.settings.restless * np.array([[longer**3 / 3, longer**2 / 2], [longer**2 / 2, longer]])
        return self._filter.ahead(time, np.array([[1.0, span], [0.0, 1.0]]), noise, self.settings.alike, claims)
