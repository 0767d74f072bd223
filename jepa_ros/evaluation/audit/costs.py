# SPDX-License-Identifier: Apache-2.0
"""What each encoder costs on this machine: time per new frame, share of the time, memory, training."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path

from jepa_ros.data.recordings import open_recording
from jepa_ros.engine.bundle import Bundle
from jepa_ros.engine.session import EncoderSession, open_session
from jepa_ros.evaluation.audit.config import AuditError, Side, Timing
from jepa_ros.evaluation.offline import OfflineRun


@dataclass(frozen=True)
class Costs:
    """
    What one encoder costs.

    :param mode: frame, clip or stream: what was run; `backend`: by what.
    :param new_frames: of the camera in one step; `frame_period`: between them (s).
    :param encode_ms: of each round, for one new frame; `forecast_ms`: the same of the forecaster, 0 where
        there is none.
    :param load: of each round, seconds of computing per second of camera.
    :param memory_mb: that a process takes at most for it, backend and graphs; None: could not be measured.
    :param training_hours: None: not stated.
    """

    mode: str
    backend: str
    new_frames: int
    frame_period: float
    encode_ms: list[float]
    forecast_ms: list[float]
    load: list[float]
    memory_mb: float | None
    training_hours: float | None

    @property
    def frame_ms(self) -> list[float]:
        """Encoder and forecaster for one new frame, of each round (ms)."""
        return [encode + forecast for encode, forecast in zip(self.encode_ms, self.forecast_ms)]

    def to_dict(self) -> dict:
        """Return plain values; the constructor takes them."""
        return asdict(self)


def measure(
    bundles: Sequence[Bundle],
    sides: Sequence[Side],
    recordings: Sequence[Path],
    topic: str,
    timing: Timing,
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> list[Costs]:
    """
    Measure two encoders in alternation, so that what else the machine does falls on both.

    :param recordings: they see, one after the other, over and over; not held-out ones.
    :param tick: called with rounds done and rounds in all.
    :raises AuditError: the recordings give no step.
    """
    sessions = [
        open_session(bundle, backend=timing.backend, threads=timing.threads, surprise=False)
        for bundle in bundles
    ]
    streams = [_Stream(session, recordings, topic) for session in sessions]
    rounds: list[list[tuple[float, float, float]]] = [[], []]
    for number in range(timing.rounds + 1):
        # Not always the same one first; what the first round warms up does not count.
        for side in (0, 1) if number % 2 else (1, 0):
            found = streams[side].run(timing.seconds)
            if number:
                rounds[side].append(found)
        tick(number, timing.rounds)
    return [
        Costs(
            bundle.manifest.mode,
            session.description,
            session.request.new_frames,
            bundle.manifest.frame_period,
            *(list(values) for values in zip(*found)),
            memory_mb(bundle, timing),
            _hours(bundle, side),
        )
        for bundle, side, session, found in zip(bundles, sides, sessions, rounds)
    ]


def memory_mb(bundle: Bundle, timing: Timing, steps: int = 20) -> float | None:
    """Return what a process of its own takes for a bundle at most (MB), or None where it cannot be told."""
    command = [sys.executable, '-m', 'jepa_ros.evaluation.audit.memory', str(bundle.path), timing.backend]
    done = subprocess.run(
        [*command, str(timing.threads), str(steps)], capture_output=True, text=True, check=False
    )
    return json.loads(done.stdout)['mb'] if done.returncode == 0 else None


class _Stream:
    """An encoder that goes through recordings, one stretch at a time."""

    def __init__(self, session: EncoderSession, recordings: Sequence[Path], topic: str):
        self._session, self._topic = session, topic
        self._recordings = cycle(recordings)
        self._barren, self._most = 0, len(recordings)
        self._run, self._steps = None, iter(())

    def run(self, seconds: float) -> tuple[float, float, float]:
        """Go on for some seconds of camera; ms of encoding and of forecasting per new frame, and the load."""
        encode = forecast = 0.0
        frames = 0
        period = self._session.manifest.frame_period
        while frames * period < seconds:
            took = self._step()
            encode, forecast = encode + took[0], forecast + took[1]
            frames += self._session.request.new_frames
        return 1e3 * encode / frames, 1e3 * forecast / frames, (encode + forecast) / (frames * period)

    def _step(self) -> tuple[float, float]:
        while (step := next(self._steps, None)) is None:
            self._barren += 1
            if self._barren > self._most:
                raise AuditError(
                    f'expected recordings that encoders can be timed on, found none of {self._most}'
                )
            self._run = OfflineRun(self._session, open_recording(next(self._recordings), self._topic or None))
            self._steps = iter(self._run)
        self._barren = 0
        spent = self._run.seconds
        return spent['encode'][-1], spent['forecast'][-1] if step.futures else 0.0


def _hours(bundle: Bundle, side: Side) -> float | None:
    if side.training_hours is not None:
        return side.training_hours
    found = bundle.manifest.training.get('hours')
    return float(found) if isinstance(found, (int, float)) and not isinstance(found, bool) else None
