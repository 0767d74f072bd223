# SPDX-License-Identifier: Apache-2.0
"""A bag with every fault of a real one is read as far as it can be, and every fault is named."""

import dataclasses
import json

import pytest
from faults import kinds, shifted
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import START_NS, STEP_NS, camera, flip_bytes, image_message, write_bag, write_rosbag1

from jepa_ros.cli import main
from jepa_ros.evaluation.replay import DONE, FAILED, replay

YEARS_NS = -10 * 365 * 86400 * 10**9
COUNT = 40


def foreign(count, topic_type='acme_msgs/msg/Scan'):
    """Messages of a type that nobody knows."""
    return [
        (START_NS + i * STEP_NS, topic_type, 'uint8 what', b'\0\1\0\0' + bytes([i])) for i in range(count)
    ]


@pytest.fixture(scope='module')
def everything(tmp_path_factory):
    """
    Two cameras with clocks of ten years ago, 43 s apart, one without slash and frame_id, beside unknown
    types.
    """
    path = tmp_path_factory.mktemp('faulty') / 'robot'
    return write_bag(
        path,
        {
            '/cam0/image_raw': shifted(camera(COUNT), stamp_ns=YEARS_NS),
            'cam1/image_raw': shifted(camera(COUNT), stamp_ns=YEARS_NS + 43 * 10**9, frame_id=''),
            '/lidar/raw': foreign(COUNT),
        },
    )


def check_all(result, slices):
    assert result['status'] == DONE and result['error'] is None
    first, second = result['cameras']
    assert (first['topic'], second['topic']) == ('/cam0/image_raw', 'cam1/image_raw')
    assert kinds(first['faults']) == ['clock'] and '10.0 years before' in first['faults'][0]['text']
    assert kinds(second['faults']) == ['topic_name', 'frame_id', 'clock']
    apart = next(fault for fault in result['faults'] if fault['kind'] == 'clocks_apart')
    assert 'cam1/image_raw is 43.0 s ahead of that of /cam0/image_raw' in apart['text']
    unknown = next(fault for fault in result['faults'] if fault['kind'] == 'unknown_type')
    assert '/lidar/raw (acme_msgs/msg/Scan)' in unknown['text']
    assert slices(first['slices']) and slices(second['slices'])


def test_every_fault_of_stamps_and_topics(everything, subject):
    result = replay(everything, subject)
    check_all(result, lambda count: count == 13)  # 40 frames at 30 Hz: two of three are taken, two to a slice
    assert 'damage' not in kinds(result['faults'])


def test_the_same_in_an_mcap_that_was_not_closed(everything, subject, tmp_path):
    file = next(everything.glob('*.mcap'))
    unclosed = tmp_path / 'unclosed.mcap'
    unclosed.write_bytes(file.read_bytes()[:-60])
    result = replay(unclosed, subject)
    check_all(result, lambda count: count == 13)
    assert any('not closed' in fault['text'] for fault in result['faults'])


def test_the_same_in_a_file_that_is_cut_off(everything, subject, tmp_path):
    folder = tmp_path / 'robot'
    folder.mkdir()
    data = next(everything.glob('*.mcap')).read_bytes()
    (folder / 'robot_0.mcap').write_bytes(data[: len(data) * 7 // 10])  # and no metadata.yaml
    result = replay(folder, subject)
    check_all(result, lambda count: 6 <= count < 13)
    assert kinds(result['faults']).count('damage') == 2


@pytest.mark.parametrize('compression', [None, 'file', 'message', 'storage'])
@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_every_kind_of_rosbag2_gives_the_same(subject, tmp_path, storage, compression):
    if storage == 'sqlite3' and compression == 'storage':
        pytest.skip('sqlite3 has no chunks')
    path = write_bag(tmp_path / 'bag', {'/camera': camera(20)}, storage=storage, compression=compression)
    result = replay(path, subject)
    assert result['status'] == DONE and result['cameras'][0]['slices'] == 6 and not result['faults']


def test_a_ros1_bag_gives_the_same(subject, tmp_path):
    path = write_rosbag1(tmp_path / 'old.bag', {'/camera': camera(20, ros1=True)}, 'lz4')
    assert replay(path, subject)['cameras'][0]['slices'] == 6


def test_stamps_that_say_nothing_give_way_to_the_times_of_arrival(subject, tmp_path):
    path = write_bag(tmp_path / 'bag', {'/camera': camera(20, stamps=[0] * 20)})
    (camera_,) = replay(path, subject)['cameras']
    assert camera_['slices'] == 6 and kinds(camera_['faults']) == ['stamps']
    assert 'are zero' in camera_['faults'][0]['text']


def test_a_clock_that_is_set_back_clears_the_history_and_is_named(subject, tmp_path):
    later = shifted(camera(20), stamp_ns=-60 * 10**9, log_ns=20 * STEP_NS)
    path = write_bag(tmp_path / 'bag', {'/camera': camera(20) + later})
    (camera_,) = replay(path, subject)['cameras']
    assert camera_['resets'] == {'jump': 1} and camera_['slices'] == 12
    assert any('step back once' in fault['text'] for fault in camera_['faults'])


def test_frames_that_do_not_decode_are_counted_and_passed_over(subject, tmp_path):
    messages = camera(20)
    for place in (3, 4, 9):
        log, message = messages[place]
        messages[place] = log, dataclasses.replace(message, data=message.data[:50])
    (camera_,) = replay(write_bag(tmp_path / 'bag', {'/camera': messages}), subject)['cameras']
    wrong = camera_['dropped']['failed']
    assert wrong in (2, 3) and f'{wrong} frame(s) do not decode' in camera_['faults'][0]['text']
    assert camera_['slices'] >= 4


def test_a_camera_of_which_nothing_decodes_fails_and_says_why(subject, tmp_path):
    messages = [(log, dataclasses.replace(m, data=m.data[:50])) for log, m in camera(20)]
    result = replay(write_bag(tmp_path / 'bag', {'/camera': messages}), subject)
    assert result['status'] == FAILED and 'do not decode' in result['error'] and 'JPEG' in result['error']


def test_a_single_frame_is_too_short_and_no_failure(subject, tmp_path):
    path = write_bag(tmp_path / 'bag', {'/camera': [(START_NS, image_message(0, START_NS, False))]})
    result = replay(path, subject)
    assert result['status'] == DONE and kinds(result['cameras'][0]['faults']) == ['short']


def test_the_faults_are_on_the_page_in_the_json_and_on_the_terminal(everything, tiny, tmp_path, capsys):
    assert main(['replay', str(everything), '--bundle', str(tiny), '--out', str(tmp_path)]) == 0
    html, report = (tmp_path / 'report.html').read_text(), json.loads((tmp_path / 'report.json').read_text())
    (recording,) = report['runs'][0]['recordings']
    said = capsys.readouterr().out
    faults = recording['faults'] + [fault for camera in recording['cameras'] for fault in camera['faults']]
    assert {'clock', 'clocks_apart', 'topic_name', 'frame_id', 'unknown_type'} == set(kinds(faults))
    for words in (
        '43.0 s ahead of',
        '10.0 years before',
        'empty frame_id',
        'without a leading slash',
        'acme_msgs/msg/Scan',
    ):
        assert words in html and words in said


@settings(max_examples=15)
@given(share=st.floats(0, 1), places=st.lists(st.floats(0, 1, exclude_max=True), max_size=6))
def test_whatever_a_file_is_damaged_by_nothing_is_raised_and_something_is_said(
    everything, subject, tmp_path_factory, share, places
):
    data = next(everything.glob('*.mcap')).read_bytes()
    data = data[: int(share * len(data))]
    path = tmp_path_factory.mktemp('damaged') / 'bag.mcap'
    path.write_bytes(flip_bytes(data, {int(place * len(data)) for place in places}) if data else data)
    result = replay(path, subject)
    assert result['status'] in (DONE, FAILED)
    assert (result['status'] == FAILED) == bool(result['error'])
    json.dumps(result, allow_nan=False)
