# SPDX-License-Identifier: Apache-2.0
"""One run of the demo: the graph as real processes, from the first of them to the last message."""

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lifecycle_msgs.msg import Transition

from jepa_ros.data.recordings import (
    COMPRESSED_TYPE,
    RAW_TYPE,
    Recording,
    RecordingError,
    VideoRecording,
    open_recording,
)
from jepa_ros.demo import report
from jepa_ros.demo.display import Display, live_rows
from jepa_ros.demo.figures import CONTROLLER, PERCEPTION, Figures
from jepa_ros.demo.isolation import isolate
from jepa_ros.demo.monitor import Handler, Monitor
from jepa_ros.demo.processes import ProcessGroup
from jepa_ros.demo.recorder import BagRecorder
from jepa_ros.demo.topics import Topics
from jepa_ros.engine.bundle import Bundle
from jepa_ros.errors import JepaError
from jepa_ros.nodes.graph import NodeSpec, replay_graph

START_UP = 60.0  # s within which all nodes must work; a second or two on an idle machine
ASK_AGAIN = 2.0  # s after a request that had no effect
DRAIN = 5.0  # s for what is on its way when the recording has ended
ERROR = 2  # of diagnostic_msgs/DiagnosticStatus


class GraphFailure(Exception):
    """A process of the graph has ended, or does not come up."""


@dataclass(frozen=True)
class Options:
    """
    What to run.

    :param recording: path of a video or bag.
    :param topic: camera topic in a bag; None: the only one.
    :param bundle: path or name of an engine bundle.
    :param out: directory for what the run leaves behind.
    :param rate: factor on the recorded rate.
    :param seconds: end after so many seconds of frames; None: at the end of the recording.
    :param transport: 'raw', 'compressed', or 'auto': a bag as recorded, a video compressed so that the bag
        of the run stays small.
    """

    recording: Path
    topic: str | None
    bundle: str
    out: Path
    rate: float = 1.0
    seconds: float | None = None
    transport: str = 'auto'


def run_demo(options: Options) -> int:
    """
    Run the graph and write bag, figures and contact sheet.

    :return: 0; 1 if a process failed, or if no futures came although the recording is long enough; 130 after
        Ctrl-C.
    :raises JepaError: the recording or the bundle cannot be used, or nothing can be written.
    """
    recording = open_recording(options.recording, options.topic)
    transport = choose_transport(options.transport, recording)
    bundle = Bundle.load(options.bundle)
    isolate()
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JepaError(f'expected a directory to write in at {options.out}, found: {error}') from error
    figures = Figures(bundle.manifest.slice_period, bundle.manifest.future_space == 'latents')
    recorder = BagRecorder(options.out / 'bag')
    try:
        code, failure = play(graph(options, recording, bundle, transport), camera_type(transport),
                             options.out / 'logs', f'{recording.name} through {bundle.manifest.name}',
                             figures, recorder, options.seconds)
    finally:
        recorder.close()
    figures.end()
    found = report.Run(options.out, recording, bundle, figures, recorder)
    return report.conclude(found, code, failure)


def choose_transport(wanted: str, recording: Recording) -> str:
    """
    Return what the camera is to publish, 'raw' or 'compressed'.

    :param wanted: one of them, or 'auto'.
    :raises RecordingError: there are no frames.
    """
    first = next(recording.frames(), None)
    if first is None:
        fault = f'expected frames in {recording.name}, found none'
        raise RecordingError('; '.join([fault, *recording.warnings]))
    if wanted != 'auto':
        return wanted
    return 'compressed' if first.compressed or isinstance(recording, VideoRecording) else 'raw'


def camera_type(transport: str) -> str:
    """Return the type of the camera's messages."""
    return COMPRESSED_TYPE if transport == 'compressed' else RAW_TYPE


def play(specs: list[NodeSpec], camera: str, logs: Path, title: str, figures: Figures, recorder: BagRecorder,
         seconds: float | None = None, *, handlers: dict[str, Handler] | None = None,
         rows=live_rows, done: Callable[[], bool] = lambda: False) -> tuple[int, str]:
    """
    Run all processes until the camera's ends.

    :param specs: of the nodes, the camera first, which does not start by itself.
    :param camera: type of its messages.
    :param logs: folder for what they say.
    :param title: over the live table.
    :param figures: what is counted goes here; `recorder`: and every message here.
    :param seconds: end after so many seconds of frames.
    :param handlers: of messages, as of Monitor; `rows`: makes the live table of the figures, as live_rows does.
    :param done: asked within the lock; True ends the run.
    :return: exit code, and for code 1 what happened.
    """
    monitor = Monitor(recorder, figures, Topics(), camera, handlers)
    source = f'/{specs[0].name}'
    try:
        with ProcessGroup(logs) as group, Display(title, figures, monitor.lock, rows) as display:
            try:
                for spec in specs:
                    group.start(spec.name, spec.command())
                _bring_up(source, group, monitor, figures, display)
                _watch(seconds, done, group, monitor, figures, display)
            except KeyboardInterrupt:
                monitor.let_go()
                return 130, ''
            except GraphFailure as failure:
                return 1, str(failure)
            finally:
                display.update(last=True)  # while all of it still runs
    finally:
        monitor.close()  # after the processes have ended: it hears their last messages
    return 0, ''


def graph(options: Options, recording: Recording, bundle: Bundle, transport: str) -> list[NodeSpec]:
    """
    Return the nodes, the camera first; without a readout there is nothing to control.

    The camera does not start by itself: no frame is to be sent before perception listens.
    """
    readout = bundle.manifest.readout
    own = {
        'camera': {'image_transport': transport, 'autostart': False},
        'perception': {'publish': readout.publish} if readout else {},
        'controller': {'readout': readout.name} if readout else {},
    }
    specs = replay_graph(str(recording.path.resolve()), topic=recording.topic, rate=options.rate,
                         bundle=str(bundle.path.resolve()), controller=bool(readout))
    return [dataclasses.replace(spec, parameters=spec.parameters | own[spec.name]) for spec in specs]


def _bring_up(camera: str, group: ProcessGroup, monitor: Monitor, figures: Figures,
              display: Display) -> None:
    """Wait until everybody knows everybody, then start the camera (its full name)."""
    end = time.monotonic() + START_UP

    def until(holds: Callable[[], bool], ask: Callable[[], bool] = lambda: False) -> None:
        """Wait until it holds; ``ask`` for it, more than once: a service just found can lose a call."""
        again = 0.0
        while not monitor.wait_for(holds, 0.05):
            if time.monotonic() > again and ask():
                again = time.monotonic() + ASK_AGAIN
            _check(group, monitor, figures)
            display.update()
            if time.monotonic() > end:
                raise GraphFailure(f'the graph was not ready within {START_UP:g} s:\n{group.last_words()}')

    until(monitor.camera_published, lambda: monitor.change_state(camera, Transition.TRANSITION_CONFIGURE))
    until(lambda: monitor.camera_heard(PERCEPTION))
    if len(group.children) > 2:
        until(lambda: figures.value(CONTROLLER, 'phase') not in ('', 'disabled'),
              lambda: monitor.enable(CONTROLLER))
    until(lambda: bool(figures.camera_stamps) or figures.value(camera, 'state') == 'active',
          lambda: monitor.change_state(camera, Transition.TRANSITION_ACTIVATE))


def _watch(seconds: float | None, done: Callable[[], bool], group: ProcessGroup, monitor: Monitor,
           figures: Figures, display: Display) -> None:
    """Show the figures until the camera has ended and what was on its way has arrived."""
    camera, end = group.children[0], math.inf
    while camera.wait(0.1) is None:
        if seconds is not None and figures.camera_stamps and end == math.inf:
            end = time.monotonic() + seconds
        if time.monotonic() > end or monitor.wait_for(done, 0.0):
            camera.interrupt()
        _check(group, monitor, figures)
        display.update()
    _check(group, monitor, figures)
    reports = monitor.reports
    monitor.wait_for(lambda: monitor.reports > reports, DRAIN)  # it comes after all that perception had to do
    _check(group, monitor, figures)


def _check(group: ProcessGroup, monitor: Monitor, figures: Figures) -> None:
    """Raise GraphFailure if a process has ended, a node cannot come up, or nothing is recorded any more."""
    if monitor.fault:
        raise GraphFailure(f'the messages cannot be recorded any more: {monitor.fault}')
    crashed = group.crashed()
    if crashed:
        raise GraphFailure(crashed.obituary())
    for name, status in list(figures.diagnostics.items()):  # another thread adds to it
        if figures.value(name, 'state') == 'unconfigured' and status['level'] >= ERROR:
            raise GraphFailure(f"{name} does not come up: {status['message']}")
