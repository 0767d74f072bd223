# SPDX-License-Identifier: Apache-2.0
"""Plays a recording at its own pace: when each frame is due, and a thread that hands it out then."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

from jepa_ros.data.recordings import RecordedFrame, Recording
from jepa_ros.data.timeline import JUDGED, Timeline

PREFETCH = JUDGED  # frames made ready ahead: enough for the key frames of a video too
LATE = 0.1


class Pace:
    """
    When each frame is due on a steady clock. Steps add up, so that errors of single waits do not.

    :param rate: factor on the recorded rate.
    """

    def __init__(self, rate: float):
        self._rate = rate
        self._due: float | None = None
        self.late = 0

    def due(self, step: float, now: float) -> float:
        """
        :param step: recorded time since the frame before, s.
        :param now: the steady clock, s.
        :return: the instant at which the frame is due on that clock. If it is long past (the recording cannot
            be read fast enough), it is now and the schedule goes on from there: frames do not come in a
            burst, as no camera sends one.
        """
        due = now if self._due is None else self._due + step / self._rate
        if due < now - LATE:
            self.late += 1
            due = now
        self._due = due
        return due


class Player(threading.Thread):
    """
    Hands out the frames of a recording, each at its time.

    :param recording: what is played.
    :param prepare: makes of a frame what is handed out; called ahead of time from a thread of its own. None
        leaves it out.
    :param publish: called with what ``prepare`` made and the recorded stamp in ns when the frame is due.
    :param on_end: called at the end with None, or with the exception that ended it; not after ``close``.
    :param before_start: called before the first frame; returns False to not play at all.
    :param rate: factor on the recorded rate.
    :param loop: begin again at the end, for ever.
    """

    def __init__(self, recording: Recording, prepare: Callable[[RecordedFrame], Any],
                 publish: Callable[[Any, int], None], on_end: Callable[[Exception | None], None], *,
                 before_start: Callable[[], bool] = lambda: True, rate: float = 1.0, loop: bool = False):
        super().__init__(name='player', daemon=True)
        self._recording, self._prepare, self._publish, self._on_end = recording, prepare, publish, on_end
        self._before_start, self._loop = before_start, loop
        self.closing = threading.Event()
        self._pace = Pace(rate)
        self.stamp_fault: str | None = None

    @property
    def late(self) -> int:
        """Number of frames that could not be made ready in time."""
        return self._pace.late

    def close(self) -> None:
        """Stop playing and wait until nothing is handed out any more."""
        self.closing.set()
        if self.is_alive() and self is not threading.current_thread():
            self.join()

    def run(self) -> None:
        fault = None
        try:
            if self._before_start():
                self._play()
        except Exception as error:  # a file may go bad in its middle; a thread would die without a word
            fault = error
        if not self.closing.is_set():
            self._on_end(fault)

    def _play(self) -> None:
        frames = self._frames()
        first = list(islice(frames, PREFETCH))
        timeline = Timeline(first)
        self.stamp_fault = timeline.fault
        with _Ahead(_chain(first, frames), lambda frame: (frame, self._prepare(frame))) as ahead:
            for frame, ready in ahead:
                if not self._wait(timeline.advance(frame)):
                    return
                if ready is not None:
                    self._publish(ready, timeline.stamp(frame))
        # A frame lasts until the next one: the last one as long as the one before.
        self._wait(timeline.step)

    def _frames(self) -> Iterator[RecordedFrame]:
        while not self.closing.is_set():
            yield from self._recording.frames()
            if not self._loop:
                return

    def _wait(self, step: float) -> bool:
        """Wait until a frame is due. :return: False if the player was closed meanwhile."""
        now = time.monotonic()
        return not self.closing.wait(max(self._pace.due(step, now) - now, 0.0))


def _chain(first: list, rest: Iterator) -> Iterator:
    yield from first
    first.clear()  # the frames are large
    yield from rest


class _Ahead:
    """Iterates over ``make(item)`` of each item; the next few are made meanwhile by a thread."""

    def __init__(self, items: Iterator, make: Callable):
        self._items, self._make = items, make
        self._pool = ThreadPoolExecutor(1, thread_name_prefix='prefetch')

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __iter__(self):
        ready = deque(self._pool.submit(self._next) for _ in range(PREFETCH))
        while ready:
            made = ready.popleft().result()
            if made is None:
                return
            ready.append(self._pool.submit(self._next))
            yield made

    def _next(self):
        for item in self._items:
            return self._make(item)
        return None
