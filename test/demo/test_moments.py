# SPDX-License-Identifier: Apache-2.0
"""The moments that are shown: those of most change, with the right frames."""

import numpy as np
import pytest
from bundles import LATENT_DIM, make_bundle
from recorded import CAMERA, image_message, number_of
from rosbags.typesys import Stores, get_typestore

from jepa_ros import clouds
from jepa_ros.demo.moments import find_moments
from jepa_ros.demo.recorder import BagRecorder
from jepa_ros.demo.topics import Topics
from jepa_ros.engine.bundle import Bundle
from jepa_ros.engine.readout import Readout
from jepa_ros.latents import Futures, Latents, token_centres

TYPES = get_typestore(Stores.ROS2_HUMBLE)
LATENTS, FUTURES = '/perception/latents', '/perception/futures'
START_NS, SLICE_NS = 1_795_000_000_000_000_000, 100_000_000
CENTRES = token_centres((6, 8))
SLICES = 30
MOVES = (8, 20)  # slices at which the scene changes, and nowhere else


@pytest.fixture(scope='module')
def bundle(tmp_path_factory):
    return Bundle.load(make_bundle(tmp_path_factory.mktemp('bundle') / 'tiny'))


def tokens(number: int) -> np.ndarray:
    level = sum(number >= move for move in MOVES)
    return np.full((48, LATENT_DIM), level, np.float32)


def cloud_message(cloud, stamp_ns):
    kinds = TYPES.types
    stamp = kinds['builtin_interfaces/msg/Time'](*divmod(stamp_ns, 10**9))
    field = kinds['sensor_msgs/msg/PointField']
    return kinds['sensor_msgs/msg/PointCloud2'](
        kinds['std_msgs/msg/Header'](stamp, 'lens'), cloud.height, cloud.width,
        [field(f.name, f.offset, f.datatype, f.count) for f in cloud.fields], False, cloud.point_step,
        cloud.row_step, np.frombuffer(cloud.data, np.uint8), True)


@pytest.fixture
def bag(tmp_path, bundle):
    recorder = BagRecorder(tmp_path / 'bag')
    for topic, kind in ((CAMERA, 'CompressedImage'), (LATENTS, 'PointCloud2'), (FUTURES, 'PointCloud2')):
        recorder.add(topic, f'sensor_msgs/msg/{kind}')

    def write(topic, stamp_ns, message):
        recorder.write(topic, stamp_ns, bytes(TYPES.serialize_cdr(message, message.__msgtype__)))

    nothing = np.zeros(48, np.float32)
    horizons = np.array([0.1, 0.2], np.float32)
    for number in range(SLICES):
        stamp = START_NS + number * SLICE_NS
        write(CAMERA, stamp, image_message(number, stamp, True))
        latents = Latents(stamp, tokens(number), CENTRES, nothing, nothing, bundle.model_id)
        write(LATENTS, stamp + 1_000_000, cloud_message(clouds.encode_latents(latents), stamp))
        if number >= 3:
            futures = Futures(stamp, horizons, np.stack([tokens(number + 1), tokens(number + 2)]), CENTRES,
                              bundle.model_id)
            write(FUTURES, stamp + 2_000_000, cloud_message(clouds.encode_futures(futures), stamp))
    recorder.close()
    return recorder.path


def test_each_part_shows_its_moment_of_most_change(bag, bundle):
    moments = find_moments(bag, Topics(), bundle.manifest, 0.2, count=2)
    assert len(moments) == 2
    for moment, move in zip(moments, MOVES):
        number = round(moment.seconds * 10)
        assert number < move <= number + 2
        assert number_of(moment.frame) == number and number_of(moment.later) == number + 2
        assert np.array_equal(moment.now, tokens(number))
        assert np.array_equal(moment.observed, tokens(number + 2))
        assert np.array_equal(moment.predicted, moment.observed)


def test_the_horizon_is_the_one_asked_for(bag, bundle):
    moment, *_ = find_moments(bag, Topics(), bundle.manifest, 0.1, count=2)
    assert moment.horizon == pytest.approx(0.1)
    assert number_of(moment.later) == number_of(moment.frame) + 1


def test_the_readout_tells_the_path(bag, bundle):
    moments = find_moments(bag, Topics(), bundle.manifest, 0.2, Readout(bundle), count=6)
    assert len(moments) == 6
    assert all(moment.path.shape == (2, 2) and moment.deviation.shape == (2,) for moment in moments)
    assert all((moment.deviation > 0).all() for moment in moments)
