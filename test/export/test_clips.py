# SPDX-License-Identifier: Apache-2.0
"""Real inputs of the graphs: chosen as the window chooses, with a cache that has rolled."""

import numpy as np
import pytest
from bundles import CONTEXT, SLICES, make_bundle
from recorded import write_video

from jepa_ros.engine.bundle import Bundle
from jepa_ros.engine.session import open_session
from jepa_ros.errors import JepaError
from jepa_ros.export.clips import Clips, Replay


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    return str(write_video(tmp_path_factory.mktemp('video') / 'numbers.mp4', 40))


@pytest.fixture(scope='module')
def bundles(tmp_path_factory):
    return {
        mode: Bundle.load(make_bundle(tmp_path_factory.mktemp(mode) / 'bundle', mode, frame_period=1 / 30))
        for mode in ('frame', 'clip', 'stream')
    }


def load(bundle, *patterns, windows=32):
    return Clips(patterns, windows).load(open_session(bundle).request, bundle.manifest.image_size)


def test_windows_of_a_stream_follow_each_other_and_those_of_a_clip_do_not_overlap(bundles, video):
    starts = {
        mode: [round((frames.stamps_ns[0] / 1e9 - 1) * 30) for frames in load(bundle, video)['numbers']]
        for mode, bundle in bundles.items()
    }
    assert starts['stream'] == list(range(0, 40, 2))
    assert starts['clip'] == list(range(0, 40, 8))
    assert starts['frame'] == list(range(32))  # no more than were asked for


def test_recordings_of_one_name_count_both(bundles, tmp_path):
    for day in ('one', 'two'):
        (tmp_path / day).mkdir()
        write_video(tmp_path / day / 'cam.mp4', 10)
    found = load(bundles['frame'], str(tmp_path / '*' / 'cam.mp4'))
    assert list(found) == ['cam', 'cam (1)'] and [len(windows) for windows in found.values()] == [10, 10]


def test_a_recording_without_a_whole_window_is_named(bundles, tmp_path):
    path = write_video(tmp_path / 'short.mp4', 3)
    with pytest.raises(JepaError, match='short.mp4: expected at least one window of 8 frames'):
        load(bundles['clip'], str(path))


def test_the_cache_of_a_stream_graph_fills_and_rolls(bundles, video):
    """Each run's `past` is what the runs before gave, not what the session made of it afterwards."""
    feeds = list(Replay(bundles['stream']).feeds(load(bundles['stream'], video).values()))
    filled = [int((feed['encoder']['bias'] == 0).mean() * (SLICES - 1) + 0.5) for feed in feeds]
    assert filled == [0, 1, 2] + [3] * 17
    past = [feed['encoder']['past'] for feed in feeds]
    assert not past[0].any() and (past[3] != 0).all()
    tokens = past[0].shape[3] // (SLICES - 1)
    changed = [
        (a != b).any(axis=(0, 1, 2, 4)).reshape(SLICES - 1, tokens).any(1).tolist()
        for a, b in zip(past[3:6], past[4:7])
    ]
    assert changed == np.eye(3, dtype=bool).tolist()  # one slot each time, in turn


def test_every_graph_gets_what_its_predecessor_gave(bundles, video):
    replay = Replay(bundles['stream'])
    windows = load(bundles['stream'], video).values()
    feeds, tokens = list(replay.feeds(windows)), list(replay.tokens(windows))
    assert ['forecaster' in feed for feed in feeds] == [False] * (CONTEXT - 1) + [True] * (20 - CONTEXT + 1)
    last = feeds[-1]
    assert np.array_equal(last['forecaster']['context'], np.stack(tokens[-CONTEXT:]))
    assert last['readout']['futures'].shape[0] == len(last['readout']['dt']) == 5


def test_each_recording_begins_with_an_empty_session(bundles, video, tmp_path):
    other = write_video(tmp_path / 'other.mp4', 10)
    windows = load(bundles['stream'], video, str(other))
    assert list(windows) == ['numbers', 'other']
    feeds = list(Replay(bundles['stream']).feeds(windows.values()))
    assert not feeds[20]['encoder']['past'].any() and 'forecaster' not in feeds[20]


@pytest.mark.parametrize('mode', ['frame', 'clip', 'stream'])
def test_another_encoder_can_take_the_place_of_the_first(bundles, video, mode):
    replay, windows = Replay(bundles[mode]), load(bundles[mode], video).values()
    before = list(replay.tokens(windows))
    run = open_session(bundles[mode])._encoder.run
    replay.replace_encoder(lambda feeds: {name: value / 2 for name, value in run(feeds).items()})
    after = list(replay.tokens(windows))
    assert np.array_equal(after[0], before[0] / 2)
    # in a stream half keys and values came back
    assert np.array_equal(after[-1], before[-1] / 2) == (mode != 'stream')
