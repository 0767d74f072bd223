# SPDX-License-Identifier: Apache-2.0
"""The base of every node: it brings itself up, says what fails, and ends cleanly on a signal."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import ChangeState
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions

from jepa_ros.engine.backends import plans
from jepa_ros.errors import JepaError, one_line
from jepa_ros.nodes import transport
from jepa_ros.nodes.diagnostics import ERROR, Health
from jepa_ros.nodes.logs import forward_logging
from jepa_ros.nodes.parameters import ParameterSpec, ParameterTable

COMMON = (
    ParameterSpec('autostart', True, 'Configure and activate by itself; false: a lifecycle manager does.',
                  read_only=True),
    ParameterSpec('diagnostics_period', 1.0, 'Time between two reports on /diagnostics.', 's', 0.1, 60.0,
                  live=False),
)


class ManagedNode(LifecycleNode):
    """
    A lifecycle node whose transitions are the methods configure, activate, deactivate and cleanup.

    A subclass overrides those it needs. They raise to refuse: rclpy would swallow the exception, so it is
    caught here, logged with its cause, reported on /diagnostics and returned as ERROR. Everything is then
    released and the node is unconfigured again, from where configure can be tried anew. deactivate and
    cleanup must work from any state.

    :param name: default name of the node.
    :param specs: its parameters; those of COMMON are added.
    """

    #: True for a node that is of no use without its input: if it cannot bring itself up, it ends with exit
    #: code 2.
    must_start = False

    def __init__(self, name: str, specs: Iterable[ParameterSpec] = (), **kwargs):
        super().__init__(name, **kwargs)
        self.fault: str | None = None
        self.exit_code: int | None = None
        self._said: set[str] = set()
        self.wake: Callable[[], None] = lambda: None
        self.steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.parameters = ParameterTable(self, (*specs, *COMMON), self.check_parameters)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._reporter = None
        self._start_reporter()
        self._guard_change_state()

    # What a subclass overrides.

    def configure(self) -> None:
        """Load what the parameters name; make publishers and subscriptions."""

    def activate(self) -> None:
        """Begin to work."""

    def deactivate(self) -> None:
        """Stop working."""

    def cleanup(self) -> None:
        """Release all that configure made."""

    def check_parameters(self, new: dict) -> None:
        """Refuse a change of parameters by raising a JepaError; ``new`` holds the changed values by name."""

    def health(self) -> Health:
        """:return: figures and problems for /diagnostics; asked in every state by the executor's thread."""
        return Health()

    # What it may use.

    @property
    def state(self) -> str:
        """Name of the lifecycle state: unconfigured, inactive, active, finalized or a transition."""
        return self._state_machine.current_state[1]

    def now_ns(self) -> int:
        """:return: now on the ROS clock in ns (0 on simulated time before the first /clock)."""
        return self.get_clock().now().nanoseconds

    def finish(self, exit_code: int = 0) -> None:
        """End the process (through ``run``) with this exit code; may be called from any thread."""
        self.exit_code = exit_code
        self.wake()

    def bring_up(self) -> bool:
        """Configure and activate. :return: True if the node is active."""
        done = TransitionCallbackReturn.SUCCESS
        return self.trigger_configure() == done and self.trigger_activate() == done

    def report(self) -> None:
        """Publish the state of health now; else it is done every ``diagnostics_period``."""
        health = self.health()
        self._log_what_is_new(health)
        if self.fault:
            health.error(self.fault)
        health.values = {'state': self.state, **health.values}
        self._diagnostics.publish(health.message(
            self.get_clock().now().to_msg(), self.get_fully_qualified_name().lstrip('/')))

    # rclpy's side.

    def on_configure(self, state) -> TransitionCallbackReturn:
        self.fault = None
        self._start_reporter()
        return self._transition('configure', self.configure)

    def on_activate(self, state) -> TransitionCallbackReturn:
        return self._transition('activate', self.activate)

    def on_deactivate(self, state) -> TransitionCallbackReturn:
        return self._transition('deactivate', self.deactivate)

    def on_cleanup(self, state) -> TransitionCallbackReturn:
        return self._transition('clean up', self.cleanup)

    def on_shutdown(self, state) -> TransitionCallbackReturn:
        return self._transition('shut down', self.stop)

    def on_error(self, state) -> TransitionCallbackReturn:
        return self._transition('release after an error', self.stop)

    def stop(self) -> None:
        """Deactivate and clean up, from whatever state; what deactivation publishes still arrives."""
        try:
            self.deactivate()
            for publisher in self.publishers:
                publisher.wait_for_all_acked(Duration(seconds=0.2))
        finally:
            self.cleanup()

    def _transition(self, verb: str, step: Callable[[], None]) -> TransitionCallbackReturn:
        try:
            step()
        except JepaError as error:
            self.fault = f'could not {verb}: {error}'
        except Exception as error:  # a fault of ours or of a library: the type helps whoever looks for it
            self.fault = f'could not {verb}: {type(error).__name__}: {one_line(error)}'
        else:
            return TransitionCallbackReturn.SUCCESS
        self.get_logger().error(self.fault)
        self.report()
        return TransitionCallbackReturn.ERROR

    def _log_what_is_new(self, health: Health) -> None:
        # A problem is logged when it comes up, not with every report: figures in its sentence do not make it
        # another.
        said = {re.sub(r'\d[\d.e+-]*', '#', problem[1]): problem for problem in health.problems}
        for key in said.keys() - self._said:
            level, sentence = said[key]
            log = self.get_logger()
            (log.error if level == ERROR else log.warning)(sentence)
        self._said = set(said)

    def _start_reporter(self) -> None:
        # On the steady clock: a report must also come when simulated time stands still.
        if self._reporter is not None:
            self.destroy_timer(self._reporter)
        period = self.parameters['diagnostics_period']
        self._reporter = self.create_timer(period, self.report, clock=self.steady)

    def _guard_change_state(self) -> None:
        # On Jazzy and before, a transition that the state does not allow raises out of the service callback
        # and would end the process; from Kilted on it is answered with success = false, as here.
        for service in self.services:
            if service.srv_type is ChangeState:
                change = service.callback

                def guarded(request, response):
                    try:
                        return change(request, response)
                    except RuntimeError as error:
                        self.get_logger().error(f'no such transition from state {self.state}: {error}')
                        response.success = False
                        return response

                service.callback = guarded


def run(make_node: Callable[[], ManagedNode], args: list[str] | None = None) -> int:
    """
    Run one node until SIGINT, SIGTERM or its own ``finish``; this is the body of every node's ``main``.

    :param make_node: makes the node, for example its class.
    :param args: command line; None for that of the process.
    :return: exit code: 0, what ``finish`` was given, or 2 if a parameter given at start-up is not allowed.
    """
    transport.prepare_process()
    # rclpy's own handlers would shut the context down before a controller could send its zeros.
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    executor = SingleThreadedExecutor()
    stopped = threading.Event()
    plans.ending.clear()

    def wake() -> None:
        executor.create_task(lambda: None)  # executor.wake() would not make spin_once return

    def stop() -> None:
        stopped.set()
        plans.ending.set()  # configure may be building for minutes
        wake()

    node = None
    try:
        with _on_signal(stop):
            try:
                with transport.heard_at_once():
                    node = make_node()
                forward_logging(node.get_logger())
                node.wake = wake
                executor.add_node(node)
                if node.parameters['autostart'] and not node.bring_up() and node.must_start:
                    return 2
                while not stopped.is_set() and node.exit_code is None:
                    executor.spin_once()
                return node.exit_code or 0
            except JepaError as error:
                print(f'{os.path.basename(sys.argv[0])}: error: {error}', file=sys.stderr)
                return 2
            finally:
                if node is not None:
                    node.stop()
                    node.wake = lambda: None
                    node.destroy_node()
    finally:
        rclpy.try_shutdown()


@contextmanager
def _on_signal(stop: Callable[[], None]) -> Iterator[None]:
    """
    Call ``stop`` once SIGINT or SIGTERM comes, also while the main thread waits inside of rcl, where no
    Python handler can run: the C handler writes the signal's number to a socket that a thread reads.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        signal.signal(number, lambda *_: None)
    wakeup = signal.set_wakeup_fd(writer.fileno())

    def watch() -> None:
        while number := reader.recv(1):
            if number[0] in numbers:
                stop()

    watcher = threading.Thread(target=watch, name='signals', daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number in numbers:  # the process ends: a second Ctrl-C must not turn that into a fault
            signal.signal(number, signal.SIG_IGN)
        writer.close()
        watcher.join()
        reader.close()
