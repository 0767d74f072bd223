# SPDX-License-Identifier: Apache-2.0
"""perception_node over real DDS: what it publishes, and that it comes on time."""

import json
from pathlib import Path

import numpy as np
import pytest
from bundles import make_bundle
from children import Child
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image, PointCloud2
from stage import compressed
from std_msgs.msg import String

from jepa_ros.engine.bundle import Bundle
from jepa_ros.engine.readout import Readout
from jepa_ros.nodes import camera
from jepa_ros.nodes.messages import read_futures, read_latents, to_ns

pytestmark = pytest.mark.ros

CAMERA = Path(__file__).parent / 'raw_camera.py'


def test_frames_become_latents_and_futures(perception, bundle):
    stage = perception()
    latents = stage.listen(PointCloud2, '/perception/latents')
    futures = stage.listen(PointCloud2, '/perception/futures', qos_profile_sensor_data)
    stage.until(lambda: stage.node._futures_out.get_subscription_count())
    stamps = stage.play(range(12))
    stage.until(lambda: len(latents) >= 1 and to_ns(latents[-1].header.stamp) == stamps[-1])
    stage.until(lambda: futures and to_ns(futures[-1].header.stamp) == stamps[-1])

    seen = read_latents(latents[-1])
    model = Bundle.load(bundle)
    assert latents[-1].header.frame_id == 'camera_optical_frame'
    assert seen.tokens.shape == (48, model.manifest.latent_dim) and seen.model == model.model_id
    assert (seen.times == 0).all() and np.isfinite(seen.surprise).all()

    expected = read_futures(futures[-1])
    assert expected.horizons == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert (futures[-1].height, futures[-1].width) == (5, 48)
    points, _ = Readout.open(model)(expected)
    assert ((points > 0) & (points < 1)).all()


def test_model_is_latched_and_says_what_the_numbers_mean(perception, bundle):
    stage = perception()
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    models = stage.listen(String, '/perception/model', latched)
    stage.until(lambda: models)
    manifest = json.loads(models[0].data)
    assert manifest.pop('model') == Bundle.load(bundle).model_id
    assert manifest == Bundle.load(bundle).manifest.to_dict()


def test_type_of_the_topic_comes_from_the_graph_also_when_it_appears_late(perception):
    stage = perception()
    stage.until_said("no publisher on '/camera/image_raw'", 'no topic has images')
    latents = stage.listen(PointCloud2, '/perception/latents')
    stage.play(range(4), compressed, CompressedImage)
    stage.until(lambda: latents)
    assert stage.values()['image_transport'] == 'compressed'


def test_camera_that_comes_back_with_another_type_is_found_again(perception):
    stage = perception()
    stage.play(range(2), compressed, CompressedImage)
    stage.unplug()
    stage.until_said('no publisher')
    stage.play(range(10, 14))
    assert stage.values()['image_transport'] == 'raw'


def test_a_camera_that_is_silent_is_subscribed_to_anew(perception, monkeypatch):
    monkeypatch.setattr(camera, 'SILENCE', 0.1)
    monkeypatch.setattr(camera, 'RENEWAL', 0.2)
    stage = perception()
    stage.play(range(2))
    before = stage.node._camera._subscription
    stage.until(lambda: stage.node._camera._subscription is not before)
    monkeypatch.undo()
    stage.until(stage.publisher().get_subscription_count)
    stage.play(range(10, 14))


def test_nothing_is_published_without_a_listener_but_the_stream_goes_on(perception):
    stage = perception()
    stage.play(range(12))
    stage.until(lambda: not np.isnan(stage.node._meters.surprise))  # there was context
    values = stage.values()
    assert float(values['steps_hz']) > 0 and float(values['latents_out_hz']) == 0
    assert 'publish_p50_ms' not in values and 'forecast_p50_ms' not in values and 'view_p50_ms' not in values


@pytest.mark.parametrize('publish, tokens', [('pooled', 1), ('grid', 12), ('dense', 48)])
def test_publish_says_how_many_tokens_go_out(perception, publish, tokens):
    stage = perception(publish=publish)
    latents = stage.listen(PointCloud2, '/perception/latents')
    stage.until(lambda: stage.node._latents_out.get_subscription_count())
    stage.play(range(4))
    assert stage.until(lambda: latents)[0].width == tokens


def test_horizons_can_be_set_while_it_runs_and_are_checked_against_the_bundle(perception):
    stage = perception()
    futures = stage.listen(PointCloud2, '/perception/futures')
    result, = stage.node.set_parameters([Parameter('horizons', value=[0.2, 0.9])])
    assert not result.successful and '0.1..0.5 s' in result.reason and '0.9' in result.reason
    result, = stage.node.set_parameters([Parameter('horizons', value=[0.15, 0.35])])
    assert result.successful
    stage.play(range(12))
    assert read_futures(stage.until(lambda: futures)[-1]).horizons == pytest.approx([0.15, 0.35])


@pytest.mark.parametrize('mode', ['frame', 'clip'])
def test_other_modes_of_encoder(perception, tmp_path, mode):
    stage = perception(bundle=str(make_bundle(tmp_path / mode, mode)))
    futures = stage.listen(PointCloud2, '/perception/futures')
    stage.until(lambda: stage.node._futures_out.get_subscription_count())
    stage.play(range(16))
    assert stage.until(lambda: futures)[-1].height == 5


def test_bundle_without_forecaster_has_no_futures(perception, tmp_path):
    stage = perception(bundle=str(make_bundle(tmp_path / 'blind', forecaster=False)))
    latents = stage.listen(PointCloud2, '/perception/latents')
    view = stage.listen(Image, '/perception/view')
    stage.until(lambda: stage.node._view_out.get_subscription_count())
    stage.play(range(6))
    stage.until(lambda: latents and view)
    assert '/perception/futures' not in dict(stage.node.get_topic_names_and_types())


def test_view_is_drawn_for_a_listener_at_its_rate(perception):
    stage = perception(view_rate=60.0)
    view = stage.listen(Image, '/perception/view')
    stage.until(lambda: stage.node._view_out.get_subscription_count())
    origin, index = stage.node.now_ns() - 2_000_000_000, 0
    while not view or view[-1].width != 3 * 480:  # the third panel is the future
        assert index < 40, 'the future is never drawn'
        stage.play([index], origin=origin)
        index += 1
    image = np.frombuffer(view[-1].data, np.uint8).reshape(view[-1].height, view[-1].width, 3)
    assert view[-1].encoding == 'rgb8' and len(np.unique(image.reshape(-1, 3), axis=0)) > 100


def test_lifecycle_services_drive_it_through_all_states(perception, bundle):
    stage = perception(active=False, autostart=False)

    def change(transition):
        return stage.call(ChangeState, '/perception/change_state',
                          ChangeState.Request(transition=Transition(id=transition))).success

    def state():
        return stage.call(GetState, '/perception/get_state', GetState.Request()).current_state.label

    assert state() == 'unconfigured'
    assert not change(Transition.TRANSITION_ACTIVATE)  # not allowed from here; the node must live on
    for round_ in range(2):
        assert change(Transition.TRANSITION_CONFIGURE) and state() == 'inactive'
        for _ in range(2):
            assert change(Transition.TRANSITION_ACTIVATE) and state() == 'active'
            latents = stage.listen(PointCloud2, '/perception/latents')
            stage.until(lambda: stage.node._latents_out.get_subscription_count())
            stage.play(range(4))
            stage.until(lambda: latents)
            assert change(Transition.TRANSITION_DEACTIVATE) and state() == 'inactive'
            stage.unplug()
        assert change(Transition.TRANSITION_CLEANUP) and state() == 'unconfigured'
    assert change(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN) and state() == 'finalized'


def test_first_latents_come_soon_after_the_start_and_without_torch(perception, bundle, tmp_path):
    """From the start of the process to the first latents: less than two seconds of a core, without torch."""
    script = tmp_path / 'node.py'
    script.write_text('''
import sys, time
from jepa_ros.nodes import perception_node
send = perception_node.PerceptionNode._send_cloud
def timed(self, values):
    send(self, values)
    print('sent after', time.process_time(), 's, torch:', 'torch' in sys.modules)
perception_node.PerceptionNode._send_cloud = timed
sys.exit(perception_node.main())
''')
    listener = perception(active=False)  # one more node of that name does no harm: it is not configured
    listener.listen(PointCloud2, '/perception/latents')
    used = []
    while len(used) < 3 and min(used, default=9.0) >= 2.0:  # a core that others share does less in its time
        with Child(script, '--ros-args', '-p', f'bundle:={bundle}') as node, Child(CAMERA, 640, 480, 300):
            listener.until(lambda: any('sent after' in line for line in node.lines))
            words = node.wait_line('sent after').split()
            assert node.stop() == 0
        assert words[-1] == 'False'
        used.append(float(words[2]))
    assert min(used) < 2.0
