# SPDX-License-Identifier: Apache-2.0
"""
controller_node: follows a point that a readout finds in the futures, as long as there is no doubt about it.

Subscribes to ``futures`` and ``latents`` (of perception) and publishes ``~/twist``
(geometry_msgs/TwistStamped, in the camera's optical frame), ``~/gripper`` (std_msgs/Float64MultiArray, for a
forward command controller) and ``~/target`` (geometry_msgs/PoseWithCovarianceStamped: the followed point in
the image, 0..1, at the instant of its stamp). It starts disabled; the service ``~/enable`` (std_srvs/SetBool)
enables and disables it.

On doubt, disabling, deactivation and shutdown its loop stops commanding first; then it sends explicit zeros.
The gripper's command is a position: it is left as it is.
"""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped, TwistStamped
from rclpy.duration import Duration
from rclpy.qos import QoSProfile
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import SetBool

from jepa_ros.control.follower import Command, Follower, FollowerSettings, Phase
from jepa_ros.control.path import PredictedPath
from jepa_ros.control.servo import ServoSettings
from jepa_ros.control.watchdog import RefusedError, Watchdog, WatchdogSettings
from jepa_ros.engine.backends import EngineError
from jepa_ros.engine.bundle import Bundle
from jepa_ros.engine.readout import Readout
from jepa_ros.nodes import lifecycle
from jepa_ros.nodes.diagnostics import Health
from jepa_ros.nodes.messages import read_futures, read_latents, to_stamp
from jepa_ros.nodes.parameters import ParameterError, ParameterSpec

_SERVO, _WATCHDOG, _FOLLOWER = ServoSettings(), WatchdogSettings(), FollowerSettings()

PARAMETERS = (
    ParameterSpec('bundle', 'promoted', 'Engine bundle with the readout, the same as perception has.',
                  live=False),
    ParameterSpec('readout', 'handle', 'Name of the readout to follow.', live=False),
    ParameterSpec('rate', 20.0, 'Commands per second.', 'Hz', 1.0, 500.0, live=False),
    ParameterSpec('horizon', _FOLLOWER.horizon, 'How far ahead to aim: the delay from command to motion.',
                  's', 0.0, 10.0),
    ParameterSpec('target', list(_SERVO.target), 'Where the point is to be: x and y, 0..1 of the image.',
                  '', -1.0, 2.0),
    ParameterSpec('view_extent', list(_SERVO.view_extent), "Width and height seen at the object's distance.",
                  'm', 0.001, 1000.0),
    ParameterSpec('gain', _SERVO.gain, 'Share of the remaining error that is closed per second.',
                  '1/s', 0.0, 20.0),
    ParameterSpec('feed_forward', _SERVO.feed_forward, "Share of the point's velocity that is added. A "
                  'camera moved by the command sees it move: keep feed_forward + gain * (horizon + age) < 1.',
                  '', 0.0, 1.0),
    ParameterSpec('max_speed', _SERVO.max_speed, 'Limit of the commanded speed.', 'm/s', 0.0, 10.0),
    ParameterSpec('max_acceleration', _SERVO.max_acceleration, "Limit of the command's change.",
                  'm/s^2', 0.0, 100.0),
    ParameterSpec('max_age', _WATCHDOG.max_age, 'Oldest futures acted on, by their stamp.', 's', 0.01, 10.0),
    ParameterSpec('max_silence', _WATCHDOG.max_silence, 'Longest time without a message, on a steady clock.',
                  's', 0.01, 10.0),
    ParameterSpec('max_future', _WATCHDOG.max_future, 'How far a stamp may lie in the future.',
                  's', 0.0, 10.0),
    ParameterSpec('max_deviation', _FOLLOWER.max_deviation, 'Largest standard deviation of a point acted on.',
                  'of the image', 0.0, 10.0),
    ParameterSpec('max_surprise', _FOLLOWER.max_surprise, 'Largest mean surprise acted on (0 as foreseen, '
                  'about 2 unrelated); 0: not watched, the latents are not needed.', '', 0.0, 1000.0),
    ParameterSpec('grasp_radius', _FOLLOWER.grasp_radius, 'The gripper closes nearer to the target than '
                  'this; 0: never.', 'm', 0.0, 10.0),
    ParameterSpec('gripper_open', [], 'Command that opens the gripper, one number per joint; empty: none.',
                  '', -1000.0, 1000.0),
    ParameterSpec('gripper_closed', [], 'Command that closes the gripper.', '', -1000.0, 1000.0),
)

NEWEST = QoSProfile(depth=1)


class ControllerNode(lifecycle.ManagedNode):
    """The ROS side of a :class:`~jepa_ros.control.follower.Follower`."""

    def __init__(self, name: str = 'controller', **kwargs):
        self._follower: Follower | None = None
        self._readout: Readout | None = None
        self._command: Command | None = None
        self._frame_id = ''
        self._loop = self._twist_out = self._gripper_out = self._target_out = self._enable = None
        self._inputs: list = []
        super().__init__(name, PARAMETERS, **kwargs)

    def configure(self) -> None:
        self.check_parameters({})
        bundle = Bundle.load(self.parameters['bundle'])
        self._readout = Readout.open(bundle)
        if self._readout.name != self.parameters['readout']:
            raise EngineError(f"expected readout '{self.parameters['readout']}' in bundle "
                              f"'{bundle.manifest.name}', found '{self._readout.name}'")
        self._follower = Follower(self._settings(), 1 / self.parameters['rate'], bundle.model_id)
        self._twist_out = self.create_publisher(TwistStamped, '~/twist', NEWEST)
        self._gripper_out = self.create_publisher(Float64MultiArray, '~/gripper', NEWEST)
        self._target_out = self.create_publisher(PoseWithCovarianceStamped, '~/target', NEWEST)
        self._enable = self.create_service(SetBool, '~/enable', self._on_enable)

    def activate(self) -> None:
        for watchdog in (self._follower.futures, self._follower.latents):
            watchdog.clear(f'no {watchdog.name} have arrived yet')
        self._inputs = [self.create_subscription(PointCloud2, 'futures', self._on_futures, NEWEST),
                        self.create_subscription(PointCloud2, 'latents', self._on_latents, NEWEST)]
        # On the steady clock: it must also stop the robot when simulated time stands still.
        self._loop = self.create_timer(1 / self.parameters['rate'], self._step, clock=self.steady)

    def deactivate(self) -> None:
        if self._loop is None:
            return
        self.destroy_timer(self._loop)
        self._loop = self._command = None
        # The zeros come before anything else that could fail, and must be out before the publisher or the
        # process goes.
        self._disable()
        self._twist_out.wait_for_all_acked(Duration(seconds=0.5))
        while self._inputs:
            self.destroy_subscription(self._inputs.pop())

    def cleanup(self) -> None:
        if self._enable is not None:
            self.destroy_service(self._enable)
            for publisher in (self._twist_out, self._gripper_out, self._target_out):
                self.destroy_publisher(publisher)
        self._enable = self._twist_out = self._gripper_out = self._target_out = None
        self._follower = self._readout = None

    def check_parameters(self, new: dict) -> None:
        def value(name):
            return new.get(name, self.parameters[name])

        for name in ('target', 'view_extent'):
            if len(value(name)) != 2:
                raise ParameterError(f"parameter '{name}' must have two numbers, got {list(value(name))}")
        if len(value('gripper_open')) != len(value('gripper_closed')):
            raise ParameterError("parameters 'gripper_open' and 'gripper_closed' must be of one length, got "
                                 f"{list(value('gripper_open'))} and {list(value('gripper_closed'))}")

    def health(self) -> Health:
        health = Health()
        command = self._command
        if self._follower is None or command is None:
            return health
        age = self._follower.futures.age(self.now_ns())
        health.values.update({'phase': command.phase.value, 'reason': command.reason,
                              'readout': self._readout.name, 'futures_age': age})
        if command.target is not None:
            health.values['deviation'] = command.target.deviation
        if command.phase is Phase.STOPPED:
            health.warn(f'stopped: {command.reason}')
        return health

    def _settings(self) -> FollowerSettings:
        def section(kind, **nested):
            names = [name for name in kind.__dataclass_fields__ if name not in nested]
            return kind(**{name: self.parameters[name] for name in names}, **nested)

        return section(FollowerSettings, servo=section(ServoSettings), watchdog=section(WatchdogSettings))

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        response.success = not request.data or self._loop is not None
        if not response.success:
            response.message = f'expected an active controller, found it {self.state}'
        elif request.data:
            self._follower.enabled = True
            response.message = 'enabled'
        else:
            self._disable()
            response.message = 'disabled'
        self.get_logger().info(response.message)
        return response

    def _disable(self) -> None:
        self._follower.enabled = False
        self._send_twist(np.zeros(2))

    def _on_futures(self, message: PointCloud2) -> None:
        def read():
            futures = read_futures(message)
            points, covariances = self._readout(futures)
            return PredictedPath(futures.stamp_ns, futures.horizons, points, covariances), futures

        self._offer(self._follower.futures, read)
        self._frame_id = message.header.frame_id

    def _on_latents(self, message: PointCloud2) -> None:
        def read():
            latents = read_latents(message)
            known = latents.surprise[np.isfinite(latents.surprise)]
            return float(known.mean()) if known.size else np.nan, latents

        self._offer(self._follower.latents, read)

    def _offer(self, watchdog: Watchdog, read) -> None:
        try:
            content, source = read()
            steady_ns = self.steady.now().nanoseconds
            watchdog.offer(content, source.stamp_ns, source.model, self.now_ns(), steady_ns)
        except RefusedError:
            pass  # the watchdog remembers why
        except Exception as error:  # malformed, or whatever the backend raises: it must not end the loop
            watchdog.clear(f'{watchdog.name} were refused: {error}')

    def _step(self) -> None:
        self._follower.settings = self._settings()
        before = self._command.phase if self._command is not None else None
        command = self._command = self._follower.step(self.now_ns(), self.steady.now().nanoseconds)
        if command.velocity is not None:
            self._send_twist(command.velocity)
        if command.gripper:
            self._gripper_out.publish(Float64MultiArray(data=list(command.gripper)))
        if command.target is not None:
            self._send_target(command)
        if command.phase is not before:
            if command.phase is Phase.FOLLOWING:
                self.get_logger().info('following', throttle_duration_sec=1.0)
            self.report()  # says and logs why it stopped

    def _send_twist(self, velocity: np.ndarray) -> None:
        message = TwistStamped()
        message.header.stamp = self.get_clock().now().to_msg()
        message.header.frame_id = self._frame_id
        message.twist.linear.x, message.twist.linear.y = map(float, velocity)
        self._twist_out.publish(message)

    def _send_target(self, command: Command) -> None:
        message = PoseWithCovarianceStamped()
        message.header.stamp = to_stamp(command.target_stamp_ns)
        message.header.frame_id = self._frame_id
        message.pose.pose.position.x, message.pose.pose.position.y = map(float, command.target.position)
        message.pose.pose.orientation.w = 1.0
        covariance = np.zeros((6, 6))
        covariance[:2, :2] = command.target.covariance
        message.pose.covariance = covariance.ravel()
        self._target_out.publish(message)


def main(args: list[str] | None = None) -> int:
    """Run the node. :return: exit code."""
    return lifecycle.run(ControllerNode, args)


if __name__ == '__main__':
    raise SystemExit(main())
