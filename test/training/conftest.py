# SPDX-License-Identifier: Apache-2.0
"""A training run small enough for a test: short videos of a moving square, a network of two blocks."""

import cv2
import numpy as np
import pytest

from jepa_ros.training import config as configuration


def write_video(path, seed, frames=60, size=(64, 48), rate=20):
    """A bright square on a dark ground that moves by a constant step and bounces."""
    rng = np.random.default_rng(seed)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), rate, size)
    place, step = rng.uniform(8, 32, 2), rng.uniform(-3, 3, 2)
    for _ in range(frames):
        image = np.full((size[1], size[0], 3), 40, np.uint8)
        x, y = place.astype(int)
        cv2.rectangle(image, (x, y), (x + 8, y + 8), (60, 200, 230), -1)
        writer.write(image)
        place += step
        step = np.where((place < 0) | (place > np.array(size) - 9), -step, step)
        place = np.clip(place, 0, np.array(size) - 9)
    writer.release()


@pytest.fixture(scope='session')
def videos(tmp_path_factory):
    """Folder with train/, validation/ and held_out/ videos."""
    root = tmp_path_factory.mktemp('videos')
    for split, seeds in (('train', (0, 1)), ('validation', (2,)), ('held_out', (3,))):
        (root / split).mkdir()
        for seed in seeds:
            write_video(root / split / f'{seed}.mp4', seed)
    return root


VALUES = {
    'name': 'tiny_run', 'validate_every': 4, 'save_every': 3, 'log_every': 1,
    'data': {'train': ['train'], 'validation': ['validation'], 'held_out': ['held_out'], 'slices': 6,
             'frame_period': 0.05},
    'encoder': {'size': 'tiny', 'depth': 2, 'image_size': [32, 48], 'window': 4},
    'predictor': {'width': 48, 'depth': 1, 'heads': 2},
    'forecaster': {'width': 48, 'depth': 1, 'heads': 2, 'context': 3, 'horizons': [0.1, 0.2, 0.3]},
    'masks': {'short_blocks': 2, 'long_scale': 0.4},
    'bf16': False,
    'pretraining': {'steps': 4, 'batch': 4, 'warmup': 2},
    'heads': {'clips': 10, 'steps': 4, 'batch': 4, 'warmup': 2},
}


@pytest.fixture
def values():
    """The configuration as a dictionary that a test may change."""
    import copy
    return copy.deepcopy(VALUES)


@pytest.fixture
def config(values):
    """The configuration."""
    return configuration.from_dict(values)
