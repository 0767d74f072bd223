# SPDX-License-Identifier: Apache-2.0
"""
Violation of expectation: is an impossible clip more surprising than the possible one it is like?

A forecast of every slice is compared with the slice, over how far it looks ahead and over how much of the past
the encoder is shown before it. The idea is that of IntPhys (Riochet et al., 2018); that a network which predicts
in its latents is asked in this way is that of Garrido et al., 2025, "Intuitive physics understanding emerges from
self-supervised pretraining on natural videos".

Letters: T slices, N tokens, H horizons.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from jepa_ros.clip import Frames
from jepa_ros.data.bags import RecordingError
from jepa_ros.data.frames import RecordedFrame, Recording
from jepa_ros.data.recordings import open_recording
from jepa_ros.data.sequences import find_recordings
from jepa_ros.engine.bundle import Bundle
from jepa_ros.engine.manifest import Manifest
from jepa_ros.engine.session import EncoderSession, open_session
from jepa_ros.errors import JepaError
from jepa_ros.evaluation.offline import OfflineRun, Step
from jepa_ros.latents import Latents
from jepa_ros.skill import Matcher

ALL = 0  # as a context: everything since the clip began, as the node has it
_NAME = re.compile(r'(?P<pair>.+)_(?P<which>possible|impossible)')
_TOPIC = '/sim/violation'


class ViolationError(JepaError):
    """Clips that cannot be compared."""


@dataclass(frozen=True)
class Pair:
    """
    Two clips that differ in one thing.

    :param name: what their names begin with; its last word is the kind.
    """

    name: str
    possible: Path
    impossible: Path

    @property
    def kind(self) -> str:
        """What is violated."""
        return self.name.rpartition('_')[2]


@dataclass(frozen=True)
class Clip:
    """
    The surprise of one clip.

    :param times: float [T], s after the first frame, of the slices.
    :param errors: by context and horizon (s) float [T], the mean over the tokens of the squared distance of a slice
        from what was forecast for it, NaN where nothing was.
    :param tokens: float32 [T, N], the same with all of the past and the shortest horizon: what perception_node
        publishes as surprise.
    :param frames: of each slice the newest frame, as it was recorded.
    :param violation: when it happens, s after the first frame; None where it is not recorded, or does not happen.
    """

    times: np.ndarray
    errors: dict[tuple[int, float], np.ndarray]
    tokens: np.ndarray = field(repr=False)
    frames: list[RecordedFrame] = field(repr=False)
    violation: float | None = None

    @property
    def live(self) -> np.ndarray:
        """Surprise as the node would publish it, the mean over the tokens, [T]."""
        return self.errors[min(self.errors)]

    def score(self, setting: tuple[int, float], over: str = 'mean') -> float:
        """Return the surprise of the whole clip. :param over: time, 'mean' or 'max'."""
        known = self.errors[setting][np.isfinite(self.errors[setting])]
        if not len(known):
            raise ViolationError(f'expected clips with a forecast {setting[1]:g} s ahead, found none in one')
        return float(known.mean() if over == 'mean' else known.max())


def find_pairs(patterns: Iterable) -> list[Pair]:
    """
    Return the pairs among recordings, by name.

    :param patterns: recordings, folders or globs; their names end in _possible and _impossible.
    :raises ViolationError: when there are none, or one lacks its other.
    """
    found: dict[str, dict[str, Path]] = {}
    for path in find_recordings(patterns):
        match = _NAME.fullmatch(path.stem if path.is_file() else path.name)
        if match:
            found.setdefault(match['pair'], {})[match['which']] = path
    if not found:
        raise ViolationError(
            'expected recordings named NAME_KIND_possible and NAME_KIND_impossible, found none '
            '(jepa sim record --violations makes them)'
        )
    for name, both in found.items():
        for which in ('possible', 'impossible'):
            if which not in both:
                raise ViolationError(
                    f'expected a pair, found {next(iter(both.values()))} without {name}_{which}'
                )
    return [Pair(name, both['possible'], both['impossible']) for name, both in sorted(found.items())]


class Expectation:
    """
    What a bundle's forecaster expects, over contexts and horizons.

    :param bundle: a `Bundle`, the path of one, or the name of one that ships.
    :param contexts: how many slices the encoder is shown before each forecast, or ALL. Other than ALL is for mode
        stream alone, whose encoder remembers: in the others the bundle says how much is seen.
    :raises ViolationError: a bundle without forecasts in the space of its latents, or such a context.
    """

    def __init__(self, bundle, contexts: Sequence[int] = (), threads: int = 0):
        bundle = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
        manifest = bundle.manifest
        if manifest.forecaster is None or manifest.future_space != 'latents':
            raise ViolationError(f"expected a bundle that forecasts its latents, found '{manifest.name}'")
        self.bundle, self.horizons = bundle, _horizons(manifest)
        self.contexts = tuple(sorted(set(contexts or default_contexts(manifest))))
        least = manifest.forecaster.context
        for context in self.contexts:
            if context != ALL and (manifest.mode != 'stream' or context < least):
                wanted = f'of {least} slices or more, or all' if manifest.mode == 'stream' else "'all' alone"
                raise ViolationError(f"expected contexts {wanted} for '{manifest.name}', found {context}")
        if ALL not in self.contexts:
            self.contexts = (ALL, *self.contexts)
        self._whole = open_session(bundle, threads=threads)
        self._short = open_session(bundle, threads=threads, surprise=False) if self.contexts[1:] else None

    @property
    def settings(self) -> list[tuple[int, float]]:
        """All pairs of a context and a horizon; the first is what perception_node runs with."""
        return [(context, horizon) for context in self.contexts for horizon in self.horizons]

    @property
    def description(self) -> str:
        """Which backend runs."""
        return self._whole.description

    def see(self, recording: Recording) -> Clip:
        """
        Return the surprise of a clip.

        :raises ViolationError: it is too short for a forecast to be compared.
        """
        session = _Remembering(self._whole, max(self.contexts))
        tolerance = 0.25 * self.bundle.manifest.frame_period  # as a session's own surprise has it
        matchers = {context: Matcher(tolerance) for context in self.contexts}
        rows: list[dict[tuple[int, float], float]] = []
        steps: list[Step] = []
        row_of: dict[int, dict] = {}  # by stamp: a slice may come a little before the instant that was foretold

        def compare(context: int, matches) -> None:
            for match in matches:
                error = float(np.mean((match.predicted - match.then.tokens) ** 2))
                row_of[match.then.stamp_ns][context, self.horizons[match.index]] = error

        for step in OfflineRun(session, recording, self.horizons):
            if step.reset:
                matchers = {context: Matcher(tolerance) for context in self.contexts}
            steps.append(step)
            rows.append({})
            row_of[step.latents.stamp_ns] = rows[-1]
            for context, matcher in matchers.items():
                compare(context, matcher.latents(step.latents))
                futures = step.futures if context == ALL else self._forecast(session.past, context)
                if futures is not None:
                    matcher.futures(futures)
        for context, matcher in matchers.items():
            compare(context, matcher.end())
        if not any(rows):
            raise ViolationError(
                f'{recording.path}: expected a clip long enough for a forecast to be compared'
            )
        errors = {s: np.array([row.get(s, np.nan) for row in rows]) for s in self.settings}
        return Clip(
            np.array([step.time for step in steps]),
            errors,
            np.stack([step.latents.surprise for step in steps]),
            [step.frame for step in steps],
            _violation(recording, steps),
        )

    def _forecast(self, past: deque[Frames], context: int):
        """Forecast with the newest slices alone, from a memory that begins with them."""
        if len(past) < context:
            return None
        self._short.reset()
        for frames in list(past)[-context:]:
            self._short.step(frames)
        return self._short.forecast(self.horizons)


def default_contexts(manifest: Manifest) -> tuple[int, ...]:
    """All of the past, and the least that the forecaster takes, where that is less."""
    return (ALL, manifest.forecaster.context) if manifest.mode == 'stream' else (ALL,)


def watch(pair: Pair, expectation: Expectation, topic: str | None = None) -> tuple[Clip, Clip]:
    """Return the possible and the impossible clip of a pair. :param topic: of the camera, where there are several."""
    clips = tuple(expectation.see(open_recording(path, topic)) for path in (pair.possible, pair.impossible))
    if len(clips[0].times) != len(clips[1].times):
        lengths = ' and '.join(str(len(clip.times)) for clip in clips)
        raise ViolationError(f'{pair.name}: expected clips of one length, found {lengths} slices')
    return clips


def watch_all(
    pairs: Sequence[Pair],
    expectation: Expectation,
    see: Callable[[Pair, Clip, Clip], None] = lambda *_: None,
    topic: str | None = None,
    progress: Callable[[Sequence[Pair]], Iterable[Pair]] = lambda pairs: pairs,
) -> list[dict]:
    """
    Watch all pairs.

    :param see: is shown each with its clips, which are not kept.
    :returns: of each ``name``, ``kind``, ``violation_s`` (None where it is not known) and ``scores``: of every
        setting ``context`` (0: all), ``horizon``, and the mean and the highest surprise over time of both clips.
    """
    rows = []
    for pair in progress(pairs):
        possible, impossible = watch(pair, expectation, topic)
        see(pair, possible, impossible)
        scores = [
            {
                'context': context,
                'horizon': horizon,
                **{
                    f'{name}_{over}': clip.score((context, horizon), over)
                    for name, clip in (('possible', possible), ('impossible', impossible))
                    for over in ('mean', 'max')
                },
            }
            for context, horizon in expectation.settings
        ]
        rows.append(
            {'name': pair.name, 'kind': pair.kind, 'violation_s': impossible.violation, 'scores': scores}
        )
    return rows


class _Remembering:
    """A session that keeps the frames of its last steps."""

    def __init__(self, session: EncoderSession, count: int):
        self._session, self.past = session, deque(maxlen=max(1, count))
        self.manifest, self.request, self.forecast = session.manifest, session.request, session.forecast

    def reset(self) -> None:
        self.past.clear()
        self._session.reset()

    def step(self, frames: Frames) -> Latents:
        if frames.reset is not None:
            self.past.clear()
        self.past.append(replace(frames, reset=None))
        return self._session.step(frames)


def _horizons(manifest: Manifest) -> tuple[float, ...]:
    """Those after which there is a slice to compare with: whole numbers of slices, as far as is offered."""
    offered, period = manifest.forecaster.horizons, manifest.slice_period
    slack = 0.25 * manifest.frame_period
    if offered.values is not None:
        found = [h for h in offered.values if abs(h - period * max(1, round(h / period))) <= slack]
    else:
        first, last = np.ceil(offered.min / period - 1e-6), np.floor(offered.max / period + 1e-6)
        found = np.arange(max(first, 1), last + 1) * period
    if not len(found):
        raise ViolationError(
            f"expected horizons that are whole numbers of {period:g} s, found none in '{manifest.name}'"
        )
    return tuple(round(float(h), 6) for h in found)


def _violation(recording: Recording, steps: list[Step]) -> float | None:
    """When the simulator says that it happened, s after the first frame."""
    try:
        when = next((log for log, message in recording.messages(_TOPIC) if message.data != 'none'), None)
    except (RecordingError, AttributeError):  # not the simulator's
        return None
    first = steps[0]
    return None if when is None else (when - first.frame.log_ns) / 1e9 + first.time
