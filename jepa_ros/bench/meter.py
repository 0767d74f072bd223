# SPDX-License-Identifier: Apache-2.0
"""Processor time of a process per frame it receives, without what is spent in a part that is named."""

import json
import time
from collections.abc import Callable
from functools import wraps

WARM_UP = 30  # frames that are not counted: caches, discovery and lazy imports

MEASURING = 'measuring'  # printed when they have come


class Meter:
    """Counts from frame WARM_UP on. Everything is read when a frame arrives, so that both ends are alike."""

    def __init__(self):
        self._frames = 0
        self._apart = 0.0
        self._first = self._last = (0, 0.0, 0.0, 0.0)

    def tick(self) -> None:
        """A frame has arrived."""
        self._frames += 1
        self._last = (self._frames, time.process_time(), self._apart, time.monotonic())
        if self._frames <= WARM_UP:
            self._first = self._last
        if self._frames == WARM_UP:
            print(MEASURING, flush=True)

    def apart(self, function: Callable) -> Callable:
        """Return ``function`` with the processor time of its thread kept apart from that of the process."""
        @wraps(function)
        def measured(*args, **kwargs):
            began = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                self._apart += time.thread_time() - began
        return measured

    def line(self) -> str:
        """Return as JSON: frames, cpu_ms and apart_ms per frame, and seconds measured."""
        frames, cpu, apart, seconds = (last - first for first, last in zip(self._first, self._last))
        share = 1e3 / frames if frames else 0.0
        return json.dumps({'frames': frames, 'cpu_ms': (cpu - apart) * share, 'apart_ms': apart * share,
                           'seconds': seconds})
