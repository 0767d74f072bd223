# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jepa_ros.control.path import PredictedPath, PredictionError
from jepa_ros.engine.readout import Attribute, Reading

HORIZONS = np.array([0.1, 0.2, 0.4])


def path(points=((0.0, 0.0), (0.1, 0.2), (0.5, 0.2)), covariances=None, horizons=HORIZONS):
    if covariances is None:
        covariances = np.stack([np.eye(2) * c for c in (0.01, 0.02, 0.04)])
    return PredictedPath(1_000_000_000, horizons, np.array(points), covariances)


def test_horizons_are_met_exactly():
    for k, horizon in enumerate(HORIZONS):
        point = path().at(horizon)
        np.testing.assert_allclose(point.position, path().points[k], atol=1e-12)
        np.testing.assert_allclose(point.covariance, path().covariances[k], atol=1e-12)


def test_between_horizons_is_interpolated():
    point = path().at(0.3)
    np.testing.assert_allclose(point.position, [0.3, 0.2])
    np.testing.assert_allclose(point.covariance, np.eye(2) * 0.03)


@pytest.mark.parametrize('lead', [-0.1, 0.0999, 0.4001, 5.0, np.nan])
def test_outside_the_horizons_is_refused_never_extrapolated(lead):
    with pytest.raises(PredictionError, match='cover 0.1..0.4 s'):
        path().at(lead)


@given(st.floats(0.1, 0.4), st.floats(-2, 2), st.floats(-2, 2))
def test_a_uniform_motion_has_its_velocity_everywhere(lead, vx, vy):
    points = HORIZONS[:, None] * [vx, vy] + [0.3, 0.4]
    point = path(points).at(lead)
    np.testing.assert_allclose(point.velocity, [vx, vy], atol=1e-9)
    np.testing.assert_allclose(point.position, [0.3 + vx * lead, 0.4 + vy * lead], atol=1e-9)


def test_the_velocity_does_not_jump_at_a_horizon():
    before, after = path().at(0.2 - 1e-9).velocity, path().at(0.2 + 1e-9).velocity
    np.testing.assert_allclose(before, after, atol=1e-5)


def test_deviation_is_that_of_the_worst_direction():
    tilted = np.array([[0.05, 0.03], [0.03, 0.05]])  # eigenvalues 0.08 along the diagonal, 0.02 across
    assert path(covariances=np.stack([tilted] * 3)).at(0.2).deviation == pytest.approx(np.sqrt(0.08))


@pytest.mark.parametrize('change, message', [
    ({'horizons': HORIZONS[:2]}, r'points .* shape \(2, 2\), got \(3, 2\)'),
    ({'horizons': HORIZONS[:, None]}, 'horizons'),
    ({'horizons': np.array([0.1, 0.1, 0.2])}, 'ascending'),
    ({'horizons': np.array([0.1, np.nan, 0.2])}, 'horizons of a path must be finite'),
    ({'points': np.zeros((3, 3))}, 'points'),
    ({'points': np.array([[0, 0], [0, np.inf], [0, 0]])}, 'points of a path must be finite'),
    ({'covariances': np.zeros((3, 2))}, 'covariances'),
    ({'covariances': np.full((3, 2, 2), np.nan)}, 'covariances of a path must be finite'),
    ({'covariances': np.stack([-np.eye(2)] * 3)}, 'positive semidefinite'),
    ({'covariances': np.stack([[[1.0, 0.5], [0.1, 1.0]]] * 3)}, 'symmetric'),
])
def test_malformed_paths_are_refused(change, message):
    with pytest.raises(PredictionError, match=message):
        path(**change)


def test_one_horizon_is_not_a_path():
    with pytest.raises(PredictionError, match='at least two'):
        path([[0, 0]], np.zeros((1, 2, 2)), HORIZONS[:1])


def test_rounding_of_float32_is_no_fault():
    covariance = np.array([[1e-4, 1e-4], [1e-4, 1e-4 - 1e-12]])  # not quite semidefinite
    path(covariances=np.stack([covariance] * 3))


def test_a_reading_is_a_path():
    told = Attribute(np.ones((3, 2), np.float32), np.full((3, 2), 0.1, np.float32))
    reading = Reading(path().points.astype(np.float32), path().covariances.astype(np.float32), {'foot': told})
    found = PredictedPath.of(1_000_000_000, HORIZONS, reading)
    np.testing.assert_allclose(found.at(0.3).position, path().at(0.3).position, atol=1e-6)
    mean, deviation = found.at(0.3).attributes['foot']
    assert mean.tolist() == [1, 1] and deviation == pytest.approx(0.1)
