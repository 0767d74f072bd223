# SPDX-License-Identifier: Apache-2.0
"""The figures of a run of the picking cell: picks, attempts, times, ages, rates, and how true the paths were."""

from __future__ import annotations

from collections import Counter
from functools import partial

import numpy as np

from jepa_ros.demo.figures import CONTROLLER, PERCEPTION, Figures
from jepa_ros.demo.handle_errors import HandleErrors
from jepa_ros.demo.topics import PickingTopics

CELL = '/conveyor_sim'
AHEAD = 0.4  # s, the horizon of the live table
CLOSING = 'closing'  # state of the controller in which the fingers close: an attempt
AFTERWARDS = 2.0  # s that a run goes on after its last pick
_RECENT = 60  # frames that the present rate is of
_MEMORY = 600  # instants; of /clock ten seconds
_NS = 1e9


class PickingFigures(Figures):
    """
    Counts what a run of the picking cell comes to.

    Stamps are of simulated time. Ages are measured here, on the clock on the wall: from the /clock message of the
    instant at which a frame was exposed, which is sent before it is drawn, to the futures that were made of it.

    :ivar picks: one dict per bin taken: `time` (s, simulated, since the first frame), `seconds` since it entered.
    :ivar attempts: how often the fingers closed.
    :ivar errors: of the controller's path.
    """

    def __init__(self, *args):
        super().__init__(*args)
        self.errors = HandleErrors()
        self.picks: list[dict] = []
        self.attempts = self.taken = self.entered_count = 0
        self.state = self.bin_state = self.belt = ''
        self.states: Counter[str] = Counter()  # simulated seconds that the controller was in each state
        self._since = 0.0
        self.camera_came: list[int] = []
        self._clock: dict[int, int] = {}  # when each instant came
        self._futures_came: dict[int, int] = {}
        self._entered: float | None = None
        self._visible: dict[int, bool] = {}

    # What comes in.

    def camera(self, stamp_ns: int, arrived_ns: int = 0) -> None:
        super().camera(stamp_ns)
        self.camera_came.append(arrived_ns)

    def clock(self, now_ns: int, arrived_ns: int) -> None:
        """Take simulated time in, and when it came."""
        _remember(self._clock, now_ns, arrived_ns)
        self._pair(now_ns)

    def aged(self, stamp_ns: int, arrived_ns: int) -> None:
        _remember(self._futures_came, stamp_ns, arrived_ns)
        self._pair(stamp_ns)

    def _pair(self, stamp_ns: int) -> None:
        """Judge the age of futures once their /clock is known too: topics are heard in any order."""
        if stamp_ns in self._clock and stamp_ns in self._futures_came:
            arrived_ns = self._futures_came.pop(stamp_ns)
            self.ages.append((arrived_ns, (arrived_ns - self._clock[stamp_ns]) / _NS))

    def says(self, text: str) -> None:
        """Take the controller's state in, which is published when it changes."""
        self._count_state()
        state = text.split(':')[0].strip()
        if state != self.state and state == CLOSING:
            self.attempts += 1
        self.state = state

    def end(self) -> None:
        super().end()
        self._count_state()

    def _count_state(self) -> None:
        if self.state:
            self.states[self.state] += self.now - self._since
        self._since = self.now

    def handle_seen(self, stamp_ns: int, visible: bool) -> None:
        """Take in that the handle is in the picture, and whether it can be seen."""
        _remember(self._visible, stamp_ns, visible)

    def handle_is(self, stamp_ns: int, position) -> None:
        """Take in where the handle is (m)."""
        visible = self._visible.get(stamp_ns)
        riding = visible is not None and self.bin_state in ('riding', 'touched')
        self.errors.truth(stamp_ns, position, bool(visible), riding)

    def happened(self, events: str) -> None:
        """Take in what happened between the last two frames."""
        for event in events.split(','):
            if event == 'taken':
                seconds = None if self._entered is None else round(self.now - self._entered, 2)
                self.picks.append({'time': round(self.now, 2), 'seconds': seconds})
            elif event == 'entered':
                self._entered, self.entered_count = self.now, self.entered_count + 1

    # What comes out.

    def enough(self, picks: int) -> bool:
        """Return whether so many bins were taken, and time has passed for the last of them to be seen."""
        return self.taken >= picks and (not self.picks or self.now >= self.picks[-1]['time'] + AFTERWARDS)

    @property
    def now(self) -> float:
        """Simulated seconds since the first frame."""
        return (self.camera_stamps[-1] - self.camera_stamps[0]) / _NS if self.camera_stamps else 0.0

    def camera_rate(self, recent: bool = False) -> float:
        """Return the frames that came in per second on the wall; 0 before there are two."""
        came = self.camera_came[-_RECENT:] if recent else self.camera_came
        return (len(came) - 1) * _NS / (came[-1] - came[0]) if len(came) > 1 else 0.0

    def real_time_factor(self) -> float:
        """Return simulated seconds per second on the wall."""
        came = self.camera_came
        return self.now * _NS / (came[-1] - came[0]) if len(came) > 1 else 0.0


def _remember(memory: dict, stamp_ns: int, value) -> None:
    memory[stamp_ns] = value
    if len(memory) > _MEMORY:
        del memory[next(iter(memory))]


def summary_rows(figures: PickingFigures) -> list[tuple[str, str]]:
    """Put the figures of a whole run into words. :return: (label, text) pairs."""
    age, error = figures.age(), figures.errors.median(AHEAD)
    times = [pick['seconds'] for pick in figures.picks if pick['seconds'] is not None]
    took = f', {np.median(times):.1f} s from entry to taken' if times else ''
    drops = ', '.join(f'{name} {count}' for name, count in figures.drops().items()) or 'none'
    return [
        ('picked', f'{figures.taken} of {figures.entered_count} bins, {figures.attempts} attempts{took}'),
        ('handle error', f'{1e2 * error[1]:.1f} cm median {error[0]:g} s ahead' if error else 'no path to judge'),
        ('futures', f'{figures.futures_count}, age {1e3 * age["p50"]:.0f} ms, 99 % within {1e3 * age["p99"]:.0f} ms'
         if age else 'none'),
        ('camera', f'{figures.camera_rate():.1f} Hz, real time x {figures.real_time_factor():.2f}'),
        ('dropped', drops),
    ]


def live_rows(figures: PickingFigures, now_ns: int) -> list[tuple[str, str]]:
    """Put the figures as they are now into words. :param now_ns: not used: the stamps are of simulated time."""
    found = dict(summary_rows(figures))
    reason = figures.value(CONTROLLER, 'reason')
    state = figures.state or figures.value(CONTROLLER, 'phase') or 'starting'
    rate = figures.camera_rate(recent=True)
    rows = [('controller', state + (f' ({reason})' if reason else '')),
            ('bin', f'{figures.bin_state or "none"}, belt {figures.belt or "not seen yet"}'),
            *found.items()]
    rows = [(label, text if label != 'camera' else f'{rate:.1f} Hz at {figures.now:.0f} s') for label, text in rows]
    for name in (CELL, PERCEPTION):
        status = figures.diagnostics.get(name)
        if status and status['level'] and figures.camera_stamps:
            rows.append(('warning', f'{name[1:]}: {status["message"]}'))
    return rows


def handlers(figures: PickingFigures) -> dict:
    """Return what reads the messages, by their topics, for Monitor."""
    from geometry_msgs.msg import PointStamped, PoseStamped
    from nav_msgs.msg import Path
    from rclpy.serialization import deserialize_message
    from rosgraph_msgs.msg import Clock
    from std_msgs.msg import Int32, String

    from jepa_ros.nodes.messages import to_ns

    def read(kind, take, cdr, arrived_ns):
        take(deserialize_message(cdr, kind), arrived_ns)

    def place(position) -> tuple[float, float, float]:
        return position.x, position.y, position.z

    def on_path(m, _):
        points = [(to_ns(pose.header.stamp), place(pose.pose.position)) for pose in m.poses]
        figures.errors.path(to_ns(m.header.stamp), points)

    def keep(name):
        return lambda m, _: setattr(figures, name, m.data)

    rows = {
        'clock': (Clock, lambda m, at: figures.clock(to_ns(m.clock), at)),
        'handle': (PointStamped, lambda m, _: figures.handle_seen(to_ns(m.header.stamp), m.point.z > 0)),
        'handle_pose': (PoseStamped,
                        lambda m, _: figures.handle_is(to_ns(m.header.stamp), place(m.pose.position))),
        'taken': (Int32, keep('taken')),
        'event': (String, lambda m, _: figures.happened(m.data)),
        'bin_state': (String, keep('bin_state')),
        'belt': (String, keep('belt')),
        'state': (String, lambda m, _: figures.says(m.data)),
        'path': (Path, on_path),
    }
    topics = PickingTopics()
    return {getattr(topics, name): partial(read, kind, take) for name, (kind, take) in rows.items()}
