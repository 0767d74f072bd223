# SPDX-License-Identifier: Apache-2.0
"""The README and the pages in docs say what the code says."""
import importlib
import re
from pathlib import Path

import pytest
import yaml

from jepa_ros.cli import COMMANDS

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / 'README.md').read_text()
SIMULATOR = (REPOSITORY / 'docs' / 'simulator.md').read_text()
PICKING = (REPOSITORY / 'docs' / 'conveyor_picking.md').read_text()
ROW = re.compile(r'^\| `(\w+)` \| ([^|]*?) ?\| ', re.MULTILINE)


def rows(text):
    """Return the first two columns of a table whose first column is code."""
    return {name: value.strip('`') for name, value in ROW.findall(text)}


@pytest.mark.parametrize('page, node', [
    (README, 'perception_node'), (README, 'controller_node'), (README, 'camera_replay_node'),
    (SIMULATOR, 'conveyor_sim_node'), (PICKING, 'controller_node')], ids=lambda value: value if len(value) < 20 else '')
def test_parameters_are_those_of_the_nodes(page, node):
    pytest.importorskip('rclpy', reason='needs ROS: a sourced installation or the wheels')
    specs = importlib.import_module(f'jepa_ros.nodes.{node}').PARAMETERS
    if node == 'controller_node':  # those of picking have a page of their own
        picking = importlib.import_module('jepa_ros.nodes.controller_parameters').PICK
        specs = [spec for spec in specs if (spec in picking) == (page is PICKING)]
    table = rows(page.split(f'\n`{node}`\n\n')[1].split('\n\n')[0])
    defaults = {name: yaml.safe_load(value) if value else '' for name, value in table.items()}
    assert defaults == {spec.name: spec.default for spec in specs}


def test_topics_are_those_of_the_simulator():
    pytest.importorskip('rclpy', reason='needs ROS: a sourced installation or the wheels')
    from jepa_ros.nodes import conveyor_sim_node as node
    from jepa_ros.sim import interventions
    table = dict(re.findall(r'^\| `([^`]+)`[^|]*\| (`.*?) \|', SIMULATOR.split('## Recordings')[0], re.MULTILINE))
    truth = {name: kind for name, kind in table.items() if name in node.TOPICS.values()}
    assert set(truth) == set(node.TOPICS.values())
    assert {kind.strip('`').split('/')[1] for kind in truth.values()} == set(node.TYPES)
    assert set(table) - set(truth) == {
        'camera/image_raw', 'camera/camera_info', '/clock', '/tf', '~/physics', 'twist', 'gripper', '~/intervene',
            '~/reset'}
    assert all(re.search(rf'`{word}\b', SIMULATOR) for word in interventions.KINDS)


def test_topics_of_recordings_are_those_of_the_labels():
    pytest.importorskip('mujoco', reason="needs the extra 'sim'")
    from jepa_ros.sim.cell import ConveyorCell
    from jepa_ros.sim.labels import KINDS, labels
    rows = re.findall(r'^\| `(/[^`]+)` \| `([^`]+)` \|', SIMULATOR.split('## Recordings')[1], re.MULTILINE)
    told = {name: kind.replace('/', '/msg/') for name, kind in rows}
    with ConveyorCell(10_000, (48, 64)) as cell:
        written = {label.topic: KINDS[label.kind] for label in labels(cell)}
    live = {name.removeprefix('~') for name in re.findall(r'^\| `(~/[^`]+)` \|', SIMULATOR, re.MULTILINE)}
    assert told == {name: kind for name, kind in written.items() if name.removeprefix('/sim') not in live}
    assert all(name.removeprefix('/sim') in live for name in written.keys() - told.keys())


def test_topics_are_those_of_the_picking_task():
    pytest.importorskip('rclpy', reason='needs ROS: a sourced installation or the wheels')
    from jepa_ros.nodes import controller_node
    listed = re.findall(r'^\| `([^|]+)` \| `(\w+)/(\w+)` \|', PICKING.split('## When')[0], re.MULTILINE)
    said = {name: f'{package}/{kind}' for names, package, kind in listed for name in names.split('`, `')}
    names = set(re.findall(r'``(~?/?\w+)``', controller_node.__doc__)) - {'~/enable', '~/target', 'task', 'follow', 'pick'}
    assert set(said) == names
    kinds = {kind for kind in re.findall(r'\(?(\w+_msgs/\w+)', controller_node.__doc__)}
    assert set(said.values()) - {'sensor_msgs/PointCloud2', 'sensor_msgs/CameraInfo', 'sensor_msgs/JointState'} <= kinds


def test_parameters_of_all_nodes_are_named():
    pytest.importorskip('rclpy', reason='needs ROS: a sourced installation or the wheels')
    from jepa_ros.nodes import lifecycle
    for spec in lifecycle.COMMON:
        assert f'`{spec.name}`' in README, spec.name


def test_commands_are_those_of_the_command_line():
    named = {line.split('`')[1].split()[1] for line in README.splitlines() if line.startswith('| `jepa ')}
    assert named == set(COMMANDS)


@pytest.mark.parametrize('page', ['README.md', 'docs/development.md', 'docs/simulator.md', 'docs/conveyor_picking.md'])
def test_links_lead_somewhere(page):
    text = (REPOSITORY / page).read_text()
    for target in re.findall(r'\]\((?!http)([^)#]+)', text):
        assert ((REPOSITORY / page).parent / target).exists(), target
    for target in re.findall(r'`((?:config|models|docs|tools|resource|scripts|test)/[\w./]+)`', text):
        assert (REPOSITORY / target).exists(), target
