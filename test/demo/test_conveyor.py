# SPDX-License-Identifier: Apache-2.0
"""`jepa demo conveyor` as a user runs it: a process that starts the simulator, perception and the controller."""

import json
import re
import signal

import psutil
import pytest
import yaml
from bundles import make_bundle

from jepa_ros.demo.conveyor import ConveyorOptions, graph
from jepa_ros.demo.topics import PickingTopics, Topics
from jepa_ros.engine.bundle import Bundle
from jepa_ros.sim.hall import SimError, import_mujoco

pytestmark = pytest.mark.ros

NODES = 'conveyor_sim_node', 'perception_node', 'controller_node'
ALWAYS = [topic for name, topic in vars(PickingTopics()).items() if name not in ('intercept', 'path', 'handle')]


@pytest.fixture(scope='module', autouse=True)
def simulator():
    try:
        import_mujoco()
    except SimError as missing:
        pytest.skip(str(missing))


@pytest.fixture
def cell(demo, tmp_path):
    """Start the demo with a small picture: ``cell(*arguments)``."""
    parameters = tmp_path / 'small.yaml'
    small = {'width': 80, 'height': 60, 'diagnostics_period': 0.1}
    parameters.write_text(yaml.safe_dump({'/**/conveyor_sim': {'ros__parameters': small}}))
    return lambda *arguments, **more: demo('conveyor', '--params-file', parameters, *arguments, **more)


def children(process) -> list[psutil.Process]:
    return [child for child in psutil.Process(process.pid).children(recursive=True)
            if any(node in ' '.join(child.cmdline()) for node in NODES)]


def test_from_the_first_frame_to_the_last_second(cell):
    run = cell('--seconds', 2, '--seed', 20003, '--no-film')
    assert run.end() == 0, str(run)
    found = run.figures()
    assert found['seed'] == 20003 and found['seed_range'] == 'held out' and found['bundle'] == 'tiny_stream'
    assert found['simulated_s'] >= 2 and found['frames']['delivered'] >= 10, str(run)
    assert found['futures'] > 0 and found['future_age_s']['p50'] > 0, str(run)
    assert found['picked'] == 0 and found['picks'] == []
    assert abs(sum(found['states'].values()) - 1) < 0.01, 'the controller was enabled and said what it did'
    counts = run.recorded()
    assert counts == found['recorded']
    assert all(counts.get(topic) for topic in (*ALWAYS, Topics().camera, Topics().futures, '/perception/model')), counts
    page = (run.out / 'index.html').read_text()
    assert 'Conveyor picking' in page and 'seed 20003' in page and '<video' not in page
    assert not (run.out / 'conveyor.mp4').exists()
    assert 'picked 0 of' in run.stdout and 'left in' in run.stdout


def test_ctrl_c_ends_all_and_keeps_what_came(cell):
    run = cell('--seconds', 600)
    run.until(lambda line: re.search(r'camera \d+\.\d Hz at [1-9]', line))
    nodes = children(run.process)
    assert len(nodes) == 3
    run.process.send_signal(signal.SIGINT)
    assert run.end() == 130, str(run)
    assert psutil.wait_procs(nodes, timeout=30)[1] == []
    assert run.figures()['simulated_s'] > 0
    assert run.recorded() == json.loads((run.out / 'figures.json').read_text())['recorded']
    assert (run.out / 'index.html').exists() and not (run.out / 'conveyor.mp4').exists()


def test_a_bundle_without_readout_is_refused(demo, tmp_path):
    run = demo('conveyor', bundle=make_bundle(tmp_path / 'mute', readout=False))
    assert run.end() == 2
    assert "expected a bundle with a forecaster and a readout, found 'tiny_stream' without" in run.stderr


def test_the_simulator_waits_for_the_others_and_bins_are_put_down(bundle, tmp_path):
    options = ConveyorOptions(str(bundle), tmp_path, seed=7, speed=0.5)
    sim, perception, controller = graph(options, Bundle.load(bundle))
    assert sim.executable == 'conveyor_sim_node' and sim.parameters['autostart'] is False
    assert (sim.parameters['seed'], sim.parameters['real_time_factor']) == (7, 0.5)
    assert perception.parameters['publish'] == 'dense' and perception.parameters['use_sim_time'] is True
    assert controller.parameters['readout'] == 'handle' and len(controller.parameters['place']) == 3
