# SPDX-License-Identifier: Apache-2.0
"""Sequences to probe on: clips, labels at other times, depth, and splits."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from planted import PERIOD_NS, START_NS, track
from recorded import CAMERA, STEP_NS, camera, write_bag
from recorded import START_NS as BAG_NS

from jepa_ros.data.bags import RecordingError
from jepa_ros.evaluation.probes.probe import ProbeError
from jepa_ros.evaluation.probes.tracks import Splits, load_splits, split_by_group, tracks_of

AT = np.array([4, 9])


def test_moments_leave_room_for_the_clip_before_and_the_label_after():
    moments = track(count=40).moments(span=0.4, stride=0.3, reach=0.5)
    assert moments.tolist() == [7, 13, 19, 25]  # 8 frames before, 10 after
    assert not len(track(count=10).moments(0.4, 0.3, 0.5))
    assert track(count=18).moments(0.4, 0.3, 0.5).tolist() == [7]


def test_later_is_unknown_where_there_is_no_frame():
    stamps = START_NS + PERIOD_NS * np.array([0, 1, 2, 3, 4, 9, 10, 11])
    one = track(count=8, stamps=stamps)
    assert one.later(np.array([0, 2, 4, 6, 7]), 0.1).tolist() == [2, 4, -1, -1, -1]
    assert one.later(np.array([0, 6]), -0.05).tolist() == [-1, 5]


def test_a_topic_is_read_once_and_a_missing_one_is_remembered():
    one = track(topics={'/kind': ['a'] * 40})
    read, count = one.source.recording.messages, []
    one.source.recording.messages = lambda topic: count.append(topic) or read(topic)
    for _ in range(2):
        assert set(one.classes('/kind')) == {'a'}
        with pytest.raises(RecordingError):
            one.classes('/other')
    assert count == ['/kind', '/other']


def depth_image(metres):
    """Return an Image of 32FC1."""
    metres = np.asarray(metres, np.float32)
    about = dict(height=len(metres), width=len(metres[0]), step=metres.strides[0], is_bigendian=0)
    return SimpleNamespace(encoding='32FC1', data=metres.tobytes(), **about)


def depth_png(metres):
    """Return a CompressedImage as compressed_depth_image_transport makes it, of 16UC1."""
    png = cv2.imencode('.png', np.round(np.asarray(metres) * 1000).astype(np.uint16))[1].tobytes()
    return SimpleNamespace(format='16UC1; compressedDepth png', data=bytes(12) + png)


@pytest.mark.parametrize('message', [depth_image, depth_png])
def test_depth_is_the_median_of_each_cell_of_the_crop(message):
    picture = np.full((4, 10), 2.0)
    picture[:, :1] = picture[:, -1:] = 9.0  # cut off: 4x8 remains
    picture[:2, 1:5] = [[1.0, 1.0, 1.0, 7.0], [1.0, 1.0, np.nan if message is depth_image else 0.0, 7.0]]
    picture[2:, 5:9] = np.nan if message is depth_image else 0.0
    nothing = message(np.full((4, 10), 3.0))
    one = track(count=12, topics={'/depth': [nothing] * 9 + [message(picture)] + [nothing] * 2})
    found = one.depth('/depth', (1, 2), (2, 2), AT)
    assert found[0] == pytest.approx([3, 3, 3, 3])
    assert found[1, :3] == pytest.approx([1, 2, 2]) and np.isnan(found[1, 3])


def test_pictures_that_hold_no_depth_are_refused():
    one = track(count=12, topics={'/depth': [SimpleNamespace(format='jpeg', data=b'xyz')] * 12})
    with pytest.raises(RecordingError, match="PNG of 16UC1, found 'jpeg'"):
        one.depth('/depth', (1, 1), (1, 1), AT)


@pytest.mark.parametrize('jump, groups', [(2 * 10**9, ['run#0', 'run#1']), (-2 * 10**9, ['run#0', 'run#1'])])
def test_cameras_share_a_group_and_a_gap_or_a_step_back_parts_sequences(tmp_path, jump, groups):
    gap = [BAG_NS + i * STEP_NS + (i > 4) * jump for i in range(10)]
    topics = {CAMERA: camera(10, stamps=gap), '/other': camera(10, stamps=gap)}
    found = tracks_of(write_bag(tmp_path / 'run', topics))
    assert len({t.name for t in found}) == 4 and [t.group for t in found] == groups * 2
    assert [len(t.stamps_ns) for t in found] == [5] * 4


def test_a_group_is_in_one_split():
    one, other = track('one'), track('other')
    with pytest.raises(ProbeError, match='expected one in one split, found it in train and held_out'):
        Splits((one,), (other,), (one,))
    with pytest.raises(ProbeError, match='found none of one of them'):
        Splits((one,), ())
    splits = split_by_group([track(name) for name in 'abcdefghij'])
    assert [len(part) for part in (splits.train, splits.validation, splits.held_out)] == [6, 2, 2]


def test_splits_are_opened_from_folders(tmp_path):
    for split, names in (('train', 'abcd'), ('val', 'ef')):
        (tmp_path / split).mkdir()
        for name in names:
            write_bag(tmp_path / split / name, {CAMERA: camera(3)})
    told = []
    splits = load_splits(
        [tmp_path / 'train'], [tmp_path / 'val'], limits=(2, None, None), tick=lambda *n: told.append(n)
    )
    assert [t.name for t in splits.train] == ['a', 'd'] and len(splits.validation) == 2
    assert not splits.held_out and told[-1] == (4, 4)
    with pytest.raises(RecordingError, match='one split'):
        load_splits([tmp_path / 'train'], [tmp_path / 'train' / 'a'])
