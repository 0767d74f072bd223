# SPDX-License-Identifier: Apache-2.0
"""
controller_node: acts on the futures, as long as there is no doubt about them.

Subscribes to ``futures`` and ``latents`` (of perception) and publishes ``~/twist``
(geometry_msgs/TwistStamped) and ``~/gripper`` (std_msgs/Float64MultiArray, for a forward command controller).
Parameter ``task`` says what it does:

- ``follow``: keeps the point that the readout finds at a place in the picture; commands are in the camera's
  optical frame. Publishes ``~/target`` (geometry_msgs/PoseWithCovarianceStamped: the followed point in the
  image, 0..1, at the instant of its stamp).
- ``pick``: takes bins off a belt by their handles; commands are in the frame of the tool's pose. Subscribes
  besides to ``camera_info``, ``camera_pose`` and ``tool`` (geometry_msgs/PoseStamped, in one frame) and
  ``joint_states``. Publishes ``~/handle_path`` (nav_msgs/Path: where the handle is expected, one pose per
  horizon, each with its own stamp), ``~/intercept`` (geometry_msgs/PoseWithCovarianceStamped: where and when
  the tool can meet it first), ``~/state`` (std_msgs/String, latched, on change) and ``~/marker``
  (visualization_msgs/Marker: the state as text over the tool, only while someone listens).

It starts disabled; the service ``~/enable`` (std_srvs/SetBool) enables and disables it. On doubt, disabling,
deactivation and shutdown its loop stops commanding first; then it sends explicit zeros. The gripper's command
is a position: it is left as it is.
"""

from __future__ import annotations

import numpy as np
from rclpy.duration import Duration
from sensor_msgs.msg import PointCloud2
from std_srvs.srv import SetBool

from jepa_ros.control.path import PredictedPath
from jepa_ros.control.watchdog import RefusedError, Watchdog
from jepa_ros.engine.backends import EngineError
from jepa_ros.engine.bundle import Bundle
from jepa_ros.engine.readout import Readout
from jepa_ros.nodes import controller_parameters, lifecycle
from jepa_ros.nodes import controller_tasks as tasks
from jepa_ros.nodes.diagnostics import Health
from jepa_ros.nodes.messages import read_futures, read_latents
from jepa_ros.nodes.parameters import ParameterSpec

TASKS = {'follow': tasks.FollowTask, 'pick': tasks.PickTask}

PARAMETERS = (
    ParameterSpec('task', 'follow', 'What to do.', choices=tuple(TASKS), live=False),
    ParameterSpec('bundle', 'promoted', 'Engine bundle with the readout, the same as perception has.',
                  live=False),
    ParameterSpec('readout', 'handle', 'Name of the readout to act on.', live=False),
    ParameterSpec('rate', 20.0, 'Commands per second.', 'Hz', 1.0, 500.0, live=False),
    *controller_parameters.SHARED,
    *controller_parameters.FOLLOW,
    *controller_parameters.PICK,
)


UNSURPRISING = 50  # latents in a row without a surprise: no history explains so many


class ControllerNode(lifecycle.ManagedNode):
    """Reads futures and latents, has a task step at its rate, and stops it on doubt."""

    def __init__(self, name: str = 'controller', **kwargs):
        self._task: tasks.Task | None = None
        self._readout: Readout | None = None
        self._enable = None
        self._loops: list = []
        self._inputs: list = []
        self._stepped, self._period = False, 0.0
        self._unsurprising = 0  # latents in a row that did not say how surprising they are
        super().__init__(name, PARAMETERS, **kwargs)

    def configure(self) -> None:
        self.check_parameters({})
        bundle = Bundle.load(self.parameters['bundle'])
        self._readout = Readout.open(bundle)
        if self._readout.name != self.parameters['readout']:
            raise EngineError(f"expected readout '{self.parameters['readout']}' in bundle "
                              f"'{bundle.manifest.name}', found '{self._readout.name}'")
        kind = TASKS[self.parameters['task']]
        self._period = 1 / self.parameters['rate']  # the law counts in it: a new rate waits for the next configure
        self._task = kind(self, self._period, bundle.model_id)
        self._enable = self.create_service(SetBool, '~/enable', self._on_enable)

    def activate(self) -> None:
        law = self._task.law
        for watchdog in (law.futures, law.latents):
            watchdog.clear(f'no {watchdog.name} have arrived yet')
        self._unsurprising = 0
        self._inputs = [self.create_subscription(PointCloud2, 'futures', self._on_futures, tasks.NEWEST),
                        self.create_subscription(PointCloud2, 'latents', self._on_latents, tasks.NEWEST)]
        self._task.listen()
        # Simulated time may run at any pace, and the law counts in it. When it stands still, another clock must
        # stop the robot.
        simulated = self.get_clock().ros_time_is_active
        self._loops = [self.create_timer(self._period, self._step,
                                          clock=self.get_clock() if simulated else self.steady)]
        if simulated:
            self._loops.append(self.create_timer(self._period, self._watch, clock=self.steady))

    def deactivate(self) -> None:
        if not self._loops:
            return
        while self._loops:
            self.destroy_timer(self._loops.pop())
        # The zeros come before anything else that could fail, and must be out before the publisher or the
        # process goes.
        self._task.halt()
        self._task.wait_for_acked(Duration(seconds=0.5))
        self._task.deafen()
        while self._inputs:
            self.destroy_subscription(self._inputs.pop())

    def cleanup(self) -> None:
        if self._enable is not None:
            self.destroy_service(self._enable)
        if self._task is not None:
            self._task.destroy()
        self._enable = self._task = self._readout = None

    def check_parameters(self, new: dict) -> None:
        controller_parameters.check(lambda name: new.get(name, self.parameters[name]))

    def health(self) -> Health:
        health = Health()
        if not self._loops:
            return health
        phase, reason, figures = self._task.describe()
        if not phase:
            return health
        age = self._task.law.futures.age(self.now_ns())
        health.values.update({'phase': phase, 'reason': reason, 'readout': self._readout.name,
                              'futures_age': age, **figures})
        if self._task.stopped():
            health.warn(f'stopped: {reason}')
        if self.parameters['max_surprise'] > 0 and self._unsurprising > UNSURPRISING:
            health.warn(f'max_surprise watches nothing: {self._unsurprising} latents have come, and none said how '
                        'surprising it is')
        for warning in self._task.warnings():
            health.warn(warning)
        return health

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        response.success = not request.data or bool(self._loops)
        if not response.success:
            response.message = f'expected an active controller, found it {self.state}'
        elif request.data:
            self._task.law.enabled = True
            response.message = 'enabled'
        else:
            self._task.halt()
            response.message = 'disabled'
        self.get_logger().info(response.message)
        return response

    def _on_futures(self, message: PointCloud2) -> None:
        def read():
            futures = read_futures(message)
            return PredictedPath.of(futures.stamp_ns, futures.horizons, self._readout.read(futures)), futures

        self._offer(self._task.law.futures, read)
        self._task.on_frame(message.header.frame_id)

    def _on_latents(self, message: PointCloud2) -> None:
        def read():
            latents = read_latents(message)
            known = latents.surprise[np.isfinite(latents.surprise)]
            self._unsurprising = 0 if known.size else self._unsurprising + 1
            return float(known.mean()) if known.size else np.nan, latents

        self._offer(self._task.law.latents, read)

    def _offer(self, watchdog: Watchdog, read) -> None:
        try:
            content, source = read()
            steady_ns = self.steady.now().nanoseconds
            watchdog.offer(content, source.stamp_ns, source.model, self.now_ns(), steady_ns)
        except RefusedError:
            pass  # the watchdog remembers why
        except Exception as error:  # malformed, or whatever the backend raises: it must not end the loop
            watchdog.clear(f'{watchdog.name} were refused: {error}')

    def _watch(self) -> None:
        """Step on doubt where the loop has not."""
        stepped, self._stepped = self._stepped, False
        if not stepped:
            try:
                self._task.law.futures.check(self.now_ns(), self.steady.now().nanoseconds)
            except RefusedError:
                self._step()

    def _step(self) -> None:
        self._stepped = True
        before = self._task.describe()[0]
        self._task.step(self.now_ns(), self.steady.now().nanoseconds)
        phase = self._task.describe()[0]
        if phase != before:
            if phase not in ('stopped', 'disabled'):
                self.get_logger().info(phase, throttle_duration_sec=1.0)
            self.report()  # says and logs why it stopped


def main(args: list[str] | None = None) -> int:
    """Run the node. :return: exit code."""
    return lifecycle.run(ControllerNode, args)


if __name__ == '__main__':
    raise SystemExit(main())
