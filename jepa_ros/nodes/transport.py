# SPDX-License-Identifier: Apache-2.0
"""What it takes for images to arrive whole: allocator, Fast DDS profile, seeing what is lost on the way."""

from __future__ import annotations

import ctypes
import os
import statistics
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

from jepa_ros.paths import find_config

#: The names of the variable that Fast DDS 3 (Kilted and later) and Fast DDS 2 (Humble, Jazzy) read.
PROFILE_VARIABLES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h


def prepare_process() -> None:
    """
    Keep the memory of received images with the process; call it before ``rclpy.init``.

    By default glibc maps large allocations anew and gives them back soon, so that each image pays a page
    fault per 4 KiB. Keeping blocks of up to 32 MB (the most that every glibc takes) on the heap makes
    receiving 640x480 rgb8 about three times cheaper. Where the C library is not glibc there is nothing to do.
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        mallopt(_M_TRIM_THRESHOLD, 256 << 20)


@contextmanager
def heard_at_once() -> Iterator[None]:
    """
    Create a process's first node in this block, and the processes that run already are found at once.

    Fast DDS begins to listen a moment after it has announced a new participant
    (``RTPSParticipantImpl::enable``, up to 3.6 at least). A peer answers once; where its answer wakes up on
    the announcing thread's core it comes too early and is lost, and the peer's next announcement is up to 3 s
    away. Real-time priority keeps the thread from being interrupted there. It is asked for where the process
    may (``ulimit -r``, which ros2_control asks for too, or root); threads that start in the block do not
    inherit it. Where it is refused, or the process has it already, nothing changes.
    """
    try:
        if os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK != os.SCHED_OTHER:
            raise PermissionError('it has a priority of its own')
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except (AttributeError, OSError):  # not Linux; refused
        yield
        return
    try:
        yield
    finally:
        # a process without privileges may not take the flag back; with this policy it means nothing
        os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))


def environment(*, localhost: bool = True) -> dict[str, str]:
    """
    Variables to set for child processes so that images arrive whole; what the user has set is left alone.

    :param localhost: True to look for peers on this machine alone, for a graph that needs no other one:
        discovery is then quick and sends nothing out of the network card. A robot whose parts are on several
        machines must say False.
    :return: names and values of those that are not set yet.
    """
    wanted = {}
    if not any(name in os.environ for name in PROFILE_VARIABLES):
        wanted[profile_variable()] = str(find_config('fastdds.xml'))
    if localhost and 'ROS_AUTOMATIC_DISCOVERY_RANGE' not in os.environ:
        wanted['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    return wanted


def profile_variable() -> str:
    """:return: name of the variable for this ROS; both at once would make Kilted warn in every process."""
    distribution = os.environ.get('ROS_DISTRO')
    if distribution is None:
        try:
            # PyPI's wheels; 7 is Jazzy.
            distribution = 'jazzy' if int(version('ros-rclpy').split('.')[0]) < 8 else 'kilted'
        except PackageNotFoundError:
            distribution = 'rolling'
    return PROFILE_VARIABLES[distribution in ('humble', 'iron', 'jazzy')]


def profile_hint() -> str:
    """:return: what to set so that large images stop getting lost, as part of a sentence."""
    for name in PROFILE_VARIABLES:
        if name in os.environ:
            return f"{name} is {os.environ[name]} here: set it to the same for the camera's process"
    return f"start this node and the camera with {profile_variable()}={find_config('fastdds.xml')}"


class FrameLoss:
    """
    Frames lost on the way, from the stamps of those that arrive.

    A camera's stamps are a period apart; where less arrive than fit between the first and the last, the
    others got lost. The period is the median of the shortest distances, which needs one frame in ten to have
    its neighbour: fewer arrive at all only where a longer silence tells the same. A pause of more than a
    second is a pause of the camera, not a loss.

    :param window: number of distances that are judged.
    """

    def __init__(self, window: int = 150):
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
        """:return: the camera's period in s, or None before twenty frames have come one after the other."""
        if len(self._steps) < 20:
            return None
        short = sorted(self._steps)[len(self._steps) // 10]
        return statistics.median(step for step in self._steps if round(step / short) == 1) / 1e9

    def share(self) -> float:
        """:return: share of the frames sent lately that did not arrive, 0..1; 0 while too few have come."""
        period = self.period()
        if period is None:
            return 0.0
        return max(0.0, 1.0 - len(self._steps) * period * 1e9 / sum(self._steps))
