# SPDX-License-Identifier: Apache-2.0
"""The monitor beside a publisher of another participant: every message, as it came."""

import threading
import time

import pytest
import rclpy
from children import PATIENCE
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.serialization import deserialize_message, serialize_message
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header, String

from jepa_ros.demo.figures import Figures
from jepa_ros.demo.monitor import Monitor, header_stamp
from jepa_ros.demo.recorder import BagRecorder
from jepa_ros.demo.topics import Topics
from jepa_ros.nodes.messages import to_stamp

pytestmark = pytest.mark.ros

CAMERA = '/camera/image_raw'
STAMP_NS = 1_795_000_000_123_456_789


def image(number: int) -> CompressedImage:
    return CompressedImage(header=Header(stamp=to_stamp(STAMP_NS + number), frame_id='lens'), format='jpeg')


@pytest.fixture
def publisher():
    """A node with a DDS participant of its own, as in another process."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node('camera', context=context)
    yield node
    node.destroy_node()
    rclpy.try_shutdown(context=context)


@pytest.fixture
def monitor(tmp_path):
    recorder = BagRecorder(tmp_path / 'bag')
    monitor = Monitor(recorder, Figures(0.1), Topics(), 'sensor_msgs/msg/CompressedImage')
    yield monitor
    monitor.close()
    recorder.close()


def messages(path, topic) -> list[bytes]:
    with AnyReader([path], default_typestore=get_typestore(Stores.LATEST)) as reader:
        connections = [connection for connection in reader.connections if connection.topic == topic]
        return [bytes(data) for _, _, data in reader.messages(connections)]


def until_heard(camera, heard):
    """Publish until the subscriber, which the publisher may know of too early, has heard something."""
    deadline = time.monotonic() + PATIENCE
    while not heard():
        assert time.monotonic() < deadline
        camera.publish(image(0))
        time.sleep(0.02)


def test_stamp_is_read_without_deserialising():
    assert header_stamp(serialize_message(image(5))) == STAMP_NS + 5
    assert header_stamp(b'\0\0\0\0' + (7).to_bytes(4, 'big') + (9).to_bytes(4, 'big')) == 7_000_000_009


def test_every_message_is_recorded_as_it_came(publisher, tmp_path):
    recorder, figures = BagRecorder(tmp_path / 'bag'), Figures(0.1)
    monitor = Monitor(recorder, figures, Topics(), 'sensor_msgs/msg/CompressedImage')
    try:
        camera = publisher.create_publisher(CompressedImage, CAMERA, 10)
        assert monitor.wait_for(monitor.camera_published, PATIENCE)
        until_heard(camera, lambda: figures.camera_stamps)
        for number in range(1, 5):
            camera.publish(image(number))
        assert monitor.wait_for(lambda: figures.camera_stamps[-1] == STAMP_NS + 4, PATIENCE)
    finally:
        monitor.close()
        recorder.close()
    numbers = [stamp - STAMP_NS for stamp in figures.camera_stamps]
    assert numbers[-5:] == [0, 1, 2, 3, 4]
    recorded = [deserialize_message(data, CompressedImage) for data in messages(tmp_path / 'bag', CAMERA)]
    assert recorded == [image(number) for number in numbers]


def test_a_latched_message_that_was_there_before_is_recorded(publisher, monitor):
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    publisher.create_publisher(String, '/perception/model', latched).publish(String(data='{}'))
    recorder = monitor._recorder
    assert monitor.wait_for(lambda: recorder.counts.get('/perception/model') == 1, PATIENCE)


def test_nobody_listens_to_the_view_which_would_have_it_drawn(publisher, monitor):
    view = publisher.create_publisher(Image, '/perception/view', 1)
    publisher.create_publisher(String, '/words', 1)  # seen in the same look at the graph or a later one
    assert monitor.wait_for(lambda: '/words' in monitor._recorder.counts, PATIENCE)
    assert view.get_subscription_count() == 0 and '/perception/view' not in monitor._recorder.counts


def test_a_full_disk_is_told(publisher, monitor):
    def write(*_):
        raise OSError('no space left on device')

    monitor._recorder.write = write
    camera = publisher.create_publisher(CompressedImage, CAMERA, 10)
    until_heard(camera, lambda: monitor.fault)
    assert 'no space left' in str(monitor.fault)


def test_a_lock_that_an_interrupt_left_taken_is_given_up(monitor):
    monitor.lock.acquire()
    monitor.lock.acquire()
    monitor.let_go()
    monitor.let_go()  # nothing to give up
    taken = threading.Thread(target=monitor.wait_for, args=(lambda: True, 0.0), daemon=True)
    taken.start()
    taken.join(10.0)
    assert not taken.is_alive()
