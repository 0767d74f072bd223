# SPDX-License-Identifier: Apache-2.0
"""Perception and the picking controller as real processes: what takes perception away stops the arm."""

import threading

import pytest
from bundles import make_bundle
from children import Child
from controlled import Arm, start
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion
from peer import Peer
from sensor_msgs.msg import CameraInfo, Image
from stage import raw
from std_msgs.msg import Header

from jepa_ros.nodes.messages import to_stamp

pytestmark = pytest.mark.ros


class Robot:
    """Publishes camera pictures at 20 Hz while ``sees`` is set, and where the tool is all the time."""

    def __init__(self, peer):
        self._peer = peer
        self.sees = True
        self._tool, self._info = peer.publisher(PoseStamped, '/tool'), peer.publisher(CameraInfo, '/camera_info')
        self._images = peer.node.create_publisher(Image, '/camera/image_raw', 10)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _run(self):
        index = 0
        place = Pose(position=Point(x=0.2, y=0.4, z=1.3), orientation=Quaternion(x=1.0, y=0.0, z=0.0, w=0.0))
        while not self._stop.wait(0.05):
            now_ns = self._peer.node.get_clock().now().nanoseconds
            header = Header(stamp=to_stamp(now_ns), frame_id='base_link')
            self._tool.publish(PoseStamped(header=header, pose=place))
            self._info.publish(CameraInfo(header=header, width=160, height=120,
                                          k=[120.0, 0.0, 80.0, 0.0, 120.0, 60.0, 0.0, 0.0, 1.0]))
            if self.sees:
                self._images.publish(raw(index, now_ns))
                index += 1


def perceive(bundle):
    return Child('-m', 'jepa_ros.nodes.perception_node', '--ros-args', '-p', f'bundle:={bundle}')


def test_a_camera_that_stops_perception_that_is_killed_and_another_model_stop_the_arm(tmp_path):
    bundle, other = make_bundle(tmp_path / 'this'), make_bundle(tmp_path / 'other', seed=1)
    # Limits that a busy machine keeps: those of the parameter file are tested where time is the test's.
    settings = {'task': 'pick', 'max_age': 1.0, 'max_silence': 1.0, 'max_surprise': 0.0, 'max_error': 10.0,
                'camera_position': [0.3, 0.1, 1.6], 'camera_rotation': [1.0, 0.0, 0.0, 0.0],
                'gripper_open': [0.04], 'gripper_closed': [0.0]}
    with Peer() as peer, start(bundle, **settings) as controller, Robot(peer) as robot:
        arm = Arm(peer)
        with perceive(bundle) as perception:
            assert arm.enable().success
            arm.wait_moving()
            robot.sees = False
            arm.wait_stopped('futures')
            robot.sees = True
            arm.wait_moving()
            perception.process.kill()
            arm.wait_stopped('futures')
        with perceive(other) as perception:
            arm.wait_stopped('expected futures of model')
            assert perception.stop() == 0
        with perceive(bundle) as perception:
            arm.wait_moving()
            assert perception.stop() == 0
        assert controller.stop() == 0
