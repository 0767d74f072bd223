# SPDX-License-Identifier: Apache-2.0
"""A training run small enough for a test: short videos of a moving square, a network of two blocks."""

import copy

import cv2
import numpy as np
import pytest
from recorded import CAMERA, START_NS, STEP_NS, camera, point_message, vector_message, write_bag
from training_values import VALUES

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


@pytest.fixture(scope='session')
def labelled_bags(tmp_path_factory):
    """Folder with bags/train and bags/validation, whose handle and grasp are the same in every frame."""
    root = tmp_path_factory.mktemp('labelled')
    for split, frames in (('train', 40), ('validation', 30)):
        stamps = [START_NS + i * STEP_NS for i in range(frames)]
        topics = {
            CAMERA: camera(frames),
            '/handle': [(at, point_message(0.5, 0.4, 1.0, at)) for at in stamps],
            '/grasp': [(at, vector_message([0.2, 0.3])) for at in stamps],
        }
        write_bag(root / 'bags' / split / 'labelled', topics)
    return root


@pytest.fixture(scope='session')
def cache(tmp_path_factory):
    """Folder for decoded frames, shared by all tests."""
    return tmp_path_factory.mktemp('cache')


@pytest.fixture
def values():
    """The configuration as a dictionary that a test may change."""
    return copy.deepcopy(VALUES)


@pytest.fixture
def config(values):
    """The configuration."""
    return configuration.from_dict(values)
