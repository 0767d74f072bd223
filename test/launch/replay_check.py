# SPDX-License-Identifier: Apache-2.0
"""
The replay under launch_testing: ``launch_test replay_check.py path:=... bundle:=... namespace:=robot``.
"""

import unittest

import launch_testing
import launch_testing.actions
import launch_testing.asserts
from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from peer import Peer
from rclpy.qos import QoSProfile
from sensor_msgs.msg import PointCloud2

from jepa_ros.nodes.messages import read_futures, read_latents

NAMES = ('path', 'bundle', 'namespace')


def generate_test_description():
    share = get_package_share_directory('jepa_ros')
    replay = IncludeLaunchDescription(PythonLaunchDescriptionSource(f'{share}/launch/replay.launch.py'),
                                      launch_arguments=[(name, LaunchConfiguration(name)) for name in NAMES])
    return LaunchDescription([replay, launch_testing.actions.ReadyToTest()])


class WhileItRuns(unittest.TestCase):
    def test_latents_and_futures_come(self):
        with Peer() as peer:
            latents = peer.listen(PointCloud2, '/robot/perception/latents', QoSProfile(depth=10))
            futures = peer.listen(PointCloud2, '/robot/perception/futures', QoSProfile(depth=10))
            self.assertEqual(read_futures(futures.wait()).model, read_latents(latents.wait()).model)

    def test_the_camera_plays_to_the_end(self, proc_info):
        proc_info.assertWaitForShutdown(process='camera_replay_node', timeout=30)


@launch_testing.post_shutdown_test()
class WhenItHasEnded(unittest.TestCase):
    def test_all_ended_well(self, proc_info):
        self.assertEqual(sorted(name.rsplit('-', 1)[0] for name in proc_info.process_names()),
                         ['camera_replay_node', 'controller_node', 'perception_node'])
        launch_testing.asserts.assertExitCodes(proc_info)
