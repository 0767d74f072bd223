# SPDX-License-Identifier: Apache-2.0
"""
The window between a camera and an encoder: which frames are wanted, and the newest complete set of them.

Frames are chosen by header stamp, never by count. A schedule with one due time per ``frame_period`` runs
along while frames come, so that a camera of any rate gives frames that are on average one period apart: 30 Hz
and a period of 0.05 s takes the frames at 0, 67, 100, 167, 200 ms. Nothing waits in a queue: a worker that
comes late gets the newest set, and what it missed is counted.

Two threads meet here: the camera's callback offers and pushes, one worker takes.
"""

import threading
from collections import Counter, deque
from dataclasses import dataclass
from enum import Enum

import numpy as np

from jepa_ros.images import Geometry

_NS = 1_000_000_000
_LATE_BEFORE_JUMP = 5  # so many late frames in a row, each newer than the last, are a clock that was set back


@dataclass(frozen=True)
class WindowRequest:
    """
    What an encoder wants from a camera.

    :param frame_period: time between frames (s)
    :param frames: frames per set
    :param new_frames: how many of them must be new since the last set
    :param max_gap: a longer time without frames ends the history (s)
    :param anchored: for encoders with constant positions: the newest frame, and for every earlier place in
        the set the frame nearest to ``newest - k * frame_period``; a frame may stand in two places where some
        are missing
    """

    frame_period: float
    frames: int
    new_frames: int
    max_gap: float
    anchored: bool = False


@dataclass(frozen=True)
class Frames:
    """
    A set of frames for one step of an encoder.

    :param images: RGB uint8 [T, H, W, 3], oldest first
    :param stamps_ns: int64 [T], ascending
    :param geometry: which part of the received images they show
    :param reset: why the history was cleared since the last set, or None
    """

    images: np.ndarray
    stamps_ns: np.ndarray
    geometry: Geometry
    reset: str | None = None


class Verdict(Enum):
    """What becomes of a frame that is offered; the values are names of counts."""

    TAKE = 'take'  # decode it and push it
    EARLY = 'early'  # between two frames that are wanted: not a fault
    DUPLICATE = 'duplicate'  # its stamp was offered just before, or is the newest taken
    LATE = 'late'  # older than the newest taken
    FUTURE = 'future'  # further ahead of the clock than is allowed
    ZERO = 'zero'  # no stamp
    CLOSED = 'closed'  # the window is closed


class ClipWindow:
    """
    Chooses frames by their stamps and hands out the newest complete set.

    :param request: what the encoder wants
    :param max_future: how far a stamp may lie ahead of the clock (s)
    :param tolerance: how much earlier than due a frame may come, as a share of the frame period
    """

    def __init__(self, request: WindowRequest, *, max_future: float = 0.5, tolerance: float = 0.25):
        self.request = request
        self._period = round(request.frame_period * _NS)
        self._slack = round(tolerance * request.frame_period * _NS)
        self._max_gap = round(request.max_gap * _NS)
        self._max_future = round(max_future * _NS)
        # Frames are one period apart on average only: three more cover an anchored set in any case.
        self._history: deque[_Entry] = deque(maxlen=request.frames + (3 if request.anchored else 0))
        self._condition = threading.Condition()
        self._closed = False
        self._counts: Counter = Counter()
        self._resets: Counter = Counter()
        self._reset: str | None = None
        self._handed_out: int | None = None  # newest stamp that an encoder has seen since
        self._geometry: Geometry | None = None
        self._decoding: int | None = None  # stamp of the frame that was wanted and not pushed yet
        self._forget_clock()

    def offer(self, stamp_ns: int, now_ns: int | None = None) -> Verdict:
        """
        Decide about a frame before anything is decoded.

        :param stamp_ns: header stamp of the frame (ns)
        :param now_ns: the node's clock (ns); None: stamps from the future are not looked for
        :returns: TAKE if the frame is to be decoded and pushed, else why not
        """
        with self._condition:
            self._settle_decoding('failed')
            verdict = self._judge(stamp_ns, now_ns)
            if verdict is Verdict.TAKE:
                self._decoding = stamp_ns
            else:
                self._counts[verdict.value] += 1
            return verdict

    def push(self, stamp_ns: int, image: np.ndarray, geometry: Geometry) -> None:
        """
        Add a frame that was to be taken.

        :param stamp_ns: the stamp that was offered last (ns); any other is ignored: the history was cleared
            while the frame was being decoded
        :param image: RGB uint8 [H, W, 3], of the encoder's size
        :param geometry: which part of the received image it shows; a change of it clears the history
        """
        with self._condition:
            if stamp_ns != self._decoding:
                return
            if self._geometry is not None and geometry != self._geometry:
                old = self._geometry
                self._clear('resolution', f'the image changed from {old.width}x{old.height} to '
                                          f'{geometry.width}x{geometry.height}')
            self._decoding = None
            self._geometry = geometry
            if len(self._history) == self._history.maxlen and self._history[0].new:
                self._counts['overrun'] += 1
            self._history.append(_Entry(stamp_ns, image))
            if self._complete():
                self._condition.notify_all()

    def take(self, timeout: float | None = None) -> Frames | None:
        """
        Wait for the newest complete set that has enough new frames, and hand it out.

        :param timeout: how long to wait (s); None: until there is one or the window is closed
        :returns: the set, or None after the timeout or when the window is closed
        """
        with self._condition:
            self._condition.wait_for(lambda: self._closed or self._complete(), timeout)
            if self._closed or not self._complete():
                return None
            chosen = self._choose()
            if not self.request.anchored:
                self._see_pause(chosen)
            used = {entry.stamp for entry in chosen}
            for entry in self._history:
                if entry.new:
                    self._counts['used' if entry.stamp in used else 'overrun'] += 1
                    entry.new = False
            reset, self._reset = self._reset, None
            geometry = self._geometry
        return Frames(np.stack([entry.image for entry in chosen]),
                      np.array([entry.stamp for entry in chosen], dtype=np.int64), geometry, reset)

    def _see_pause(self, chosen: 'list[_Entry]') -> None:
        """An encoder that remembers must not go on where it was kept from so many frames, as if they had not been."""
        last, self._handed_out = self._handed_out, chosen[-1].stamp
        if last is not None and chosen[0].stamp - last > self._max_gap and self._reset is None:
            self._resets['gap'] += 1
            self._reset = f'no frames were used for {(chosen[0].stamp - last) / _NS:.3f} s'

    def ready(self) -> bool:
        """Tell whether :meth:`take` would hand out a set at once."""
        with self._condition:
            return self._complete()

    def clear(self, reason: str) -> None:
        """Forget all frames; ``reason`` is handed out with the next set."""
        with self._condition:
            self._settle_decoding('cleared')
            self._clear('asked', reason)
            self._forget_clock()

    def close(self) -> None:
        """End the window: :meth:`take` returns None from now on."""
        with self._condition:
            self._closed = True
            self._settle_decoding('cleared')
            self._clear('asked', 'the window was closed')
            self._condition.notify_all()

    @property
    def counts(self) -> dict[str, int]:
        """
        What became of every frame that was offered, each in exactly one count, all of them summing to their
        number.

        Beside the names of :class:`Verdict`: ``used`` (handed out as new), ``overrun`` (skipped because the
        encoder was slow), ``cleared`` (in the history when it was cleared), ``failed`` (wanted, and never
        pushed: it could not be decoded), ``waiting`` (still in the window).
        """
        with self._condition:
            counts = {name: self._counts[name] for name in _COUNTS}
            counts['waiting'] = sum(entry.new for entry in self._history) + (self._decoding is not None)
            return counts

    @property
    def resets(self) -> dict[str, int]:
        """How often the history was cleared, by cause: ``jump``, ``gap``, ``resolution``, ``asked``."""
        with self._condition:
            return {name: self._resets[name] for name in ('jump', 'gap', 'resolution', 'asked')}

    def _judge(self, stamp: int, now: int | None) -> Verdict:
        """Return the verdict on a stamp and move the schedule along; clear the history where time breaks."""
        if self._closed:
            return Verdict.CLOSED
        if stamp <= 0:
            return Verdict.ZERO
        if now is not None and stamp > now + self._max_future:
            return Verdict.FUTURE
        previous, self._last = self._last, stamp
        if stamp in (previous, self._newest):
            return Verdict.DUPLICATE
        if self._newest is None:
            return self._restart(stamp)
        ahead = stamp - self._newest
        if ahead < 0:
            self._late = self._late + 1 if self._late and stamp > previous else 1
            if -ahead <= self._max_gap and self._late < _LATE_BEFORE_JUMP:
                return Verdict.LATE
            self._clear('jump', f'the clock of the images jumped back by {-ahead / _NS:.3f} s')
            return self._restart(stamp)
        self._late = 0
        if ahead > self._max_gap:
            self._clear('gap', f'there were no images for {ahead / _NS:.3f} s')
            return self._restart(stamp)
        if stamp < self._due - self._slack:
            return Verdict.EARLY
        if stamp > self._due + self._period:
            return self._restart(stamp)
        self._newest = stamp
        self._due += self._period
        return Verdict.TAKE

    def _restart(self, stamp: int) -> Verdict:
        """Begin the schedule anew with this frame."""
        self._late = 0
        self._newest = stamp
        self._due = stamp + self._period
        return Verdict.TAKE

    def _forget_clock(self) -> None:
        self._newest: int | None = None  # stamp of the newest frame that was to be taken
        self._last: int | None = None  # stamp offered last
        self._due = 0  # when the next frame is wanted
        self._late = 0  # late frames in a row, each newer than the one before

    def _clear(self, cause: str, reason: str) -> None:
        self._counts['cleared'] += sum(entry.new for entry in self._history)
        self._resets[cause] += 1
        self._reset = reason
        self._history.clear()
        self._handed_out = None

    def _settle_decoding(self, count: str) -> None:
        """Count a frame that was wanted and will not be pushed any more."""
        if self._decoding is not None:
            self._counts[count] += 1
            self._decoding = None

    def _complete(self) -> bool:
        """Tell whether the history holds a set with enough new frames."""
        if sum(entry.new for entry in self._history) < self.request.new_frames:
            return False
        if not self.request.anchored:
            return len(self._history) >= self.request.frames
        span = self._history[-1].stamp - self._history[0].stamp
        return span >= (self.request.frames - 1) * self._period - self._period // 2

    def _choose(self) -> 'list[_Entry]':
        """Return the entries of the newest set."""
        entries = list(self._history)
        if not self.request.anchored:
            return entries[-self.request.frames:]
        stamps = np.array([entry.stamp for entry in entries])
        wanted = stamps[-1] - self._period * np.arange(self.request.frames)[::-1]
        return [entries[index] for index in np.abs(stamps - wanted[:, None]).argmin(axis=1)]


_COUNTS = (*(verdict.value for verdict in Verdict if verdict is not Verdict.TAKE),
           'used', 'overrun', 'cleared', 'failed')


class _Entry:
    """A frame in the window."""

    __slots__ = ('stamp', 'image', 'new')

    def __init__(self, stamp: int, image: np.ndarray):
        self.stamp = stamp
        self.image = image
        self.new = True
