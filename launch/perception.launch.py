# SPDX-License-Identifier: Apache-2.0
"""
A camera topic becomes latents and predicted latents, and a controller that waits to be enabled.

ros2 launch jepa_ros perception.launch.py image_topic:=/camera/color/image_raw
ros2 launch jepa_ros perception.launch.py --show-args
"""

from jepa_ros.nodes.graph import perception_graph
from jepa_ros.nodes.launching import PERCEPTION_ARGUMENTS, describe, node_action


def generate_launch_description():
    return describe(PERCEPTION_ARGUMENTS, start)


def start(**values):
    return [node_action(spec) for spec in perception_graph(**values)]
