# SPDX-License-Identifier: Apache-2.0
"""A node under test with a tester beside it in one process: real DDS, one executor that the test turns."""

import gc
import time

import numpy as np
import rclpy
from children import PATIENCE
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from jepa_ros.images import encode_jpeg
from jepa_ros.nodes.messages import image_message, to_stamp
from jepa_ros.nodes.perception_node import PerceptionNode

PERIOD = 50_000_000  # ns between the frames that a test sends, as the tiny bundles ask for


class Stage:
    """
    :param make_node: makes the node under test from keyword arguments.
    :param parameters: its parameters by name.
    """

    def __init__(self, make_node, **parameters):
        rclpy.init()
        self.tester = rclpy.create_node('tester')
        self.node = make_node(parameter_overrides=[Parameter(k, value=v) for k, v in parameters.items()])
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.tester)
        self.executor.add_node(self.node)
        self.received: dict[str, list] = {}
        self._cameras = {}
        self._clients = {}
        self.diagnostics: list[DiagnosticArray] = []
        self.tester.create_subscription(DiagnosticArray, '/diagnostics', self._reported, 10)

    def close(self):
        for topic in list(self._cameras):
            self.unplug(topic)
        self.node.stop()
        self.node.destroy_node()
        self.tester.destroy_node()
        self.executor.shutdown()
        rclpy.try_shutdown()
        # rclpy keeps a DDS participant, with its ten threads, until nothing refers to its context any more.
        vars(self).clear()
        gc.collect()

    def until(self, predicate, timeout: float = PATIENCE):
        """Turn the executor until ``predicate`` holds; return what it gave."""
        deadline = time.monotonic() + timeout
        while not (value := predicate()):
            assert time.monotonic() < deadline, f'waited {timeout} s; last report: {self.messages()[-1:]}'
            self.executor.spin_once(timeout_sec=0.02)
        return value

    def listen(self, kind, topic, qos=10) -> list:
        """Subscribe; return the list that the messages go into."""
        messages = self.received[topic] = []
        self.tester.create_subscription(kind, topic, messages.append, qos)
        return messages

    def call(self, kind, service, request):
        """Call a service and return its response."""
        if service not in self._clients:
            self._clients[service] = self.tester.create_client(kind, service)
        self.until(self._clients[service].service_is_ready)
        future = self._clients[service].call_async(request)
        self.until(future.done)
        return future.result()

    def publisher(self, kind=Image, topic='/camera/image_raw', wait=True):
        """The publisher of a camera with a DDS participant of its own; subscribed to on return."""
        if topic not in self._cameras:
            context = rclpy.Context()
            rclpy.init(context=context)
            node = rclpy.create_node('camera', context=context)
            self._cameras[topic] = node, node.create_publisher(kind, topic, qos_profile_sensor_data)
        if wait:
            self.until(self._cameras[topic][1].get_subscription_count)
        return self._cameras[topic][1]

    def unplug(self, topic='/camera/image_raw'):
        """Take a camera away."""
        node, _ = self._cameras.pop(topic)
        node.destroy_node()
        rclpy.try_shutdown(context=node.context)

    # What the node has said

    def _reported(self, array):
        if array.status[0].name == self.node.get_name():  # the topic is everybody's
            self.diagnostics.append(array)

    def messages(self) -> list[str]:
        return [array.status[0].message for array in self.diagnostics]

    def until_said(self, *parts, timeout: float = PATIENCE) -> str:
        """Wait for a report from now on whose message contains all parts; return the message."""
        self.diagnostics.clear()
        return self.until(
            lambda: next((m for m in self.messages() if all(part in m for part in parts)), None), timeout)

    def values(self) -> dict[str, str]:
        """The figures of the next report."""
        self.diagnostics.clear()
        self.until(lambda: self.diagnostics)
        return {pair.key: pair.value for pair in self.diagnostics[0].status[0].values}


class PerceptionStage(Stage):
    """A stage with a perception node; the parameters are its own."""

    def __init__(self, **parameters):
        super().__init__(PerceptionNode, **parameters)

    def play(self, indices, message=None, kind=Image, origin=None, **size) -> list[int]:
        """
        Send frames one period apart, each after the node has dealt with the one before; return their stamps.

        :param indices: of the frames; frame 0 has the stamp ``origin`` (ns; None: two seconds ago).
        :param message: makes a message from index and stamp; None: ``raw``.
        """
        publisher = self.publisher(kind)
        origin = self.node.now_ns() - 2_000_000_000 if origin is None else origin
        stamps = [origin + index * PERIOD for index in indices]
        for index, stamp in zip(indices, stamps):
            before = self.offered()
            publisher.publish((message or raw)(index, stamp, **size))
            self.until(lambda: self.offered() > before)
            self.until(lambda: not self.node._window.ready())
        return stamps

    def offered(self) -> int:
        """How many frames have come to the window."""
        return sum(self.node._window.counts.values())


def picture(index: int, width: int = 160, height: int = 120) -> np.ndarray:
    """A bright square that moves over a gradient; RGB uint8 [height, width, 3]."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(0, 120, width)
    image[..., 2] = np.linspace(0, 120, height)[:, None]
    left = (4 * index) % (width - 30)
    image[height // 3:height // 3 + 30, left:left + 30] = (250, 240, 60)
    return image


def raw(index: int, stamp_ns: int, width: int = 160, height: int = 120) -> Image:
    return image_message(picture(index, width, height), stamp_ns, 'camera_optical_frame')


def compressed(index: int, stamp_ns: int, **size) -> CompressedImage:
    header = Header(stamp=to_stamp(stamp_ns), frame_id='camera_optical_frame')
    return CompressedImage(header=header, format='jpeg', data=encode_jpeg(picture(index, **size)))
