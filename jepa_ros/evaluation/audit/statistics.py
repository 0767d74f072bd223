# SPDX-License-Identifier: Apache-2.0
"""
How far a measured difference can be trusted: paired bootstrap over sequences.

Frames of one recording resemble each other, so a recording, not a frame, is what is drawn anew. Both encoders
saw the same recordings: their difference is taken inside each one, and what makes a recording hard for both
cancels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jepa_ros.evaluation.percentiles import expanded

RESAMPLES = 4000


@dataclass(frozen=True)
class Interval:
    """
    An estimate and where the true value lies.

    :param estimate: of the quantity; `low` and `high` enclose it with `confidence` (0..1).
    :param count: what it was estimated from: sequences, seeds or rounds.
    """

    estimate: float
    low: float
    high: float
    confidence: float
    count: int

    def __neg__(self) -> Interval:
        return Interval(-self.estimate, -self.high, -self.low, self.confidence, self.count)


def exact(value: float) -> Interval:
    """Return what is counted or stated rather than estimated."""
    return Interval(value, value, value, 1.0, 1)


def bootstrap_mean(
    values: Sequence[float],
    weights: Sequence[float] | None = None,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """
    Return the weighted mean of values and its bootstrap interval, the same one for the same input.

    :param values: one per sequence; of a pair their difference.
    :param weights: of each, such as how many examples it holds; None: all alike.
    :returns: an interval without ends (infinite) for fewer than two values.
    :raises ValueError: without values, or with a weight that is not positive.
    """
    x = np.asarray(values, float)
    w = np.ones(len(x)) if weights is None else np.asarray(weights, float)
    if not len(x) or len(w) != len(x) or not (w > 0).all() or not np.isfinite(x).all():
        raise ValueError(f'expected finite values with positive weights, found {values} and {weights}')
    estimate, count = float(np.average(x, weights=w)), len(x)
    if count < 2:
        return Interval(estimate, -math.inf, math.inf, confidence, count)
    drawn = np.random.default_rng(seed).integers(0, count, (resamples, count))
    means = (x * w)[drawn].sum(1) / w[drawn].sum(1)
    level = expanded(confidence, count)
    low, high = np.quantile(means, ((1 - level) / 2, (1 + level) / 2))
    # Rounding must not put the ends of equal values on either side of them.
    return Interval(estimate, min(float(low), estimate), max(float(high), estimate), confidence, count)


def bootstrap_ratio(
    numerators: Sequence[float], denominators: Sequence[float], confidence: float = 0.95
) -> Interval:
    """Return the geometric mean of paired ratios of positive values and its interval."""
    found = bootstrap_mean(np.log(np.asarray(numerators, float) / denominators), confidence=confidence)
    return Interval(math.exp(found.estimate), math.exp(found.low), _exp(found.high), confidence, found.count)


def needed(interval: Interval, limit: float, resolution: float) -> int:
    """
    Return how many sequences in all would decide on which side of a limit the value lies.

    The width of the interval shrinks with the square root of their number; the estimate is taken to stay
    where it is. A value nearer to the limit than the resolution is asked for to the resolution only.
    """
    towards = (
        interval.high - interval.estimate if interval.estimate < limit else interval.estimate - interval.low
    )
    distance = max(abs(interval.estimate - limit), resolution)
    if not math.isfinite(towards) or towards == 0:
        return interval.count + 1
    return max(interval.count + 1, math.ceil(interval.count * (towards / distance) ** 2))


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
