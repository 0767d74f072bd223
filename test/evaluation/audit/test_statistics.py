# SPDX-License-Identifier: Apache-2.0
"""Intervals cover what they promise, are the same for the same input, and say how much more data is needed."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jepa_ros.evaluation.audit.statistics import (
    Interval,
    bootstrap_mean,
    bootstrap_ratio,
    exact,
    needed,
)
from jepa_ros.evaluation.percentiles import expanded, student_quantile

VALUES = st.lists(st.floats(-10, 10), min_size=2, max_size=30)


@pytest.mark.parametrize(
    'p, degrees, value', [(0.975, 1, 12.7062), (0.975, 5, 2.5706), (0.975, 30, 2.0423), (0.95, 11, 1.7959)]
)
def test_quantiles_of_student_are_those_of_the_tables(p, degrees, value):
    assert student_quantile(p, degrees) == pytest.approx(value, rel=2e-3)
    assert student_quantile(1 - p, degrees) == pytest.approx(-value, rel=2e-3)


@given(VALUES)
def test_an_interval_holds_its_estimate_and_turns_with_its_sign(values):
    found = bootstrap_mean(values)
    assert found.low <= found.estimate <= found.high and found.count == len(values)
    assert (-found).low == -found.high and (-found).estimate == pytest.approx(-np.mean(values))
    assert bootstrap_mean(values) == found, 'the same input gives the same interval'


@pytest.mark.parametrize('count', [6, 12, 24])
def test_intervals_of_few_values_cover_what_they_promise(count):
    rng = np.random.default_rng(7)
    runs = [bootstrap_mean(rng.normal(0.3, 1, count), resamples=800) for _ in range(400)]
    covered = np.mean([run.low <= 0.3 <= run.high for run in runs])
    assert 0.92 <= covered <= 0.98  # plain percentiles cover 0.87 of 6 values


def test_one_value_says_nothing_of_its_error():
    assert bootstrap_mean([0.2]) == Interval(0.2, -math.inf, math.inf, 0.95, 1)
    assert expanded(0.95, 1) == 0.95 < expanded(0.95, 30) < expanded(0.95, 5)


def test_weights_count():
    assert bootstrap_mean([0, 1], [1, 3]).estimate == 0.75
    for values, weights in (([], None), ([1.0], [0.0]), ([1.0, math.nan], None)):
        with pytest.raises(ValueError, match='expected finite values with positive weights'):
            bootstrap_mean(values, weights)


def test_ratios_are_geometric_and_paired():
    found = bootstrap_ratio([2.0, 8.0, 4.0], [1.0, 2.0, 4.0])
    assert found.estimate == pytest.approx(2.0) and found.low < 2 < found.high
    assert bootstrap_ratio([3.0, 6.0], [1.0, 2.0]).low == pytest.approx(3.0)
    assert exact(1.5).low == exact(1.5).high == 1.5


@pytest.mark.parametrize(
    'interval, limit, resolution, more',
    [
        (Interval(0.04, 0.0, 0.08, 0.95, 10), 0.02, 0.0, 40),  # twice as near as the interval is wide: 4 times
        (Interval(0.00, -0.04, 0.04, 0.95, 10), 0.02, 0.0, 40),
        (Interval(0.02, -0.02, 0.06, 0.95, 10), 0.02, 0.01, 160),  # at the limit: to the resolution only
        (Interval(0.2, -math.inf, math.inf, 0.95, 1), 0.02, 0.0, 2),
        (Interval(0.2, 0.2, 0.2, 0.95, 3), 0.2, 0.0, 4),
    ],
)
def test_more_data_shrinks_the_interval_by_its_root(interval, limit, resolution, more):
    assert needed(interval, limit, resolution) == more
