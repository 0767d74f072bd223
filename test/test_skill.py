# SPDX-License-Identifier: Apache-2.0
"""Skill: zero for the baselines themselves, one for the truth, and no reward for caution."""

import numpy as np
import pytest

from jepa_ros.skill import SkillTable

RNG = np.random.default_rng(0)
HORIZONS = [0.1, 0.2]


def filled(forecast, mean=None, mix=0.6):
    """A table over latents whose future is a mix of the present and something new."""
    mean = np.zeros(5, np.float32) if mean is None else mean
    now = RNG.normal(size=(400, 3, 5)) + mean
    new = RNG.normal(size=(400, 2, 3, 5))
    observed = mean + mix * (now[:, None] - mean) + np.sqrt(1 - mix ** 2) * new
    table = SkillTable(HORIZONS, mean)
    table.add(np.tile(HORIZONS, (400, 1)), forecast(now, observed, mean), now, observed)
    return table.rows()


def test_the_truth_has_skill_one_and_persistence_zero():
    assert all(row['skill'] == pytest.approx(1) for row in filled(lambda now, seen, mean: seen))
    rows = filled(lambda now, seen, mean: np.repeat(now[:, None], 2, 1))
    assert all(row['skill'] == pytest.approx(0, abs=1e-6) and row['skill_shrunk'] < -0.1 for row in rows)


@pytest.mark.parametrize('mean', [np.zeros(5, np.float32), np.full(5, 3, np.float32)])
def test_caution_alone_beats_persistence_but_not_shrunk_persistence(mean):
    rows = filled(lambda now, seen, m: np.repeat(m + 0.6 * (now[:, None] - m), 2, 1), mean)
    assert all(row['skill'] > 0.1 for row in rows)
    assert all(abs(row['skill_shrunk']) < 0.01 and abs(row['shrink_factor'] - 0.6) < 0.03 for row in rows)


def test_a_forecast_counts_for_the_nearest_horizon_only_if_it_is_near():
    table = SkillTable([0.1, 0.2, 0.3], np.zeros(2))
    latents = np.ones((1, 4, 1, 2))
    table.add(np.array([[0.11, 0.24, 0.36, 0.19]]), latents, latents[:, 0], latents)
    assert [(row['horizon'], row['count']) for row in table.rows()] == [(0.1, 1), (0.2, 2)]
