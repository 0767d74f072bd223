# SPDX-License-Identifier: Apache-2.0
"""The calibration of a readout's covariance on validation clips."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jepa_ros.nets.readout import Votes
from jepa_ros.training.stages.readings import FEWEST, Readings

HORIZONS = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5])


class Head:
    """A readout that says what it is told to."""

    def __init__(self, point, covariance, mean=None, unit=None):
        self.said, self.mean, self.attributes = (point, covariance), mean, SimpleNamespace(unit=unit)

    def __call__(self, futures, dt, votes):
        return Votes(None, None, None, self.mean)

    def moments(self, votes):
        return self.said


def readings(factor, count=2000, horizons=HORIZONS, seed=0):
    """Errors whose true covariance is `factor(dt)` times the one that is told."""
    rng = torch.Generator().manual_seed(seed)
    found, dt = Readings(), horizons.repeat(count)
    told = torch.tensor([[0.0004, 0.0001], [0.0001, 0.0009]]).expand(len(dt), -1, -1)
    white = torch.randn(len(dt), 2, 1, generator=rng)
    off = (torch.linalg.cholesky(told) @ white)[..., 0] * factor(dt).sqrt()[:, None]
    label = torch.rand(len(dt), 2, generator=rng)
    found.add(Head(label - off, told), None, dt, label)
    return found


@given(st.floats(-2, 2), st.floats(-3, 3), st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_the_factor_by_which_a_covariance_is_wrong_is_found(start, slope, seed):
    found = readings(lambda dt: (start + slope * dt).exp(), seed=seed).calibration()
    # At the horizons themselves; 0 s lies outside of them.
    expected = start + slope * HORIZONS
    assert (found[0] + found[1] * HORIZONS).numpy() == pytest.approx(expected.numpy(), abs=0.15)


def test_once_calibrated_the_ellipse_holds_what_it_says_and_the_likelihood_is_better():
    wide = readings(lambda dt: torch.full_like(dt, 0.1))
    before, after = wide.figures(torch.zeros(2)), wide.figures(wide.calibration())
    assert before['inside'] > 0.99
    assert after['inside'] == pytest.approx(0.9, abs=0.01)
    assert after['readout_likelihood'] < before['readout_likelihood']
    assert after['readout_error'] == before['readout_error']
    assert after['readout_std'] == pytest.approx(before['readout_std'] * np.sqrt(0.1), rel=0.05)
    assert before['readout_std'] == pytest.approx((0.0004 * 0.0009 - 0.0001**2) ** 0.25, rel=1e-4)


def test_the_likelihood_is_that_of_a_gaussian():
    found = readings(torch.ones_like, count=50)
    dt, distance, error, log_area = found._all()
    covariance = torch.tensor([[0.0004, 0.0001], [0.0001, 0.0009]]).double()
    calibration = torch.tensor([0.3, -0.5]).double()
    expected = [
        0.5 * d * np.exp(-0.3 + 0.5 * t) + 0.5 * np.log(np.linalg.det(covariance * np.exp(0.3 - 0.5 * t)))
        for t, d in zip(dt.numpy(), distance.numpy())
    ]
    assert found.figures(calibration)['readout_likelihood'] == pytest.approx(np.mean(expected), rel=1e-4)


def test_too_few_labels_calibrate_nothing():
    assert readings(torch.ones_like, count=FEWEST - 1).calibration().tolist() == [0, 0]
    assert Readings().calibration().tolist() == [0, 0]
    assert Readings().figures(torch.zeros(2)) == {}


def test_a_single_horizon_gets_a_factor_without_a_slope():
    found = readings(lambda dt: torch.full_like(dt, 4.0), horizons=torch.tensor([0.4])).calibration()
    assert found.tolist() == pytest.approx([np.log(4), 0], abs=0.2)


def test_labels_that_are_unknown_do_not_count():
    found = Readings()
    nothing = torch.full((10, 2), torch.nan)
    head = Head(torch.rand(10, 2), torch.eye(2).expand(10, -1, -1))
    found.add(head, None, HORIZONS.repeat(2), nothing)
    assert found.figures(torch.zeros(2)) == {}


def test_the_error_of_attributes_counts_in_units_of_the_labels_spread():
    unit, label = torch.tensor([2.0, 0.1]), torch.rand(10, 4)
    label[5:, 2:] = torch.nan
    head = Head(label[:, :2], torch.eye(2).expand(10, -1, -1), label[:, 2:] + torch.tensor([1.0, -0.1]), unit)
    found = Readings()
    found.add(head, None, HORIZONS.repeat(2), label)
    expected = ((0.5**2 + 1.0**2) / 2) ** 0.5
    assert found.figures(torch.zeros(2))['attribute_error'] == pytest.approx(expected, rel=1e-5)
