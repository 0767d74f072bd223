# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jepa_ros.evaluation.rollout_kalman import KalmanSettings, PlaneKalman

CENTIMETRE = np.eye(2) * 0.01**2


def track(speed=0.2, until=2.0, y=0.02, filter_=None):
    filter_ = filter_ or PlaneKalman()
    for time in np.arange(0, until, 0.05):
        assert filter_.measure(time, np.array([speed * time, y]), CENTIMETRE)
    return filter_


@settings(max_examples=20, deadline=None)
@given(st.floats(0.05, 0.30), st.floats(-0.05, 0.05))
def test_constant_velocity_is_foreseen(speed, y):
    place, covariance = track(speed, y=y).predict(2.4)
    np.testing.assert_allclose(place, (speed * 2.4, y), atol=5e-3)
    assert np.linalg.eigvalsh(covariance)[0] > 0


def test_its_covariance_is_honest():
    rng, inside = np.random.default_rng(0), []
    for _ in range(100):
        filter_ = PlaneKalman(KalmanSettings(along=1e-6, across=1e-6, least=0.0))
        for time in np.arange(0, 1.0, 0.05):
            filter_.measure(time, np.array([0.2 * time, 0.0]) + rng.normal(0, 0.01, 2), CENTIMETRE)
        place, covariance = filter_.predict(1.35)
        off = place - (0.2 * 1.35, 0.0)
        inside.append(off @ np.linalg.solve(covariance, off) < 4.605)
    assert 0.8 < np.mean(inside) < 0.98


def test_the_further_ahead_the_less_is_known():
    filter_ = track()
    spreads = [np.trace(filter_.predict(2 + lead)[1]) for lead in (0.1, 0.3, 0.5)]
    assert spreads == sorted(spreads) and spreads[0] < spreads[-1]


def test_an_outlier_is_passed_over_and_many_are_another_bin():
    filter_ = track()
    assert not filter_.measure(2.0, np.array([0.8, 0.02]), CENTIMETRE) and filter_.rejected == 1
    np.testing.assert_allclose(filter_.predict(2.0)[0], (0.4, 0.02), atol=5e-3)
    taken = [filter_.measure(time, np.array([-0.4, 0.0]), CENTIMETRE) for time in np.arange(2.05, 2.7, 0.05)]
    assert not taken[0] and taken[-1] and filter_.begun == 2
    assert filter_.predict(2.65)[0][0] == pytest.approx(-0.4, abs=0.02)


def test_nothing_is_foreseen_before_anything_was_seen():
    with pytest.raises(ValueError, match='before the first prediction'):
        PlaneKalman().predict(1.0)
