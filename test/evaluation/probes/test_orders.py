# SPDX-License-Identifier: Apache-2.0
"""Orders of frames and appearance noise: what the controls show."""

import numpy as np
import pytest

from jepa_ros.evaluation.probes.noise import noisy
from jepa_ros.evaluation.probes.orders import order
from jepa_ros.evaluation.probes.settings import NOISES

FRAMES = np.full((3, 24, 32, 3), 128, np.uint8)


def rng():
    return np.random.default_rng(0)


def test_frames_come_in_the_order_asked_for():
    assert order('true', 5, rng()).tolist() == [0, 1, 2, 3, 4]
    assert order('last', 3, rng()).tolist() == [2, 2, 2]
    assert order('swapped', 4, rng()).tolist() == [2, 3, 0, 1]


@pytest.mark.parametrize('count', [1, 2, 3, 16])
def test_shuffled_frames_are_all_there_and_never_in_order(count):
    for seed in range(30):
        drawn = order('shuffled', count, np.random.default_rng(seed))
        assert sorted(drawn) == list(range(count))
        assert count == 1 or drawn.tolist() != list(range(count))


@pytest.mark.parametrize('kind', NOISES)
def test_noise_changes_the_look_and_its_strength_how_much(kind):
    weak, strong = (noisy(FRAMES, kind, s, rng()).astype(int) - 128 for s in (0.3, 1.0))
    assert strong.shape == FRAMES.shape and (noisy(FRAMES, kind, 0.0, rng()) == FRAMES).all()
    assert 2 < np.abs(strong).mean() and 0.1 < np.abs(weak).mean() / np.abs(strong).mean() < 0.6


def test_light_and_texture_stand_still_and_sensor_noise_does_not():
    for kind, still in (('light', True), ('texture', True), ('sensor', False)):
        frames = noisy(FRAMES, kind, 1.0, rng())
        assert (frames[0] == frames[1]).all() == still


def test_another_noise_is_refused():
    with pytest.raises(ValueError, match='light, texture or sensor, found fog'):
        noisy(FRAMES, 'fog', 1.0, rng())
