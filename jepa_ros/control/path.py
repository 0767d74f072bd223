# SPDX-License-Identifier: Apache-2.0
"""Where the followed point will be: its predictions for a set of horizons, and every instant between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from jepa_ros.errors import JepaError


class PredictionError(JepaError):
    """A predicted path is malformed, or was asked for an instant that it does not cover."""


@dataclass(frozen=True)
class PathPoint:
    """
    The followed point at one instant, in the received image.

    :param position: float64 [2], x and y, 0..1 of the image's width and height.
    :param covariance: float64 [2, 2], in the same unit squared.
    :param velocity: float64 [2], per second.
    :param attributes: what else the readout says, by name: mean and standard deviation, float64 [P] each.
    """

    position: np.ndarray
    covariance: np.ndarray
    velocity: np.ndarray
    attributes: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    @property
    def deviation(self) -> float:
        """Standard deviation along the direction in which it is largest, 0..1 of the image."""
        return float(np.sqrt(max(np.linalg.eigvalsh(self.covariance)[-1], 0.0)))


@dataclass(frozen=True)
class PredictedPath:
    """
    The followed point as one set of futures predicts it.

    :param stamp_ns: stamp of the newest frame that the prediction used, in ns; horizons count from it.
    :param horizons: float [K], in s, ascending.
    :param points: float [K, 2], 0..1 of the received image; a hidden or leaving point may lie outside.
    :param covariances: float [K, 2, 2], symmetric and positive semidefinite, in the same unit squared.
    :param attributes: what else the readout says, by name: mean and standard deviation, float [K, P] each.
    :raises PredictionError: a shape, an order or a value is not so.
    """

    stamp_ns: int
    horizons: np.ndarray
    points: np.ndarray
    covariances: np.ndarray
    attributes: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def __post_init__(self):
        for name in ('horizons', 'points', 'covariances'):
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.float64))
        count = len(np.atleast_1d(self.horizons))
        for name, shape in (('horizons', (count,)), ('points', (count, 2)), ('covariances', (count, 2, 2))):
            value = getattr(self, name)
            if value.shape != shape:
                raise PredictionError(f'the {name} of a path must have shape {shape}, got {value.shape}')
            if not np.isfinite(value).all():
                raise PredictionError(f'the {name} of a path must be finite')
        if count < 2 or not (np.diff(self.horizons) > 0).all():
            raise PredictionError(
                f'a path needs at least two ascending horizons, got {self.horizons.tolist()} s')
        asymmetry = np.abs(self.covariances - self.covariances.transpose(0, 2, 1)).max()
        smallest, largest = np.linalg.eigvalsh(self.covariances)[:, [0, -1]].T
        tolerance = 1e-5 * max(largest.max(), 1e-12)  # the readout computes in float32
        if asymmetry > tolerance or smallest.min() < -tolerance:
            raise PredictionError('the covariances of a path must be symmetric and positive semidefinite')
        object.__setattr__(self, 'attributes', {
            name: _checked(name, count, *pair) for name, pair in self.attributes.items()})

    @classmethod
    def of(cls, stamp_ns: int, horizons: np.ndarray, reading) -> PredictedPath:
        """
        What a readout says of futures.

        :param stamp_ns: of the newest frame of the futures; `horizons`: theirs, s.
        :param reading: an `engine.readout.Reading`.
        :raises PredictionError: see the class.
        """
        attributes = {name: (told.mean, told.std) for name, told in reading.attributes.items()}
        return cls(stamp_ns, horizons, reading.points, reading.covariances, attributes)

    def at(self, lead: float) -> PathPoint:
        """
        The point at one instant, interpolated between horizons and never extrapolated.

        The covariance of a mean of two estimates is at most the mean of their covariances, so interpolating
        those linearly is on the safe side whatever their correlation. The velocity is that of central
        differences at the horizons, interpolated too, so that it does not jump when the instant passes a
        horizon.

        :param lead: seconds after ``stamp_ns``.
        :raises PredictionError: it is before the first or after the last horizon.
        """
        first, last = self.horizons[0], self.horizons[-1]
        if not first <= lead <= last:
            raise PredictionError(
                f'the instant to aim for is {lead:.3f} s after the newest frame, but the futures cover '
                f'{first:g}..{last:g} s')
        right = min(int(np.searchsorted(self.horizons, lead, side='right')), len(self.horizons) - 1)
        weight = (lead - self.horizons[right - 1]) / (self.horizons[right] - self.horizons[right - 1])
        velocities = np.gradient(self.points, self.horizons, axis=0)

        def mix(values):
            return (1.0 - weight) * values[right - 1] + weight * values[right]

        attributes = {name: (mix(mean), mix(std)) for name, (mean, std) in self.attributes.items()}
        return PathPoint(mix(self.points), mix(self.covariances), mix(velocities), attributes)


def _checked(name: str, count: int, mean, std) -> tuple[np.ndarray, np.ndarray]:
    mean, std = np.asarray(mean, np.float64), np.asarray(std, np.float64)
    if mean.ndim != 2 or len(mean) != count or mean.shape != std.shape:
        raise PredictionError(f"mean and deviation of attribute '{name}' must have shape ({count}, P), got "
                              f'{mean.shape} and {std.shape}')
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std >= 0).all()):
        raise PredictionError(f"attribute '{name}' of a path must be finite, its deviation not negative")
    return mean, std
