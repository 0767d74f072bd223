# SPDX-License-Identifier: Apache-2.0
"""
A recording in the place of the camera: perception and controller run on it until it ends.

ros2 launch jepa_ros replay.launch.py path:=/data/run_17 topic:=/camera/image_raw
ros2 launch jepa_ros replay.launch.py --show-args
"""

from launch.actions import Shutdown

from jepa_ros.nodes.graph import replay_graph
from jepa_ros.nodes.launching import REPLAY_ARGUMENTS, describe, node_action


def generate_launch_description():
    return describe(REPLAY_ARGUMENTS, start)


def start(**values):
    camera, *others = replay_graph(**values)
    return [node_action(camera, on_exit=end), *map(node_action, others)]


def end(event, context):
    if event.returncode and not context.is_shutdown:
        raise RuntimeError(
            f'the recording could not be played: {event.process_name} ended with {event.returncode}')
    return Shutdown(reason='the recording is at its end')
