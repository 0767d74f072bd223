# SPDX-License-Identifier: Apache-2.0
"""The bag of outputs, read by a library that had no part in writing it."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded import START_NS, camera, write_bag

from jepa_ros.clouds import decode_futures, decode_latents
from jepa_ros.data.bag_output import BagOutputError
from jepa_ros.data.recordings import open_recording
from jepa_ros.evaluation.offline import OfflineRun
from jepa_ros.evaluation.outputs import OutputBag, namespaces
from jepa_ros.evaluation.replay import Options, Subject, replay


def read(folder):
    """Return topic to list of (log time, schema, message), through `mcap` and `mcap-ros2-support`."""
    from mcap.reader import make_reader
    from mcap_ros2.decoder import DecoderFactory

    found = {}
    with open(next(folder.glob('*.mcap')), 'rb') as file:
        for schema, channel, message, decoded in make_reader(
            file, decoder_factories=[DecoderFactory()]
        ).iter_decoded_messages():
            found.setdefault(channel.topic, []).append((message.log_time, schema.name, decoded))
    return found


def cloud(message):
    stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
    return (
        message.height,
        message.width,
        message.fields,
        message.point_step,
        message.row_step,
        message.is_bigendian,
        bytes(message.data),
        stamp,
    )


def test_latents_and_futures_are_those_of_the_session_on_the_topics_of_the_node(bag, subject, tmp_path):
    assert replay(bag, subject, bag=tmp_path / 'out')['status'] == 'done'
    found = read(tmp_path / 'out')
    assert {topic: messages[0][1] for topic, messages in found.items()} == {
        '/perception/latents': 'sensor_msgs/msg/PointCloud2',
        '/perception/futures': 'sensor_msgs/msg/PointCloud2',
        '/perception/model': 'std_msgs/msg/String',
    }
    steps = list(OfflineRun(subject.session, open_recording(bag)))
    assert len(found['/perception/latents']) == len(steps)
    for step, (log_ns, _, message) in zip(steps, found['/perception/latents']):
        latents = decode_latents(*cloud(message))
        assert latents.stamp_ns == step.latents.stamp_ns == log_ns and message.header.frame_id == 'lens'
        np.testing.assert_array_equal(latents.tokens, step.latents.tokens)
        np.testing.assert_array_equal(latents.surprise, step.latents.surprise)
    futures = [step.futures for step in steps if step.futures is not None]
    for expected, (_, _, message) in zip(futures, found['/perception/futures'], strict=True):
        np.testing.assert_array_equal(decode_futures(*cloud(message)).tokens, expected.tokens)
    ((_, _, model),) = found['/perception/model']
    assert json.loads(model.data)['model'] == subject.bundle.model_id


def test_tokens_can_be_pooled_as_the_node_does(bag, tiny, tmp_path):
    replay(bag, Subject(tiny, Options(publish='pooled', threads=1)), bag=tmp_path / 'out')
    assert {message.width for _, _, message in read(tmp_path / 'out')['/perception/latents']} == {1}


def test_cameras_have_a_namespace_each(subject, tmp_path):
    path = write_bag(tmp_path / 'bag', {'/cam0/image_raw/compressed': camera(9), 'cam1/image_raw': camera(9)})
    replay(path, subject, bag=tmp_path / 'out')
    found = read(tmp_path / 'out')
    assert set(found) == {
        '/cam0/perception/latents',
        '/cam1/perception/latents',
        '/cam0/perception/model',
        '/cam1/perception/model',
        '/cam0/perception/futures',
        '/cam1/perception/futures',
    } - {topic for topic in ('/cam0/perception/futures', '/cam1/perception/futures') if topic not in found}
    assert found['/cam0/perception/latents'][0][0] >= START_NS


@given(
    st.lists(
        st.from_regex(r'\A/?[a-z]{1,3}(/(image|image_raw|compressed|[a-z]{1,3})){0,3}\Z'),
        min_size=2,
        max_size=6,
        unique_by=lambda topic: topic.strip('/'),
    )
)
def test_namespaces_are_unique_and_names_of_ros(topics):
    found = namespaces(topics)
    assert len(set(found)) == len(topics)
    assert all(name.startswith('/') and '//' not in name and not name.endswith('/') for name in found)


def test_a_single_camera_has_the_names_of_the_node():
    assert namespaces(['/anything/image']) == ['']


def test_an_earlier_bag_is_replaced_and_nothing_else(tmp_path):
    OutputBag(tmp_path / 'out').close()
    OutputBag(tmp_path / 'out').close()
    (tmp_path / 'mine').mkdir()
    with pytest.raises(BagOutputError, match='something else'):
        OutputBag(tmp_path / 'mine')
