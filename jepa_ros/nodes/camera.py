# SPDX-License-Identifier: Apache-2.0
"""The subscription to a camera topic: finds its type, watches what arrives, says what is wrong with it."""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from jepa_ros.errors import JepaError
from jepa_ros.nodes import transport
from jepa_ros.nodes.diagnostics import Health, Rate
from jepa_ros.nodes.messages import to_ns

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError

TYPES = {'raw': Image, 'compressed': CompressedImage}
TYPE_NAMES = {'sensor_msgs/msg/Image': 'raw', 'sensor_msgs/msg/CompressedImage': 'compressed'}

#: Best effort, so that a slow reader never holds a camera up; what is too much is dropped later, where it is
#: counted.
QOS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)

SETTLING = 1.0  # s without a publisher after which something is wrong
SILENCE = 2.0  # s without an image after which something is wrong
# s without an image after which the subscription is made anew: seldom, Fast DDS does not match a reader with a writer that
# comes at the same moment, and never does later
RENEWAL = 6.0
LOSS = 0.02  # share of lost frames above which something is wrong


class CameraError(JepaError):
    """There is no such camera topic."""


class Camera:
    """
    Subscribes to a topic, whenever it appears and whichever of the two types it has.

    :param node: the lifecycle node to subscribe with.
    :param topic: name of the topic; remapping applies.
    :param image_transport: ``raw`` (sensor_msgs/Image), ``compressed`` (sensor_msgs/CompressedImage), or
        ``auto``: the ROS graph is asked for the topic's type until there is a publisher.
    :param on_image: called with each message from the executor's thread.
    :raises CameraError: the name cannot be a topic's.
    """

    def __init__(self, node, topic: str, image_transport: str, on_image: Callable):
        self._node = node
        self._on_image = on_image
        self._asked = image_transport
        try:
            self.topic = node.resolve_topic_name(topic)
        except Exception as error:  # an RCLError or a kind of validation error, as the distribution has it
            raise CameraError(f"expected the name of a topic in image_topic, found '{topic}'") from error
        self.transport: str | None = None
        self.rate = Rate()
        self.loss = transport.FrameLoss()
        self._subscription = None
        self._heard = self._subscribed = time.monotonic()
        self._arrivals, self._lost = 0, 0
        self._checked = (0, 0)
        # The graph tells nobody of its changes in rclpy, so it is asked; on the steady clock, for simulated
        # time may stand still.
        self._search = None
        if image_transport == 'auto':
            self._search = node.create_timer(0.05, self._look, clock=node.steady)
        else:
            self._subscribe(image_transport)

    def close(self) -> None:
        """Stop listening."""
        self._stop_searching()
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def check(self, health: Health) -> None:
        """Say what is wrong with what arrives, and add the figures."""
        self._look()
        lost = self._lost_share()
        health.values.update({'image_topic': self.topic, 'image_transport': self.transport or 'unknown',
                              'frames_in_hz': self.rate.hz(), 'lost_in_transport': lost})
        types = self._published_types()
        kinds = {TYPE_NAMES[name] for name in types if name in TYPE_NAMES}
        silence = time.monotonic() - self._heard
        if not types:
            if silence > SETTLING:
                health.warn(f"no publisher on '{self.topic}' ({self._images_elsewhere()}): start the camera "
                            'or set image_topic')
        elif not kinds:
            health.warn(f"expected sensor_msgs/msg/Image or CompressedImage on '{self.topic}', found "
                        f"{', '.join(sorted(types))}: set image_topic")
        elif self.transport not in kinds:
            health.warn(f"'{self.topic}' has type {', '.join(sorted(types))} but image_transport is "
                        f"'{self._asked}': set it to 'auto'")
        elif lost > LOSS:
            health.warn(f"{lost:.0%} of the images on '{self.topic}' are lost on the way: "
                        f'{transport.profile_hint()}')
        elif silence > SILENCE:
            health.warn(f"no image on '{self.topic}' for {silence:.0f} s although it has a publisher: "
                        'check the camera')
            if min(silence, time.monotonic() - self._subscribed) > RENEWAL:
                self._subscribe(self.transport)

    def _images_elsewhere(self) -> str:
        own = {publisher.topic_name for publisher in self._node.publishers}
        found = [f"'{name}'" for name, types in self._node.get_topic_names_and_types()
                 if set(types) & set(TYPE_NAMES) and name not in own and self._node.count_publishers(name)]
        return 'images are on ' + ', '.join(sorted(found)) if found else 'no topic has images'

    def _look(self) -> None:
        """Subscribe as soon as the type is known, and again if it changes."""
        if self._asked != 'auto':
            return
        known = {TYPE_NAMES[kind] for kind in self._published_types() if kind in TYPE_NAMES}
        if known and self.transport not in known:
            self._stop_searching()
            self._subscribe(min(known))

    def _stop_searching(self) -> None:
        if self._search is not None:
            self._node.destroy_timer(self._search)
            self._search = None

    def _subscribe(self, kind: str) -> None:
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        self.transport, self._subscribed = kind, time.monotonic()
        try:
            self._subscription = self._node.create_subscription(
                TYPES[kind], self.topic, self._arrived, QOS,
                event_callbacks=SubscriptionEventCallbacks(message_lost=self._on_lost))
        except UnsupportedEventTypeError:  # not every middleware tells
            self._subscription = self._node.create_subscription(TYPES[kind], self.topic, self._arrived, QOS)

    def _arrived(self, message: Image | CompressedImage) -> None:
        self._heard = time.monotonic()
        self._arrivals += 1
        self.rate.tick()
        self.loss.arrived(to_ns(message.header.stamp))
        self._on_image(message)

    def _on_lost(self, event) -> None:
        self._lost += event.total_count_change

    def _lost_share(self) -> float:
        """
        :return: share of the images that were lost, 0..1: since the last check by the middleware's count,
            which is exact where almost nothing arrives, and lately by the stamps, which also see what this
            process was too busy to fetch.
        """
        before, self._checked = self._checked, (self._arrivals, self._lost)
        arrived, lost = self._arrivals - before[0], self._lost - before[1]
        return max(self.loss.share(), lost / max(1, arrived + lost))

    def _published_types(self) -> set[str]:
        return {info.topic_type for info in self._node.get_publishers_info_by_topic(self.topic)}
