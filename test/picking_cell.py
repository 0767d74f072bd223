# SPDX-License-Identifier: Apache-2.0
"""
A picking controller in lockstep: the test is camera, perception, arm and /clock, over real DDS.

A camera looks straight down on handles that move along x. Time passes by ``tick`` alone, however slow the machine.
"""

import numpy as np
from controlled import S
from geometry_msgs.msg import Point, Pose, PoseStamped, PoseWithCovarianceStamped, Quaternion, TwistStamped
from nav_msgs.msg import Path
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, JointState, PointCloud2
from stage import Stage
from std_msgs.msg import Float64MultiArray, Header, String
from std_srvs.srv import SetBool

from jepa_ros.control.calibration import Calibration
from jepa_ros.latents import Futures, Latents, token_centres
from jepa_ros.nodes.controller_node import ControllerNode
from jepa_ros.nodes.messages import futures_message, latents_message, to_stamp

TICK = S // 40  # ns, as the controller's rate
LATENCY = S // 20  # ns, of what is published every other tick
HORIZONS = np.array([0.1, 0.2, 0.3, 0.4, 0.5], np.float32)
SIZE = (256, 192)  # px of the camera
HANDLE_HEIGHT = 0.8  # m
CAMERA = np.array([0.3, 0.0, 1.6])  # m
DOWN = np.diag([1.0, -1.0, -1.0])
MATRIX = np.array([[200.0, 0.0, 128.0], [0.0, 200.0, 96.0], [0.0, 0.0, 1.0]])
TASK = {'task': 'pick', 'rate': 40.0, 'gain': 5.0, 'horizon': 0.03, 'max_speed': 0.6, 'max_acceleration': 2.5,
        'max_age': 0.2, 'gripper_open': [0.045], 'gripper_closed': [0.0], 'gripper_joints': 'finger'}


class CountingController(ControllerNode):
    """Counts by topic what has arrived, and been dealt with; topics that it does not listen to are not there."""

    def __init__(self, **kwargs):
        self.arrived = {}
        super().__init__(**kwargs)

    def create_subscription(self, kind, topic, callback, *args, **kwargs):
        def count(message):
            callback(message)
            self.arrived[topic] += 1

        self.arrived[topic] = 0
        return super().create_subscription(kind, topic, count, *args, **kwargs)


class PickingCell(Stage):
    """
    :param bundle: a tiny one of 12 x 16 tokens (make_bundle's ``size=(192, 256)``).
    :param handle: float [3], where the handle is at the beginning, m; ``speed``: along x, m/s.
    :param frozen: True: the tool stays where it is, whatever is commanded.
    :param parameters: of the controller.

    Attributes: ``silent``: topics on which nothing is sent; ``change``: by topic, a function that spoils messages.
    """

    def __init__(self, bundle, handle=(0.35, 0.0, HANDLE_HEIGHT), speed=0.0, frozen=True, **parameters):
        super().__init__(CountingController, use_sim_time=True, bundle=str(bundle.path), autostart=False,
                         diagnostics_period=0.1, **{**TASK, 'max_silence': 10.0, **parameters})
        self._model, self._handle, self._speed, self._frozen = bundle.model_id, np.array(handle), speed, frozen
        self._centres = token_centres(bundle.manifest.grid)
        self._calibration = Calibration(SIZE, MATRIX, CAMERA, DOWN)
        self._dim = bundle.manifest.latent_dim
        self.ns, self._start_ns = 100 * S, 100 * S
        self.tool, self._yaw, self._opening = np.array([0.6, -0.04, 1.3]), 0.0, 0.045
        self._sent: dict[str, int] = {}
        self.well()
        make = self.tester.create_publisher
        self._out = {topic: make(kind, f'/{topic}', 10) for topic, kind in (
            ('clock', Clock), ('futures', PointCloud2), ('latents', PointCloud2), ('tool', PoseStamped),
            ('joint_states', JointState), ('camera_info', CameraInfo), ('camera_pose', PoseStamped))}
        everything = QoSProfile(depth=1000)
        self.twists = self.listen(TwistStamped, '/controller/twist', everything)
        self.grips = self.listen(Float64MultiArray, '/controller/gripper', everything)
        self.paths = self.listen(Path, '/controller/handle_path', everything)
        self.intercepts = self.listen(PoseWithCovarianceStamped, '/controller/intercept', everything)
        latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.states = self.listen(String, '/controller/state', latched)
        self._tell_time()
        assert self.node.bring_up()
        self.until(lambda: all(self._out[topic].get_subscription_count()
                               for topic in self._out if topic in self.node.arrived))

    def well(self):
        """All that the controller listens to is sent, and right."""
        self.silent, self.change, self.surprise = set(), {}, 0.1

    def enable(self):
        assert self.call(SetBool, '/controller/enable', SetBool.Request(data=True)).success

    def handle(self, ns) -> np.ndarray:
        """Where the handle truly is, float64 [3], m."""
        return self._handle + ((ns - self._start_ns) / 1e9 * self._speed, 0, 0)

    def tick(self) -> np.ndarray:
        """Let a tick pass; return the twist that the controller answers with, float64 [6]."""
        self.ns += TICK
        self._send_robot()
        if (self.ns // TICK) % 2 == 0:
            self._send_perception()
        self.until(lambda: all(self.node.arrived[topic] >= count for topic, count in self._sent.items()))
        count = len(self.twists)
        self._tell_time()
        self.until(lambda: len(self.twists) > count)
        command = self.twists[-1].twist
        twist = np.array([getattr(part, axis) for part in (command.linear, command.angular) for axis in 'xyz'])
        if not self._frozen:
            self.tool = self.tool + twist[:3] * TICK / 1e9
            self._yaw += twist[5] * TICK / 1e9
        if self.grips:
            self._opening = max(self.grips[-1].data[0], 0.02)  # something is between the fingers
        return twist

    def ticks_until(self, holds, most=400) -> int:
        """Let time pass until ``holds(twist)``; return the number of ticks that it took."""
        for count in range(1, most + 1):
            if holds(self.tick()):
                return count
        raise AssertionError(f'not within {most} ticks; states {[m.data for m in self.states]}, last report '
                             f'{self.messages()[-1:]}')

    # What it sends

    def _tell_time(self):
        self._out['clock'].publish(Clock(clock=to_stamp(self.ns)))
        self.until(lambda: self.node.now_ns() == self.ns)

    def _send(self, topic, message):
        if topic not in self.silent and topic in self.node.arrived:
            self._sent[topic] = self._sent.get(topic, self.node.arrived[topic]) + 1
            self._out[topic].publish(self.change.get(topic, lambda m: m)(message))

    def _send_robot(self):
        header = Header(stamp=to_stamp(self.ns), frame_id='base_link')
        self._send('tool', PoseStamped(header=header, pose=_pose(self.tool, self._yaw)))
        self._send('joint_states', JointState(header=header, name=['finger'], position=[self._opening]))

    def _send_perception(self):
        stamp = self.ns - LATENCY
        header = Header(stamp=to_stamp(stamp), frame_id='base_link')
        self._send('camera_info', CameraInfo(header=header, width=SIZE[0], height=SIZE[1], k=MATRIX.ravel().tolist()))
        self._send('camera_pose', PoseStamped(header=header, pose=_pose(CAMERA, 0.0)))
        places = np.array([self.handle(stamp + horizon * 1e9) for horizon in HORIZONS.astype(float)])
        tokens = np.zeros((len(HORIZONS), len(self._centres), self._dim), np.float32)
        tokens[..., 0] = self._brightness(self._calibration.to_image(places))
        futures = Futures(stamp, HORIZONS, tokens, self._centres, self._model)
        zeros = np.zeros(len(self._centres), np.float32)
        latents = Latents(stamp, tokens[0], self._centres, zeros, zeros + np.float32(self.surprise), self._model)
        self._send('latents', latents_message(latents, 'camera'))
        self._send('futures', futures_message(futures, 'camera'))

    def _brightness(self, points) -> np.ndarray:
        """Return brightnesses [K, N] whose centre, as the tiny readout computes it, lies at points [K, 2]."""
        across = [np.unique(self._centres[:, axis]) for axis in (0, 1)]
        cells = [centres[1] - centres[0] for centres in across]
        near = [np.clip(1 - np.abs(points[:, None, axis] - self._centres[:, axis]) / cells[axis], 0, 1)
                for axis in (0, 1)]
        return np.log(near[0] * near[1] + 1e-9) / 8


def _pose(place, yaw) -> Pose:
    """Return the pose of a hand, or an optical frame, that points down."""
    x, y, z = place.tolist()
    turn = Quaternion(x=float(np.cos(yaw / 2)), y=float(np.sin(yaw / 2)), z=0.0, w=0.0)
    return Pose(position=Point(x=x, y=y, z=z), orientation=turn)
