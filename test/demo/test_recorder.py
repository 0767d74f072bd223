# SPDX-License-Identifier: Apache-2.0
"""The bag is read by two libraries that know nothing of its writer."""

import pytest
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from jepa_ros.data.bag_output import BagOutputError
from jepa_ros.demo.recorder import BagRecorder

TYPES = get_typestore(Stores.ROS2_JAZZY)


def strings(path, count=3, latched=False):
    """Record ``count`` strings on /words and return their CDR bytes."""
    text = TYPES.types['std_msgs/msg/String']
    messages = [bytes(TYPES.serialize_cdr(text(f'word {i}'), 'std_msgs/msg/String')) for i in range(count)]
    recorder = BagRecorder(path)
    assert recorder.add('/words', 'std_msgs/msg/String', latched)
    for i, message in enumerate(messages):
        recorder.write('/words', 1_000 + i, message)
    recorder.close()
    assert recorder.counts == {'/words': count}
    return messages


def test_rosbags_reads_the_bytes_that_were_written(tmp_path):
    messages = strings(tmp_path / 'bag')
    with AnyReader([tmp_path / 'bag']) as reader:
        found = [(connection.topic, stamp, bytes(data)) for connection, stamp, data in reader.messages()]
    assert found == [('/words', 1_000 + i, message) for i, message in enumerate(messages)]


def test_mcap_ros2_reads_it_too(tmp_path):
    mcap_ros2 = pytest.importorskip('mcap_ros2.reader', reason='mcap-ros2-support is not installed')
    strings(tmp_path / 'bag')
    messages = mcap_ros2.read_ros2_messages(str(tmp_path / 'bag' / 'bag.mcap'))
    assert [m.ros_msg.data for m in messages] == ['word 0', 'word 1', 'word 2']


def test_a_latched_topic_stays_latched(tmp_path):
    strings(tmp_path / 'bag', latched=True)
    with AnyReader([tmp_path / 'bag']) as reader:
        qos, = reader.connections[0].ext.offered_qos_profiles
    assert qos.durability.name == 'TRANSIENT_LOCAL'


def test_an_unknown_type_is_left_out_and_the_bag_stays_good(tmp_path):
    recorder = BagRecorder(tmp_path / 'bag')
    assert not recorder.add('/gripper', 'vendor_msgs/msg/Gripper')
    assert recorder.add('/words', 'std_msgs/msg/String')
    recorder.close()
    with AnyReader([tmp_path / 'bag']) as reader:
        assert [connection.topic for connection in reader.connections] == ['/words']


def test_an_earlier_bag_is_replaced(tmp_path):
    strings(tmp_path / 'bag', count=5)
    assert len(strings(tmp_path / 'bag', count=2)) == 2
    with AnyReader([tmp_path / 'bag']) as reader:
        assert reader.message_count == 2


def test_what_is_no_bag_is_never_removed(tmp_path):
    (tmp_path / 'bag').mkdir()
    (tmp_path / 'bag' / 'thesis.tex').write_text('years of work')
    with pytest.raises(BagOutputError, match='an earlier bag'):
        BagRecorder(tmp_path / 'bag')
    assert (tmp_path / 'bag' / 'thesis.tex').exists()


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(BagOutputError, match='expected to write a bag'):
        BagRecorder(tmp_path / 'file' / 'bag')
