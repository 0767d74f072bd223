# SPDX-License-Identifier: Apache-2.0
"""What it takes for whole images to arrive: allocator, Fast DDS profile, and seeing frames that are lost on the way."""

from __future__ import annotations

import ctypes
import os
from collections import deque

from jepa_ros.paths import find_config

#: Fast DDS 2 (Humble, Jazzy) reads the second name, Fast DDS 3 (Kilted and later) the first.
PROFILE_VARIABLES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h


def prepare_process() -> None:
    """
    Keep the memory of received images with the process; call it before ``rclpy.init``.

    By default glibc maps every large allocation anew and gives it back at once, so that each image pays a page fault per 4 KiB.
    Keeping blocks of up to 64 MB on the heap makes receiving 640x480 rgb8 about three times cheaper. Where the C library is
    not glibc there is nothing to do.
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 64 << 20)
        mallopt(_M_TRIM_THRESHOLD, 256 << 20)


def environment(*, localhost: bool = True) -> dict[str, str]:
    """
    Variables to set for child processes so that images arrive whole; what the user has set is left alone.

    :param localhost: True to look for peers on this machine alone, for a graph that needs no other one: discovery is then quick
        and sends nothing out of the network card. A robot whose parts are on several machines must say False.
    :return: names and values of those that are not set yet.
    """
    profile = str(find_config('fastdds.xml'))
    wanted = dict.fromkeys(PROFILE_VARIABLES, profile)
    if any(name in os.environ for name in PROFILE_VARIABLES):
        wanted = {}
    if localhost:
        wanted['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    return {name: value for name, value in wanted.items() if name not in os.environ}


def profile_hint() -> str:
    """:return: what to set so that large images stop getting lost, or what is set already, as part of a sentence."""
    for name in PROFILE_VARIABLES:
        if name in os.environ:
            return f'{name} is {os.environ[name]}: the same profile must be set for the camera\'s process'
    assignments = ' '.join(f'{name}={find_config("fastdds.xml")}' for name in PROFILE_VARIABLES)
    return f'start this node and the camera with {assignments}'


class FrameLoss:
    """
    Frames lost on the way, from the stamps of those that arrive.

    A camera's stamps are a period apart; where two of them are k periods apart, k - 1 frames were sent and did not arrive.
    The period is the low quartile of the newest distances: robust against jitter and against most frames missing, but
    it needs some neighbours to arrive. A pause of more than a second is a pause of the camera, not a loss.

    :param window: number of distances that are judged.
    """

    def __init__(self, window: int = 120):
        self._steps: deque[int] = deque(maxlen=window)
        self._last: int | None = None

    def arrived(self, stamp_ns: int) -> None:
        """Count a frame. :param stamp_ns: its header stamp."""
        step, self._last = stamp_ns - (self._last or stamp_ns), stamp_ns
        if step < 0 or step > 1_000_000_000:
            self._steps.clear()
        elif step > 0:
            self._steps.append(step)

    def period(self) -> float | None:
        """:return: the camera's period in s, or None before ten frames have come."""
        if len(self._steps) < 10:
            return None
        return sorted(self._steps)[len(self._steps) // 4] / 1e9

    def share(self) -> float:
        """:return: share of the frames sent lately that did not arrive, 0..1; 0 while too few have come."""
        period = self.period()
        if period is None:
            return 0.0
        sent = sum(max(1, round(step / 1e9 / period)) for step in list(self._steps))
        return 1.0 - len(self._steps) / sent
