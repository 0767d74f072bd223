# SPDX-License-Identifier: Apache-2.0
"""`jepa sim record` end to end."""

import numpy as np
import pytest

from jepa_ros.cli import main
from jepa_ros.data.recordings import camera_topics, open_recording
from jepa_ros.sim import recorder
from jepa_ros.sim.conveyor import ConveyorScene
from jepa_ros.sim.hall import SimError, import_mujoco

try:
    import_mujoco()
except SimError as missing:
    pytest.skip(str(missing), allow_module_level=True)

SHORT = ['--seconds', '0.5', '--rate', '20', '--size', '80x60']


def record(*arguments):
    return main(['sim', 'record', *SHORT, *map(str, arguments)])


def test_a_bag_per_seed(tmp_path):
    assert record('--seeds', '5:7', '--out', tmp_path / 'bags') == 0
    assert sorted(p.name for p in (tmp_path / 'bags').iterdir()) == ['conveyor_00005', 'conveyor_00006']
    path = tmp_path / 'bags' / 'conveyor_00005'
    assert camera_topics(path) == [('/camera/image_raw/compressed', 'sensor_msgs/msg/CompressedImage', 10)]
    recording = open_recording(path)
    frames = list(recording.frames())
    stamps = [frame.stamp_ns for frame in frames]
    assert stamps == [10**9 + i * 50_000_000 for i in range(10)] == [frame.log_ns for frame in frames]
    assert frames[0].frame_id == 'camera_optical_frame'
    with ConveyorScene(5, (60, 80), 20.0) as scene:
        difference = frames[0].image().astype(int) - scene.render()
        assert np.abs(difference).mean() < 6, 'the JPEG of what the scene shows'
        matrix = scene.camera_matrix()
    infos = [info for _, info in recording.messages('/camera/camera_info')]
    assert len(infos) == 10 and (infos[0].width, infos[0].height) == (80, 60)
    np.testing.assert_array_equal(infos[0].k.reshape(3, 3), matrix)


def test_labels_only_while_a_handle_is_in_the_picture(tmp_path):
    assert (
        main(
            [
                'sim',
                'record',
                '--seeds',
                '6',
                '--seconds',
                '8',
                '--rate',
                '10',
                '--size',
                '80x60',
                '--out',
                str(tmp_path),
            ]
        )
        == 0
    )
    labels = {
        log_ns: message
        for log_ns, message in open_recording(tmp_path / 'conveyor_00006').messages('/sim/handle')
    }
    seen = []
    with ConveyorScene(6, (60, 80), 10.0) as scene:
        for number in range(80):
            if number:
                scene.step()
            handle, label = scene.handle(), labels.get(scene.stamp_ns)
            assert (handle is None) == (label is None)
            if handle:
                assert (label.point.x, label.point.y, label.point.z) == (*handle.xy, float(handle.visible))
                assert label.header.stamp.sec * 10**9 + label.header.stamp.nanosec == scene.stamp_ns
                seen.append(handle.visible)
    assert 0 < sum(seen) < len(seen) < 80, 'the seed shows all three: visible, hidden, none'


def test_bags_that_are_there_are_kept_and_unfinished_ones_made_anew(tmp_path):
    with ConveyorScene(1, (60, 80)) as scene:
        interrupted = recorder.record_bag(scene, 100, tmp_path / 'conveyor_00001')
        next(interrupted)
        interrupted.close()
    (tmp_path / 'conveyor_00002').mkdir()
    assert record('--seeds', '1:3', '--out', tmp_path) == 0
    assert len(list(open_recording(tmp_path / 'conveyor_00001').frames())) == 10
    assert list((tmp_path / 'conveyor_00002').iterdir()) == []
    assert not list(tmp_path.glob('.unfinished*'))


def test_a_video(tmp_path):
    path = tmp_path / 'deep' / 'conveyor.mp4'
    for _ in range(2):  # the second replaces the first
        assert record('--seeds', '20000', '--video', path) == 0
    recording = open_recording(path)
    frames = [frame.image() for frame in recording.frames()]
    assert len(frames) == 10 and recording.rate == 20 and frames[0].shape == (60, 80, 3)
    with ConveyorScene(20000, (60, 80), 20.0) as scene:
        assert np.abs(frames[0].astype(int) - scene.render()).mean() < 8
    assert [p.name for p in path.parent.iterdir()] == ['conveyor.mp4']


@pytest.mark.parametrize(
    'arguments, sentence',
    [
        (['--seeds', 'many'], 'seeds: expected'),
        (['--size', 'big'], '--size: expected'),
        (['--size', '8x8'], '--size'),
        (['--seconds', '-1'], 'expected seconds above 0'),
        (['--rate', '0'], 'a rate of 1 to 240'),
    ],
)
def test_wrong_arguments(tmp_path, capsys, arguments, sentence):
    assert record(*arguments, '--out', tmp_path / 'bags') == 2
    assert sentence in capsys.readouterr().err and not (tmp_path / 'bags').exists()


@pytest.mark.parametrize(
    'arguments, sentence',
    [
        (['--seeds', '0:2'], 'expected one seed'),
        (['--size', '81x60'], 'expected an even size'),
    ],
)
def test_wrong_arguments_of_a_video(tmp_path, capsys, arguments, sentence):
    assert record(*arguments, '--video', tmp_path / 'v.mp4') == 2
    assert sentence in capsys.readouterr().err


def test_another_library_reads_the_bag(tmp_path):
    decoder = pytest.importorskip('mcap_ros2.decoder')
    from mcap.reader import make_reader

    assert record('--seeds', '5', '--out', tmp_path) == 0
    with next(tmp_path.rglob('*.mcap')).open('rb') as file:
        reader = make_reader(file, decoder_factories=[decoder.DecoderFactory()])
        read = [(channel.topic, message) for _, channel, _, message in reader.iter_decoded_messages()]
    assert [topic for topic, _ in read].count('/camera/image_raw/compressed') == 10
    handle = next(message for topic, message in read if topic == '/sim/handle')
    assert 0 <= handle.point.x <= 1 and handle.point.z in (0.0, 1.0)
