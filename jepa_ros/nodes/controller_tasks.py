# SPDX-License-Identifier: Apache-2.0
"""The ROS side of what the controller can do: follow a point in the image, or take bins off a belt."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import Point, Pose, PoseStamped, PoseWithCovarianceStamped, Quaternion, TwistStamped
from nav_msgs.msg import Path
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, JointState
from std_msgs.msg import ColorRGBA, Float64MultiArray, Header, String
from visualization_msgs.msg import Marker

from jepa_ros.control.belt_motion import MotionSettings
from jepa_ros.control.calibration import Calibration, CalibrationError
from jepa_ros.control.follower import Follower, FollowerSettings, Phase
from jepa_ros.control.intercept import Arm, HandleState, TrackSettings
from jepa_ros.control.picking import PickCommand, Picker, PickSettings, PickState, Tool
from jepa_ros.control.servo import ServoSettings
from jepa_ros.control.watchdog import RefusedError, WatchdogSettings
from jepa_ros.nodes.messages import to_ns, to_stamp

NEWEST = QoSProfile(depth=1)
SENSOR = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)  # hears reliable publishers too
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
TEXT = 0.035  # m, height of a marker's letters


class Task:
    """
    What the node does with the futures: a law without ROS, and the topics that are its own.

    :param node: the controller; its parameters are read at every step.
    """

    law: Follower | Picker

    def __init__(self, node):
        self.node = node
        self.frame_id = ''
        self._twist_out = node.create_publisher(TwistStamped, '~/twist', NEWEST)
        self._gripper_out = node.create_publisher(Float64MultiArray, '~/gripper', NEWEST)
        self._publishers = [self._twist_out, self._gripper_out]
        self._inputs: list = []

    def listen(self) -> None:
        """Begin to take in what the task needs besides futures and latents."""

    def deafen(self) -> None:
        """Take nothing in any more."""
        while self._inputs:
            self.node.destroy_subscription(self._inputs.pop())

    def step(self, now_ns: int, steady_ns: int) -> None:
        """Decide, and publish."""
        raise NotImplementedError

    def describe(self) -> tuple[str, str, dict]:
        """:return: phase or state, the reason, and figures, of the last step."""
        raise NotImplementedError

    def stopped(self) -> bool:
        """:return: whether it stands still in doubt."""
        return self.describe()[0] == Phase.STOPPED.value

    def warnings(self) -> list[str]:
        """:return: what is not as it should be and does not stop it."""
        return []

    def on_frame(self, frame_id: str) -> None:
        """Take in the frame of the camera's pictures."""

    def halt(self) -> None:
        """Disable, and send explicit zeros."""
        self.law.enabled = False
        self.send_twist(np.zeros(6))

    def wait_for_acked(self, duration) -> None:
        """Wait until the last command is out."""
        self._twist_out.wait_for_all_acked(duration)

    def destroy(self) -> None:
        """Release the publishers."""
        while self._publishers:
            self.node.destroy_publisher(self._publishers.pop())

    def section(self, kind, **nested):
        """:return: settings of a kind, from the parameters of the same names."""
        names = [name for name in kind.__dataclass_fields__ if name not in nested]
        return kind(**{name: self.node.parameters[name] for name in names}, **nested)

    def publisher(self, *arguments):
        """:return: a publisher that is destroyed with the task."""
        self._publishers.append(self.node.create_publisher(*arguments))
        return self._publishers[-1]

    def send_twist(self, twist: np.ndarray) -> None:
        message = TwistStamped(header=self._header())
        linear, angular = message.twist.linear, message.twist.angular
        linear.x, linear.y, linear.z, angular.x, angular.y, angular.z = map(float, twist)
        self._twist_out.publish(message)

    def send_gripper(self, gripper: tuple[float, ...]) -> None:
        if gripper:
            self._gripper_out.publish(Float64MultiArray(data=list(gripper)))

    def _header(self, stamp_ns: int | None = None) -> Header:
        stamp = self.node.get_clock().now().to_msg() if stamp_ns is None else to_stamp(stamp_ns)
        return Header(stamp=stamp, frame_id=self.frame_id)


class FollowTask(Task):
    """A :class:`~jepa_ros.control.follower.Follower`: commands in the camera's optical frame."""

    def __init__(self, node, period: float, model: int):
        super().__init__(node)
        self._target_out = self.publisher(PoseWithCovarianceStamped, '~/target', NEWEST)
        self._command = None
        self.law = Follower(self._settings(), period, model)

    def on_frame(self, frame_id: str) -> None:
        self.frame_id = frame_id

    def step(self, now_ns: int, steady_ns: int) -> None:
        self.law.settings = self._settings()
        command = self._command = self.law.step(now_ns, steady_ns)
        if command.velocity is not None:
            self.send_twist(np.append(command.velocity, np.zeros(4)))
        self.send_gripper(command.gripper)
        if command.target is not None:
            self._send_target(command)

    def describe(self) -> tuple[str, str, dict]:
        command = self._command
        if command is None:
            return '', '', {}
        figures = {} if command.target is None else {'deviation': command.target.deviation}
        return command.phase.value, command.reason, figures

    def _settings(self) -> FollowerSettings:
        return self.section(FollowerSettings, servo=self.section(ServoSettings),
                            watchdog=self.section(WatchdogSettings))

    def _send_target(self, command) -> None:
        message = PoseWithCovarianceStamped(header=self._header(command.target_stamp_ns))
        message.pose.pose.position.x, message.pose.pose.position.y = map(float, command.target.position)
        message.pose.pose.orientation.w = 1.0
        covariance = np.zeros((6, 6))
        covariance[:2, :2] = command.target.covariance
        message.pose.covariance = covariance.ravel()
        self._target_out.publish(message)


class PickTask(Task):
    """
    A :class:`~jepa_ros.control.picking.Picker`: commands in the frame of the tool's pose.

    Subscribes to ``camera_info``, ``camera_pose`` (if parameters do not say it), ``tool`` and ``joint_states``.
    """

    def __init__(self, node, period: float, model: int):
        super().__init__(node)
        self._path_out = self.publisher(Path, '~/handle_path', NEWEST)
        self._intercept_out = self.publisher(PoseWithCovarianceStamped, '~/intercept', NEWEST)
        self._state_out = self.publisher(String, '~/state', LATCHED)
        self._marker_out = self.publisher(Marker, '~/marker', NEWEST)
        self._command = None
        self._said = ''  # the state published last
        self._info: tuple | None = None  # size and matrix
        self._camera: tuple | None = None  # position, rotation and frame
        self._opening, self._heard_ns = None, 0
        self._silent = False  # whether nobody says how far the gripper is open
        self._tool: np.ndarray | None = None  # position
        self.law = Picker(self._settings(), period, model)
        position, rotation = (node.parameters[f'camera_{name}'] for name in ('position', 'rotation'))
        if position:
            self._camera = np.array(position), rotation_matrix(*rotation), None

    def listen(self) -> None:
        self.law.tools.clear('no pose of the tool has arrived yet')
        self._opening = None
        make = self.node.create_subscription
        self._inputs = [make(CameraInfo, 'camera_info', self._on_info, SENSOR),
                        make(PoseStamped, 'tool', self._on_tool, SENSOR),
                        make(JointState, 'joint_states', self._on_joints, SENSOR)]
        if not self.node.parameters['camera_position']:
            self._inputs.append(make(PoseStamped, 'camera_pose', self._on_camera, SENSOR))

    def step(self, now_ns: int, steady_ns: int) -> None:
        self.law.settings = settings = self._settings()
        self._silent = steady_ns - self._heard_ns > settings.watchdog.max_silence * 1e9
        before = self._command
        command = self._command = self.law.step(now_ns, steady_ns, None, None if self._silent else self._opening)
        if command.twist is not None:
            self.send_twist(command.twist)
        self.send_gripper(command.gripper)
        self._say(command.state)
        # The rest is for people and planners, who see as much when futures come or the state changes.
        moved = command.path is not (before.path if before else ())
        if not moved and before is not None and command.state is before.state:
            return
        if moved:  # empty once when it ends: nobody shall keep it
            poses = [PoseStamped(header=self._header(stamp), pose=_pose(handle))
                     for stamp, handle in command.path]
            self._path_out.publish(Path(header=self._header(now_ns), poses=poses))
        if command.intercept is not None:
            handle = command.intercept.handle
            message = PoseWithCovarianceStamped(header=self._header(command.intercept.stamp_ns))
            message.pose.pose, message.pose.covariance = _pose(handle), handle.covariance.ravel()
            self._intercept_out.publish(message)
        if self._tool is not None and self._marker_out.get_subscription_count():
            self._marker_out.publish(self._marker(command))

    def describe(self) -> tuple[str, str, dict]:
        command = self._command
        if command is None:
            return '', '', {}
        figures = {} if not command.path else {'deviation': command.path[0][1].deviation}
        return command.state.value, command.reason, figures

    def warnings(self) -> list[str]:
        names = self._gripper_joints
        if not (self._silent and names):
            return []
        return [f"no position of the gripper's joints ({', '.join(names)}) in joint_states: whether it holds a bin is "
                'not watched (set gripper_joints)']

    def halt(self) -> None:
        super().halt()
        self._say(PickState.DISABLED)

    def _settings(self) -> PickSettings:
        track = self.section(TrackSettings, motion=self.section(MotionSettings))
        return self.section(PickSettings, track=track, arm=self.section(Arm),
                            watchdog=self.section(WatchdogSettings))

    def _say(self, state: PickState) -> None:
        if state.value != self._said:
            self._said = state.value
            self._state_out.publish(String(data=self._said))

    def _marker(self, command: PickCommand) -> Marker:
        """Return the state as text over the tool, for viewers that show no strings."""
        marker = Marker(header=self._header(), ns='state', type=Marker.TEXT_VIEW_FACING)
        marker.text = '\n'.join(filter(None, (command.state.value, command.reason)))
        marker.scale.z = TEXT
        x, y, z = map(float, self._tool)
        marker.pose = Pose(position=Point(x=x, y=y, z=z + 4 * TEXT))
        doubt = float(command.state is PickState.STOPPED)
        marker.color = ColorRGBA(r=1.0, g=1.0 - 0.6 * doubt, b=1.0 - 0.8 * doubt, a=1.0)
        return marker

    def _on_info(self, message: CameraInfo) -> None:
        rectified = self.node.parameters['rectified']
        if np.any(message.d) and not rectified:
            self._info = None  # or the next pose of the camera would calibrate it with what came before
            self._uncalibrate('expected the camera_info of a rectified image, found distortion '
                              f'{list(message.d)} (is the image rectified? set rectified: true)')
            return
        matrix = np.reshape(message.p, (3, 4))[:, :3] if rectified else np.reshape(message.k, (3, 3))
        self._info = (message.width, message.height), matrix
        self._calibrate()

    def _on_camera(self, message: PoseStamped) -> None:
        try:
            self._camera = *_read_pose(message.pose), message.header.frame_id
        except RefusedError as error:
            self._camera = None
            self._uncalibrate(f'the pose of the camera was refused: {error}')
            return
        self._calibrate()

    def _on_tool(self, message: PoseStamped) -> None:
        steady_ns = self.node.steady.now().nanoseconds
        try:
            position, rotation = _read_pose(message.pose)
            self.frame_id, self._tool = message.header.frame_id, position
            tool = Tool(position, rotation, to_ns(message.header.stamp))
            self.law.tools.offer(tool, tool.stamp_ns, 0, self.node.now_ns(), steady_ns)
        except RefusedError as error:
            self.law.tools.clear(f'the pose of the tool was refused: {error}')

    def _on_joints(self, message: JointState) -> None:
        values = [message.position[message.name.index(name)] for name in self._gripper_joints
                  if name in message.name and message.name.index(name) < len(message.position)]
        if values and np.isfinite(values).all():
            self._opening = float(np.mean(values))
            self._heard_ns = self.node.steady.now().nanoseconds

    @property
    def _gripper_joints(self) -> list[str]:
        return [name.strip() for name in self.node.parameters['gripper_joints'].split(',') if name.strip()]

    def _calibrate(self) -> None:
        if self._info is None or self._camera is None:
            return
        position, rotation, frame_id = self._camera
        if frame_id is not None and self.frame_id and frame_id != self.frame_id:
            self._uncalibrate("expected the poses of camera and tool in one frame, found "
                              f"'{frame_id}' and '{self.frame_id}'")
            return
        try:
            self.law.calibration = Calibration(*self._info, position, rotation)
        except CalibrationError as error:
            self._uncalibrate(str(error))

    def _uncalibrate(self, reason: str) -> None:
        self.law.calibration, self.law.uncalibrated = None, reason


def rotation_matrix(x: float, y: float, z: float, w: float) -> np.ndarray:
    """
    :return: float64 [3, 3], of a quaternion.
    :raises RefusedError: it is not of length one, or not finite.
    """
    length = np.sqrt(x * x + y * y + z * z + w * w)
    if not abs(length - 1) < 0.01:
        raise RefusedError(f'expected a quaternion of length one, found {x:g}, {y:g}, {z:g}, {w:g}')
    x, y, z, w = np.array([x, y, z, w]) / length
    return np.array([[1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                     [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                     [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]])


def _read_pose(pose: Pose) -> tuple[np.ndarray, np.ndarray]:
    position = np.array([pose.position.x, pose.position.y, pose.position.z])
    if not np.isfinite(position).all():
        raise RefusedError(f'expected finite numbers, found {position.tolist()}')
    turn = pose.orientation
    return position, rotation_matrix(turn.x, turn.y, turn.z, turn.w)


def _pose(handle: HandleState) -> Pose:
    x, y, z = map(float, handle.position)
    half = handle.yaw / 2
    return Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(z=float(np.sin(half)),
                                                                      w=float(np.cos(half))))
