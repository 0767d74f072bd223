# SPDX-License-Identifier: Apache-2.0
"""perception_node and bad input: it says what is wrong, lives on, and works again when the cause is gone."""

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from bundles import make_bundle
from children import Child
from rclpy.parameter import Parameter
from rclpy.utilities import get_rmw_implementation_identifier
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image, PointCloud2
from stage import PERIOD, compressed, raw
from std_msgs.msg import String

from jepa_ros.nodes.messages import to_ns, to_stamp
from jepa_ros.nodes.transport import PROFILE_VARIABLES, profile_variable

pytestmark = pytest.mark.ros

NODE = ('-m', 'jepa_ros.nodes.perception_node', '--ros-args')
CAMERA = Path(__file__).parent / 'raw_camera.py'


def works(stage, message=raw, kind=None, start=0):
    """Tell that the node gives latents for good frames."""
    latents = stage.listen(PointCloud2, '/perception/latents')
    stage.until(lambda: stage.node._latents_out.get_subscription_count())
    stamps = stage.play(range(start, start + 6), message, **({'kind': kind} if kind else {}))
    stage.until(lambda: latents and to_ns(latents[-1].header.stamp) == stamps[-1])
    return True


def test_missing_topic_names_those_that_have_images(perception):
    stage = perception(image_topic='left/image')
    stage.tester.create_publisher(CompressedImage, '/right/image', 1)
    stage.until_said("no publisher on '/left/image'", "images are on '/right/image'", 'set image_topic')


def test_name_that_cannot_be_a_topic(perception):
    stage = perception(active=False, image_topic='left camera')
    assert not stage.node.bring_up()
    stage.until_said("could not activate: expected the name of a topic in image_topic, found 'left camera'")


def test_topic_of_another_kind(perception):
    stage = perception()
    stage.tester.create_publisher(String, '/camera/image_raw', 1)
    stage.until_said('expected sensor_msgs/msg/Image or CompressedImage', 'found std_msgs/msg/String')


def test_transport_that_the_camera_does_not_have(perception):
    stage = perception(image_transport='raw')
    stage.publisher(CompressedImage, wait=False)
    stage.until_said('has type sensor_msgs/msg/CompressedImage', "image_transport is 'raw': set it to 'auto'")


def test_frames_lost_in_transport_and_what_to_set(perception, monkeypatch):
    """Without the profile, the default shared memory of Fast DDS loses nearly every raw 1280x720 image."""
    if 'fastrtps' not in get_rmw_implementation_identifier():
        pytest.skip('another middleware than Fast DDS')
    for name in PROFILE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    stage = perception()
    with Child(CAMERA, 1280, 720, 120) as camera:
        stage.until(lambda: 'matched' in camera.lines)
        stage.until_said('are lost on the way: start this node and the camera with', profile_variable())


def test_unknown_encoding(perception):
    stage = perception()

    def strange(index, stamp):
        message = raw(index, stamp)
        message.encoding = 'yuv9000'
        return message

    stage.play(range(4), strange)
    stage.until_said('images cannot be decoded', 'expected an encoding of rgb8', "found 'yuv9000'")
    assert works(stage, start=10)
    assert int(stage.values()['frames_failed']) == 4


def test_truncated_jpeg(perception):
    stage = perception()

    def cut(index, stamp):
        message = compressed(index, stamp)
        message.data = message.data[:len(message.data) // 2]
        return message

    stage.play(range(4), cut, CompressedImage)
    stage.until_said('images cannot be decoded', 'expected a whole JPEG image', 'cut short')
    assert works(stage, compressed, CompressedImage, start=10)


def test_resolution_that_changes_in_mid_stream(perception, capfd):
    stage = perception()
    latents = stage.listen(PointCloud2, '/perception/latents')
    origin = stage.node.now_ns() - 2_000_000_000
    stage.play(range(6), origin=origin)
    stage.until(lambda: len(latents) == 3)
    stage.play(range(6, 12), origin=origin, width=200, height=100)
    stage.until(lambda: len(latents) == 6)
    assert stage.values()['resets_resolution'] == '1'
    assert 'history cleared: the image changed from 160x120 to 200x100' in capfd.readouterr().err
    # Surprise begins anew: what was seen before has another geometry.
    surprise = [np.frombuffer(m.data, np.float32).reshape(m.width, -1)[:, 4] for m in latents]
    assert np.isnan(surprise[3]).all()


def test_clock_that_jumps_back(perception):
    stage = perception()
    latents = stage.listen(PointCloud2, '/perception/latents')
    stage.play(range(6))
    origin = stage.node.now_ns() - 3_600_000_000_000
    stage.diagnostics.clear()
    stamps = stage.play(range(6), origin=origin)
    stage.until(lambda: latents and to_ns(latents[-1].header.stamp) == stamps[-1])
    stage.until(lambda: any('jumped back: the history was cleared' in m for m in stage.messages()))
    stage.until(lambda: any('3.6e+03 s old' in m and 'use_sim_time' in m for m in stage.messages()))


def test_stamps_from_the_future(perception):
    stage = perception()
    stage.play(range(3), origin=stage.node.now_ns() + 60_000_000_000)
    message = stage.until(lambda: next((m for m in stage.messages() if 'in the future' in m), None))
    assert '(max_future is 0.5 s)' in message and 'use_sim_time' in message
    assert works(stage)


def test_images_without_stamps(perception):
    stage = perception()
    publisher = stage.publisher()
    publisher.publish(raw(0, 0))
    stage.until(lambda: any('header has no stamp' in m for m in stage.messages()))
    assert works(stage)


def test_simulated_time(perception):
    """Recorded stamps with /clock from them: ages are small although the recording is old."""
    stage = perception(use_sim_time=True)
    stage.until_said('nothing publishes /clock')
    clock = stage.tester.create_publisher(Clock, '/clock', 10)
    stage.until(clock.get_subscription_count)
    latents = stage.listen(PointCloud2, '/perception/latents')
    old = 1_000_000_000_000
    for index in range(6):
        now = old + index * PERIOD
        clock.publish(Clock(clock=to_stamp(now)))
        stage.until(lambda: stage.node.now_ns() >= now)
        stage.play([index], origin=old)
        stage.until(lambda: len(latents) == (index + 1) // 2)  # two frames a slice; the clock waits for what it tells
    assert float(stage.values()['latents_age_p99_ms']) < 1.0  # the clock stood still in between
    stage.until_said('ok')


def test_slow_camera(perception):
    stage = perception()
    stage.play(range(0, 100, 4))
    stage.until_said('the camera sends an image every 0.2 s but the bundle asks for one every 0.05 s')


def test_a_view_that_cannot_be_drawn_does_not_cost_the_stream(perception):
    stage = perception(view_rate=60.0)
    stage.listen(Image, '/perception/view')
    latents = stage.listen(PointCloud2, '/perception/latents')
    futures = stage.listen(PointCloud2, '/perception/futures')
    stage.until(lambda: stage.node._view_out.get_subscription_count())

    def broken(*arguments):
        raise ValueError('no such encoding')

    stage.node._view.draw = broken
    origin, index = stage.node.now_ns() - 2_000_000_000, 0
    while not futures:  # which take a history that a reset would end
        assert index < 40
        stage.play([index], origin=origin)
        index += 1
    assert latents
    stage.until_said('the view cannot be drawn: ValueError: no such encoding')


def test_encoder_that_fails_is_an_error_and_the_next_set_is_tried(perception):
    stage = perception()
    step = stage.node._session.step

    def broken(frames):
        raise ValueError('out of memory')

    stage.node._session.step = broken
    stage.play(range(4))
    stage.until(lambda: any('the encoder failed: ValueError: out of memory' in m for m in stage.messages()))
    assert stage.diagnostics[-1].status[0].level in (b'\1', b'\2')
    stage.node._session.step = step
    assert works(stage, start=10)


def test_a_gpu_that_is_lost_stays_an_error(perception):
    """Whatever is asked of it fails, forgetting the history too."""
    stage = perception()

    def broken(*frames):
        raise ValueError('the GPU is lost')

    stage.node._session.step = stage.node._session.reset = broken
    for index in range(3):
        stage.play(range(4 * index, 4 * index + 4))
        stage.until_said('the encoder failed: ValueError: the GPU is lost')
    del stage.node._session.step, stage.node._session.reset
    assert works(stage, start=20)


def damaged(path):
    data = bytearray((path / 'encoder.onnx').read_bytes())
    data[-10] ^= 1
    (path / 'encoder.onnx').write_bytes(data)
    return 'encoder.onnx: expected sha256'


def foreign(path):
    shutil.rmtree(path)
    path.mkdir()
    (path / 'model.pt').write_bytes(b'weights')
    return 'expected an engine bundle with manifest.yaml'


def absent(path):
    shutil.rmtree(path)
    return 'expected an engine bundle as a path or one of those shipped'


@pytest.mark.parametrize('spoil', [damaged, foreign, absent])
def test_bad_bundle_is_refused_and_another_can_be_configured(perception, bundle, tmp_path, spoil):
    path = make_bundle(tmp_path / 'bundle')
    sentence = spoil(path)
    stage = perception(active=False, bundle=str(path))
    assert not stage.node.bring_up()
    assert stage.node.state == 'unconfigured'
    stage.until_said('could not configure: ', sentence)
    assert stage.diagnostics[-1].status[0].level == b'\2'
    result, = stage.node.set_parameters([Parameter('bundle', value=str(bundle))])
    assert result.successful and stage.node.bring_up()
    assert works(stage)
    stage.until_said('ok')


def test_horizons_that_the_bundle_does_not_offer(perception):
    stage = perception(active=False, horizons=[0.05])
    assert not stage.node.bring_up()
    stage.until_said('could not configure: expected horizons within 0.1..0.5 s, found 0.05 s')


@pytest.mark.parametrize('name, value, allowed', [
    ('view_rate', 1000.0, '0.1'), ('threads', -1, '0'),
    ('publish', 'everything', 'one of pooled, grid, dense'), ('horizons', [-1.0], 'in 0..60 s'),
    ('max_future', float('nan'), '3600')])
def test_parameter_out_of_range_is_refused_while_it_runs(perception, name, value, allowed):
    stage = perception()
    before = stage.node.parameters[name]
    result, = stage.node.set_parameters([Parameter(name, value=value)])
    assert not result.successful and name in result.reason and allowed in result.reason
    assert stage.node.parameters[name] == before
    assert works(stage)


def test_parameter_out_of_range_at_start_up_ends_with_code_2(bundle):
    with Child(*NODE, '-p', f'bundle:={bundle}', '-p', 'view_rate:=1000.0') as child:
        assert child.wait() == 2
    line = next(line for line in child.lines if 'error' in line)
    assert "parameter 'view_rate' must be in 0.1..60 Hz, got 1000.0" in line
    assert not any('Traceback' in line for line in child.lines)


def test_an_encoder_ten_times_too_slow_gets_the_newest_and_the_rest_is_counted(perception):
    """
    A 30 Hz camera in another process; a step of the encoder lasts until ten slices have come. Each begins
    with the newest frames, never with those that came first: what is published is then one step and one slice
    old, plus what the frames need on their way, which is not the node's.
    """
    stage = perception()
    window, camera, step = stage.node._window, stage.node._camera, stage.node._session.step
    there = threading.Condition()
    pushed, taken, seen, over = [], [], [0], []  # stamps; `seen`: the newest at the end of each step
    push = window.push

    def see(stamp, *frame):
        push(stamp, *frame)
        with there:
            pushed.append(stamp)
            there.notify()

    def slow(frames):
        taken.append((int(frames.stamps_ns[-1]), seen[-1]))
        with there:
            enough = len(pushed) + 20
            there.wait_for(lambda: over or len(pushed) >= enough)
            seen.append(pushed[-1])
        return step(frames)

    window.push, stage.node._session.step = see, slow
    latents = stage.listen(PointCloud2, '/perception/latents')
    with Child(CAMERA, 160, 120, 10_000):
        try:
            stage.until_said('images were skipped because a step of the encoder takes',
                             'there are 100 ms for it')
            stage.until(lambda: len(latents) >= 4)
        finally:
            with there:
                over.append(True)
                there.notify()
            stage.node.trigger_deactivate()
    assert [to_ns(m.header.stamp) for m in latents] == [stamp for stamp, _ in taken[:len(latents)]]
    assert all(stamp >= newest for stamp, newest in taken), 'frames had waited in a queue'
    counts = window.counts
    assert counts['used'] == 2 * len(taken) and counts['overrun'] >= 4 * 18
    assert sum(counts.values()) == camera._arrivals
