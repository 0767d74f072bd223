# SPDX-License-Identifier: Apache-2.0
"""
The picking cell in physics: a camera over a conveyor, and a manipulator that takes velocity commands.

Publishes ``camera/image_raw`` (sensor_msgs/Image, or CompressedImage if asked for), ``camera/camera_info``,
``joint_states``, ``/clock`` (from one second on) and what is true:

- ``~/handle`` (geometry_msgs/PointStamped: x, y in 0..1 of the image, z 1 visible, 0 hidden), only while it
  is in the picture
- ``~/handle_pose``, ``~/handle_in_camera``, ``~/camera_pose``, ``~/tool`` (geometry_msgs/PoseStamped)
- ``~/visibility`` (std_msgs/Float32), ``~/bins``, ``~/taken`` (std_msgs/Int32)
- ``~/category``, ``~/colour``, ``~/state``, ``~/belt``, ``~/contact``, ``~/event`` (std_msgs/String)
- ``~/physics`` (std_msgs/Float64MultiArray: time, s, and what ConveyorCell.show draws the frame again from)
- ``/tf`` and ``/tf_static`` (tf2_msgs/TFMessage: base_link, camera_optical_frame and tool0 in world), where
  tf2_msgs is installed: it comes with a ROS installation, not from PyPI

Subscribes to ``twist`` (geometry_msgs/TwistStamped of tool0, in base_link (also if the frame is left empty),
tool0, world or camera_optical_frame, as MoveIt Servo takes it; the arm stops 0.2 s after the last one), to
``gripper`` (std_msgs/Float64MultiArray: travel of each finger from closed, m) and to ``~/intervene``
(std_msgs/String: ``stop``, ``start``, ``reverse 0.1``, ``speed 0.2``, ``nudge 0.7``, ``turn 6``, ``pass 1``).
The service ``~/reset`` (std_srvs/Trigger) begins anew with the next seed: the clock goes back to one second.
"""

from __future__ import annotations

import math
import threading
import time

from geometry_msgs.msg import (
    Point,
    PointStamped,
    Pose,
    PoseStamped,
    Quaternion,
    Transform,
    TransformStamped,
    TwistStamped,
    Vector3,
)
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_msgs.msg import Float32, Float64MultiArray, Header, Int32, String
from std_srvs.srv import Trigger

from jepa_ros.errors import JepaError
from jepa_ros.images import encode_jpeg
from jepa_ros.nodes.diagnostics import Health, Rate
from jepa_ros.nodes.lifecycle import ManagedNode, run
from jepa_ros.nodes.messages import byte_array, image_message, to_ns, to_stamp
from jepa_ros.nodes.parameters import ParameterSpec
from jepa_ros.nodes.player import Pace
from jepa_ros.sim import interventions, seeds
from jepa_ros.sim.cell import COMMAND_TIMEOUT, FRAMES, ConveyorCell
from jepa_ros.sim.hall import SimError
from jepa_ros.sim.labels import Label, labels
from jepa_ros.sim.truth import Pose as TruePose

try:
    from tf2_msgs.msg import TFMessage
except ImportError:
    TFMessage = None

PARAMETERS = (
    ParameterSpec('seed', seeds.HELD_OUT.start, 'Decides everything that is drawn; reset takes the next one.',
                  '', 0, 2**31 - 1, live=False),
    ParameterSpec('camera', 'fixed', 'Beside the belt, or in the hand of the arm.', choices=('fixed', 'arm'),
                  live=False),
    ParameterSpec('width', 640, 'Of the picture.', 'px', 16, 1920, live=False),
    ParameterSpec('height', 480, 'Of the picture.', 'px', 16, 1440, live=False),
    ParameterSpec('rate', 30.0, 'Camera frames per simulated second.', 'Hz', 1.0, 120.0, live=False),
    ParameterSpec('fine', False, 'Shadows and antialiasing, about seven times slower to draw.', live=False),
    ParameterSpec('image_transport', 'raw', 'Type of the image topic: Image or CompressedImage.',
                  choices=('raw', 'compressed'), live=False),
    ParameterSpec('belt_speed', 0.0, 'Speed of the belt; 0: drawn from the seed, 0.05 to 0.30.',
                  'm/s', -0.5, 0.5, live=False),
    ParameterSpec('bins', 1, 'How many are on the belt at most.', '', 1, 3, live=False),
    ParameterSpec('interventions', True, 'The belt stops, starts, reverses and changes speed, and bins are '
                  'nudged and turned, as drawn from the seed.', live=False),
    ParameterSpec('passing', True, 'Hanging loads pass in front of the camera now and then.', live=False),
    ParameterSpec('real_time_factor', 1.0, 'Simulated seconds per second.', '', 0.01, 100.0, live=False),
    ParameterSpec('viewer', False, "Open MuJoCo's window; needs a screen.", live=False),
)

LATEST = QoSProfile(depth=1)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
CLOCK_EVERY = 2  # periods of the servo, about 60 Hz: each message costs every node of the graph a callback
FRAME_ID = 'camera_optical_frame'
#: Labels by their topic in a bag, and here; the others are for bags alone.
TOPICS = {
    '/joint_states': 'joint_states', '/arm/tool': '~/tool',
    **{f'/sim/{name}': f'~/{name}' for name in (
        'handle', 'handle_pose', 'handle_in_camera', 'camera_pose', 'visibility', 'bins', 'category',
        'colour', 'state', 'belt', 'contact', 'event', 'taken')},
}
TYPES = {'String': String, 'Int32': Int32, 'Float32': Float32, 'PointStamped': PointStamped,
         'PoseStamped': PoseStamped, 'JointState': JointState}


class ConveyorSimNode(ManagedNode):
    """Runs a :class:`~jepa_ros.sim.cell.ConveyorCell` at its pace, in a thread."""

    must_start = True

    def __init__(self, name: str = 'conveyor_sim', **kwargs):
        self._loop: _Loop | None = None
        self._cell: ConveyorCell | None = None
        self._out: dict = {}
        self._inputs: list = []
        self._reset = None
        self._refused: dict[str, int] = {}
        self._late = 0
        self.frames = Rate()
        super().__init__(name, PARAMETERS, **kwargs)

    def configure(self) -> None:
        self._seed = self.parameters['seed']
        self._cell = self._make_cell()
        # drawn once here, so that a machine that cannot draw says so now; a renderer belongs to one thread
        self._cell.render()
        self._cell.close()
        self._compressed = self.parameters['image_transport'] == 'compressed'
        kind = CompressedImage if self._compressed else Image
        self._out = {
            'image': self.create_publisher(kind, 'camera/image_raw', qos_profile_sensor_data),
            'info': self.create_publisher(CameraInfo, 'camera/camera_info', qos_profile_sensor_data),
            'clock': self.create_publisher(Clock, '/clock', 10),
            # what is only now and then true has a publisher from the beginning too
            '/sim/handle': self.create_publisher(PointStamped, '~/handle', 10),
            'physics': self.create_publisher(Float64MultiArray, '~/physics', 10),
        }
        if TFMessage is not None:
            self._out['tf'] = self.create_publisher(TFMessage, '/tf', 100)
            self._out['tf_static'] = self.create_publisher(TFMessage, '/tf_static', LATCHED)
        for label in labels(self._cell):
            if label.topic in TOPICS and label.topic not in self._out:
                self._out[label.topic] = self.create_publisher(TYPES[label.kind], TOPICS[label.topic], 10)
        self._reset = self.create_service(Trigger, '~/reset', self._on_reset)
        self._refused = {}

    def activate(self) -> None:
        self._loop = _Loop(self, self._cell)
        self._inputs = [
            self.create_subscription(TwistStamped, 'twist', self._on_twist, LATEST),
            self.create_subscription(Float64MultiArray, 'gripper', self._on_gripper, LATEST),
            self.create_subscription(String, '~/intervene', self._on_intervene, 10),
        ]
        self._loop.start()

    def deactivate(self) -> None:
        while self._inputs:
            self.destroy_subscription(self._inputs.pop())
        if self._loop is not None:
            self._loop.close()
            self._cell = self._loop.cell
            self._loop = None

    def cleanup(self) -> None:
        if self._reset is not None:
            self.destroy_service(self._reset)
            self._reset = None
        for publisher in self._out.values():
            self.destroy_publisher(publisher)
        self._out = {}
        self._cell = None

    def health(self) -> Health:
        health, loop = Health(), self._loop
        if loop is None:
            return health
        cell = loop.cell
        health.values.update({'seed': cell.seed, 'time': cell.now, 'frames_per_second': self.frames.hz(),
                              'draw_ms': loop.draw_ms, 'late': loop.pace.late, 'taken': cell.taken})
        late, self._late = loop.pace.late - self._late, loop.pace.late
        if late > 0:
            health.warn(f'the simulation could not keep up {late} times since the last report: lower '
                        'real_time_factor, rate or the size of the picture')
        for reason, count in self._refused.items():
            health.warn(f'{count} commands were refused: {reason}')
        return health

    def _make_cell(self) -> ConveyorCell:
        value = self.parameters
        return ConveyorCell(
            self._seed, (value['height'], value['width']), value['rate'], value['fine'],
            camera=value['camera'], speed=value['belt_speed'] or None, bins=value['bins'],
            interventions='seed' if value['interventions'] else (), passing=value['passing'])

    # From the executor's thread.

    def _on_twist(self, message: TwistStamped) -> None:
        stamp_ns = to_ns(message.header.stamp)
        age = self._loop.cell.now - stamp_ns / 1e9 if stamp_ns else 0.0  # a zero stamp says nothing
        frame = message.header.frame_id or 'base_link'
        parts = message.twist.linear, message.twist.angular
        twist = [getattr(part, axis) for part in parts for axis in 'xyz']
        if not all(map(math.isfinite, twist)):
            self._refuse('velocities were not finite')
        elif age > COMMAND_TIMEOUT:
            self._refuse(f'stamps were more than {COMMAND_TIMEOUT:g} s old')
        elif age < -COMMAND_TIMEOUT:
            self._refuse('stamps lay in the future of the simulated clock: its sender needs use_sim_time')
        elif frame not in FRAMES:
            self._refuse(f'the frame of a velocity is one of {", ".join(FRAMES)}')
        else:
            self._loop.offer(lambda cell: cell.command(twist, frame))

    def _on_gripper(self, message: Float64MultiArray) -> None:
        if len(message.data) not in (1, 2) or not all(map(math.isfinite, message.data)):
            self._refuse('the gripper takes one finite number, or one for each of its two fingers')
            return
        travel = math.fsum(message.data) / len(message.data)
        self._loop.offer(lambda cell: cell.grip(travel))

    def _on_intervene(self, message: String) -> None:
        kind, _, value = message.data.strip().partition(' ')
        try:
            number = float(value or 0)
        except ValueError:
            kind = ''
        if kind not in interventions.KINDS:
            self._refuse(f"an intervention is one of {', '.join(interventions.KINDS)}, and a number")
            return
        self._loop.offer(lambda cell: cell.intervene(kind, number))

    def _refuse(self, reason: str) -> None:
        # A reason does not say what came: a controller gone wild would fill log and memory.
        if reason not in self._refused:
            self.get_logger().warning(f'a command is refused: {reason}')
        self._refused[reason] = self._refused.get(reason, 0) + 1

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._seed += 1
        try:
            cell = self._make_cell()
        except JepaError as error:
            response.success, response.message = False, str(error)
            return response
        if self._loop is None:
            self._cell = cell
        else:
            self._loop.replace(cell)
        self.set_parameters([Parameter('seed', value=self._seed)])
        response.success, response.message = True, f'seed {self._seed}'
        self.get_logger().info(response.message)
        return response

    # From the loop's thread.

    def publish_clock(self, seconds: float) -> None:
        """Say what time it is."""
        self._out['clock'].publish(Clock(clock=to_stamp(round(seconds * 1e9))))

    def publish_base(self, cell: ConveyorCell) -> None:
        """Say where the base stands."""
        if 'tf_static' in self._out:
            self._out['tf_static'].publish(TFMessage(transforms=[transform('base_link', cell.base, cell)]))

    def publish_frame(self, cell: ConveyorCell) -> None:
        """Publish all of the current frame that somebody listens to."""
        stamp_ns = cell.stamp_ns
        stamp = to_stamp(stamp_ns)
        if self._out['image'].get_subscription_count():
            self._out['image'].publish(self._picture(cell, stamp_ns))
        if self._out['info'].get_subscription_count():
            self._out['info'].publish(_camera_info(cell, stamp))
        wanted = {topic for topic in TOPICS if self._out[topic].get_subscription_count()}
        for label in labels(cell) if wanted else ():
            if label.topic in wanted:
                self._out[label.topic].publish(_label_message(label, stamp))
        if self._out['physics'].get_subscription_count():
            self._out['physics'].publish(Float64MultiArray(data=[cell.time, *cell.snapshot().tolist()]))
        if 'tf' in self._out:
            moving = {FRAME_ID: cell.camera().pose, 'tool0': cell.tool}
            self._out['tf'].publish(TFMessage(transforms=[transform(*row, cell) for row in moving.items()]))
        self.frames.tick()

    def failed(self, error: Exception) -> None:
        """The loop has come to an end that nobody asked for."""
        self.fault = f'the simulation failed: {type(error).__name__}: {error}'
        self.get_logger().error(self.fault)
        self.finish(2)

    def refused(self, error: SimError) -> None:
        """The cell did not take a command."""
        self._refuse(str(error))

    def _picture(self, cell: ConveyorCell, stamp_ns: int) -> Image | CompressedImage:
        image = cell.render()
        if not self._compressed:
            return image_message(image, stamp_ns, FRAME_ID)
        header = Header(stamp=to_stamp(stamp_ns), frame_id=FRAME_ID)
        jpeg = byte_array(encode_jpeg(image))
        return CompressedImage(header=header, format='rgb8; jpeg compressed bgr8', data=jpeg)


class _Loop(threading.Thread):
    """
    Advances a cell at its pace and hands out its frames.

    :param node: asked for the parameters, and told of clock and frames.
    :param cell: its renderer must not be open: it is opened, and closed, in this thread.
    """

    def __init__(self, node: ConveyorSimNode, cell: ConveyorCell):
        super().__init__(name='simulation', daemon=True)
        self._node, self.cell = node, cell
        self.pace = Pace(node.parameters['real_time_factor'])
        self.draw_ms = 0.0
        self._closing, self._replaced = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._acts: list = []
        self._next: ConveyorCell | None = None
        self._window = cell.window() if node.parameters['viewer'] else None

    def offer(self, act) -> None:
        """Have ``act(cell)`` called before the cell goes on."""
        with self._lock:
            self._acts.append(act)

    def replace(self, cell: ConveyorCell) -> None:
        """Go on with another cell; returns once that is done."""
        self._replaced.clear()
        with self._lock:
            self._next = cell
            self._acts.clear()
        self._replaced.wait(5.0)

    def close(self) -> None:
        """End, and wait for it."""
        self._closing.set()
        if self.is_alive() and self is not threading.current_thread():
            self.join()

    def run(self) -> None:
        try:
            self._begin()
            while not self._closing.is_set():
                self._advance()
        except Exception as error:  # a thread would die without a word
            self._node.failed(error)
        finally:
            self._replaced.set()
            self.cell.close()
            if self._window is not None:
                self._window.close()

    def _advance(self) -> None:
        with self._lock:
            acts, self._acts = self._acts, []
            following, self._next = self._next, None
        if following is not None:
            self._change_to(following)
        for act in acts:
            try:
                act(self.cell)
            except SimError as error:
                self._node.refused(error)
        before = self.cell.now
        new = self.cell.tick()
        now = time.monotonic()
        self._closing.wait(max(self.pace.due(self.cell.now - before, now) - now, 0.0))
        if new:
            self._publish()
        elif self.cell.ticks % CLOCK_EVERY == 0:
            self._node.publish_clock(self.cell.now)

    def _publish(self) -> None:
        self._node.publish_clock(self.cell.time)
        began = time.monotonic()
        self._node.publish_frame(self.cell)
        self.draw_ms = (time.monotonic() - began) * 1e3
        if self._window is not None:
            self._window.sync()

    def _change_to(self, cell: ConveyorCell) -> None:
        self.cell.close()
        if self._window is not None:
            self._window.close()
            self._window = cell.window()
        self.cell = cell
        self._begin()
        self._replaced.set()

    def _begin(self) -> None:
        self.cell.render()  # opens the renderer, which takes longer than a frame may
        self._node.publish_base(self.cell)
        self.pace = Pace(self._node.parameters['real_time_factor'])
        self._publish()


def _camera_info(cell: ConveyorCell, stamp) -> CameraInfo:
    camera = cell.camera()
    message = CameraInfo(height=camera.height, width=camera.width, distortion_model=camera.distortion_model)
    message.header = Header(stamp=stamp, frame_id=camera.frame_id)
    message.d, message.k, message.r, message.p = (
        part.ravel().tolist() for part in (camera.d, camera.k, camera.r, camera.p))
    return message


def transform(name: str, pose: TruePose, cell: ConveyorCell) -> TransformStamped:
    """Return where a frame is in the world at the cell's current frame."""
    (x, y, z), (qx, qy, qz, qw) = pose.position.tolist(), pose.quaternion.tolist()
    return TransformStamped(
        header=Header(stamp=to_stamp(cell.stamp_ns), frame_id='world'), child_frame_id=name,
        transform=Transform(translation=Vector3(x=x, y=y, z=z),
                            rotation=Quaternion(x=qx, y=qy, z=qz, w=qw)))


def _label_message(label: Label, stamp):
    kind, value = TYPES[label.kind], label.value
    if label.kind in ('String', 'Int32', 'Float32'):
        return kind(data=value)
    header = Header(stamp=stamp, frame_id=label.frame_id)
    if label.kind == 'PointStamped':
        return kind(header=header, point=Point(x=value[0], y=value[1], z=value[2]))
    if label.kind == 'JointState':
        names, positions, velocities = value
        numbers = {'position': positions.tolist(), 'velocity': velocities.tolist()}
        return kind(header=header, name=list(names), **numbers)
    (x, y, z), (qx, qy, qz, qw) = value.position.tolist(), value.quaternion.tolist()
    pose = Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=qx, y=qy, z=qz, w=qw))
    return kind(header=header, pose=pose)


def main(args: list[str] | None = None) -> int:
    """Run the node. :return: exit code."""
    return run(ConveyorSimNode, args)


if __name__ == '__main__':
    raise SystemExit(main())
