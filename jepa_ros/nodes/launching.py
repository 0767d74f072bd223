# SPDX-License-Identifier: Apache-2.0
"""The graph for ``ros2 launch``: arguments, nodes and environment that the launch files have in common."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterable

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction, SetEnvironmentVariable
from launch_ros.actions import Node

from jepa_ros.nodes import transport
from jepa_ros.nodes.graph import PACKAGE, NodeSpec
from jepa_ros.nodes.views import renamed, rviz_view

FLAG = ['true', 'false']
OPTIONAL_FLAG = ['', *FLAG]

#: Name, default, what it does, choices: the arguments of jepa_ros.nodes.graph.perception_graph.
PERCEPTION_ARGUMENTS = (
    ('image_topic', '', 'Topic of the camera; empty: as in config/perception.yaml (camera/image_raw).', None),
    ('image_transport', '', 'Type of the topic; empty: as in config/perception.yaml (auto).',
     ['', 'auto', 'raw', 'compressed']),
    ('bundle', '', 'Engine bundle, a directory or a shipped name; empty: as in config/*.yaml.', None),
    ('backend', '', 'What runs the graphs; empty: as in config/perception.yaml (auto).', None),
    ('namespace', '', 'Namespace of all nodes.', None),
    ('use_sim_time', 'false', 'Take the time from /clock.', FLAG),
    ('log_level', 'info', 'Log level of the nodes.', ['debug', 'info', 'warn', 'error', 'fatal']),
    ('params_file', '', "YAML file with parameters to set over the package's own (config/*.yaml).", None),
    ('controller', 'true', 'Start the controller too; it waits for its ~/enable service.', FLAG),
)

#: The further arguments of jepa_ros.nodes.graph.replay_graph.
REPLAY_ARGUMENTS = (
    ('path', None, 'Video or bag (rosbag2 or ROS 1), or the name of a recording that ships.', None),
    ('topic', '', 'Camera topic in the bag; empty: the only one there is.', None),
    ('rate', '1.0', 'Factor on the recorded rate.', None),
    ('stamps', 'now', 'Header stamps: present ones, or those recorded, with a /clock for the graph.',
     ['now', 'recorded']),
    ('loop', 'false', 'Begin again at the end; else everything is shut down there.', FLAG),
    *PERCEPTION_ARGUMENTS,
)

#: Those of jepa_ros.nodes.graph.conveyor_graph and of the launch file.
CONVEYOR_ARGUMENTS = (
    ('sim', 'true', 'Start the simulated cell; false: a robot is there already.', FLAG),
    ('speed', '1.0', 'Simulated seconds per second.', None),
    ('seed', '', 'Of the simulator: everything follows from it; empty: as in config/conveyor_sim.yaml.', None),
    ('rviz', 'false', 'Open RViz with config/rviz/conveyor_picking.rviz.', FLAG),
    ('enable', '', 'Enable the controller at once; false: it waits for its ~/enable service; empty: with the '
     'simulator.', OPTIONAL_FLAG),
    ('twist_topic', '', "A robot's velocity commands; empty: servo_node/delta_twist_cmds.", None),
    ('gripper_topic', '', "A robot's gripper commands; empty: gripper_controller/commands.", None),
    ('tool_topic', '', "Pose of a robot's tool0; empty: tool.", None),
    ('camera_pose_topic', '', "Pose of a robot's camera; empty: camera/pose.", None),
    *(row for row in PERCEPTION_ARGUMENTS if row[0] not in ('use_sim_time', 'controller')),
    ('use_sim_time', '', 'Take the time from /clock; empty: with the simulator.', OPTIONAL_FLAG),
)


def describe(arguments: Iterable[tuple],
             start: Callable[..., list[LaunchDescriptionEntity]]) -> LaunchDescription:
    """
    Make a launch description.

    :param arguments: rows as above.
    :param start: called with the arguments' values by name once they are known; returns what to start.
    """
    def begin(context: LaunchContext) -> list[LaunchDescriptionEntity]:
        values = {name: context.launch_configurations[name] for name, *_ in arguments}
        for name, _, _, choices in arguments:
            if choices is FLAG or choices is OPTIONAL_FLAG:
                values[name] = {'true': True, 'false': False, '': None}[values[name]]
        return start(**values)

    declared = [DeclareLaunchArgument(name, default_value=default, description=help, choices=choices)
                for name, default, help, choices in arguments]
    # Discovery is left as the user has it: a robot's nodes may be on several machines.
    environment = [SetEnvironmentVariable(name, value)
                   for name, value in transport.environment(localhost=False).items()]
    return LaunchDescription([*declared, *environment, OpaqueFunction(function=begin)])


def node_action(spec: NodeSpec, **options) -> Node:
    """
    :param spec: the node.
    :param options: further arguments of the action, such as ``on_exit``.
    :return: the action that starts it.
    """
    return Node(package=PACKAGE, executable=spec.executable, name=spec.name, namespace=spec.namespace,
                parameters=[*map(str, spec.parameter_files), spec.parameters],
                remappings=list(spec.remappings), arguments=spec.ros_arguments, output='screen', **options)


def enable_action(namespace: str) -> ExecuteProcess:
    """
    :param namespace: of the controller.
    :return: the action that enables it as soon as it is active.
    """
    return ExecuteProcess(cmd=[sys.executable, '-m', f'{PACKAGE}.nodes.enable', f'/{namespace}/controller'],
                          name='enable', output='screen')


def rviz_action(namespace: str, image_topic: str, use_sim_time: bool) -> Node:
    """
    :param namespace: of the graph.
    :param image_topic: of the camera, as given.
    :return: the action that opens RViz on the graph.
    """
    view = rviz_view()
    if namespace or image_topic:
        with tempfile.NamedTemporaryFile('w', prefix='jepa_ros-', suffix='.rviz', delete=False) as file:
            file.write(renamed(view.read_text(), namespace, image_topic))
        view = file.name
    return Node(package='rviz2', executable='rviz2', name='rviz', namespace=namespace, output='screen',
                arguments=['-d', str(view)], parameters=[{'use_sim_time': use_sim_time}])
