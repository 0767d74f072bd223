# SPDX-License-Identifier: Apache-2.0
"""Folders of images: independent ones, and the frames of a video."""

import shutil

import cv2
import numpy as np
import pytest
from recorded import number_of, picture, write_video

from jepa_ros.data import faults
from jepa_ros.data.clips import ClipSampler
from jepa_ros.data.recordings import (
    VIDEO_START_NS,
    RecordingError,
    camera_topics,
    is_recording,
    known_kinds,
    open_recording,
)
from jepa_ros.data.sequences import find_recordings, load_sequences

SIZE = (24, 32)


def write_images(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        assert cv2.imwrite(str(folder / name), picture(number)[:, :, ::-1])
    return folder


def load(patterns, tmp_path, **how):
    return load_sequences(patterns, SIZE, tmp_path / 'cache', progress=False, **how)


def test_independent_images(tmp_path):
    folder = write_images(tmp_path / 'cats', ['b.png', 'a.JPEG', 'c.jpg'])
    (folder / 'notes.txt').write_text('no image')
    recording = open_recording(folder)
    assert (recording.still, len(recording), recording.rate, recording.folder) == (True, 3, 0, 'cats')
    assert [number_of(frame.image()) for frame in recording.frames()] == [1, 0, 2], 'a, b, c'
    assert camera_topics(folder) == [('', 'images', 3)]
    with pytest.raises(RecordingError, match='expected a bag with topic /x, found a folder of images'):
        open_recording(folder, '/x')


@pytest.mark.parametrize('stream', [False, True])
def test_no_clip_of_several_frames_is_cut_from_independent_images(tmp_path, stream):
    sequences = load(
        [write_images(tmp_path / 'set', [f'{i}.png' for i in range(12)])], tmp_path, stream=stream
    )
    sampler = ClipSampler(sequences, SIZE, 1, 0.05)
    assert len(sampler) == 12
    assert {number_of(sampler.sample().images[0]) for _ in range(150)} == set(range(12))
    assert [number_of(clip.images[0]) for clip in sampler.clips(100.0)] == list(range(12)), (
        'each is looked at'
    )
    with pytest.raises(Exception, match='expected sequences of at least 2 frames'):
        ClipSampler(sequences, SIZE, 2, 10.0)


@pytest.mark.parametrize(
    'names, rate, seconds',
    [
        (['f_9.png', 'f_10.png', 'f_12.png'], 10, [0, 0.1, 0.3]),  # natural order; a missing frame is a gap
        (['a.png', 'b.png', 'c.png'], 4, [0, 0.25, 0.5]),
        (['1305031102.175304.png', '1305031102.275.png', '1305031103.0.png'], None, [0, 0.099696, 0.824696]),
        (['1403636579763555584.png', '1403636579813555456.png'], None, [0, 0.049999872]),
        (['1403636579763555.png', '1403636579813555.png'], 99, [0, 0.05]),
        (['1403636579763.png', '1403636579813.png'], None, [0, 0.05]),
    ],
)
def test_the_frames_of_a_video(tmp_path, names, rate, seconds):
    recording = open_recording(write_images(tmp_path / 'take', names), rate=rate)
    frames = list(recording.frames())
    stamps = np.array([frame.stamp_ns for frame in frames])
    np.testing.assert_allclose((stamps - stamps[0]) / 1e9, seconds, atol=1e-9)
    assert [number_of(frame.image()) for frame in frames] == list(range(len(names)))
    assert not recording.still and recording.folder == tmp_path.name
    assert stamps[0] == (VIDEO_START_NS if seconds[1] in (0.1, 0.25) else stamps[0])


def test_numbers_alone_are_no_times(tmp_path):
    assert open_recording(write_images(tmp_path / 'set', ['000001.png', '000002.png'])).still


def test_a_tree_of_classes(tmp_path):
    for name in ('cats', 'dogs'):
        write_images(tmp_path / 'train' / name, ['1.png', '2.png'])
    write_images(tmp_path / 'train', ['cover.png'])
    assert [path.name for path in find_recordings([tmp_path / 'train'])] == ['train', 'cats', 'dogs']
    sequences = load([tmp_path / 'train' / '*s'], tmp_path, classes={'animal': 'folder'})
    sampler = ClipSampler(sequences, SIZE, 1, 1.0)
    assert sampler.class_names == {'animal': ['cats', 'dogs']}
    assert [clip.classes['animal'].tolist() for clip in sampler.clips(1.0)] == [[0], [0], [1], [1]]


def test_pictures_beside_a_video_are_its_thumbnails(tmp_path):
    write_images(tmp_path / 'videos', ['thumbnail.jpg'])
    video = write_video(tmp_path / 'videos' / 'video.mp4', 3)
    assert find_recordings([tmp_path / 'videos']) == [video]
    assert not is_recording(tmp_path / 'videos')


def broken_set(tmp_path):
    folder = write_images(tmp_path / 'set', [f'{i}.jpg' for i in range(6)])
    (folder / '2.jpg').write_bytes((folder / '2.jpg').read_bytes()[:200])
    (folder / '4.jpg').write_bytes(b'')
    return folder


def test_broken_images_are_named_and_left_out_of_the_cache_with_their_classes(tmp_path, caplog):
    (sequence,) = load([broken_set(tmp_path)], tmp_path, classes={'kind': 'folder'})
    assert [number_of(image) for image in sequence.images] == [0, 1, 3, 5] and len(
        sequence.classes['kind']
    ) == 4
    assert '2 frame(s) do not decode (2.jpg: ' in caplog.text and '4.jpg: ' in caplog.text


def test_broken_images_are_named_and_counted_when_they_are_met_on_the_fly(tmp_path, caplog):
    faults.clear()
    (sequence,) = load([broken_set(tmp_path)], tmp_path, stream=True)
    sampler = ClipSampler([sequence], SIZE, 1, 1.0)
    assert {number_of(sampler.sample(np.random.default_rng([0, i])).images[0]) for i in range(80)} == {
        0,
        1,
        3,
        5,
    }
    assert set(faults.counts()) == {f'{sequence.path}#2', f'{sequence.path}#4'}
    assert caplog.text.count('set/2.jpg') == 1 == caplog.text.count('set/4.jpg')
    shutil.rmtree(sequence.path)
    with pytest.raises(Exception, match='draws in a row'):
        sampler.sample()
    faults.clear()


def test_what_is_known_is_told(tmp_path):
    (tmp_path / 'notes.txt').touch()
    with pytest.raises(RecordingError) as error:
        find_recordings([tmp_path / 'notes.txt'])
    for kind in ('rosbag2 folder', 'ROS 1 .bag', '.mp4', '.tar', '.png'):
        assert kind in str(error.value) and kind in known_kinds()
