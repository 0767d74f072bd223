# SPDX-License-Identifier: Apache-2.0
"""
`jepa replay --live`: a recording through real nodes and topics in real time, with the figures of an offline
replay.

camera_replay_node plays each camera with its recorded stamps and /clock, perception_node runs on that clock,
and the bag of what both published is judged as the steps of an offline replay are. Ages are measured from a
frame to what was made of it, both as they came in here.
"""

from __future__ import annotations

import dataclasses
import heapq
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jepa_ros.clip import ClipWindow, Verdict, WindowRequest
from jepa_ros.clouds import decode_futures, decode_latents
from jepa_ros.data.bags import Bag
from jepa_ros.data.frames import RecordedFrame, Recording
from jepa_ros.data.recordings import open_recording
from jepa_ros.data.timeline import JUDGED, Timeline
from jepa_ros.demo.figures import CAMERA, PERCEPTION, Figures
from jepa_ros.demo.isolation import isolate
from jepa_ros.demo.recorder import BagRecorder
from jepa_ros.demo.run import camera_type, choose_transport, play
from jepa_ros.demo.topics import Topics
from jepa_ros.errors import JepaError
from jepa_ros.evaluation.judge import Labels
from jepa_ros.evaluation.offline import STAGES, Step
from jepa_ros.evaluation.realtime import percentiles
from jepa_ros.evaluation.replay import (
    DONE,
    DROPS,
    FAILED,
    INTERRUPTED,
    Subject,
    faults_of,
    open_cameras,
    recording_key,
    unfinished,
)
from jepa_ros.evaluation.stream_faults import Fault, StreamWatch
from jepa_ros.evaluation.surprise import SurpriseTrace
from jepa_ros.images import Geometry
from jepa_ros.nodes.graph import NodeSpec, replay_graph

_LATE = 8  # latents that are waited with for what else belongs to them
_FRAMES = 512  # that are remembered at most, should no latents come for them; and futures
_NOTHING, _GEOMETRY = np.zeros((1, 1, 3), np.uint8), Geometry(1, 1, 0, 0, 1, 1)


def replay_live(path: Path, subject: Subject, folder: Path) -> dict:
    """
    Play one recording, its cameras one after the other.

    :param folder: for the bag and the logs of each camera.
    :returns: as `evaluation.replay.replay`; ``real_time`` is measured, and ``stages`` are as perception_node
        gave them last.
    """
    isolate()
    found = unfinished(path)
    recordings: list[Recording] = []
    faults: list[Fault] = []
    offsets: dict[str, float] = {}
    try:
        recordings, faults = open_cameras(path, subject.options)
        for number, recording in enumerate(recordings):
            camera = LiveCamera(recording, subject, folder / recording_key(path) / f'camera{number}')
            code, failure = camera.play()
            found['cameras'].append(camera.result())
            if camera.watch.offset is not None and camera.stamp_fault is None:
                offsets[recording.topic] = camera.watch.offset
            if code:
                found['status'] = INTERRUPTED if code == 130 else FAILED
                found['error'] = failure or None
                break
        else:
            found['status'] = DONE
    except KeyboardInterrupt:
        found['status'] = INTERRUPTED
    except JepaError as error:
        found['error'] = str(error)
    found['faults'] = faults_of(recordings, offsets, faults)
    return found


class LiveCamera:
    """
    One camera of a recording through the nodes.

    :param folder: for its bag and logs.
    """

    def __init__(self, recording: Recording, subject: Subject, folder: Path):
        self._recording, self._subject, self._folder = recording, subject, folder
        self.watch = StreamWatch(recording.topic)
        self.stamp_fault: str | None = None
        self._wall = 0.0

    def play(self) -> tuple[int, str]:
        """Play it to its end. :returns: exit code (0, 1, 130) and what happened."""
        transport = choose_transport('auto', self._recording)
        manifest = self._subject.manifest
        self._figures = _LiveFigures(manifest.slice_period, manifest.future_space == 'latents')
        self._recorder = BagRecorder(self._folder / 'bag')
        began = time.monotonic()
        try:
            code, failure = play(
                self._graph(transport),
                camera_type(transport),
                self._folder / 'logs',
                f'{self._recording.name} through {manifest.name}, live',
                self._figures,
                self._recorder,
            )
        finally:
            self._recorder.close()
        self._figures.end()
        self._wall = time.monotonic() - began
        return code, failure

    def _graph(self, transport: str) -> list[NodeSpec]:
        options = self._subject.options
        own = {
            'camera': {'image_transport': transport, 'autostart': False},
            # a jump of the recorded clock reaches the node with /clock or just before it
            'perception': {
                'horizons': [float(f'{h:.9g}') for h in self._subject.horizons],
                'max_future': 3600.0,
                'threads': options.threads,
            },
        }
        specs = replay_graph(
            str(self._recording.path.resolve()),
            topic=self._recording.topic,
            stamps='recorded',
            bundle=str(self._subject.bundle.path.resolve()),
            backend=options.backend,
            controller=False,
        )
        return [dataclasses.replace(spec, parameters=spec.parameters | own[spec.name]) for spec in specs]

    def steps(self) -> Iterator[Step]:
        """Yield what perception published, as steps."""
        for frame, latents, futures, start_ns in published(self._recorder.path):
            yield Step(latents, futures, None, (frame.log_ns - start_ns) / 1e9, frame)

    def result(self) -> dict:
        """Return all figures, under the names of `evaluation.replay.Camera.result`."""
        subject, figures = self._subject, self._figures
        counts = {
            name: figures.frame_counts().get(name, 0)
            for name in (*DROPS, 'early', 'closed', 'used', 'waiting')
        }
        judge, trace = subject.judge(), SurpriseTrace(subject.manifest.grid, subject.options.moments)
        labels = Labels.read(self._recording, subject.options.labels) if subject.read_point else None
        slices = forecasts = 0
        for step in self.steps():
            slices, forecasts = slices + 1, forecasts + (step.futures is not None)
            trace.see(step)
            if judge is not None:
                judge.see(step)
                if labels is not None and step.futures is not None:
                    judge.point(step.futures, subject.read_point(step.futures), labels)
        possible, unused, frames, recorded = self._possible()
        late = max(0, counts['overrun'] - unused)
        lost = max(0, frames - sum(counts.values()))
        ages = 1e3 * np.array([age for _, age in figures.ages])
        dropped = {name: counts[name] for name in DROPS} | {'overrun': late, 'transport': lost}
        stages = {stage: self._stage(stage) for stage in STAGES if self._stage(stage)}
        return {
            'topic': self._recording.topic,
            'name': self._recording.name,
            'frames': frames,
            'recorded_s': recorded,
            'rate_hz': (frames - 1) / recorded if frames > 1 and recorded else None,
            'slices': slices,
            'forecasts': forecasts,
            'counts': counts,
            'dropped': {name: n for name, n in dropped.items() if n},
            'resets': {
                name: int(n)
                for name in ('jump', 'gap', 'resolution', 'asked')
                if int(n := figures.value(PERCEPTION, f'resets_{name}') or 0)
            },
            'wall_s': self._wall,
            'speed': recorded / self._wall if self._wall else None,
            'stages': stages,
            'limit': None,
            'real_time': {
                'slices': slices,
                'offline': possible,
                'lost': max(0.0, 1 - slices / possible),
                'overrun': late,
                'transport': lost,
                'busy': None,
                'age_ms': percentiles(ages),
                'measured': True,
            }
            if possible
            else None,
            **(judge.report() if judge else {'skill': [], 'points': []}),
            'surprise': trace.figures(),
            'faults': [fault.as_dict() for fault in self._faults()],
            'kept': {'judge': judge.sums() if judge else None, 'moments': trace.pictures(), 'ms': {}},
        }

    def _possible(self) -> tuple[int, int, int, float]:
        """Read the recording again. :returns: as `steps_allowed`; its frames, and how long they last (s)."""
        first: list[RecordedFrame] = []
        for frame in self._recording.frames():
            first.append(frame)
            if len(first) == JUDGED:
                break
        timeline = Timeline(first)
        self.stamp_fault = timeline.fault
        stamps, lasted = [], 0.0
        for frame in self._recording.frames():
            self.watch.see(frame)
            stamps.append(timeline.stamp(frame))
            lasted += timeline.advance(frame)
        return *steps_allowed(stamps, self._subject.session.request), len(stamps), lasted + timeline.step

    def _stage(self, stage: str) -> dict | None:
        names = [
            (f'p{percent}', self._figures.value(PERCEPTION, f'{stage}_p{percent}_ms'))
            for percent in (50, 90, 99)
        ]
        if not all(value for _, value in names):
            return None
        return {'count': None, 'total_s': None, 'ms': {name: float(value) for name, value in names}}

    def _faults(self) -> list[Fault]:
        found = self.watch.faults(self.stamp_fault, self._subject.manifest.frame_period)
        if int(self._figures.value(CAMERA, 'undecodable') or 0):
            found.append(
                Fault('undecodable', f'{self._figures.value(CAMERA, "undecodable")} frame(s) do not decode')
            )
        return found


class _LiveFigures(Figures):
    """Figures whose ages count from the arrival of the frame: its recorded stamp is of another time."""

    def __init__(self, *args):
        super().__init__(*args)
        self._came: dict[int, int] = {}

    def camera(self, stamp_ns: int, arrived_ns: int = 0) -> None:
        super().camera(stamp_ns)
        self._came[stamp_ns] = arrived_ns

    def futures(self, futures, arrived_ns: int) -> None:
        came = self._came.get(futures.stamp_ns)
        if came is not None:
            super().futures(futures, futures.stamp_ns + arrived_ns - came)
            self.newest_future_ns = None  # its age now would be that of the recording


def published(path: Path):
    """
    Read what perception published back from the bag of a run.

    :param path: directory of the bag.
    :returns: iterator over frame, latents, futures (or None) of each step, and when the first frame came
        (ns).
    """
    topics, bag = Topics(), Bag(path)
    known = {topic.name for topic in bag.topics}

    def entries(topic: str, kind: str):
        found = ()
        if topic in known:
            found = open_recording(path, topic).frames() if kind == 'frame' else bag.messages(topic)
        for entry in found:
            log_ns, message = (entry.log_ns, entry) if kind == 'frame' else entry
            yield log_ns, kind, message

    # What belongs together came together, but the topics may have overtaken each other.
    came: dict[str, dict] = {'frame': {}, 'latents': {}, 'futures': {}}
    start = None

    def together(latents):
        stamp, message = latents
        frame, futures = came['frame'].get(stamp), came['futures'].pop(stamp, None)
        if frame is not None:
            yield (
                frame,
                decode_latents(*_cloud(message)),
                decode_futures(*_cloud(futures)) if futures else None,
                start,
            )

    merged = heapq.merge(
        entries(topics.camera, 'frame'),
        entries(topics.latents, 'latents'),
        entries(topics.futures, 'futures'),
        key=lambda entry: entry[0],
    )
    for log_ns, kind, message in merged:
        if kind == 'frame':
            start = log_ns if start is None else start
            came[kind][message.stamp_ns] = message
        else:
            came[kind][_stamp_ns(message)] = message
        for others in (came['frame'], came['futures']):
            if len(others) > _FRAMES:
                del others[next(iter(others))]
        while len(came['latents']) > _LATE:
            oldest = next(iter(came['latents']))
            yield from together((oldest, came['latents'].pop(oldest)))
            for others in (came['frame'], came['futures']):
                while others and next(iter(others)) <= oldest:
                    del others[next(iter(others))]
    for latents in came['latents'].items():
        yield from together(latents)


def _stamp_ns(message) -> int:
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def _cloud(message) -> tuple:
    return (
        message.height,
        message.width,
        message.fields,
        message.point_step,
        message.row_step,
        message.is_bigendian,
        message.data,
        _stamp_ns(message),
    )


def steps_allowed(stamps_ns, request: WindowRequest) -> tuple[int, int]:
    """
    Return how many steps frames with these stamps make when none comes late, and how many none of them uses.
    """
    window, steps = ClipWindow(request), 0
    for stamp in stamps_ns:
        if window.offer(stamp) is Verdict.TAKE:
            window.push(stamp, _NOTHING, _GEOMETRY)
            if window.ready():
                window.take(0)
                steps += 1
    return steps, window.counts['overrun']
