# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jepa_ros.control.alike import AlikeFilter

ALIKE = 2.0


def take(known, time, value, claim, caution=0.0):
    """One reading of a value that stays."""
    claims = np.array([claim])
    state, covariance = known.ahead(time, np.eye(1), np.zeros((1, 1)), ALIKE, claims)
    rows = np.array([[1.0, claim]])
    spread = rows @ covariance @ rows.T + (caution * claim**2 + 1e-10)
    known.take(time, state, covariance, rows, np.array([value]) - rows @ state, spread, claims)


def unknown():
    return AlikeFilter(0.0, np.zeros(1), np.array([[100.0]]), errors=1)


@given(st.floats(0.01, 0.5), st.floats(0.01, 0.5), st.floats(0.0, 5.0))
def test_it_is_the_best_linear_estimate_from_errors_with_the_covariance_that_it_says(first, second, seconds):
    """Against the textbook's estimate from both readings at once."""
    known = unknown()
    take(known, 0.0, 1.0, first)
    take(known, seconds, 2.0, second)
    between = np.exp(-seconds / ALIKE) * min(first / second, second / first)
    errors = np.array([[first**2, between * first * second], [between * first * second, second**2]]) + 1e-10 * np.eye(2)
    weights = np.linalg.solve(errors + 100.0, [100.0, 100.0])
    assert known.state[0] == pytest.approx(weights @ [1.0, 2.0], abs=1e-3)
    assert known.covariance[0, 0] == pytest.approx(100.0 - weights.sum() * 100.0, rel=1e-3, abs=1e-6)


def test_many_readings_at_once_are_worth_one_and_later_ones_more():
    once, often, later = unknown(), unknown(), unknown()
    for number in range(20):
        take(often, 1e-6 * number, 1.0, 0.1)
        take(later, 10.0 * number, 1.0, 0.1)
    take(once, 0.0, 1.0, 0.1)
    assert often.covariance[0, 0] == pytest.approx(once.covariance[0, 0], rel=0.01)
    assert later.covariance[0, 0] < once.covariance[0, 0] / 15


def test_a_bias_of_certain_readings_is_not_blown_up_with_what_uncertain_ones_claim():
    known = unknown()
    for number in range(20):
        take(known, 0.05 * number, 1.0, 0.1)
    before = known.state[0]
    take(known, 1.0, 1.0, 2.0)
    assert known.state[0] == pytest.approx(before, abs=0.01)


def test_what_is_felt_errs_like_no_reading():
    known = unknown()
    take(known, 0.0, 1.0, 0.1)
    rows = np.array([[1.0, 0.0]])
    spread = rows @ known.covariance @ rows.T + 1e-6
    known.take(0.0, known.state, known.covariance, rows, np.array([1.2]) - rows @ known.state, spread)
    assert known.state[0] == pytest.approx(1.2, abs=1e-3)
    take(known, 0.05, 1.0, 0.1)
    assert known.state[0] == pytest.approx(1.2, abs=5e-3), 'the next reading is off by what that one was off'
