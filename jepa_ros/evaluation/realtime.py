# SPDX-License-Identifier: Apache-2.0
"""
What a real-time node would have dropped: the same frames at their recorded pace, with the durations measured
offline.

A simulation of perception_node's two threads on a clock of numbers. The executor takes the oldest waiting
frame (the transport keeps five), offers it to a real `ClipWindow` and decodes it if it is wanted; the worker
takes the newest complete set and is busy for as long as that step took offline. Left out, because nothing
here measures it: the transport, publishing, and that two threads share the cores.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np

from jepa_ros.clip import ClipWindow, Verdict, WindowRequest
from jepa_ros.evaluation.offline import Arrival
from jepa_ros.images import Geometry

QUEUE = 5  # depth of the node's subscription

_NOTHING, _GEOMETRY = np.zeros((1, 1, 3), np.uint8), Geometry(1, 1, 0, 0, 1, 1)


def simulate(request: WindowRequest, arrivals: Sequence[Arrival], steps: Mapping[int, float]) -> dict | None:
    """
    Play arrivals against durations.

    :param request: what the session asks for.
    :param arrivals: of all frames, in order.
    :param steps: stamp of a step's newest frame (ns) to its duration (s); the median stands in for others.
    :returns: ``slices`` computed in time, ``offline`` those computed offline, ``lost`` the share of those
        that real time would not have given, ``overrun`` and ``transport`` frames dropped by the window and by
        the transport, ``busy`` the share of the time that the worker works, ``age_ms`` percentiles of the
        time from a frame's arrival to its results; None where nothing was measured.
    """
    if not steps:
        return None
    worker = _Worker(ClipWindow(request), steps)
    decode_s = float(np.median([a.decode_s for a in arrivals if a.decode_s is not None]))
    waiting: deque[Arrival] = deque()
    free = 0.0  # when the executor's thread is
    lost = 0

    def serve(until: float) -> None:
        """Let the executor begin with every frame that it can begin with before a time."""
        nonlocal free
        while waiting and max(free, waiting[0].time) <= until:
            arrival = waiting.popleft()
            begin = max(free, arrival.time)
            worker.advance(begin)
            free = begin
            if worker.window.offer(arrival.stamp_ns) is Verdict.TAKE:
                free += decode_s if arrival.decode_s is None else arrival.decode_s
                worker.advance(free)
                worker.push(arrival, free)

    for arrival in arrivals:
        serve(arrival.time)
        if len(waiting) == QUEUE:
            waiting.popleft()
            lost += 1
        waiting.append(arrival)
    serve(np.inf)
    worker.advance(np.inf)
    lasted = arrivals[-1].time - arrivals[0].time
    ages = 1e3 * np.array(worker.ages)
    return {
        'slices': len(ages),
        'offline': len(steps),
        'lost': max(0.0, 1 - len(ages) / len(steps)),
        'overrun': worker.window.counts['overrun'],
        'transport': lost,
        'busy': worker.busy / lasted if lasted > 0 else None,
        'age_ms': percentiles(ages),
    }


def percentiles(values) -> dict[str, float] | None:
    """Return p50, p90 and p99, or None of nothing."""
    if not len(values):
        return None
    return {f'p{percent}': round(float(np.percentile(values, percent)), 4) for percent in (50, 90, 99)}


class _Worker:
    """The thread that encodes."""

    def __init__(self, window: ClipWindow, steps: Mapping[int, float]):
        self.window, self._steps = window, steps
        self._usual = float(np.median(list(steps.values())))
        self._free = self._pushed = self.busy = 0.0
        self._came: dict[int, float] = {}  # when the frame with a stamp arrived
        self.ages: list[float] = []

    def push(self, arrival: Arrival, now: float) -> None:
        self._came[arrival.stamp_ns] = arrival.time
        self.window.push(arrival.stamp_ns, _NOTHING, _GEOMETRY)
        self._pushed = now

    def advance(self, now: float) -> None:
        """Let it take what is complete, if it is free before a time."""
        begin = max(self._free, self._pushed)
        if begin > now or not self.window.ready():
            return
        newest = int(self.window.take(0).stamps_ns[-1])
        took = self._steps.get(newest, self._usual)
        self._free = begin + took
        self.busy += took
        self.ages.append(self._free - self._came.pop(newest))
