# SPDX-License-Identifier: Apache-2.0
"""The other side of a node under test: a plain rclpy node whose received messages can be awaited."""

import threading
import time

import rclpy
from children import PATIENCE
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions


class Inbox:
    """The messages of one subscription, each with the steady time (s) of its arrival."""

    def __init__(self, changed):
        self._changed = changed
        self.messages, self.times = [], []

    def take(self, message):
        with self._changed:
            self.messages.append(message)
            self.times.append(time.monotonic())
            self._changed.notify_all()

    def clear(self):
        """Forget what has come so far."""
        with self._changed:
            self.messages.clear()
            self.times.clear()

    def wait(self, wanted=lambda message: True, timeout=PATIENCE, count=1):
        """Return the newest of ``count`` messages that are wanted, those that have come already included."""
        def found():
            matching = [message for message in self.messages if wanted(message)]
            return matching[count - 1] if len(matching) >= count else None

        with self._changed:
            self._changed.wait_for(lambda: found() is not None, timeout)
            message = found()
            assert message is not None, f'{len(self.messages)} messages, none as wanted: {self.messages[-3:]}'
            return message

    def wait_last(self, wanted, timeout=PATIENCE):
        """Wait until the newest message is wanted; later ones are not waited for."""
        with self._changed:
            done = self._changed.wait_for(lambda: self.messages and wanted(self.messages[-1]), timeout)
            assert done, f'the last of {len(self.messages)} messages is not as wanted: {self.messages[-3:]}'


class Peer:
    """
    A node with a context and a thread of its own, for use in a ``with`` statement.

    :param name: of the node.
    """

    def __init__(self, name='peer'):
        self._name = name
        self._changed = threading.Condition()

    def __enter__(self):
        self._context = rclpy.Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = rclpy.create_node(self._name, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._closing = False
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._closing = True
        self._executor.create_task(lambda: None)  # wake() alone would not make spin_once return
        self._thread.join()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def _spin(self):
        while not self._closing:
            self._executor.spin_once()

    def listen(self, kind, topic, qos=qos_profile_sensor_data) -> Inbox:
        """Subscribe to a topic."""
        inbox = Inbox(self._changed)
        self.node.create_subscription(kind, topic, inbox.take, qos)
        self._executor.wake()
        return inbox

    def publisher(self, kind, topic, *, readers=1, timeout=PATIENCE):
        """Return a publisher that has found its readers."""
        publisher = self.node.create_publisher(kind, topic, QoSProfile(depth=10))
        deadline = time.monotonic() + timeout
        while publisher.get_subscription_count() < readers:  # Humble's rclpy has no event for this
            assert time.monotonic() < deadline, f'nobody reads {topic}'
            time.sleep(0.01)
        return publisher

    def call(self, kind, name, request, timeout=PATIENCE):
        """Call a service and return its response."""
        client = self.node.create_client(kind, name)
        assert client.wait_for_service(timeout), f'no service {name}'
        done = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: done.set())
        self._executor.wake()
        assert done.wait(timeout), f'no answer from {name}'
        self.node.destroy_client(client)
        return future.result()
