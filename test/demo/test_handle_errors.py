# SPDX-License-Identifier: Apache-2.0
"""Paths against the truth that comes after them."""

import numpy as np
import pytest

from jepa_ros.demo.handle_errors import HandleErrors

PERIOD = 50_000_000  # ns
SPEED = 0.2  # m/s


def at(ns: int, off: float = 0.0) -> np.ndarray:
    """Where the handle is: carried along x, at a height; ``off`` across the belt."""
    return np.array([SPEED * ns / 1e9, off, 0.8])


def ride(errors: HandleErrors, frames, visible=lambda n: True, riding=lambda n: True) -> None:
    for n in frames:
        errors.truth(n * PERIOD, at(n * PERIOD), visible(n), riding(n))


def path(errors: HandleErrors, made_ns: int, off: float, ahead=(0.05, 0.25, 0.45)) -> None:
    instants = [made_ns + round(h * 1e9) for h in ahead]
    errors.path(made_ns, [(instant, at(instant, off)) for instant in instants])


def test_a_path_is_judged_at_fixed_horizons_once_their_truth_has_come():
    errors = HandleErrors()
    ride(errors, range(3))
    path(errors, 2 * PERIOD, 0.03)
    assert errors.rows() == [] and errors.median(0.4) is None
    ride(errors, range(3, 8))  # up to 0.25 s after it
    assert [row['horizon'] for row in errors.rows()] == [0.1, 0.2]
    ride(errors, range(8, 12))
    assert [row['horizon'] for row in errors.rows()] == [0.1, 0.2, 0.3, 0.4]
    assert all(row['median_m'] == row['p90_m'] == 0.03 and row['count'] == 1 for row in errors.rows())
    assert errors.median(0.4) == (0.4, pytest.approx(0.03))


def test_between_frames_the_truth_is_interpolated():
    errors = HandleErrors()
    ride(errors, range(3))
    path(errors, 2 * PERIOD - 20_000_000, 0.01)
    ride(errors, range(3, 15))
    assert [row['median_m'] for row in errors.rows()] == [0.01] * 4


def test_a_path_that_came_late_is_judged_at_once():
    errors = HandleErrors()
    ride(errors, range(20))
    path(errors, 4 * PERIOD, 0.02)
    assert [row['median_m'] for row in errors.rows()] == [0.02] * 4


def test_nothing_is_judged_beyond_the_ends_of_a_path():
    errors = HandleErrors()
    ride(errors, range(20))
    path(errors, 4 * PERIOD, 0.02, ahead=(0.15, 0.25, 0.3))
    errors.path(4 * PERIOD, [])
    assert [row['horizon'] for row in errors.rows()] == [0.2, 0.3]
    assert errors.median(1.0)[0] == 0.3, 'the nearest that was judged'


def test_in_view_and_hidden_are_told_apart_by_when_the_path_was_made():
    errors = HandleErrors()
    ride(errors, range(40), visible=lambda n: n < 10)
    for n in range(0, 20):
        path(errors, n * PERIOD, 0.01 if n < 10 else 0.04)
    # the path of the tenth frame and those after it were made when nothing was to be seen
    found = {(row['horizon'], row['in_view']): (row['median_m'], row['count']) for row in errors.rows()}
    assert found[0.4, True] == (0.01, 10) and found[0.4, False] == (0.04, 10)
    assert [row['in_view'] for row in errors.rows()] == [True, False] * 4


@pytest.mark.parametrize('frame, judged', [(2, []), (8, [0.4])], ids=['when made', 'when it is time'])
def test_a_bin_that_does_not_ride_is_no_prediction(frame, judged):
    errors = HandleErrors()
    ride(errors, range(20), riding=lambda n: n != frame)
    path(errors, 2 * PERIOD, 0.01, ahead=(0.3, 0.4))
    assert [row['horizon'] for row in errors.rows()] == judged


def test_the_next_bin_is_not_taken_for_this_one():
    errors = HandleErrors()
    ride(errors, range(6))
    path(errors, 4 * PERIOD, 0.0)
    for n in range(6, 20):
        errors.truth(n * PERIOD, at(n * PERIOD) + (2.0, 0, 0), True, True)
    assert [row['horizon'] for row in errors.rows()] == []


def test_truth_of_a_clock_that_was_set_back_is_left_out():
    errors = HandleErrors()
    ride(errors, range(10))
    errors.truth(3 * PERIOD, at(0), True, True)
    path(errors, 2 * PERIOD, 0.0, ahead=(0.05, 0.2))
    assert [row['median_m'] for row in errors.rows()] == [0.0, 0.0]
