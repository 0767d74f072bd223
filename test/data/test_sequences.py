# SPDX-License-Identifier: Apache-2.0
"""Recordings decoded once into a cache, with their labels and segments."""

import logging
import pickle
import threading

import numpy as np
import pytest
from conftest import shared_data
from hypothesis import given
from hypothesis import strategies as st
from recorded import (
    CAMERA,
    START_NS,
    STEP_NS,
    camera,
    flip_bytes,
    number_of,
    picture,
    point_message,
    resized,
    write_bag,
    write_video,
)

from jepa_ros.data import cache
from jepa_ros.data.recordings import RecordingError
from jepa_ros.data.sequences import (
    HIDDEN,
    NO_LABEL,
    OUTSIDE,
    VISIBLE,
    assert_disjoint,
    find_recordings,
    load_sequences,
    segments,
)

SIZE = (24, 32)


def load(patterns, cache, **more):
    return load_sequences([str(p) for p in patterns], SIZE, cache, progress=False, **more)


def test_a_recording_that_is_still_being_written_is_left_alone(tmp_path):
    done = write_video(tmp_path / 'done.mp4', 6)
    write_bag(tmp_path / '.unfinished-next', {CAMERA: camera(8)})
    assert find_recordings([tmp_path]) == [done]


def test_bags_and_videos(tmp_path):
    bag = write_bag(tmp_path / 'bag', {CAMERA: camera(8, compressed=False)})
    video = write_video(tmp_path / 'video.mp4', 6)
    first, second = load([bag, video], tmp_path / 'cache')
    assert (first.name, first.path, len(first), second.name, len(second)) == (
        f'bag:{CAMERA}',
        bag,
        8,
        'video',
        6,
    )
    np.testing.assert_array_equal(first.stamps_ns, START_NS + np.arange(8) * STEP_NS)
    assert first.images.shape == (8, *SIZE, 3) and first.images.dtype == np.uint8
    np.testing.assert_array_equal(first.images[3], resized(picture(3), SIZE))
    assert len(pickle.dumps(first)) < 2000, 'frames travel to other processes as the name of a file'


def test_decoded_once_and_again_when_anything_changes(tmp_path, monkeypatch):
    decoded = []
    decode = cache._decode
    monkeypatch.setattr(cache, '_decode', lambda *args: decoded.append(args) or decode(*args))
    video = write_video(tmp_path / 'video.mp4', 6)
    load([video], tmp_path / 'cache')
    load([video], tmp_path / 'cache')
    assert len(decoded) == 1
    load_sequences([str(video)], (12, 16), tmp_path / 'cache', progress=False)
    assert len(decoded) == 2
    write_video(video, 9)
    assert len(load([video], tmp_path / 'cache')[0]) == 9


def test_an_interrupted_decode_leaves_nothing(tmp_path, monkeypatch):
    video = write_video(tmp_path / 'video.mp4', 6)

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(np, 'savez', interrupted)
        with pytest.raises(KeyboardInterrupt):
            load([video], tmp_path / 'cache')
    assert list((tmp_path / 'cache').iterdir()) == []
    assert len(load([video], tmp_path / 'cache')[0]) == 6


def test_two_at_once_share_one_entry(tmp_path):
    video = write_video(tmp_path / 'video.mp4', 12)
    results = []
    threads = [
        threading.Thread(target=lambda: results.extend(load([video], tmp_path / 'cache'))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(result) for result in results] == [12] * 4
    assert len(list((tmp_path / 'cache').iterdir())) == 1


def test_labels_follow_their_frames_through_the_crop(tmp_path):
    stamp = [START_NS + i * STEP_NS for i in range(5)]
    labels = [
        (stamp[0], point_message(0.5, 0.25, 1.0, stamp[0])),
        (stamp[1], point_message(0.75, 0.5, 0.0, stamp[1] + 2_000_000)),  # 2 ms off its frame
        (stamp[3], point_message(0.02, 0.5, 1.0, stamp[3])),  # in the part that is cropped away
        (stamp[4], point_message(0.5, 0.5, 1.0, stamp[4] + STEP_NS)),
    ]  # of a frame that is not there
    bag = write_bag(tmp_path / 'bag', {CAMERA: camera(5, size=(48, 96)), '/handle': labels})
    (sequence,) = load([bag], tmp_path / 'cache', labels={'handle': '/handle'})
    xy, state = sequence.points['handle']
    assert state.tolist() == [VISIBLE, HIDDEN, NO_LABEL, OUTSIDE, NO_LABEL]
    # 96x48 is cropped to 64x48: x' = (96 x - 16) / 64
    np.testing.assert_allclose(xy[:2], [[0.5, 0.25], [0.875, 0.5]], atol=1e-6)


def test_recordings_without_a_label_topic_are_named(tmp_path, caplog):
    bag = write_bag(tmp_path / 'bag', {CAMERA: camera(5)})
    with pytest.raises(RecordingError, match='expected at least one readable recording'):
        load([bag], tmp_path / 'cache', labels={'handle': '/handle'})
    assert 'expected topic /handle, found /camera/image_raw' in caplog.text


def test_a_link_to_nothing_is_skipped_like_what_cannot_be_read(tmp_path, caplog):
    write_video(tmp_path / 'whole.mp4', 4)
    (tmp_path / 'linked.mp4').symlink_to(tmp_path / 'elsewhere' / 'unfetched.mp4')
    found = load_sequences([tmp_path / '*.mp4'], SIZE, tmp_path / 'cache', progress=False)
    assert [sequence.name for sequence in found] == ['whole']
    assert 'unfetched.mp4: expected a recording that can be opened' in caplog.text and '1 of 2 recordings' in caplog.text


def test_what_cannot_be_read_is_named_skipped_and_counted(tmp_path, caplog):
    write_video(tmp_path / 'good.mp4', 5)
    (tmp_path / 'broken.mp4').write_bytes(b'not a video')
    with caplog.at_level(logging.WARNING):
        (sequence,) = load([tmp_path], tmp_path.with_name('cache'))
    assert sequence.name == 'good'
    assert 'broken.mp4: expected a video' in caplog.text and '1 of 2 recordings were skipped' in caplog.text


def test_a_corrupt_frame_is_left_out_and_named(tmp_path, caplog):
    messages = camera(5)
    messages[2][1].data = messages[2][1].data[:100]
    (sequence,) = load([write_bag(tmp_path / 'bag', {CAMERA: messages})], tmp_path / 'cache')
    assert [number_of(image) for image in sequence.images] == [0, 1, 3, 4]
    assert '1 frame(s) do not decode' in caplog.text


def test_faults_are_named_again_from_the_cache(tmp_path, caplog):
    bag = write_bag(tmp_path / 'bag', {CAMERA: camera(5)})
    file = next(bag.glob('*.mcap'))
    (bag / 'metadata.yaml').unlink()
    file.write_bytes(flip_bytes(file.read_bytes(), [-3]))
    for _ in range(2):
        caplog.clear()
        assert len(load([bag], tmp_path / 'cache')[0]) == 5
        assert 'not closed or is cut off' in caplog.text


@pytest.mark.parametrize('stamp', [0, START_NS])
def test_constant_header_stamps_give_way_to_the_bag_time(tmp_path, caplog, stamp):
    bag = write_bag(tmp_path / 'bag', {CAMERA: camera(5, stamps=[stamp] * 5)})
    (sequence,) = load([bag], tmp_path / 'cache')
    np.testing.assert_array_equal(np.diff(sequence.stamps_ns), STEP_NS)
    assert f'all header stamps are {stamp}; the bag time is used' in caplog.text


def test_find_recordings(tmp_path):
    bag = write_bag(tmp_path / 'deep' / 'bag', {CAMERA: camera(2)})
    a, b = write_video(tmp_path / 'a.mp4', 2), write_video(tmp_path / 'deep' / 'b.mkv', 2)
    (tmp_path / 'notes.txt').touch()
    assert find_recordings([tmp_path]) == [a, b, bag]
    assert find_recordings([tmp_path / '*.mp4', tmp_path]) == [a, b, bag], 'each once'
    assert find_recordings([bag]) == [bag], 'a bag is one recording, not its files'
    with pytest.raises(RecordingError, match='found nothing'):
        find_recordings([tmp_path / '*.webm'])
    with pytest.raises(RecordingError, match='found files that are none'):
        find_recordings([tmp_path / 'notes.txt'])


def test_splits_must_be_disjoint(tmp_path):
    a, b = write_video(tmp_path / 'a.mp4', 2), write_video(tmp_path / 'b.mp4', 2)
    assert_disjoint(train=[a], validation=[b])
    with pytest.raises(
        RecordingError, match='b.mp4: expected in one split, found in train and in validation'
    ):
        assert_disjoint(train=[tmp_path], validation=[b])


def test_segments_of_what_breaks_time():
    ms = 1_000_000
    assert segments(np.array([], np.int64), 1.0) == []
    assert segments(np.array([7]), 1.0) == [(0, 1)]
    stamps = np.array([0, 33, 66, 5000, 5033, 20, 53, 53, 86]) * ms  # a gap, a jump back, a duplicate
    assert segments(stamps, 1.0) == [(0, 3), (3, 5), (5, 7), (7, 9)]


@given(st.lists(st.integers(0, 10**10), max_size=60), st.floats(0.001, 5.0))
def test_segments_cover_everything_and_never_cross_a_break(stamps, max_gap):
    stamps = np.array(stamps, np.int64)
    cut = segments(stamps, max_gap)
    assert [i for first, stop in cut for i in range(first, stop)] == list(range(len(stamps)))
    for first, stop in cut:
        steps = np.diff(stamps[first:stop])
        assert (steps > 0).all() and (steps <= max_gap * 1e9).all()
    for (_, stop), _ in zip(cut, cut[1:]):
        step = stamps[stop] - stamps[stop - 1]
        assert step <= 0 or step > max_gap * 1e9


@pytest.mark.shared_data
def test_real_gaps_and_a_single_frame(tmp_path):
    bags = shared_data() / 'bags'
    (bridge,) = load([bags / 'bridge_dev18_mcap'], tmp_path, topic='/cam0/image_raw/compressed')
    assert segments(bridge.stamps_ns, 1.0) == [(10 * i, 10 * i + 10) for i in range(18)]
    (single,) = load([bags / 'raspicam_aruco_images_mcap'], tmp_path)
    assert len(single) == 1
