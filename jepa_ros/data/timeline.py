# SPDX-License-Identifier: Apache-2.0
"""The instants of a recording's frames: which of its clocks to believe, and how long each frame lasted."""

from __future__ import annotations

from jepa_ros.data.frames import RecordedFrame

JUDGED = 8  # frames by which the stamps are judged
JUMP_NS = 10 * 10**9


class Timeline:
    """
    The instants of a recording's frames.

    The header stamps are the camera's own time base. Where they say nothing (all zero, or all the same) the
    times at which the bag received the frames take their place.

    :param first: the first frames of the recording, which that is judged by.
    """

    def __init__(self, first: list[RecordedFrame]):
        stamps = {frame.stamp_ns for frame in first}
        self.fault: str | None = None
        if stamps == {0}:
            self.fault = 'are zero'
        elif len(stamps) == 1 and len(first) > 1:
            self.fault = 'are all the same'
        self._last: tuple[int, int] | None = None
        self.step = 0.1  # what a single frame lasts

    def stamp(self, frame: RecordedFrame) -> int:
        """:return: the recorded stamp in ns: the header's, or the log time where headers say nothing."""
        return frame.log_ns if self.fault else frame.stamp_ns

    def advance(self, frame: RecordedFrame) -> float:
        """
        How long after the frame before a frame comes.

        Where the header stamps step back, or much further ahead than the log (a camera's clock was set), the
        log says it. Where the log steps back too, the recording has begun again: then it is as long as the
        step before.

        :param frame: the next frame.
        :return: s, at the recorded rate; 0 for the first frame.
        """
        now, before = (self.stamp(frame), frame.log_ns), self._last
        self._last = now
        if before is None:
            return 0.0
        by_stamp, by_log = now[0] - before[0], now[1] - before[1]
        if 0 <= by_stamp <= by_log + JUMP_NS:
            self.step = by_stamp / 1e9
        elif by_log >= 0:
            self.step = by_log / 1e9
        return self.step
