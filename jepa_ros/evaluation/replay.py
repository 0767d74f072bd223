# SPDX-License-Identifier: Apache-2.0
"""
Recordings through a bundle, one by one: what came out, how good it was, how fast, and what was wrong with
them.

A recording that is finished is kept under ``OUT/recordings`` and not run again while it, the bundle and the
options stay as they are.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jepa_ros import __version__
from jepa_ros.data.bags import Bag, RecordingError
from jepa_ros.data.frames import Recording
from jepa_ros.data.recordings import BagRecording, cameras_in, is_bag, open_recordings
from jepa_ros.data.tables import SUFFIX, table_of
from jepa_ros.engine.bundle import Bundle
from jepa_ros.engine.session import open_session
from jepa_ros.errors import JepaError
from jepa_ros.evaluation.judge import Judge, Labels, PointReader
from jepa_ros.evaluation.offline import OfflineRun, Step
from jepa_ros.evaluation.outputs import OutputBag, namespaces
from jepa_ros.evaluation.realtime import percentiles, simulate
from jepa_ros.evaluation.replay_probe import ReplayProbe
from jepa_ros.evaluation.stream_faults import Fault, StreamWatch, clocks_apart, unknown_types
from jepa_ros.evaluation.surprise import SurpriseTrace

FORMAT = 1
DONE, FAILED, INTERRUPTED = 'done', 'failed', 'interrupted'
DROPS = ('duplicate', 'late', 'future', 'zero', 'overrun', 'cleared', 'failed')


class ReplayError(JepaError):
    """A replay that cannot begin."""


@dataclass(frozen=True)
class Options:
    """
    How recordings are replayed.

    :param topics: camera topics of the bags; empty: all of them.
    :param labels: topic of the readout's true points (PointStamped or PoseStamped), or None.
    :param probes: vectors that a linear probe is to read, see `replay_probe.ReplayProbe`.
    :param horizons: s, for all bundles; empty: those of each.
    :param rate: frames per second of folders of numbered images.
    :param moments: how many surprising moments of each camera are shown.
    :param mcap: folder for the outputs as bags, or None; `publish`: the tokens that go into them.
    :param backend: what runs the graphs; `threads`: of it, 0 for all cores.
    """

    topics: tuple[str, ...] = ()
    labels: str | None = None
    probes: tuple[str, ...] = ()
    horizons: tuple[float, ...] = ()
    rate: float | None = None
    moments: int = 4
    mcap: Path | None = None
    publish: str = 'dense'
    backend: str = 'auto'
    threads: int = 0


class Subject:
    """
    A bundle that is replayed, its graphs open.

    :param name: a `Bundle`, the path of one, or the name of one that ships.
    :raises JepaError: it cannot be used, or does not offer the horizons.
    """

    def __init__(self, name, options: Options):
        self.bundle = name if isinstance(name, Bundle) else Bundle.load(name)
        self.manifest, self.options = self.bundle.manifest, options
        self.session = open_session(self.bundle, backend=options.backend, threads=options.threads)
        self.horizons = np.zeros(0, np.float32)
        if self.manifest.forecaster:
            self.horizons = self.session.check_horizons(np.array(options.horizons, np.float32))
        self.read_point = PointReader(self.bundle) if self.manifest.readout and options.labels else None

    def judge(self) -> Judge | None:
        """Return a judge of its futures, None where it makes none."""
        return Judge.of(self.bundle, self.horizons) if self.manifest.forecaster else None

    def about(self) -> dict:
        """What it is, for the report."""
        manifest = self.manifest
        return {
            'name': manifest.name,
            'path': str(self.bundle.path.resolve()),
            'model': f'{self.bundle.model_id:08x}',
            'family': manifest.family,
            'mode': manifest.mode,
            'image_size': list(manifest.image_size),
            'frame_period_s': manifest.frame_period,
            'slice_period_s': manifest.slice_period,
            'horizons_s': [round(float(h), 6) for h in self.horizons],
            'backend': self.session.description,
        }


def open_cameras(path: Path, options: Options) -> tuple[list[Recording], list[Fault]]:
    """
    Open the cameras of a recording.

    :returns: the cameras, and what is wrong with the topics beside them.
    :raises RecordingError: when it cannot be read or lacks a topic.
    """
    if not is_bag(path):
        cameras = open_recordings(path, None, options.rate)
        if any(camera.still for camera in cameras):
            raise RecordingError(
                f'{path}: expected frames with times, found independent images (--rate gives them one)'
            )
        return cameras, []
    bag = Bag(path)
    found = cameras_in(bag)
    listing = ', '.join(f'{topic.name} ({topic.count} frames)' for topic in found) or 'none'
    chosen = [topic for topic in found if topic.count]
    if options.topics:
        wanted = {topic.strip('/') for topic in options.topics}
        chosen = [topic for topic in found if topic.name.strip('/') in wanted]
        missing = wanted - {topic.name.strip('/') for topic in chosen}
        if missing:
            raise RecordingError(f'{path}: expected camera topic /{min(missing)}, found {listing}')
    if not chosen:
        damage = ''.join(f'; {warning}' for warning in bag.warnings)
        raise RecordingError(f'{path}: expected a camera topic with frames, found {listing}{damage}')
    return [BagRecording(bag, topic) for topic in chosen], unknown_types(bag.topics, path.suffix == '.bag')


def replay(
    path: Path,
    subject: Subject,
    tick: Callable[[str, float, float], None] = lambda *_: None,
    bag: Path | None = None,
) -> dict:
    """
    Replay one recording. Whatever is wrong with it is in the result: nothing a recording does is raised.

    :param tick: called often with the camera's topic, the recorded seconds done and those expected (0:
        unknown).
    :param bag: directory of the bag that the outputs go into, or None.
    :returns: ``status`` (done, failed, interrupted), ``error``, ``faults``, and ``cameras`` as
        `Camera.result` has them, also those that came before the end of a recording that failed or was
        interrupted.
    """
    found = unfinished(path)
    recordings: list[Recording] = []
    faults: list[Fault] = []
    outputs, offsets = None, {}
    try:
        recordings, faults = open_cameras(path, subject.options)
        outputs = OutputBag(bag) if bag else None
        for recording, namespace in zip(recordings, namespaces([r.topic for r in recordings])):
            camera = Camera(recording, subject, tick)
            try:
                camera.run(outputs and outputs.camera(namespace, subject.bundle, subject.options.publish))
            finally:
                found['cameras'].append(camera.result())
                if camera.watch.offset is not None and camera.stamps_believed:
                    offsets[recording.topic] = camera.watch.offset
        found['status'] = DONE
        found['error'] = _why_nothing(found['cameras'])
        if found['error']:
            found['status'] = FAILED
    except KeyboardInterrupt:
        found['status'] = INTERRUPTED
    except (
        Exception
    ) as error:  # a damaged file may make a library raise anything; the other recordings must go on
        found['error'] = str(error) if isinstance(error, JepaError) else f'{type(error).__name__}: {error}'
    finally:
        if outputs is not None:
            outputs.close()
    found['faults'] = faults_of(recordings, offsets, faults)
    return found


def unfinished(path: Path) -> dict:
    """Return the result of a recording of which nothing has been replayed yet, see `replay`."""
    return {
        'path': str(path),
        'name': path.stem,
        'status': FAILED,
        'error': None,
        'faults': [],
        'cameras': [],
    }


def faults_of(recordings: list[Recording], offsets: dict[str, float], faults: list[Fault]) -> list[dict]:
    """
    Return everything that is wrong with a recording: damage first, then clocks that disagree, then the rest.

    :param recordings: its cameras, after they were read.
    :param offsets: by topic, seconds between the stamps and the log.
    :param faults: what was found when it was opened.
    """
    damage = dict.fromkeys(warning for recording in recordings for warning in recording.warnings)
    every = [*(Fault('damage', text) for text in damage), *clocks_apart(offsets), *faults]
    return [fault.as_dict() for fault in every]


def _why_nothing(cameras: list[dict]) -> str | None:
    """Say why no frame of a recording could be used; None where some were, or are only too few for a step."""
    if any(camera['counts']['used'] or camera['counts']['waiting'] for camera in cameras):
        return None
    texts = [fault['text'] for camera in cameras for fault in camera['faults']]
    return '; '.join(['no frame could be used', *texts[:2]])


class Camera:
    """One camera of a recording through a subject."""

    def __init__(self, recording: Recording, subject: Subject, tick: Callable[[str, float, float], None]):
        self._recording, self._subject = recording, subject
        self._tick = tick
        self.watch = StreamWatch(recording.topic)
        self._offline = OfflineRun(subject.session, recording, subject.horizons, self._see_frame)
        self._judge = subject.judge()
        self._trace = SurpriseTrace(subject.manifest.grid, subject.options.moments)
        manifest, comparable = subject.manifest, subject.manifest.future_space == 'latents'
        self._probes = [
            ReplayProbe(source, subject.horizons, manifest.grid, comparable) for source in subject.options.probes
        ]
        self._wall = 0.0
        self._slices = self._forecasts = 0
        self._labels: Labels | None = None

    @property
    def stamps_believed(self) -> bool:
        """Whether the header stamps say something."""
        return self._offline.stamp_fault is None

    def run(self, outputs=None) -> None:
        """Replay it. :param outputs: `CameraOutputs`, or None."""
        subject = self._subject
        if subject.read_point:
            self._labels = Labels.read(self._recording, subject.options.labels)
        began = time.perf_counter()
        for step in self._offline:
            self._see(step)
            if outputs is not None:
                outputs.see(step)
            self._wall = time.perf_counter() - began
        self._wall = time.perf_counter() - began

    def _see_frame(self, frame) -> None:
        self.watch.see(frame)
        self._tick(self._recording.topic, self._offline.recorded_s, self._recording.duration)

    def _see(self, step: Step) -> None:
        self._slices += 1
        self._forecasts += step.futures is not None
        self._trace.see(step)
        for probe in self._probes:
            probe.see(step)
        if self._judge is None:
            return
        self._judge.see(step)
        if self._labels is not None and step.futures is not None:
            self._judge.point(step.futures, self._subject.read_point(step.futures), self._labels)

    def result(self) -> dict:
        """
        Return all figures; what only the report and the totals need is under ``kept``.

        Counts are those of `ClipWindow.counts`; times are in s, latencies in ms, errors of points in widths
        of the image.
        """
        offline, subject = self._offline, self._subject
        counts, recorded = offline.counts, offline.recorded_s
        frames = len(offline.arrivals)
        stages = stage_rows(offline.seconds, self._wall)
        # Nothing is late offline: what a window of fixed places has no use for is not dropped.
        dropped = {name: counts[name] for name in DROPS if counts[name] and name != 'overrun'}
        real_time = simulate(subject.session.request, offline.arrivals, offline.steps)
        if real_time:
            real_time['overrun'] = max(0, real_time['overrun'] - counts['overrun'])
        if offline.faults['undecodable']:
            dropped['failed'] = offline.faults['undecodable']
        judged = self._judge.report() if self._judge else {'skill': [], 'points': []}
        probes, failed = self._probed()
        return {
            'topic': self._recording.topic,
            'name': self._recording.name,
            'frames': frames,
            'recorded_s': recorded,
            'rate_hz': (frames - 1) / offline.arrivals[-1].time
            if frames > 1 and offline.arrivals[-1].time
            else None,
            'slices': self._slices,
            'forecasts': self._forecasts,
            'counts': counts,
            'dropped': dropped,
            'resets': {k: n for k, n in offline.resets.items() if n},
            'wall_s': self._wall,
            'speed': recorded / self._wall if self._wall else None,
            'stages': stages,
            'limit': limit(stages),
            'real_time': real_time,
            **judged,
            'probes': probes,
            'surprise': self._trace.figures(),
            'faults': [fault.as_dict() for fault in [*self._faults(frames), *failed]],
            'kept': {
                'judge': self._judge.sums() if self._judge else None,
                'moments': self._trace.pictures(),
                'ms': {s: [round(1e3 * v, 4) for v in values] for s, values in offline.seconds.items()},
            },
        }

    def _probed(self) -> tuple[list[dict], list[Fault]]:
        found, failed = [], []
        stamps_ns = np.array([arrival.stamp_ns for arrival in self._offline.arrivals], np.int64)
        for source, probe in zip(self._subject.options.probes, self._probes):
            try:
                found.append(probe.result(self._recording, stamps_ns))
            except RecordingError as error:
                failed.append(Fault('probe', f'{source} cannot be probed: {error}'))
        return found, failed

    def _faults(self, frames: int) -> list[Fault]:
        offline, subject, options = self._offline, self._subject, self._subject.options
        found = self.watch.faults(offline.stamp_fault, subject.manifest.frame_period)
        for kind, words in (
            ('undecodable', 'frame(s) do not decode'),
            ('step', 'step(s) of the encoder failed'),
        ):
            if offline.faults[kind]:
                found.append(
                    Fault(kind, f'{offline.faults[kind]} {words}; the first: {offline.first_fault[kind]}')
                )
        if frames and not self._slices:
            found.append(
                Fault(
                    'short',
                    f'{frames} frame(s) make no latents: {subject.session.request.frames} usable '
                    f'ones in a row, {subject.manifest.frame_period:.3g} s apart, are needed',
                )
            )
        if options.labels and subject.read_point is None:
            found.append(
                Fault(
                    'labels',
                    f"labels cannot be compared: the bundle '{subject.manifest.name}' has no readout",
                )
            )
        elif options.labels and self._labels is None and self._recording.topic:
            found.append(
                Fault('labels', f'no labels: {options.labels} holds no PointStamped or PoseStamped in the picture')
            )
        return found


def stage_rows(seconds: dict[str, list[float]], wall: float) -> dict[str, dict]:
    """Return count, total (s) and percentiles (ms) by stage; ``other`` is what is left of the wall time."""
    rows = {}
    for stage, values in seconds.items():
        rows[stage] = {
            'count': len(values),
            'total_s': float(sum(values)),
            'ms': percentiles(1e3 * np.array(values)),
        }
    rows['other'] = {
        'count': 0,
        'total_s': max(0.0, wall - sum(row['total_s'] for row in rows.values())),
        'ms': None,
    }
    return rows


def limit(stages: dict[str, dict]) -> str | None:
    """Return the stage that takes the most time, None where that is not known."""
    known = {name: row['total_s'] for name, row in stages.items() if row['total_s']}
    return max(known, key=known.__getitem__) if known else None


def total(results: list[dict], subject_judge: Judge | None) -> dict:
    """
    Sum up recordings.

    :param results: of `replay`, with what they kept.
    :param subject_judge: an empty judge of the bundle.
    """
    cameras = [camera for result in results for camera in result['cameras']]
    recorded, wall = (sum(camera[key] for camera in cameras) for key in ('recorded_s', 'wall_s'))
    seconds = {
        stage: [ms / 1e3 for camera in cameras for ms in camera['kept']['ms'][stage]]
        for stage in (cameras[0]['kept']['ms'] if cameras else ())
    }
    stages = stage_rows(seconds, wall) if seconds else {}
    for camera in cameras:
        if subject_judge is not None and camera['kept']['judge']:
            subject_judge.add(camera['kept']['judge'])
    judged = subject_judge.report() if subject_judge else {'skill': [], 'points': []}
    dropped: dict[str, int] = {}
    for camera in cameras:
        for name, count in camera['dropped'].items():
            dropped[name] = dropped.get(name, 0) + count
    timed = [camera['real_time'] for camera in cameras if camera['real_time']]
    slices, offline = (sum(row[key] for row in timed) for key in ('slices', 'offline'))
    return {
        'recordings': len(results),
        'cameras': len(cameras),
        **{
            status: sum(result['status'] == status for result in results)
            for status in (DONE, FAILED, INTERRUPTED)
        },
        'faults': sum(len(result['faults']) for result in results)
        + sum(len(camera['faults']) for camera in cameras),
        **{key: sum(camera[key] for camera in cameras) for key in ('frames', 'slices', 'forecasts')},
        'recorded_s': recorded,
        'wall_s': wall,
        'speed': recorded / wall if wall else None,
        'dropped': dropped,
        'stages': stages,
        'limit': limit(stages),
        'real_time_lost': 1 - slices / offline if offline else None,
        **judged,
    }


class Shelf:
    """
    Where finished recordings are kept.

    :param folder: made when something is kept.
    """

    def __init__(self, folder: Path):
        self._folder = folder

    def get(self, path: Path, subject: Subject, bag: Path | None) -> dict | None:
        """Return what was kept of a recording, None where it, the bundle or the options are others by now."""
        try:
            kept = json.loads(self._file(path, subject).read_text())
        except (OSError, ValueError):
            return None
        if (
            not isinstance(kept, dict)
            or kept.get('key') != _key(path, subject, bag)
            or bag
            and not bag.exists()
        ):
            return None
        return kept['result']

    def put(self, path: Path, subject: Subject, bag: Path | None, result: dict) -> None:
        """Keep a recording that is done. :raises ReplayError: it cannot be written."""
        if result['status'] != DONE:
            return
        file = self._file(path, subject)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            part = file.with_suffix('.part')
            part.write_text(json.dumps({'key': _key(path, subject, bag), 'result': result}))
            part.replace(file)
        except OSError as error:
            raise ReplayError(
                f'expected to write in {self._folder}, found: {error.strerror or error}'
            ) from error

    def _file(self, path: Path, subject: Subject) -> Path:
        return self._folder / f'{recording_key(path)}.{subject.bundle.model_id:08x}.json'


def recording_key(path: Path) -> str:
    """Return a name for files about a recording: readable, and of no other recording."""
    readable = re.sub(r'[^A-Za-z0-9_.-]+', '_', path.stem)[:60]
    return f'{readable}-{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}'


def _key(path: Path, subject: Subject, bag: Path | None) -> dict:
    """Return everything that a result depends on."""
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    options = subject.options
    sources = [source.partition(':')[0] for source in options.probes]
    tables = [table_of(source, path) for source in sources if source.endswith(SUFFIX)]
    files += [table for table in tables if table.is_file()]
    return {
        'format': FORMAT,
        'version': __version__,
        'path': str(path.resolve()),
        'files': [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files],
        'bundle': subject.about(),
        'options': {
            'topics': sorted(options.topics),
            'labels': options.labels,
            'probes': list(options.probes),
            'rate': options.rate,
            'moments': options.moments,
            'publish': options.publish if bag else None,
            'bag': str(bag.resolve()) if bag else None,
            'threads': options.threads,
        },
    }
