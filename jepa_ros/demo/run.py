# SPDX-License-Identifier: Apache-2.0
"""One run of the demo: the graph as real processes on a recording, from the first process to the last figure."""

import dataclasses
import itertools
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lifecycle_msgs.msg import Transition

from jepa_ros.bench import host
from jepa_ros.data.recordings import COMPRESSED_TYPE, RAW_TYPE, Recording, VideoRecording, open_recording
from jepa_ros.demo import contact_sheet
from jepa_ros.demo.display import Display, summary_rows
from jepa_ros.demo.figures import CAMERA, CONTROLLER, PERCEPTION, Figures, longest_run
from jepa_ros.demo.isolation import isolate
from jepa_ros.demo.moments import find_moments
from jepa_ros.demo.monitor import Monitor, Topics
from jepa_ros.demo.processes import ProcessGroup
from jepa_ros.demo.recorder import BagRecorder
from jepa_ros.engine.bundle import Bundle
from jepa_ros.engine.readout import Readout
from jepa_ros.engine.session import open_session
from jepa_ros.errors import JepaError
from jepa_ros.images import ImageError, fit
from jepa_ros.nodes.graph import NodeSpec, replay_graph

START_UP = 60.0  # s within which all nodes must work; a second or two on an idle machine
ERROR = 2  # of diagnostic_msgs/DiagnosticStatus
DRAIN = 5.0  # s for what is on its way when the recording has ended


class DemoError(JepaError):
    """The demo cannot be run on what was asked for."""


class GraphFailure(Exception):
    """A process of the graph has ended, or does not come up."""


@dataclass(frozen=True)
class Options:
    """
    What to run.

    :param recording: path of a video or bag, or the name of a shipped recording.
    :param topic: camera topic in a bag; None: the only one.
    :param bundle: path or name of an engine bundle.
    :param out: directory for what the run leaves behind.
    :param rate: factor on the recorded rate.
    :param seconds: end after so many seconds of frames; None: at the end of the recording.
    :param transport: 'raw', 'compressed', or 'auto': bags as recorded, videos compressed so that the bag stays small.
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

    :return: 0; 1 if a process failed, or if no futures came although the recording is long enough; 130 after Ctrl-C.
    :raises JepaError: the recording or the bundle cannot be used, or nothing can be written.
    """
    recording = open_recording(options.recording, options.topic)
    first = next(recording.frames(), None)
    if first is None:
        raise DemoError(f'expected frames in {recording.name}, found none{"".join(f"; {w}" for w in recording.warnings)}')
    bundle = Bundle.load(options.bundle)
    isolate()
    transport = options.transport
    if transport == 'auto':
        transport = 'compressed' if first.compressed or isinstance(recording, VideoRecording) else 'raw'
    figures = Figures(bundle.manifest.slice_period)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DemoError(f'expected a directory that can be written at {options.out}, found: {error}') from error
    recorder = BagRecorder(options.out / 'bag')
    try:
        outcome = _play(options, recording, bundle, transport, figures, recorder)
    finally:
        recorder.close()
    figures.end()
    return _conclude(options, recording, bundle, figures, recorder, *outcome)


def _play(options: Options, recording: Recording, bundle: Bundle, transport: str, figures: Figures,
          recorder: BagRecorder) -> tuple[int, str]:
    """Run all processes until the end. :return: exit code and, for code 1, what happened."""
    camera_type = COMPRESSED_TYPE if transport == 'compressed' else RAW_TYPE
    monitor = Monitor(recorder, figures, Topics(), camera_type)
    try:
        with ProcessGroup(options.out / 'logs') as group, \
                Display(f'{recording.name} through {bundle.manifest.name}', figures, monitor.lock) as display:
            try:
                for spec in graph(options, recording, bundle, transport):
                    group.start(spec.name, spec.command())
                _bring_up(group, monitor, figures, display)
                _watch(options, group, monitor, figures, display)
            except KeyboardInterrupt:
                return 130, ''
            except GraphFailure as failure:
                return 1, str(failure)
            finally:
                display.update(last=True)  # while all of it still runs
    finally:
        monitor.close()
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
    return [dataclasses.replace(spec, parameters={**spec.parameters, **own[spec.name]}) for spec in specs]


def _bring_up(group: ProcessGroup, monitor: Monitor, figures: Figures, display: Display) -> None:
    """Wait until everybody knows everybody, then start the camera."""
    def drive(ask: Callable[[], None], holds: Callable[[], bool]) -> None:
        asked = 0.0
        while not monitor.wait_for(holds, 0.1):
            if time.monotonic() > asked + 2.0:  # a service that was just found may still lose an answer, so ask again
                asked = time.monotonic()
                ask()
            _check(group, figures)
            display.update()
            if time.monotonic() > end:
                raise GraphFailure(f'the graph was not ready within {START_UP:g} s; {group.last_words()}')

    def phase() -> str:
        return figures.diagnostics.get(CONTROLLER, {}).get('values', {}).get('phase', '')

    end = time.monotonic() + START_UP
    drive(lambda: monitor.change_state(CAMERA, Transition.TRANSITION_CONFIGURE), monitor.camera_published)
    drive(lambda: None, lambda: monitor.camera_heard(PERCEPTION))
    if len(group.children) > 2:
        drive(lambda: monitor.enable(CONTROLLER), lambda: phase() not in ('', 'disabled'))
    drive(lambda: monitor.change_state(CAMERA, Transition.TRANSITION_ACTIVATE),
          lambda: bool(figures.camera_stamps) or figures.state(CAMERA) == 'active')


def _watch(options: Options, group: ProcessGroup, monitor: Monitor, figures: Figures, display: Display) -> None:
    """Show the figures until the recording has ended and what was on its way has arrived."""
    camera, end = group.children[0], math.inf
    while camera.code() is None:
        monitor.wait_for(lambda: False, 0.1)
        if options.seconds is not None and figures.camera_stamps and end == math.inf:
            end = time.monotonic() + options.seconds
        if time.monotonic() > end:
            camera.interrupt()
            camera.wait(group.patience)
        _check(group, figures)
        display.update()
    _check(group, figures)
    reports = monitor.reports
    monitor.wait_for(lambda: monitor.reports > reports, DRAIN)  # it comes after all that perception had to do
    _check(group, figures)


def _check(group: ProcessGroup, figures: Figures) -> None:
    """Raise GraphFailure if a process has ended or a node says that it cannot come up."""
    crashed = group.crashed()
    if crashed:
        raise GraphFailure(crashed.obituary())
    for name, status in list(figures.diagnostics.items()):  # another thread adds to it
        if figures.state(name) == 'unconfigured' and status['level'] >= ERROR:
            raise GraphFailure(f"{name} does not come up: {status['message']}")


def _conclude(options: Options, recording: Recording, bundle: Bundle, figures: Figures, recorder: BagRecorder,
              code: int, failure: str) -> int:
    """Write figures and contact sheet, print the summary, and return the exit code."""
    note = ''
    if code == 0 and not figures.futures_count:
        code, note = _without_futures(bundle, figures)
    found = summary(options, recording, bundle, figures, recorder)
    (options.out / 'figures.json').write_text(json.dumps(found, indent=2) + '\n')
    contact_sheet.save(options.out / 'contact_sheet.png', _sheet(recording, bundle, figures, recorder, found))
    print(f'\n{recording.name} through {bundle.manifest.name}')
    left = f'{options.out}: bag/ (MCAP), contact_sheet.png, figures.json, logs/'
    for label, text in (*summary_rows(figures), ('host', host.sentence(found['host'])), ('left in', left)):
        print(f'  {label:<16}{text}')
    for text in recording.warnings:
        print(f'jepa: warning: {text}', file=sys.stderr)
    if note:
        print(note)
    if failure:
        print(f'jepa: error: {failure}', file=sys.stderr)
    return code


def _without_futures(bundle: Bundle, figures: Figures) -> tuple[int, str]:
    """Say why there were no futures, and whether that is a fault (exit code 1)."""
    manifest = bundle.manifest
    if manifest.forecaster is None:
        return 0, f"No futures: the bundle '{manifest.name}' has no forecaster."
    horizons = manifest.forecaster.horizons
    context = 1 if manifest.mode == 'clip' else manifest.forecaster.context
    needed = context + math.ceil((horizons.default or horizons.values)[0] / manifest.slice_period)
    found = longest_run(figures.camera_stamps, open_session(bundle).request)
    if found < needed:
        frames = len(figures.camera_stamps)
        return 0, (f'No futures: they take {needed} slices of {manifest.slice_period:g} s in a row, and this recording '
                   f"({frames} frame{'s' * (frames != 1)}) has {found}.")
    return 1, (f'No futures although {found} slices came in a row and {needed} are enough: see what perception says in '
               'logs/ and on /diagnostics.')


def summary(options: Options, recording: Recording, bundle: Bundle, figures: Figures, recorder: BagRecorder) -> dict:
    """Return all figures as they go into figures.json."""
    controller = {'commands': figures.commands, 'moving': figures.moving, 'targets': figures.targets}
    return {
        'command': ' '.join(['jepa', *sys.argv[1:]]),
        'recording': recording.name, 'rate': options.rate,
        'bundle': bundle.manifest.name, 'model': f'{bundle.model_id:08x}',
        'host': host.describe(),
        'frames': {'delivered': len(figures.camera_stamps), 'rate_hz': figures.rate(), **figures.frame_counts()},
        'latents': figures.latents_count, 'futures': figures.futures_count, 'unreadable': figures.unreadable,
        'future_age_s': figures.age(),
        'skill_against_persistence': figures.skills(),
        'matched': f'latents within {0.5 * bundle.manifest.slice_period:g} s of header.stamp + horizon',
        'controller': controller,
        'recorded': recorder.counts,
        'diagnostics': figures.diagnostics,
    }


def _sheet(recording: Recording, bundle: Bundle, figures: Figures, recorder: BagRecorder, found: dict):
    """Draw the contact sheet from what is in the bag. :return: RGB uint8 [h, w, 3]."""
    manifest, topics = bundle.manifest, Topics()
    pairs = [row for row in found['skill_against_persistence'] if row['pairs']]
    readout = Readout(bundle) if manifest.readout else None
    moments = find_moments(recorder.path, (topics.camera, topics.latents, topics.futures), manifest,
                           pairs[-1]['horizon'], readout) if pairs else []
    age = figures.age()
    facts = [
        f"{manifest.name} ({manifest.mode}), model {found['model']}",
        f'{len(figures.camera_stamps)} frames at {figures.rate():.1f} Hz',
        f'{figures.latents_count} latents, {figures.futures_count} futures',
        'dropped: ' + (', '.join(f'{name} {n}' for name, n in figures.drops().items()) or 'none'),
        f"futures on arrival: {1e3 * age['p50']:.0f} ms old, 99 % within {1e3 * age['p99']:.0f} ms" if age else
        'no futures',
        found['host']['processor'], f"{found['host']['cores']} cores, {found['host']['ros']}", found['host']['date'],
    ]
    return contact_sheet.draw(f'{recording.name} through {manifest.name}', moments, manifest.grid,
                              found['skill_against_persistence'], figures.ages, facts,
                              readout.name if readout else None, [] if moments else _frames(recorder, manifest))


def _frames(recorder: BagRecorder, manifest) -> list:
    """Return the first frames of the bag, cut as the model sees them."""
    camera, frames = Topics().camera, []
    if recorder.counts.get(camera):
        for frame in itertools.islice(open_recording(recorder.path, camera).frames(), 4):
            try:
                frames.append(fit(frame.image(), (480, 480 * manifest.grid[1] // manifest.grid[0]))[0])
            except ImageError:
                continue
    return frames
