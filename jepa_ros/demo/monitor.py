# SPDX-License-Identifier: Apache-2.0
"""Listens to everything that is published, writes it into a bag as it came, and keeps the figures."""

import importlib
import math
import struct
import threading
import time
from collections.abc import Callable

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseWithCovarianceStamped, TwistStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rclpy.signals import SignalHandlerOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import PointCloud2
from std_srvs.srv import SetBool

from jepa_ros.clouds import CloudError
from jepa_ros.demo.figures import PERCEPTION, Figures
from jepa_ros.demo.recorder import BagRecorder
from jepa_ros.demo.topics import Topics
from jepa_ros.nodes.messages import read_futures, read_latents
from jepa_ros.nodes.transport import heard_at_once, prepare_process

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

Handler = Callable[[bytes, int], None]
# Each of the default ones is one more thing to wait for, which a process that hears some thirty topics feels.
NO_EVENTS = SubscriptionEventCallbacks(use_default_callbacks=False)
INFORMED = hasattr(Subscription, 'CallbackType')  # of when a message came; not on Humble
LOOK = 0.05  # s between two looks at the ROS graph, which tells nobody of its changes


class Monitor:
    """
    A node of its own that subscribes to every topic as soon as it appears, except to the pictures that are
    drawn only for those who listen (``view``).

    :param recorder: takes every message, as bytes.
    :param figures: takes what is in some of them; to be read within ``lock``.
    :param topics: names of those that are looked into.
    :param camera_type: type of the camera's messages, such as 'sensor_msgs/msg/Image': subscribed to at once,
        so that the first frame is not missed.
    :param handlers: what else is looked into: called within ``lock`` with the bytes of a message of a topic, and
        when the middleware got it (ns).
    """

    def __init__(self, recorder: BagRecorder, figures: Figures, topics: Topics, camera_type: str,
                 handlers: dict[str, Handler] | None = None):
        self._recorder, self._figures, self._topics = recorder, figures, topics
        self._handlers: dict[str, Handler] = {
            topics.camera: self._on_camera, topics.latents: self._on_latents,
            topics.futures: self._on_futures, topics.twist: self._on_twist,
            topics.target: self._on_target, '/diagnostics': self._on_diagnostics, **(handlers or {})}
        self.lock = threading.Condition()
        self.reports = 0  # of perception, so that a new one can be awaited
        self.fault: Exception | None = None
        self.left_out: set[str] = set()
        self._clients: dict = {}
        prepare_process()
        # Ctrl-C is the demo's to handle: it still wants to hear the last messages.
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        with heard_at_once():
            self._node = rclpy.create_node('jepa_demo', enable_rosout=False, start_parameter_services=False)
        self._subscribe(topics.camera, camera_type)
        self._node.create_timer(LOOK, self._look)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, name='monitor', daemon=True)
        self._stopping = False
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._stopping = True
        self._executor.wake()
        self._thread.join()
        self._node.destroy_node()
        rclpy.try_shutdown()

    def let_go(self) -> None:
        """Give the lock up if this thread still has it: Ctrl-C may come between its taking and the block that gives it back."""
        try:
            while True:
                self.lock.release()
        except RuntimeError:  # not this thread's
            pass

    def wait_for(self, holds: Callable[[], bool], timeout: float) -> bool:
        """
        Wait until something that messages change holds.

        :param holds: asked within the lock after every message.
        :return: whether it holds.
        """
        with self.lock:
            return self.lock.wait_for(holds, timeout)

    def camera_published(self) -> bool:
        """Whether somebody publishes the camera's topic."""
        return self._node.count_publishers(self._topics.camera) > 0

    def camera_heard(self, node: str) -> bool:
        """Whether a node (its full name) listens to the camera's topic."""
        endpoints = self._node.get_subscriptions_info_by_topic(self._topics.camera)
        return any(_full_name(endpoint) == node for endpoint in endpoints)

    def change_state(self, node: str, transition: int) -> bool:
        """
        Ask a lifecycle node (its full name) for a transition. No answer is awaited: its effect matters.

        :return: whether it could be asked.
        """
        request = ChangeState.Request(transition=Transition(id=transition))
        return self._call(ChangeState, f'{node}/change_state', request)

    def enable(self, controller: str) -> bool:
        """Ask the controller (its full name) to follow. :return: whether it could be asked."""
        return self._call(SetBool, f'{controller}/enable', SetBool.Request(data=True))

    def _call(self, kind, name: str, request) -> bool:
        client = self._clients.get(name) or self._node.create_client(kind, name)
        self._clients[name] = client
        if not client.service_is_ready():
            return False
        client.call_async(request)
        return True

    def _spin(self) -> None:
        try:
            while not self._stopping:
                self._executor.spin_once(timeout_sec=1.0)
        except Exception as error:  # a full disk, say: the demo must hear of it
            self.fault = error

    def _look(self) -> None:
        for topic, types in self._node.get_topic_names_and_types():
            known = topic in self._recorder.counts or topic in self.left_out
            if not known and topic != '/parameter_events' and not topic.endswith('/view'):
                publishers = self._node.get_publishers_info_by_topic(topic)
                if any(_full_name(publisher) != '/jepa_demo' for publisher in publishers):
                    self._subscribe(topic, types[0])
        with self.lock:
            self.lock.notify_all()

    def _subscribe(self, topic: str, msgtype: str) -> None:
        package, _, name = msgtype.split('/')
        latched = any(info.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
                      for info in self._node.get_publishers_info_by_topic(topic))
        try:
            kind = getattr(importlib.import_module(f'{package}.msg'), name)
        except (ImportError, AttributeError):
            kind = None
        if kind is None or not self._recorder.add(topic, msgtype, latched):
            self.left_out.add(topic)
            return
        # Best effort matches every publisher and holds none up; but what was latched comes only reliably.
        qos = QoSProfile(depth=200, reliability=ReliabilityPolicy.BEST_EFFORT)
        if latched:
            qos.reliability, qos.durability = ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL
        handle = self._handlers.get(topic, lambda cdr, arrived_ns: None)

        def arrived(cdr: bytes, info: dict) -> None:
            # when the middleware got it: this thread may come to it later. Not all middlewares say.
            arrived_ns = info.get('received_timestamp') or time.time_ns()
            self._recorder.write(topic, arrived_ns, cdr)
            with self.lock:
                handle(cdr, arrived_ns)
                self.lock.notify_all()

        heard = arrived if INFORMED else lambda cdr: arrived(cdr, {})
        self._node.create_subscription(kind, topic, heard, qos, raw=True, event_callbacks=NO_EVENTS)

    def _on_camera(self, cdr: bytes, arrived_ns: int) -> None:
        self._figures.camera(header_stamp(cdr), arrived_ns)

    def _on_latents(self, cdr: bytes, arrived_ns: int) -> None:
        self._cloud(cdr, lambda message: self._figures.latents(read_latents(message)))

    def _on_futures(self, cdr: bytes, arrived_ns: int) -> None:
        self._cloud(cdr, lambda message: self._figures.futures(read_futures(message), arrived_ns))

    def _cloud(self, cdr: bytes, take: Callable[[PointCloud2], None]) -> None:
        try:
            take(deserialize_message(cdr, PointCloud2))
        except CloudError:
            self._figures.unreadable += 1

    def _on_twist(self, cdr: bytes, arrived_ns: int) -> None:
        linear = deserialize_message(cdr, TwistStamped).twist.linear
        self._figures.commanded(math.hypot(linear.x, linear.y, linear.z))

    def _on_target(self, cdr: bytes, arrived_ns: int) -> None:
        position = deserialize_message(cdr, PoseWithCovarianceStamped).pose.pose.position
        self._figures.followed(position.x, position.y)

    def _on_diagnostics(self, cdr: bytes, arrived_ns: int) -> None:
        for status in deserialize_message(cdr, DiagnosticArray).status:
            name = '/' + status.name
            self.reports += name == PERCEPTION
            values = {value.key: value.value for value in status.values}
            self._figures.status(name, status.level[0], status.message, values)


def header_stamp(cdr: bytes) -> int:
    """Return the stamp (ns) of a serialised message that begins with a std_msgs/Header."""
    seconds, nanoseconds = struct.unpack_from('<iI' if cdr[1] else '>iI', cdr, 4)
    return seconds * 10**9 + nanoseconds


def _full_name(endpoint) -> str:
    return f'{endpoint.node_namespace.rstrip("/")}/{endpoint.node_name}'
