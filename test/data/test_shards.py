# SPDX-License-Identifier: Apache-2.0
"""WebDataset shards, written and cross-checked with the webdataset library."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded import number_of, picture, write_video

from jepa_ros.data import faults
from jepa_ros.data.clips import ClipSampler
from jepa_ros.data.recordings import RecordingError, open_recording, open_recordings
from jepa_ros.data.sequences import find_recordings, load_sequences
from jepa_ros.data.shards import expand_braces, read_samples
from jepa_ros.images import encode_jpeg

webdataset = pytest.importorskip('webdataset')
SIZE = (24, 32)


def write_shard(path, samples):
    """Write samples of raw bytes by extension."""
    with webdataset.TarWriter(str(path), encoder=False) as writer:
        for key, members in samples.items():
            writer.write({'__key__': key, **members})
    return path


def images(count, start=0):
    return {
        f'sub.dir/{i:04}': {'jpg': encode_jpeg(picture(i), 95), 'cls': str(i % 3).encode()}
        for i in range(start, start + count)
    }


def videos(folder, counts):
    return {
        name: {'mp4': write_video(folder / 'work.mp4', count).read_bytes(), 'txt': name[:3].encode()}
        for name, count in counts.items()
    }


def load(patterns, tmp_path, **how):
    return load_sequences(patterns, SIZE, tmp_path / 'cache', progress=False, **how)


def test_samples_are_those_of_the_library(tmp_path):
    samples = {**images(4), 'a.b/c': {'left.JPG': b'1', 'json': b'{}'}, 'd': {'png': b'', 'seg.png': b'22'}}
    path = write_shard(tmp_path / 'shard.tar', samples)
    theirs = {
        sample['__key__']: {k: v for k, v in sample.items() if not k.startswith('__')}
        for sample in webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False)
    }
    ours = {
        key: {name: member.bytes_of(path) for name, member in members.items()}
        for key, members in read_samples(path).members.items()
    }
    assert ours == theirs and list(ours) == list(theirs)


@pytest.mark.parametrize('stream', [False, True])
def test_images_with_their_classes(tmp_path, stream):
    path = write_shard(tmp_path / 'shard.tar', images(7))
    (sequence,) = load([path], tmp_path, stream=stream, classes={'kind': 'cls'})
    assert sequence.still and [number_of(image) for image in sequence.images] == list(range(7))
    clips = list(ClipSampler([sequence], SIZE, 1, 1.0).clips(1.0))
    assert [clip.classes['kind'].item() for clip in clips] == [0, 1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize('stream', [False, True])
def test_videos_are_sequences_of_their_own(tmp_path, stream):
    path = write_shard(tmp_path / 'shard.tar', videos(tmp_path, {'one': 12, 'two/x': 20}))
    assert [recording.name for recording in open_recordings(path)] == ['shard#one', 'shard#two/x']
    with pytest.raises(RecordingError, match='expected one recording, found 2'):
        open_recording(path)
    one, two = load([path], tmp_path, stream=stream, classes={'word': 'txt'})
    assert (len(one), len(two), set(one.classes['word']), set(two.classes['word'])) == (
        12,
        20,
        {'one'},
        {'two'},
    )
    assert [number_of(image) for image in two.images[[3, 11, 19]]] == [3, 11, 19]
    assert one.key(3) == f'{path}#one'


def test_braces(tmp_path):
    for number in range(9, 12):
        write_shard(tmp_path / f'train-{number:03}.tar', images(2, number))
    found = find_recordings([tmp_path / 'train-{009..011}.tar'])
    assert [path.name for path in found] == ['train-009.tar', 'train-010.tar', 'train-011.tar']
    assert find_recordings([f'{tmp_path}/{{train-009,train-011}}.tar']) == [found[0], found[2]]
    literal = write_shard(tmp_path / 'odd{name}.tar', images(1))
    assert expand_braces(str(literal)) == [str(literal)]
    with pytest.raises(RecordingError, match='found nothing'):
        find_recordings([f'{tmp_path}/train-{{009..011.tar'])


pieces = st.sampled_from(
    ['a', '.tar', '-', '{0..3}', '{08..11}', '{3..1}', '{x,y}', '{,z}', '{a,{b,c}d}', '{p{1,2},q}']
)


@given(st.lists(pieces, max_size=4).map(''.join))
def test_braces_are_those_of_the_library(pattern):
    assert expand_braces(pattern) == list(pytest.importorskip('braceexpand').braceexpand(pattern))


@pytest.mark.parametrize('stream', [False, True])
def test_a_broken_member_is_named_counted_and_skipped(tmp_path, caplog, stream):
    faults.clear()
    samples = images(6)
    samples['sub.dir/0002']['jpg'] = samples['sub.dir/0002']['jpg'][:300]
    samples['sub.dir/0004']['jpg'] = b'nothing'
    (sequence,) = load(
        [write_shard(tmp_path / 'shard.tar', samples)], tmp_path, stream=stream, classes={'k': 'cls'}
    )
    sampler = ClipSampler([sequence], SIZE, 1, 1.0)
    drawn = [sampler.sample(np.random.default_rng([1, i])) for i in range(60)]
    assert {(number_of(clip.images[0]), clip.classes['k'].item()) for clip in drawn} == {
        (0, 0),
        (1, 1),
        (3, 0),
        (5, 2),
    }
    if stream:
        assert set(faults.counts()) == {f'{sequence.path}#2', f'{sequence.path}#4'}
        assert 'shard.tar, member at byte' in caplog.text
    else:
        assert '2 frame(s) do not decode (sub.dir/0002: ' in caplog.text and 'sub.dir/0004: ' in caplog.text
    faults.clear()


def test_a_broken_video_among_good_ones(tmp_path, caplog):
    samples = {**videos(tmp_path, {'good': 8}), 'bad': {'mp4': b'no video'}}
    (sequence,) = load([write_shard(tmp_path / 'shard.tar', samples)], tmp_path)
    assert sequence.name == 'shard#good' and 'shard.tar#bad: expected a video' in caplog.text


@pytest.mark.parametrize('share', [0.5, 0.8])
def test_a_shard_that_is_cut_off_gives_what_is_there(tmp_path, caplog, share):
    path = write_shard(tmp_path / 'shard.tar', images(8))
    data = path.read_bytes()
    last = read_samples(path).members['sub.dir/0007']['jpg']
    path.write_bytes(data[: int((last.offset + last.size) * share)])
    (sequence,) = load([path], tmp_path)
    assert 0 < len(sequence) < 8
    assert [number_of(image) for image in sequence.images] == list(range(len(sequence)))
    assert 'is cut off in member' in caplog.text or 'is damaged' in caplog.text


def test_what_is_no_shard(tmp_path):
    path = tmp_path / 'shard.tar'
    path.write_bytes(b'no tar' * 200)
    with pytest.raises(RecordingError, match='expected a WebDataset shard, found a file that is damaged'):
        open_recording(path)
    with pytest.raises(RecordingError, match='expected images or videos in its samples, found none'):
        open_recording(write_shard(path, {'a': {'json': b'{}'}}))
    np.testing.assert_equal(find_recordings([tmp_path]), [path])
