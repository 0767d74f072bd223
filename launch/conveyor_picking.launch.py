# SPDX-License-Identifier: Apache-2.0
"""
Bins are taken off a moving belt: camera, JEPA futures, controller; with the simulated cell, or on a robot.

ros2 launch jepa_ros conveyor_picking.launch.py rviz:=true
ros2 launch jepa_ros conveyor_picking.launch.py sim:=false image_topic:=/camera/color/image_raw
ros2 launch jepa_ros conveyor_picking.launch.py --show-args
"""

from launch.actions import Shutdown

from jepa_ros.nodes.graph import conveyor_graph
from jepa_ros.nodes.launching import CONVEYOR_ARGUMENTS, describe, enable_action, node_action, rviz_action


def generate_launch_description():
    return describe(CONVEYOR_ARGUMENTS, start)


def start(*, seed, rviz, enable, twist_topic, gripper_topic, tool_topic, camera_pose_topic, **values):
    robot = {'~/twist': twist_topic, '~/gripper': gripper_topic, 'tool': tool_topic,
             'camera_pose': camera_pose_topic}
    nodes = conveyor_graph(**values, seed=int(seed) if seed else None, topics=robot)
    # nothing is left to do where the simulator is gone
    actions = [node_action(node, **({'on_exit': end} if node.name == 'conveyor_sim' else {})) for node in nodes]
    if values['sim'] if enable is None else enable:
        actions.append(enable_action(values['namespace']))
    if rviz:
        sim_time = nodes[-1].parameters['use_sim_time']
        actions.append(rviz_action(values['namespace'], values['image_topic'], sim_time))
    return actions


def end(event, context):
    if event.returncode and not context.is_shutdown:
        raise RuntimeError(f'the simulator {event.process_name} ended with {event.returncode}')
    return Shutdown(reason='the simulator has ended')
