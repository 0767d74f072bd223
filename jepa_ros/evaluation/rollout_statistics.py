# SPDX-License-Identifier: Apache-2.0
"""What a number of successes says: intervals, and comparisons of contenders on the same seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

Z95 = 1.959963984540054  # of a normal distribution, 95 % lie within so many standard deviations


class Paired(NamedTuple):
    """
    Two contenders on the seeds that both ran.

    :param seeds: how many.
    :param only_first: of these, where the first alone succeeded; `only_second` likewise.
    :param p: of the exact test of McNemar, two-sided.
    """

    seeds: int
    only_first: int
    only_second: int
    p: float


def wilson(successes: int, trials: int, z: float = Z95) -> tuple[float, float]:
    """
    Return the interval of a rate that Wilson proposed (Journal of the American Statistical Association 22,
    1927): unlike the normal one it stays within 0..1 and does not shrink to nothing at 0 or all.

    :raises ValueError: not 0 <= successes <= trials.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f'expected 0 to {trials} successes, found {successes}')
    if not trials:
        return 0.0, 1.0
    rate, square = successes / trials, z * z
    middle = rate + square / (2 * trials)
    half = z * math.sqrt(rate * (1 - rate) / trials + square / (4 * trials**2))
    scale = 1 + square / trials
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def mcnemar(only_first: int, only_second: int) -> float:
    """
    Return the two-sided p of the exact test of McNemar (Psychometrika 12, 1947): were the two equally good,
    each seed on which they differ would be a fair coin.
    """
    differing = only_first + only_second
    fewer = min(only_first, only_second)
    tail = sum(math.comb(differing, k) for k in range(fewer + 1))
    return min(1.0, 2 * tail / 2**differing)


def paired_difference(both: int, only_first: int, only_second: int, neither: int, z: float = Z95) -> tuple[float, float]:
    """
    Return the interval of the difference of two rates on the same seeds, first minus second.

    Newcombe's method 10 (Statistics in Medicine 17, 1998): from Wilson's intervals of the two rates and the correlation
    of the outcomes. Unlike a bootstrap it does not shrink to nothing where both succeeded on the same seeds.

    :param both: how many seeds both took; `only_first`, `only_second`, `neither`: likewise.
    """
    seeds = both + only_first + only_second + neither
    if not seeds:
        return -1.0, 1.0
    first, second = both + only_first, both + only_second
    (low, high), (low_second, high_second) = (wilson(count, seeds, z) for count in (first, second))
    spread = first * (seeds - first) * second * (seeds - second)
    common = both * neither - only_first * only_second
    if common > 0:
        common = max(common - seeds / 2, 0.0)
    alike = common / math.sqrt(spread) if spread else 0.0
    difference = (only_first - only_second) / seeds

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(one * one - 2 * alike * one * other + other * other, 0.0))

    down = reach(first / seeds - low, high_second - second / seeds)
    up = reach(high - first / seeds, second / seeds - low_second)
    return difference - down, difference + up


def paired(first: Mapping[int, bool], second: Mapping[int, bool]) -> Paired:
    """Compare two contenders. :param first, second: seed to whether it was picked."""
    both = first.keys() & second.keys()
    only_first = sum(first[seed] and not second[seed] for seed in both)
    only_second = sum(second[seed] and not first[seed] for seed in both)
    return Paired(len(both), only_first, only_second, mcnemar(only_first, only_second))
