# SPDX-License-Identifier: Apache-2.0
"""The benches measure what they say: short runs of the real thing, arithmetic on a clock that is moved."""

import json
import os
import subprocess
import sys

import pytest
from bundles import make_bundle
from children import WITHOUT_GPU

from jepa_ros.bench import meter
from jepa_ros.bench.camera import DISTINCT, messages, pictures
from jepa_ros.bench.graph import BenchError, await_line, parameters, report, without_profile
from jepa_ros.demo.processes import ProcessGroup

pytestmark = pytest.mark.ros


class Clock:
    """Time that only tests move."""

    def __init__(self):
        self.process = self.thread = self.wall = 0.0

    def process_time(self):
        return self.process

    def thread_time(self):
        return self.thread

    def monotonic(self):
        return self.wall

    def work(self, seconds):
        self.process += seconds
        self.thread += seconds
        self.wall += 2 * seconds


def test_the_meter_keeps_the_engine_apart(monkeypatch, capsys):
    clock = Clock()
    monkeypatch.setattr(meter, 'time', clock)
    found = meter.Meter()
    engine = found.apart(lambda: clock.work(0.010))
    for number in range(meter.WARM_UP + 20):
        clock.work(1.0 if number < meter.WARM_UP else 0.002)  # warming up takes long and must not count
        found.tick()
        engine()
    assert capsys.readouterr().out == meter.MEASURING + '\n'
    line = json.loads(found.line())
    assert line['frames'] == 20
    assert line['cpu_ms'] == pytest.approx(2) and line['apart_ms'] == pytest.approx(10)
    assert line['seconds'] == pytest.approx(2 * 20 * 0.012)


def test_the_meter_without_frames_says_so():
    assert json.loads(meter.Meter().line()) == {'frames': 0, 'cpu_ms': 0, 'apart_ms': 0, 'seconds': 0}


def test_the_camera_shows_a_scene_that_moves_and_compresses_like_one():
    images = pictures(640, 480)
    assert len(images) == DISTINCT and images[0].shape == (480, 640, 3)
    assert (images[0][:, 4:] == images[1][:, :-4]).all()
    jpeg = messages(640, 480, compressed=True)[0]
    assert 20_000 < len(jpeg.data) < 200_000


def test_a_process_that_says_nothing_is_a_bench_error(tmp_path):
    with ProcessGroup(tmp_path) as group:
        child = group.start('peer', [sys.executable, '-c', 'raise SystemExit("no rclpy")'])
        with pytest.raises(BenchError, match='(?s)peer ended with exit code 1.*no rclpy'):
            await_line(child, 'ready')
        with pytest.raises(BenchError, match='no rclpy'):
            report(group, child)


def test_parameters_become_ros_arguments():
    assert parameters({'threads': 1, 'bundle': 'x'}) == ['--ros-args', '-p', 'threads:=1', '-p', 'bundle:=x']


def test_without_profile_takes_away_both_names(monkeypatch):
    for name in ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE'):
        monkeypatch.setenv(name, '/x.xml')
    assert not [name for name in without_profile() if name.endswith('_DEFAULT_PROFILES_FILE')]


def jepa(*arguments, timeout=280):
    environment = {**os.environ, **WITHOUT_GPU}
    del environment['ROS_DOMAIN_ID']
    return subprocess.run([sys.executable, '-m', 'jepa_ros.cli', *map(str, arguments)], env=environment,
                          capture_output=True, text=True, timeout=timeout)


@pytest.mark.slow
def test_bench_node(tmp_path):
    bundle, file = make_bundle(tmp_path / 'tiny'), tmp_path / 'node.json'
    for _ in range(3):  # where others take the processor, frames are few and their cost is luck
        done = jepa('bench', 'node', '--bundle', bundle, '--seconds', 2, '--sizes', '640x480', '--starts', 1,
                    '--rounds', 1, '--json', file)
        if done.returncode == 0 and all(row['peer_cpu_ms'] < row['outside_engine_cpu_ms']
                                        for row in json.loads(file.read_text())['frames']):
            break
    assert done.returncode == 0, done.stderr
    assert '640x480 raw' in done.stdout and '640x480 compressed' in done.stdout and 'cores' in done.stdout
    figures = json.loads(file.read_text())
    raw, compressed = figures['frames']
    assert raw['transport'] == 'raw' and compressed['transport'] == 'compressed'
    for row in (raw, compressed):
        # Receiving alone costs the peer something, and perception does more than that.
        assert 0 < row['peer_cpu_ms'] < row['outside_engine_cpu_ms']
        assert row['engine_cpu_ms'] > 0
        assert set(row['stages_wall_ms']) == {'decode', 'encode', 'forecast', 'publish'}
    assert figures['start_up_s'][0] > 0
    assert figures['host']['date'] in done.stdout


@pytest.mark.slow
def test_bench_transport(tmp_path):
    file = tmp_path / 'transport.json'
    # That nearly all arrive is pinned in test/nodes/test_transport.py.
    for _ in range(4):  # where other processes take the processor for 0.2 s, a queue of five overflows
        done = jepa('bench', 'transport', '--seconds', 3, '--json', file)
        assert done.returncode == 0, done.stderr
        rows = {(row['size'], row['profile']): row for row in json.loads(file.read_text())['transport']}
        assert len(rows) == 4 and all(row['sent'] == 90 for row in rows.values())
        gains = [rows[size, True]['share'] - rows[size, False]['share'] for size in ('640x480', '1280x720')]
        if min(gains) > 0:
            break
    assert min(gains) > 0, f'the profile makes no difference:\n{done.stdout}'


def test_wrong_arguments_are_one_sentence():
    done = jepa('bench', 'node', '--bundle', 'nowhere')
    assert done.returncode == 2 and "found 'nowhere'" in done.stderr
    done = jepa('bench', 'transport', '--sizes', 'large')
    assert done.returncode == 2 and 'expected WIDTHxHEIGHT' in done.stderr
