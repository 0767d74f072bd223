# SPDX-License-Identifier: Apache-2.0
"""
What perception adds to a frame outside of the engine: receive, decode, resize, codec, publish.

The real perception_node runs in a process of its own, a camera in another; somebody listens to its latents
and futures, as a controller would. Processor time is that of the whole process without the engine's, per
frame that is received. Beside it a peer, a bare rclpy subscriber that only receives, sees the same camera:
the two take turns.
"""

import statistics
import threading
import time

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import PointCloud2

from jepa_ros.bench.graph import BenchError, await_line, module, parameters, report
from jepa_ros.bench.meter import MEASURING
from jepa_ros.demo.processes import Child, ProcessGroup
from jepa_ros.nodes.transport import heard_at_once, prepare_process

RATE = 30.0  # Hz
STAGES = ('decode', 'encode', 'forecast', 'publish')
PATIENCE = 20.0  # s for a process to show that it works


class Listener:
    """Subscribes to what perception publishes, so that it is published; use it in a ``with`` block."""

    def __init__(self):
        self.stages: dict[str, str] = {}
        self._latents = threading.Event()

    def __enter__(self) -> 'Listener':
        prepare_process()
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        with heard_at_once():
            self._node = rclpy.create_node('listener')
        for name, arrived in (('latents', lambda _: self._latents.set()), ('futures', lambda _: None)):
            self._node.create_subscription(PointCloud2, f'/perception/{name}', arrived, 5, raw=True)
        self._node.create_subscription(DiagnosticArray, '/diagnostics', self._report, 10)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._stopping = False
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stopping = True
        self._executor.wake()
        self._thread.join()
        self._node.destroy_node()
        rclpy.try_shutdown()

    def await_latents(self, child: Child) -> None:
        """
        Wait for the next latents.

        :raises BenchError: none come, or the process that was to publish them has ended.
        """
        self._latents.clear()
        end = time.monotonic() + PATIENCE
        while not self._latents.wait(0.1):
            if child.code() is not None or time.monotonic() > end:
                raise BenchError(f'expected latents within {PATIENCE:g} s; {child.obituary()}')

    def _spin(self) -> None:
        while not self._stopping:
            self._executor.spin_once(timeout_sec=1.0)

    def _report(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == 'perception':
                self.stages = {value.key: value.value for value in status.values}


def frame_cost(listener: Listener, logs, bundle: str, size: str, compressed: bool, seconds: float,
               rounds: int = 2) -> dict:
    """
    Measure one kind of camera.

    :param logs: directory for log files.
    :param size: 'WIDTHxHEIGHT'.
    :param seconds: measured in every round, of perception and of the peer each.
    :return: processor time per frame in ms of perception outside of its engine, of the engine, of the peer,
        and wall times of perception's stages in ms as it reports them.
    """
    flags = ['--compressed'] * compressed
    transport = 'compressed' if compressed else 'raw'
    measured = {'perception': [], 'peer': []}
    stages: dict[str, str] = {}
    for _ in range(rounds):
        for who in measured:
            with ProcessGroup(logs) as group:
                group.start('camera', module('bench.camera', '--size', size, '--rate', str(RATE), *flags))
                if who == 'perception':
                    child = group.start(who, module('bench.subject', *parameters({
                        'bundle': bundle, 'threads': 1, 'image_transport': transport})))
                    listener.await_latents(child)
                else:
                    child = group.start(who, module('bench.peer', *flags))
                await_line(child, MEASURING)
                child.wait(seconds)
                measured[who].append(report(group, child))
                if who == 'perception':
                    stages = dict(listener.stages)
    frames = min(run['frames'] for runs in measured.values() for run in runs)
    if frames < 0.5 * RATE * seconds:
        raise BenchError(f'expected about {RATE * seconds:.0f} frames of {size}, found {frames}: the '
                         'machine is too busy, or images are lost on the way (jepa bench transport)')
    outside = statistics.mean(run['cpu_ms'] for run in measured['perception'])
    peer = statistics.mean(run['cpu_ms'] for run in measured['peer'])
    return {'size': size, 'transport': transport, 'frames': frames,
            'outside_engine_cpu_ms': outside,
            'engine_cpu_ms': statistics.mean(run['apart_ms'] for run in measured['perception']),
            'peer_cpu_ms': peer, 'ratio_to_peer': outside / peer,
            'stages_wall_ms': {name: float(stages[f'{name}_p50_ms']) for name in STAGES
                               if f'{name}_p50_ms' in stages}}


def start_up(listener: Listener, logs, bundle: str, times: int = 3) -> list[float]:
    """
    Measure the time from starting perception_node's process to its first published latents, with a camera
    (640x480 raw) that is there already.

    :return: s, once per start.
    """
    found = []
    with ProcessGroup(logs) as group:
        camera = group.start('camera', module('bench.camera', '--rate', str(RATE), '--at-once'))
        await_line(camera, 'ready')
        for _ in range(times):
            with ProcessGroup(logs) as subject:
                began = time.monotonic()
                command = module('nodes.perception_node', *parameters({'bundle': bundle}))
                child = subject.start('perception', command)
                listener.await_latents(child)
                found.append(time.monotonic() - began)
    return found
