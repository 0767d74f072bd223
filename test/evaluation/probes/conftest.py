# SPDX-License-Identifier: Apache-2.0
"""Small bags in which a bright square goes to the left or to the right, and tiny bundles."""

import dataclasses

import numpy as np
import pytest
from bundles import make_bundle
from recorded import CAMERA, image_message, write_bag
from rosbags.typesys import Stores, get_typestore

from jepa_ros.images import encode_jpeg

START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 50_000_000


def _message(number, picture):
    """Return the stamp and the CompressedImage of a frame."""
    stamp = START_NS + number * PERIOD_NS
    message = image_message(0, stamp, True, size=picture.shape[:2])
    return stamp, dataclasses.replace(message, data=np.frombuffer(encode_jpeg(picture, 95), np.uint8))


@pytest.fixture
def picture_of():
    return _message


def _moving_bag(path, seed, count=36, size=(32, 48)):
    """Write a bag of 20 Hz: a square goes round, to the right or to the left by the seed; /way says where."""
    string = get_typestore(Stores.ROS2_HUMBLE).types['std_msgs/msg/String']
    rng = np.random.default_rng(seed)
    x, way = int(rng.integers(size[1])), 1 if seed % 2 else -1
    frames, ways = [], []
    for number in range(count):
        picture = rng.integers(60, 90, (*size, 3)).astype(np.uint8)
        picture[8:24, np.arange(x, x + 10) % size[1]] = 250
        frames.append(_message(number, picture))
        ways.append((frames[-1][0], string(data='right' if way > 0 else 'left')))
        x = (x + 3 * way) % size[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_bag(path, {CAMERA: frames, '/way': ways})


@pytest.fixture(scope='session')
def moving(tmp_path_factory):
    """A folder with bags: train, validation and held_out."""
    root, seed = tmp_path_factory.mktemp('moving'), 0
    for split, count in (('train', 10), ('validation', 4), ('held_out', 6)):
        for _ in range(count):
            _moving_bag(root / split / f'run{seed}', seed)
            seed += 1
    return root


@pytest.fixture(scope='session')
def tiny_frame(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp('frame') / 'tiny', mode='frame', size=(32, 48))


@pytest.fixture(scope='session')
def tiny_clip(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp('clip') / 'tiny', mode='clip', size=(32, 48))
