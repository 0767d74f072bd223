# SPDX-License-Identifier: Apache-2.0
import sys

import pytest
import rclpy
import recorded
import yaml
from bundles import make_bundle
from children import Child
from diagnostic_msgs.msg import DiagnosticArray
from peer import Peer
from rcl_interfaces.srv import GetParameters
from sensor_msgs.msg import Image, PointCloud2

from jepa_ros.nodes.camera_replay_node import PARAMETERS as CAMERA
from jepa_ros.nodes.controller_node import PARAMETERS as CONTROLLER
from jepa_ros.nodes.graph import NodeSpec, conveyor_graph, perception_graph, replay_graph
from jepa_ros.nodes.lifecycle import COMMON
from jepa_ros.nodes.perception_node import PARAMETERS as PERCEPTION
from jepa_ros.paths import find_config

SILENT = ('', 'no futures have arrived yet')  # reasons of a controller that futures do not reach
TABLES = {'perception': PERCEPTION, 'controller': CONTROLLER, 'camera': CAMERA}


@pytest.mark.parametrize('kind', TABLES)
def test_the_parameter_file_says_what_the_node_says(kind):
    """Every entry is a parameter of the node, with its default: a file that is left out changes nothing."""
    table = {spec.name: spec for spec in (*TABLES[kind], *COMMON)}
    written = yaml.safe_load(find_config(f'{kind}.yaml').read_text())[f'/**/{kind}']['ros__parameters']
    assert written == {name: table[name].default for name in written}
    assert {type(value) for value in written.values()} <= {bool, int, float, str, list}


def test_what_is_not_given_is_left_to_the_parameter_files():
    perception, controller = perception_graph()
    assert perception.parameters == controller.parameters == {'use_sim_time': False}
    assert perception.parameter_files == (find_config('perception.yaml'),)
    assert [(node.executable, node.name) for node in (perception, controller)] == [
        ('perception_node', 'perception'), ('controller_node', 'controller')]


def test_what_is_given_reaches_the_nodes_it_concerns():
    perception, controller = perception_graph(
        image_topic='/eye', image_transport='raw', bundle='b', backend='onnxruntime', namespace='robot',
        use_sim_time=True, log_level='debug', params_file='/my.yaml')
    assert perception.parameters == {'image_topic': '/eye', 'image_transport': 'raw', 'bundle': 'b',
                                     'backend': 'onnxruntime', 'use_sim_time': True}
    assert controller.parameters == {'bundle': 'b', 'use_sim_time': True}
    for node in (perception, controller):
        assert node.namespace == 'robot' and str(node.parameter_files[-1]) == '/my.yaml'
        assert '__ns:=/robot' in node.command() and f'robot.{node.name}:=debug' in node.command()


def test_the_controller_can_be_left_out():
    assert [node.name for node in perception_graph(controller=False)] == ['perception']


def test_recorded_stamps_put_the_graph_on_simulated_time_but_not_the_player():
    camera, *others = replay_graph('bag', stamps='recorded')
    assert camera.parameters.get('use_sim_time') is None and camera.parameters['stamps'] == 'recorded'
    assert all(node.parameters['use_sim_time'] for node in others)
    assert not any(node.parameters.get('use_sim_time') for node in replay_graph('bag'))


def test_the_camera_publishes_where_perception_listens():
    camera, perception, _ = replay_graph('bag', image_topic='/eye')
    assert camera.remappings == (('~/image_raw', '/eye'),) and perception.parameters['image_topic'] == '/eye'


def renamings(node):
    return dict(node.remappings)


def test_the_conveyor_graph_has_a_cell_whose_arm_the_controller_moves():
    cell, perception, controller = conveyor_graph(seed=7, image_topic='eye/image', namespace='robot')
    assert [node.name for node in (cell, perception, controller)] == ['conveyor_sim', 'perception', 'controller']
    assert cell.parameters == {'real_time_factor': 1.0, 'seed': 7}
    assert perception.parameters['use_sim_time'] and controller.parameters['use_sim_time']
    assert perception.parameters['image_topic'] == renamings(cell)['camera/image_raw'] == 'eye/image'
    assert renamings(cell)['camera/camera_info'] == renamings(controller)['camera_info'] == 'eye/camera_info'
    for ours, theirs in (('twist', '~/twist'), ('gripper', '~/gripper')):
        assert renamings(cell)[ours] == renamings(controller)[theirs]
    for node in (cell, perception, controller):
        assert node.parameter_files[:2] == (find_config(f'{node.name}.yaml'), find_config('conveyor_picking.yaml'))


def test_a_slow_cell_may_be_silent_for_longer():
    slow, fast = conveyor_graph(speed='0.5')[-1], conveyor_graph(speed=2.0)[-1]  # launch files have text
    assert slow.parameters['max_silence'] == 0.34 and 'max_silence' not in fast.parameters


def test_on_a_robot_the_topics_are_the_robots():
    perception, controller = conveyor_graph(sim=False, image_topic='/eye/image', topics={'tool': '/arm/tool', '~/twist': ''},
                                            params_file='/mine.yaml')
    assert not controller.parameters['use_sim_time'] and str(controller.parameter_files[-1]) == '/mine.yaml'
    names = renamings(controller)
    assert names['tool'] == '/arm/tool' and names['camera_info'] == '/eye/camera_info'
    assert names['~/twist'] == 'servo_node/delta_twist_cmds' and names['camera_pose'] == 'camera/pose'


def test_values_keep_their_types_on_the_command_line():
    """ROS itself reads them back: strings that look like something else, floats without a fraction, lists."""
    values = {'a': '7', 'b': '', 'c': 'true', 'd': '~', 'e': '/my data/#1: "x" \\ \'y\'', 'f': 'ä€🎥',
              'g': '1e3', 'h': 7.0, 'i': 1e-7, 'j': -1e20, 'k': 7, 'l': True, 'm': [0.1, 2.0],
              'n': 'a:=b', 'o': '[1]'}
    context = rclpy.Context()
    rclpy.init(args=NodeSpec('a_node', 'a', parameters=values).command(), context=context)
    node = rclpy.create_node('a', context=context, automatically_declare_parameters_from_overrides=True)
    try:
        read = {name: node.get_parameter(name).value for name in values}
    finally:
        node.destroy_node()
        rclpy.try_shutdown(context=context)
    assert {name: list(value) if name == 'm' else value for name, value in read.items()} == values
    assert isinstance(read['h'], float) and isinstance(read['k'], int)


def test_the_command_runs_this_python():
    assert NodeSpec('camera_replay_node', 'camera').command()[:3] == [sys.executable, '-m',
                                                                      'jepa_ros.nodes.camera_replay_node']


def reason(message):
    return next((value.value for value in message.status[0].values if value.key == 'reason'), '')


@pytest.mark.ros
def test_the_commands_make_one_graph_in_a_namespace(tmp_path):
    """A namespace, remappings, a file over the file: real nodes that find each other."""
    path = recorded.write_video(tmp_path / '007.mp4', 40)
    extra = tmp_path / 'my parameters.yaml'
    extra.write_text('/**/perception:\n  ros__parameters:\n    view_rate: 3.0\n')
    bundle = make_bundle(tmp_path / 'tiny')
    nodes = replay_graph(path, namespace='robot', bundle=str(bundle), params_file=str(extra), loop=True)
    children = [Child(*node.command()[1:]) for node in nodes]
    with Peer() as peer, children[0], children[1], children[2]:
        images = peer.listen(Image, '/robot/camera/image_raw')
        futures = peer.listen(PointCloud2, '/robot/perception/futures')
        health = peer.listen(DiagnosticArray, '/diagnostics')
        images.wait()
        futures.wait()
        answer = peer.call(GetParameters, '/robot/perception/get_parameters',
                           GetParameters.Request(names=['view_rate', 'image_topic']))
        assert answer.values[0].double_value == 3.0
        health.wait(lambda m: m.status[0].name == 'robot/controller' and reason(m) not in SILENT)
        assert [child.stop() for child in children] == [0, 0, 0]
