# SPDX-License-Identifier: Apache-2.0
"""How a thing moves along a belt: a filter for predictions whose errors are alike for a while."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEAST = 0.003  # m, standard deviation of what is never known of a predicted place
PLACE, SPEED, OFF, OFF_SPEED = range(4)  # the state


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
    restless: float = 0.003
    alike: float = 2.0
    caution: float = 1.0
    gate: float = 3.0


class BeltMotion:
    """
    Place and speed along a belt, from the predicted places of successive paths.

    A Kalman filter with white noise in the acceleration. All points of a path are measurements of the one motion,
    with errors that they share: the path is off as a whole, and its speed is. A next path is read from nearly the
    same frames of the same bin, so it is off alike; both are therefore states of the filter, first-order Gauss-Markov
    processes in units of the deviations that each path claims (state augmentation for correlated measurement errors,
    Gelb, Applied Optimal Estimation, 1974). So ten paths in half a second do not make a place ten times as certain,
    while what changes between them still tells the speed, and a path that claims little moves little.

    :param settings: see there; may be replaced at any time.

    Attributes: `times`, those of the newest path that was taken, s, float64 [K], empty before the first one;
    `first`, from when on it can be asked: the first of these, or where there were paths before, its stamp.
    """

    def __init__(self, settings: MotionSettings):
        self.settings = settings
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.times, self.first = np.zeros(0), 0.0
        self._time, self._state, self._covariance = 0.0, np.zeros(4), np.eye(4)
        self._doubted = False  # whether the newest path was put aside

    def add(self, stamp: float, times: np.ndarray, places: np.ndarray, variances: np.ndarray) -> None:
        """
        Take a path in.

        One that is far off is put aside. If the next one is far off too, the world has changed (the belt stops,
        another bin comes): what was before is forgotten, and nothing is gained by waiting for a third.

        :param stamp: of the frame that it follows, s, later than that of the path before.
        :param times: of its points, s, ascending, float64 [K].
        :param places: along the belt, m; `variances`: of these, m^2, as the path claims; float64 [K].
        """
        if self.times.size:
            state, covariance = self._at(stamp)
            moved, off, spread = self._compared(state, covariance, stamp, times, places, variances)
            if abs(off[0]) <= self.settings.gate * np.sqrt(spread[0, 0]):
                self._update(stamp, state, covariance, moved, off, spread)
                self.times, self.first, self._doubted = times, stamp, False
                return
            if not self._doubted:
                self._doubted = True
                return
        self._begin(stamp, times, places, variances)

    def shift(self, by: float) -> None:
        """Move the place, m: it turned out that all of it was seen elsewhere."""
        self._state[PLACE] += by

    def at(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        Return places (m), speeds (m/s) and the variances of the places (m^2), [n] each.

        :param times: s, float64 [n], not before the newest stamp.
        """
        ahead = [self._at(time) for time in times]
        states = np.array([state for state, _ in ahead]).reshape(-1, 4)
        return states[:, PLACE], states[:, SPEED], np.array([spread[PLACE, PLACE] for _, spread in ahead])

    def _begin(self, stamp, times, places, variances) -> None:
        mean, deviation = self.settings.belt_speed
        state = np.array([places[0], mean, 0.0, 0.0])
        covariance = np.diag([1e2, deviation**2, 1.0, 1.0])  # of the place nothing is known
        compared = self._compared(state, covariance, stamp, times, places, variances)
        self._update(stamp, state, covariance, *compared)
        self.times, self.first, self._doubted = times, times[0], False

    def _compared(self, state, covariance, stamp, times, places, variances):
        """Return how a path depends on the state [K, 4], how far off it is [K], and the covariance of that [K, K]."""
        settings, ahead, lead = self.settings, times - stamp, times - times[0]
        own = settings.caution * variances[0]
        deviation = np.sqrt(variances[0])
        # of the speed: what the last place claims, over the time to it, and the path's own part likewise
        slope = np.sqrt((1 + settings.caution) * variances[-1]) / max(lead[-1], 1e-3)
        moved = np.column_stack([np.ones_like(ahead), ahead, np.full_like(ahead, deviation), lead * slope])
        # the belt may change its speed on the way
        shorter, longer = np.minimum.outer(ahead, ahead), np.maximum.outer(ahead, ahead)
        way = settings.restless * shorter**2 * (longer / 2 - shorter / 6)
        noise = way + (own + LEAST**2) * np.eye(len(ahead))
        return moved, places - moved @ state, moved @ covariance @ moved.T + noise

    def _update(self, stamp, state, covariance, moved, off, spread) -> None:
        gain = np.linalg.solve(spread, moved @ covariance).T
        kept = covariance - gain @ spread @ gain.T
        self._time, self._state, self._covariance = stamp, state + gain @ off, (kept + kept.T) / 2

    def _at(self, time: float) -> tuple[np.ndarray, np.ndarray]:
        """Return state and covariance at a time, without any further path."""
        settings, span = self.settings, time - self._time
        fade = np.exp(-abs(span) / settings.alike)
        move = np.diag([1.0, 1.0, fade, fade])
        move[PLACE, SPEED] = span
        covariance = move @ self._covariance @ move.T
        longer = max(span, 0.0)
        covariance[:2, :2] += settings.restless * np.array([[longer**3 / 3, longer**2 / 2], [longer**2 / 2, longer]])
        covariance[OFF, OFF] += 1 - fade**2
        covariance[OFF_SPEED, OFF_SPEED] += 1 - fade**2
        return move @ self._state, covariance
