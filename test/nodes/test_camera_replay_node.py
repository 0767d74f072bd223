# SPDX-License-Identifier: Apache-2.0
import json
import signal
import time

import numpy as np
import pytest
import recorded
from children import Child
from conftest import shared_data
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import ChangeState
from peer import Peer
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image

from jepa_ros.images import decode_compressed, decode_raw
from jepa_ros.nodes import transport
from jepa_ros.nodes.messages import to_ns

pytestmark = pytest.mark.ros
TOPIC = '/camera/image_raw'
RELIABLE = QoSProfile(depth=100)  # these tests count; that best effort arrives is another test's matter


def player(path, *remaps, **parameters):
    """Start camera_replay_node on a recording."""
    options = [word for name, value in {'path': str(path), **parameters}.items()
               for word in ('-p', f'{name}:={json.dumps(value)}')]
    return Child('-m', 'jepa_ros.nodes.camera_replay_node', '--ros-args', *options, *remaps,
                 environment=transport.environment())


@pytest.fixture
def peer():
    with Peer() as peer:
        yield peer


@pytest.fixture
def bag(tmp_path):
    return recorded.write_bag(tmp_path / 'bag', {recorded.CAMERA: recorded.camera(15)})


def numbers(inbox):
    """The numbers in the pictures received."""
    def decode(m):
        if isinstance(m, CompressedImage):
            return decode_compressed(m.data, m.format)
        return decode_raw(m.encoding, m.height, m.width, m.step, bool(m.is_bigendian), m.data)

    return [recorded.number_of(decode(message)) for message in inbox.messages]


def stamps(inbox):
    return [to_ns(message.header.stamp) for message in inbox.messages]


def assert_pace(images, rate):
    """
    No faster than asked, and not always slower: a busy machine makes frames late, by up to 0.1 s without
    shifting those that follow. The exact instants are tested with a clock that is moved.
    """
    steps = np.diff(stamps(images)) * rate / recorded.STEP_NS
    assert steps.mean() > 0.6 and steps.min() < 1.5


def test_a_bag_is_published_as_recorded_with_present_stamps_and_the_node_ends(peer, bag):
    images = peer.listen(CompressedImage, TOPIC, RELIABLE)
    before = peer.node.get_clock().now().nanoseconds
    with player(bag) as child:
        assert child.wait() == 0
        after = peer.node.get_clock().now().nanoseconds
        images.wait(count=15)
    assert numbers(images) == list(range(15))
    assert {(m.format, m.header.frame_id) for m in images.messages} == {('jpeg', 'lens')}
    assert before < stamps(images)[0] and stamps(images)[-1] < after
    assert_pace(images, 1.0)


def test_recorded_stamps_bring_their_clock_before_each_image(peer, bag):
    images = peer.listen(CompressedImage, TOPIC, RELIABLE)
    clocks = peer.listen(Clock, '/clock', RELIABLE)
    with player(bag, stamps='recorded', rate=0.2) as child:
        assert child.wait() == 0
        images.wait(count=15)
        clocks.wait(lambda m: to_ns(m.clock) == stamps(images)[-1])
    expected = [recorded.START_NS + i * recorded.STEP_NS for i in range(15)]
    assert stamps(images) == expected
    assert {to_ns(m.clock) for m in clocks.messages} <= set(expected)
    apart = np.abs(np.subtract(clocks.times[-10:], images.times[-10:]))
    assert np.median(apart) < 2.5 * recorded.STEP_NS / 1e9, 'nearer to its image than to any other'


@pytest.mark.parametrize('asked, kind', [('raw', Image), ('compressed', CompressedImage)])
@pytest.mark.parametrize('compressed', [True, False])
def test_the_type_asked_for_is_published_whatever_was_recorded(peer, tmp_path, asked, kind, compressed):
    path = recorded.write_bag(tmp_path / 'bag', {recorded.CAMERA: recorded.camera(5, compressed=compressed)})
    images = peer.listen(kind, TOPIC, RELIABLE)
    with player(path, image_transport=asked) as child:
        assert child.wait() == 0
        images.wait(count=5)
    assert numbers(images) == list(range(5))


def test_a_video_starts_at_one_second(peer, tmp_path):
    images = peer.listen(Image, TOPIC, RELIABLE)
    with player(recorded.write_video(tmp_path / 'v.mp4', 10), stamps='recorded') as child:
        assert child.wait() == 0
        images.wait(count=10)
    assert stamps(images)[0] == 10**9
    assert numbers(images) == list(range(10))


@pytest.mark.parametrize('stamp', [0, recorded.START_NS])
def test_useless_stamps_are_replaced_by_log_time_and_it_says_so(peer, tmp_path, stamp):
    path = recorded.write_bag(tmp_path / 'bag', {recorded.CAMERA: recorded.camera(6, stamps=[stamp] * 6)})
    images = peer.listen(CompressedImage, TOPIC, RELIABLE)
    with player(path, stamps='recorded') as child:
        child.wait_line('the times at which they were recorded are used instead')
        assert child.wait() == 0
        images.wait(count=6)
    assert stamps(images) == [recorded.START_NS + i * recorded.STEP_NS for i in range(6)]


def test_a_gap_of_two_seconds_is_one_also_in_wall_time(peer, tmp_path):
    frames = recorded.camera(4)
    late = recorded.START_NS + 2 * 10**9
    frames[2:] = [(late + i, recorded.image_message(i, late + i * recorded.STEP_NS, True)) for i in (2, 3)]
    images = peer.listen(CompressedImage, TOPIC, RELIABLE)
    with player(recorded.write_bag(tmp_path / 'bag', {recorded.CAMERA: frames})) as child:
        assert child.wait() == 0
        images.wait(count=4)
    assert stamps(images)[2] - stamps(images)[1] > 1.5e9


def test_the_rate_is_a_factor(peer, bag):
    images = peer.listen(CompressedImage, TOPIC, RELIABLE)
    with player(bag, rate=0.5) as child:
        assert child.wait() == 0
        images.wait(count=15)
    assert_pace(images, 0.5)


def test_loop_begins_again_until_it_is_told_to_end(peer, bag):
    images = peer.listen(CompressedImage, TOPIC, RELIABLE)
    with player(bag, loop=True, stamps='recorded') as child:
        images.wait(count=20)
        assert child.stop() == 0
    assert numbers(images)[:20] == [*range(15), *range(5)]
    assert np.diff(stamps(images)[:20]).min() < 0


def test_nothing_is_sent_before_the_subscribers_are_there(bag):
    """The first image is not for those who come first but for all who were announced."""
    with player(bag, wait_for_subscribers=2, wait_timeout=60.0), Peer('first') as first:
        early = first.listen(CompressedImage, TOPIC, RELIABLE)
        diagnostics = first.listen(DiagnosticArray, '/diagnostics')
        diagnostics.wait(lambda m: any(value.value == 'active' for value in m.status[0].values))
        diagnostics.wait(count=2)
        assert early.messages == []
        with Peer('second') as second:
            images = second.listen(CompressedImage, TOPIC, RELIABLE)
            images.wait(count=15)
            early.wait(count=15)
    assert numbers(images) == numbers(early) == list(range(15))


def test_it_does_not_wait_for_ever(bag):
    with player(bag, wait_timeout=0.2) as child:
        child.wait_line('starting all the same')
        assert child.wait() == 0


@pytest.mark.parametrize('parameters, sentence', [
    ({'path': '/no/such.bag'}, "expected a recording as a path or one of those shipped"),
    ({'path': ''}, "parameter 'path' must name a video or a bag"),
    ({'topic': '/other'}, 'expected camera topic /other, found /camera/image_raw (15 frames)'),
    ({'path': __file__}, 'expected a video'),
    ({'rate': 0.0}, "parameter 'rate'"),
    ({'stamps': 'maybe'}, "parameter 'stamps' must be one of now, recorded"),
])
def test_what_cannot_be_played_is_one_sentence_and_exit_code_2(bag, parameters, sentence):
    with player(**{'path': bag, **parameters}) as child:
        child.wait_line(sentence)
        assert child.wait() == 2
        assert not any('Traceback' in line for line in child.lines)


def test_a_frame_that_does_not_decode_is_left_out_if_it_must_be_decoded(peer, tmp_path):
    frames = recorded.camera(5)
    frames[2][1].data = frames[2][1].data[:100]
    images = peer.listen(Image, TOPIC, RELIABLE)
    path = recorded.write_bag(tmp_path / 'bag', {recorded.CAMERA: frames})
    with player(path, image_transport='raw') as child:
        child.wait_line('a frame is left out')
        assert child.wait() == 0
        images.wait(count=4)
    assert numbers(images) == [0, 1, 3, 4]


def test_deactivated_it_pauses_and_activated_it_begins_again(peer, bag):
    images = peer.listen(CompressedImage, TOPIC, RELIABLE)

    def transition(number):
        request = ChangeState.Request()
        request.transition.id = number
        assert peer.call(ChangeState, '/camera/change_state', request).success

    with player(bag, loop=True, stamps='recorded') as child:
        images.wait(count=3)
        transition(4)
        marker = peer.listen(DiagnosticArray, '/diagnostics')
        marker.wait(lambda m: m.status[0].name == 'camera', count=2)
        count = len(images.messages)
        marker.clear()
        marker.wait(lambda m: m.status[0].name == 'camera')
        assert len(images.messages) == count
        transition(3)
        images.wait(count=count + 1)
        assert stamps(images)[count] == recorded.START_NS
        assert child.stop() == 0


def test_ctrl_c_again_and_again_is_no_fault(peer, bag):
    images = peer.listen(CompressedImage, TOPIC, RELIABLE)
    with player(bag, loop=True) as child:
        images.wait()
        while child.process.poll() is None:
            child.process.send_signal(signal.SIGINT)
            time.sleep(0.002)
        assert child.process.returncode == 0
        assert not any('Traceback' in line for line in child.lines)


def test_full_pace_at_1280x720_raw(peer):
    """Decoding happens ahead of time: 30 raw images a second of that size leave at their time."""
    path = shared_data() / 'videos' / 'sam2_02_cups.mp4'
    best_effort = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    images = []

    def keep(message):
        images.append((time.monotonic(), to_ns(message.header.stamp), message.width, len(message.data)))

    peer.node.create_subscription(Image, TOPIC, keep, best_effort)
    with player(path) as child:
        assert child.wait() == 0
    assert {size for *_, size in images} == {1280 * 720 * 3}
    sent = np.array([stamp for _, stamp, *_ in images]) / 1e9
    assert 0.95 < (sent[-1] - sent[0]) / (299 / 30)
    assert np.percentile(np.diff(sent), 25) < 1.3 / 30, 'most may be late on a busy machine'
