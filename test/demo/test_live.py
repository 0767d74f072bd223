# SPDX-License-Identifier: Apache-2.0
"""A bag played through real nodes and through the offline run gives the same latents and futures."""

import functools
import itertools
import json

import numpy as np
import pytest
from bundles import make_bundle
from faults import shifted
from recorded import STEP_NS, camera, write_bag

from jepa_ros.cli import main
from jepa_ros.data.recordings import open_recording
from jepa_ros.evaluation.offline import OfflineRun
from jepa_ros.evaluation.replay import Options, Subject, replay

pytestmark = pytest.mark.ros

YEARS_NS = -10 * 365 * 86400 * 10**9


@pytest.fixture(scope='module')
def recorded(tmp_path_factory):
    """
    Two cameras of ten years ago: one with JPEG and a pause in which its history ends, one with raw images.
    """
    messages = camera(46)
    for place in (10, 11, 17):  # lost by the recorder
        messages[place] = None
    paused = [
        shifted([m], stamp_ns=YEARS_NS + (2 * 10**9 if i >= 30 else 0), log_ns=2 * 10**9 if i >= 30 else 0)[0]
        for i, m in enumerate(messages)
        if m
    ]
    raw = shifted(camera(40, compressed=False), stamp_ns=YEARS_NS + STEP_NS // 2)
    path = tmp_path_factory.mktemp('bag') / 'run'
    return write_bag(path, {'/cam0/image_raw': paused, '/cam1/image_raw': raw})


@pytest.fixture
def slower(monkeypatch):
    """From its first call on, recordings play at a quarter of the rate, then of that: for busy machines."""
    pytest.importorskip('rclpy', reason='no ROS 2 here')
    from jepa_ros.demo import live
    graph, quarters = live.replay_graph, itertools.count(1)

    def play_slower():
        monkeypatch.setattr(live, 'replay_graph', functools.partial(graph, rate=0.25 ** next(quarters)))

    return play_slower


@pytest.mark.parametrize(
    'mode, topic',
    [
        ('stream', '/cam0/image_raw'),
        ('stream', '/cam1/image_raw'),
        ('clip', '/cam0/image_raw'),
        ('frame', '/cam1/image_raw'),
    ],
)
def test_live_and_offline_agree(recorded, tmp_path, slower, mode, topic):
    from jepa_ros.demo.isolation import isolate
    from jepa_ros.demo.live import LiveCamera

    isolate()
    subject = Subject(make_bundle(tmp_path / 'bundle', mode=mode, size=(32, 48)), Options(threads=1))
    recording = open_recording(recorded, topic)
    run = OfflineRun(subject.session, recording)
    offline = {step.latents.stamp_ns: step for step in run}
    wanted = {stamp: step.futures is None for stamp, step in offline.items()}
    for attempt in range(3):  # a machine that is too busy for real time says so in the counts
        live = LiveCamera(recording, subject, tmp_path / f'live{attempt}')
        assert live.play() == (0, '')
        found, result = list(live.steps()), live.result()
        made = {step.latents.stamp_ns: step.futures is None for step in found}
        if result['counts'] == run.counts and made == wanted:
            break
        slower()
    # All frames arrived and none was too much: then the very same slices are made.
    assert result['counts'] == run.counts and result['real_time']['lost'] == 0
    assert [step.latents.stamp_ns for step in found] == list(offline) and made == wanted
    assert sum(step.futures is not None for step in found) > 5
    for step in found:
        twin = offline[step.latents.stamp_ns]
        np.testing.assert_allclose(step.latents.tokens, twin.latents.tokens, atol=1e-5)
        np.testing.assert_allclose(step.latents.surprise, twin.latents.surprise, atol=1e-5)
        np.testing.assert_allclose(step.latents.positions, twin.latents.positions, atol=1e-6)
        if step.futures is not None:
            assert step.futures.stamp_ns == twin.futures.stamp_ns
            np.testing.assert_array_equal(step.futures.horizons, twin.futures.horizons)
            np.testing.assert_allclose(step.futures.tokens, twin.futures.tokens, atol=1e-5)


@pytest.mark.parametrize('every', [1, 15])  # frames to one of the latents: of a slow machine, or a fast camera
def test_what_was_published_is_put_together_whatever_came_first(tmp_path, every):
    """Topics overtake each other on their way: futures before their latents, latents before their frame."""
    pytest.importorskip('rclpy', reason='no ROS 2 here')
    from jepa_ros.clouds import encode_futures, encode_latents
    from jepa_ros.demo.live import published
    from jepa_ros.evaluation.outputs import CLOUD, OutputBag
    from jepa_ros.latents import Futures, Latents

    frames, bag = camera(20 * every), OutputBag(tmp_path / 'bag')
    image = bag.add('/camera/image_raw', 'sensor_msgs/msg/CompressedImage')
    outputs = {kind: bag.add(f'/perception/{kind}', CLOUD) for kind in ('latents', 'futures')}
    one, position = np.ones((1, 1), np.float32), np.full((1, 2), 0.5, np.float32)
    messages = []
    messages += [(stamp, image, frame) for i, (stamp, frame) in enumerate(frames) if i % every]
    for i, (stamp, frame) in enumerate(frames[::every]):
        latents = Latents(stamp, one * i, position, np.zeros(1, np.float32), np.zeros(1, np.float32), 1)
        futures = Futures(stamp, np.float32([0.1]), np.float32([[[i + 0.5]]]), position, 1)
        order = [0, 1, 2] if i % 2 else [2, 1, 0]
        messages.append((stamp + order[0], image, frame))
        messages.append((stamp + order[1], outputs['latents'], bag.cloud(encode_latents(latents), stamp, '')))
        if i != 7:
            messages.append(
                (stamp + order[2], outputs['futures'], bag.cloud(encode_futures(futures), stamp, ''))
            )
    for log_ns, connection, message in sorted(messages, key=lambda entry: entry[0]):
        bag.write(connection, log_ns, message)
    bag.close()
    found = list(published(tmp_path / 'bag'))
    assert [latents.tokens.item() for _, latents, _, _ in found] == list(range(20))
    assert [futures and futures.tokens.item() for _, _, futures, _ in found] == [
        None if i == 7 else i + 0.5 for i in range(20)
    ]
    assert all(frame.stamp_ns == latents.stamp_ns for frame, latents, _, _ in found)


def test_the_command_gives_the_report_of_an_offline_replay_with_what_was_measured(recorded, tmp_path, slower):
    bundle = make_bundle(tmp_path / 'bundle', size=(32, 48))
    out = tmp_path / 'out'
    arguments = ['replay', recorded, '--bundle', bundle, '--topic', '/cam1/image_raw', '--out', out, '--live']
    (offline,) = replay(recorded, Subject(bundle, Options(topics=('/cam1/image_raw',), threads=1)))['cameras']
    for _ in range(3):  # until the machine keeps up
        assert main([str(argument) for argument in arguments]) == 0
        (found,) = json.loads((out / 'report.json').read_text())['runs']
        (live,) = found['recordings'][0]['cameras']
        if all(live[key] == offline[key] for key in ('counts', 'slices', 'forecasts')):
            break
        slower()
    assert set(live) == set(offline) - {'kept'} and live['counts'] == offline['counts']
    assert live['slices'] == offline['slices'] == 13
    for one, other in zip(live['skill'], offline['skill'], strict=True):
        assert one['count'] == other['count'] and one['skill'] == pytest.approx(other['skill'], abs=1e-4)
    assert live['surprise']['median'] == pytest.approx(offline['surprise']['median'], abs=1e-5)
    assert live['real_time']['measured'] and live['real_time']['age_ms']['p50'] > 0
    assert live['stages']['encode']['ms']['p50'] > 0 and [f['kind'] for f in live['faults']] == ['clock']
    assert 'Played through real nodes' in (out / 'report.html').read_text()
    assert list((out / 'live').glob('*/camera0/bag/*.mcap'))
