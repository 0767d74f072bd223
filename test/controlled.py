# SPDX-License-Identifier: Apache-2.0
"""What a controller under test has around it: the perception it follows and the arm it commands."""

import json
import threading

import numpy as np
from children import Child
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseWithCovarianceStamped, TwistStamped
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import SetBool

from jepa_ros.latents import Futures, Latents, token_centres
from jepa_ros.nodes.messages import futures_message, latents_message

RELIABLE = QoSProfile(depth=1000)
S = 10**9


class Perception:
    """Publishes latents and futures at 20 Hz until it is told to publish other ones, or nothing."""

    def __init__(self, peer, bundle):
        self._peer, self._bundle = peer, bundle
        self._centres = token_centres(bundle.manifest.grid)
        self._futures = peer.publisher(PointCloud2, '/perception/futures')
        self._latents = peer.publisher(PointCloud2, '/perception/latents')
        self.well()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def well(self):
        """Publish what is right: the brightest token is at the right edge."""
        self.surprise, self.silent = 0.1, False
        self.change = self.change_message = lambda value: value

    def futures(self) -> Futures:
        tokens = np.zeros((5, len(self._centres), self._bundle.manifest.latent_dim), np.float32)
        brightest = np.flatnonzero(self._centres[:, 0] > 0.9)[2]
        tokens[:, brightest, 0] = 3.0
        horizons = np.array([0.1, 0.2, 0.3, 0.4, 0.5], np.float32)
        now = self._peer.node.get_clock().now().nanoseconds
        return Futures(now - S // 20, horizons, tokens, self._centres, self._bundle.model_id)

    def _run(self):
        while not self._stop.wait(0.05):
            if self.silent:
                continue
            futures = self.change(self.futures())
            zeros = np.zeros(len(self._centres), np.float32)
            surprise = zeros + np.float32(self.surprise)
            latents = Latents(futures.stamp_ns, futures.tokens[0], futures.positions, zeros, surprise,
                              futures.model)
            self._latents.publish(latents_message(latents, 'camera_optical'))
            self._futures.publish(self.change_message(futures_message(futures, 'camera_optical')))


class Arm:
    """Listens to what the controller commands and says; enables it."""

    def __init__(self, peer):
        self._peer = peer
        self.twists = peer.listen(TwistStamped, '/controller/twist', RELIABLE)
        self.grips = peer.listen(Float64MultiArray, '/controller/gripper', RELIABLE)
        self.targets = peer.listen(PoseWithCovarianceStamped, '/controller/target', RELIABLE)
        self.health = peer.listen(DiagnosticArray, '/diagnostics', RELIABLE)

    def enable(self, yes=True):
        return self._peer.call(SetBool, '/controller/enable', SetBool.Request(data=yes))

    def set(self, **parameters):
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()
                                                    for name, value in parameters.items()])
        return self._peer.call(SetParameters, '/controller/set_parameters', request).results[0]

    def wait_moving(self):
        self.twists.clear()
        return self.twists.wait(lambda m: speed(m) > 0)

    def wait_stopped(self, reason):
        """Wait for explicit zeros, and for the reason on /diagnostics."""
        self.twists.clear()
        self.health.clear()
        self.twists.wait(lambda m: speed(m) == 0)
        self.health.wait(lambda m: m.status[0].name == 'controller' and reason in m.status[0].message)
        self.twists.wait_last(lambda m: speed(m) == 0)

    def wait_silence(self):
        """Wait for the last command, which must be zeros; none may come while it aims five times more."""
        self.twists.wait_last(lambda m: speed(m) == 0)
        self.targets.clear()
        self.targets.wait()  # what was sent before it has arrived
        count = len(self.twists.messages)
        self.targets.clear()
        self.targets.wait(count=5)
        assert len(self.twists.messages) == count and speed(self.twists.messages[-1]) == 0


def speed(message):
    return np.hypot(message.twist.linear.x, message.twist.linear.y)


def start(bundle_path, **parameters):
    parameters = {'bundle': str(bundle_path), **parameters}
    options = [word for name, value in parameters.items() for word in ('-p', f'{name}:={json.dumps(value)}')]
    return Child('-m', 'jepa_ros.nodes.controller_node', '--ros-args', '-r', 'futures:=perception/futures',
                 '-r', 'latents:=perception/latents', *options)
