# SPDX-License-Identifier: Apache-2.0
"""Bags of the picking cell hold what was true at every frame, and the data room reads it."""

import cv2
import numpy as np
import pytest

from jepa_ros.cli import main
from jepa_ros.data.recordings import open_recording
from jepa_ros.data.signals import FrameTimes, read_classes, read_vectors
from jepa_ros.sim.cell import ConveyorCell
from jepa_ros.sim.cell_recorder import DEPTH_TOPIC, record_cell
from jepa_ros.sim.hall import SimError, import_mujoco
from jepa_ros.sim.interventions import Intervention
from jepa_ros.sim.labels import labels
from jepa_ros.sim.oracle import ACTIONS, OraclePolicy
from jepa_ros.sim.recorder import IMAGE_TOPIC

try:
    import_mujoco()
except SimError as missing:
    pytest.skip(str(missing), allow_module_level=True)

SHORT = ['--seconds', '0.5', '--rate', '20', '--size', '80x60']
RATE, FRAMES = 10.0, 75


def make_cell():
    cell = ConveyorCell(
        20_001, (60, 80), RATE, speed=0.2, interventions=[Intervention(0.5, 'stop'), Intervention(1, 'start')]
    )
    cell.policy = OraclePolicy(cell)
    return cell


@pytest.fixture(scope='module')
def recorded(tmp_path_factory):
    """The recording, and the labels and depth of every frame of the same cell made again."""
    path = tmp_path_factory.mktemp('bags') / 'cell'
    with make_cell() as cell:
        assert list(record_cell(cell, FRAMES, path, depth=True)) == list(range(FRAMES))
    frames = []
    with make_cell() as cell:
        for number in range(FRAMES):
            if number:
                cell.step()
            frames.append(({label.topic: label.value for label in labels(cell)}, cell.depth(), cell.stamp_ns))
        assert cell.taken == 1, 'the recording holds a whole pick'
    return open_recording(path, IMAGE_TOPIC), frames


def test_every_frame_has_its_labels_at_its_stamp(recorded):
    recording, frames = recorded
    assert [frame.stamp_ns for frame in recording.frames()] == [stamp for *_, stamp in frames]
    for topic in frames[0][0]:
        messages = list(recording.messages(topic))
        assert [log_ns for log_ns, _ in messages] == [stamp for *_, stamp in frames], topic
        if hasattr(messages[0][1], 'data') and not hasattr(messages[0][1].data, '__len__'):
            np.testing.assert_allclose([m.data for _, m in messages], [given[topic] for given, *_ in frames])
    handles = {log_ns: m.point for log_ns, m in recording.messages('/sim/handle')}
    for given, _, stamp in frames:
        assert ('/sim/handle' in given) == (stamp in handles)
        if stamp in handles:
            assert (handles[stamp].x, handles[stamp].y, handles[stamp].z) == given['/sim/handle']


def test_the_data_room_reads_classes_and_vectors(recorded):
    recording, frames = recorded
    stamps = np.array([stamp for *_, stamp in frames])
    times = FrameTimes(stamps, stamps)
    for name in ('action', 'state', 'belt', 'contact', 'event', 'category', 'colour', 'violation', 'bins'):
        wanted = [str(given[f'/sim/{name}']) for given, *_ in frames]
        assert read_classes(recording, f'/sim/{name}', times) == wanted
    assert set(read_classes(recording, '/sim/action', times)) <= set(ACTIONS)
    assert {'stopped', 'running'} <= set(read_classes(recording, '/sim/belt', times))
    assert {'held', 'taken'} <= set(read_classes(recording, '/sim/state', times))
    joints = read_vectors(recording, '/joint_states', times)
    np.testing.assert_allclose(joints, [given['/joint_states'][1] for given, *_ in frames], atol=1e-6)
    assert joints.shape == (FRAMES, 8)
    for topic in ('/sim/handle_pose', '/sim/handle_in_camera', '/sim/foot_in_camera', '/sim/camera_pose', '/arm/tool'):
        poses = read_vectors(recording, topic, times)
        wanted = [(*given[topic].position, *given[topic].quaternion) for given, *_ in frames]
        np.testing.assert_allclose(poses, wanted, atol=1e-6)
    twists = read_vectors(recording, '/arm/twist', times)
    np.testing.assert_allclose(twists, [given['/arm/twist'] for given, *_ in frames], atol=1e-6)
    assert read_vectors(recording, '/arm/gripper', times).min() < 0.02


def test_depth_is_in_millimetres(recorded):
    recording, frames = recorded
    messages = [message for _, message in recording.messages(DEPTH_TOPIC)]
    assert {message.format for message in messages} == {'16UC1; compressedDepth png'}
    for i in (0, FRAMES - 1):
        picture = cv2.imdecode(np.asarray(messages[i].data)[12:], cv2.IMREAD_UNCHANGED)
        assert picture.dtype == np.uint16 and picture.shape == (60, 80)
        np.testing.assert_allclose(picture / 1000, frames[i][1], atol=6e-4)


def test_the_command_records_cells_and_pairs(tmp_path):
    assert (
        main(['sim', 'record', '--cell', '--seeds', '4', *SHORT, '--camera', 'arm', '--out', str(tmp_path)])
        == 0
    )
    assert main(['sim', 'record', '--violations', '--seeds', '4:6', *SHORT, '--out', str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'cell_00004',
        'cell_00004_jump_impossible',
        'cell_00004_jump_possible',
        'cell_00005_pass_impossible',
        'cell_00005_pass_possible',
    ]
    one, other = (
        [frame.image() for frame in open_recording(tmp_path / f'cell_00004_jump_{name}').frames()]
        for name in ('possible', 'impossible')
    )
    np.testing.assert_array_equal(one, other), 'half a second is before it happens'
    video = tmp_path / 'cell.mp4'
    assert main(['sim', 'record', '--cell', '--camera', 'overview', *SHORT, '--video', str(video)]) == 0
    assert len(list(open_recording(video).frames())) == 10


@pytest.mark.parametrize(
    'arguments, sentence',
    [
        (['--calm'], '--calm: expected --cell with it'),
        (['--camera', 'arm', '--violations'], '--camera: expected --cell with it'),
        (['--depth'], '--depth: expected --cell or --violations'),
        (['--cell', '--speed', '2'], '--speed: expected -0.5 to 0.5 m/s, found 2'),
        (['--cell', '--bins', '9'], 'expected camera fixed, arm, overview and 1 to 3 bins'),
    ],
)
def test_wrong_arguments(tmp_path, capsys, arguments, sentence):
    assert main(['sim', 'record', *arguments, *SHORT, '--out', str(tmp_path / 'bags')]) == 2
    assert sentence in capsys.readouterr().err and not (tmp_path / 'bags').exists()
