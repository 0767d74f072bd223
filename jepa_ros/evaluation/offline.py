# SPDX-License-Identifier: Apache-2.0
"""A recording through window and session, without ROS and as fast as it goes: what the node would compute.

The frames are chosen by the same `ClipWindow`, decoded by the same functions and encoded by the same session
as in perception_node; the stamps are those that camera_replay_node publishes as recorded.
`test/demo/test_live.py` plays a bag both ways.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

from jepa_ros.clip import ClipWindow, Verdict
from jepa_ros.data.frames import RecordedFrame, Recording
from jepa_ros.data.timeline import JUDGED, Timeline
from jepa_ros.engine.backends import EngineError
from jepa_ros.engine.session import EncoderSession
from jepa_ros.images import Geometry, ImageError, fit_compressed, fit_raw
from jepa_ros.latents import Futures, Latents

STAGES = ('read', 'decode', 'encode', 'forecast')


@dataclass(frozen=True)
class Step:
    """
    One step of the session.

    :param latents: of the newest slice
    :param futures: forecast from it; None until there is enough context
    :param reset: why the history was cleared before this step, or None
    :param time: when its newest frame came, at the recorded pace (s after the first frame)
    :param frame: the newest frame as it was recorded
    """

    latents: Latents
    futures: Futures | None
    reset: str | None
    time: float = 0.0
    frame: RecordedFrame | None = None


@dataclass(frozen=True)
class Arrival:
    """
    A frame as it came in.

    :param time: at the recorded pace (s after the first frame)
    :param stamp_ns: by which the window chose
    :param decode_s: how long it took to decode and resize; None where it was not asked for or did not decode
    """

    time: float
    stamp_ns: int
    decode_s: float | None


class OfflineRun:
    """
    One camera of a recording through a session: iterate over it for the steps, then read what was counted.

    Every frame that the window asks for is used, whatever the encoder's speed: what real time would have
    dropped is for `realtime.simulate` to say.

    :param session: an `EncoderSession`; reset first
    :param recording: a `Recording`
    :param horizons: as for `EncoderSession.forecast`
    :param watch: called with every frame as it was recorded

    :ivar arrivals: of every frame so far
    :ivar seconds: durations (s) by stage, one each per frame read, frame decoded, step and forecast
    :ivar steps: stamp of the newest frame (ns) to the seconds that encoding and forecasting took
    :ivar faults: how many frames did not decode (``undecodable``) and how many steps failed (``step``)
    :ivar first_fault: what the first of each kind said
    :ivar stamp_fault: what is wrong with the header stamps so that those of the bag were taken, or None
    """

    def __init__(
        self,
        session: EncoderSession,
        recording: Recording,
        horizons=None,
        watch: Callable[[RecordedFrame], None] = lambda frame: None,
    ):
        self._session, self._recording, self._horizons, self._watch = session, recording, horizons, watch
        self._window = ClipWindow(session.request)
        self.arrivals: list[Arrival] = []
        self.seconds: dict[str, list[float]] = {stage: [] for stage in STAGES}
        self.steps: dict[int, float] = {}
        self.faults: Counter[str] = Counter()
        self.first_fault: dict[str, str] = {}
        self.stamp_fault: str | None = None
        self._last_step = 0.1

    @property
    def counts(self) -> dict[str, int]:
        """What became of every frame, as :attr:`ClipWindow.counts` says it."""
        return self._window.counts

    @property
    def resets(self) -> dict[str, int]:
        """How often the history was cleared, by cause."""
        return self._window.resets

    @property
    def recorded_s(self) -> float:
        """
        How long the frames read so far lasted when they were recorded (s); the last one as long as the one
        before.
        """
        return self.arrivals[-1].time + self._last_step if self.arrivals else 0.0

    def __iter__(self) -> Iterator[Step]:
        self._session.reset()
        frames = self._read()
        first = list(islice(frames, JUDGED))
        timeline = Timeline(first)
        self.stamp_fault = timeline.fault
        now = 0.0
        for frame in chain(first, frames):
            now += timeline.advance(frame)
            self._last_step = timeline.step
            self._watch(frame)
            step = self._offer(frame, timeline.stamp(frame), now)
            if step is not None:
                yield step

    def _read(self) -> Iterator[RecordedFrame]:
        frames = self._recording.frames()
        while True:
            began = time.perf_counter()
            frame = next(frames, None)
            if frame is None:
                return
            self.seconds['read'].append(time.perf_counter() - began)
            yield frame

    def _offer(self, frame: RecordedFrame, stamp_ns: int, now: float) -> Step | None:
        if self._window.offer(stamp_ns) is not Verdict.TAKE:
            self.arrivals.append(Arrival(now, stamp_ns, None))
            return None
        began = time.perf_counter()
        try:
            image, geometry = decode(frame, self._session.manifest.image_size)
        except ImageError as error:
            self._fault('undecodable', error)
            self.arrivals.append(Arrival(now, stamp_ns, None))
            return None
        took = time.perf_counter() - began
        self.seconds['decode'].append(took)
        self.arrivals.append(Arrival(now, stamp_ns, took))
        self._window.push(stamp_ns, image, geometry)
        if not self._window.ready():
            return None
        frames = self._window.take(0)
        try:
            began = time.perf_counter()
            latents = self._session.step(frames)
            encoded = time.perf_counter()
            futures = self._session.forecast(self._horizons) if self._session.manifest.forecaster else None
            done = time.perf_counter()
        except EngineError as error:  # as in the node: one bad slice must not end the stream
            self._fault('step', error)
            self._session.reset()
            return None
        self.seconds['encode'].append(encoded - began)
        if futures is not None:
            self.seconds['forecast'].append(done - encoded)
        self.steps[latents.stamp_ns] = done - began
        return Step(latents, futures, frames.reset, now, frame)

    def _fault(self, kind: str, error: Exception) -> None:
        self.faults[kind] += 1
        self.first_fault.setdefault(kind, str(error))


def decode(frame: RecordedFrame, size: tuple[int, int]) -> tuple[np.ndarray, Geometry]:
    """
    Decode and resize a frame as the node does.

    :param size: (height, width) wanted (px)
    :returns: RGB uint8 [height, width, 3] and where it lies in the received image
    :raises ImageError: it does not decode
    """
    if frame.compressed:
        return fit_compressed(frame.data, frame.format, size)
    return fit_raw(
        frame.encoding, frame.height, frame.width, frame.step, frame.is_bigendian, frame.data, size
    )
