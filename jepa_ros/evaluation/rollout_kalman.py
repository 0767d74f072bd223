# SPDX-License-Identifier: Apache-2.0
"""A classical tracker: a Kalman filter with constant velocity on the plane of the belt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class KalmanSettings:
    """
    What the filter believes.

    :param along: spectral density of the acceleration along the belt, m^2/s^3: how readily the belt changes
        its speed.
    :param across: the same across it.
    :param noise: by which the standard deviation that a measurement claims is multiplied.
    :param least: m, below which no measurement's standard deviation is believed.
    :param speed: mean and standard deviation of a new track's speed along the belt, m/s: all belts that the
        seeds draw.
    :param drift: standard deviation of its speed across the belt, m/s.
    :param gate: squared Mahalanobis distance of an innovation above which a measurement is an outlier; 9.21
        holds 99 % of the honest ones.
    :param patience: s of outliers alone after which it was no outlier, but another bin or a push.
    """

    along: float = 0.02
    across: float = 0.002
    noise: float = 1.0
    least: float = 0.003
    speed: tuple[float, float] = (0.175, 0.10)
    drift: float = 0.01
    gate: float = 9.21
    patience: float = 0.5


class PlaneKalman:
    """
    Position and velocity of a thing on the belt; x along it, y across it, both m in the world.

    The model is the usual one of white noise in the acceleration (Bar-Shalom, Li, Kirubarajan, Estimation
    with Applications to Tracking and Navigation, 2001, section 6.2).

    Attributes: `time` of the state, s, None before the first measurement; `state` float64 [4]: x, y, and
    their rates; `covariance` float64 [4, 4]; `rejected`: how many measurements were outliers;
    `begun`: how often a track was begun.
    """

    def __init__(self, settings: KalmanSettings = KalmanSettings()):
        self.settings = settings
        self.time: float | None = None
        self.state, self.covariance = np.zeros(4), np.eye(4)
        self.rejected = self.begun = 0
        self._doubted: float | None = None  # since when there have been outliers alone

    def measure(self, time: float, place: np.ndarray, covariance: np.ndarray) -> bool:
        """
        Take a measured place.

        :param time: when it holds, s; not before that of the measurement before.
        :param place: float [2], m.
        :param covariance: float [2, 2], m^2, as the measurement claims.
        :returns: whether it was taken; an outlier is not.
        """
        settings = self.settings
        noise = covariance * settings.noise**2 + np.eye(2) * settings.least**2
        if self.time is None:
            self._begin(time, place, noise)
            return True
        state, spread = self._ahead(time)
        off = place - state[:2]
        expected = spread[:2, :2] + noise
        if off @ np.linalg.solve(expected, off) > settings.gate:
            self.rejected += 1
            self._doubted = time if self._doubted is None else self._doubted
            if time - self._doubted >= settings.patience:
                self._begin(time, place, noise)
                return True
            return False
        gain = np.linalg.solve(expected, spread[:2]).T
        self.time, self.state, self._doubted = time, state + gain @ off, None
        keep = np.eye(4)
        keep[:, :2] -= gain
        self.covariance = keep @ spread @ keep.T + gain @ noise @ gain.T  # Joseph's form stays symmetric
        return True

    def predict(self, time: float) -> tuple[np.ndarray, np.ndarray]:
        """
        Return where it will be: place float64 [2], m, and covariance float64 [2, 2], m^2.

        :raises ValueError: before the first measurement.
        """
        if self.time is None:
            raise ValueError('expected a measurement before the first prediction, found none')
        state, spread = self._ahead(time)
        return state[:2], spread[:2, :2]

    def _begin(self, time: float, place: np.ndarray, noise: np.ndarray) -> None:
        settings = self.settings
        self.time, self._doubted = time, None
        self.begun += 1
        self.state = np.array([*place, settings.speed[0], 0.0])
        self.covariance = np.zeros((4, 4))
        self.covariance[:2, :2] = noise
        self.covariance[2, 2], self.covariance[3, 3] = settings.speed[1] ** 2, settings.drift**2

    def _ahead(self, time: float) -> tuple[np.ndarray, np.ndarray]:
        """Return state and covariance at a time, without any measurement."""
        dt = time - self.time
        move = np.eye(4)
        move[0, 2] = move[1, 3] = dt
        shape = np.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]])
        spread = move @ self.covariance @ move.T
        for axis, density in enumerate((self.settings.along, self.settings.across)):
            spread[np.ix_((axis, axis + 2), (axis, axis + 2))] += density * shape
        return move @ self.state, spread
