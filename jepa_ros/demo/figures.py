# SPDX-License-Identifier: Apache-2.0
"""
The figures of a run: what came in, what came out, how old it was, and whether the futures came true.

A future is compared with what was seen at its time: the latents whose stamp lies nearest to ``header.stamp +
horizon``, at most half a slice away. Its skill is 1 - error / error of persistence (the latents at
``header.stamp``, unchanged); below MIN_PAIRS comparisons it is absent rather than a matter of luck.
"""


import numpy as np

from jepa_ros.clip import ClipWindow, Verdict, WindowRequest
from jepa_ros.images import Geometry
from jepa_ros.latents import Futures, Latents
from jepa_ros.skill import Matched, Matcher, SkillTable

MIN_PAIRS = 5
# What becomes of a frame that perception receives, as ClipWindow counts it.
FRAME_COUNTS = (*(verdict.value for verdict in Verdict if verdict is not Verdict.TAKE),
                'used', 'overrun', 'cleared', 'failed', 'waiting')
CAMERA, PERCEPTION, CONTROLLER = '/camera', '/perception', '/controller'
_NS = 1e9


class Figures:
    """
    Counts, ages and skill of one run.

    Nodes are known by their full names: CAMERA, PERCEPTION, CONTROLLER.

    :param slice_period: time between two slices of latents (s).
    :param comparable: whether futures live in the space of the latents; else there is no skill.
    """

    def __init__(self, slice_period: float, comparable: bool = True):
        self.camera_stamps: list[int] = []
        self.latents_count = self.futures_count = self.unreadable = 0
        self.ages: list[tuple[int, float]] = []  # arrival (ns) and age then (s) of each of the futures
        self.newest_future_ns: int | None = None
        self.diagnostics: dict[str, dict] = {}
        self.skill: SkillTable | None = None
        self.target: tuple[float, float] | None = None
        self.targets = self.commands = self.moving = 0
        self.tolerance = 0.5 * slice_period
        self._comparable = comparable
        self._matcher = Matcher(self.tolerance)

    def camera(self, stamp_ns: int, arrived_ns: int = 0) -> None:
        """Count a frame that was delivered. :param arrived_ns: for those who measure from when it came."""
        self.camera_stamps.append(stamp_ns)

    def latents(self, latents: Latents) -> None:
        """Count latents and judge the futures whose time they are."""
        self.latents_count += 1
        self._judge(self._matcher.latents(latents))

    def futures(self, futures: Futures, arrived_ns: int) -> None:
        """Count futures. :param arrived_ns: when they came in, on the clock of the stamps."""
        self.futures_count += 1
        self.newest_future_ns = futures.stamp_ns
        self.aged(futures.stamp_ns, arrived_ns)
        if not self._comparable:
            return
        if self.skill is None:
            # No mean of training is known here: the second baseline of SkillTable is not used.
            self.skill = SkillTable(futures.horizons, np.zeros(1))
        self._matcher.futures(futures)

    def aged(self, stamp_ns: int, arrived_ns: int) -> None:
        """Keep the age of futures as they came in."""
        self.ages.append((arrived_ns, (arrived_ns - stamp_ns) / _NS))

    def followed(self, x: float, y: float) -> None:
        """Count a point that the controller follows, 0..1 of the image."""
        self.targets += 1
        self.target = (x, y)

    def commanded(self, speed: float) -> None:
        """Count a command of the controller. :param speed: m/s."""
        self.commands += 1
        self.moving += speed > 0

    def status(self, name: str, level: int, message: str, values: dict[str, str]) -> None:
        """Keep the newest report of a node on /diagnostics."""
        self.diagnostics[name] = {'level': level, 'message': message, 'values': values}

    def value(self, node: str, name: str) -> str:
        """Return what a node last reported under a name on /diagnostics, '' if nothing."""
        return self.diagnostics.get(node, {}).get('values', {}).get(name, '')

    def end(self) -> None:
        """Judge what is left once nothing more will come."""
        self._judge(self._matcher.end())

    def skills(self) -> list[dict]:
        """Return horizon (s), pairs, error, persistence_error, skill (None: too few pairs) by horizon."""
        rows = {row['horizon']: row for row in (self.skill.rows() if self.skill else [])}
        found = []
        for horizon in self.skill.horizons if self.skill else []:
            row = rows.get(horizon, {'count': 0, 'error': None, 'persistence_error': None, 'skill': None})
            # Where nothing at all changed there is nothing to be skilful about.
            judged = row['count'] >= MIN_PAIRS and row['persistence_error'] > 1e-12
            found.append({'horizon': round(float(horizon), 6), 'pairs': row['count'], 'error': row['error'],
                          'persistence_error': row['persistence_error'],
                          'skill': row['skill'] if judged else None})
        return found

    def frame_counts(self) -> dict[str, int]:
        """Return what became of the frames that perception received, as it last reported it."""
        values = self.diagnostics.get(PERCEPTION, {}).get('values', {})
        return {name: int(values[f'frames_{name}']) for name in FRAME_COUNTS if f'frames_{name}' in values}

    def drops(self) -> dict[str, int]:
        """Return the frames that perception dropped, by cause; what it does not ask for is not dropped."""
        kept = ('used', 'early', 'waiting')
        return {name: count for name, count in self.frame_counts().items() if count and name not in kept}

    def rate(self) -> float:
        """Return the frames per second that were delivered, by their stamps; 0 before there are two."""
        stamps = self.camera_stamps
        span = (stamps[-1] - stamps[0]) / _NS if stamps else 0
        return (len(stamps) - 1) / span if span > 0 else 0.0

    def age(self) -> dict[str, float] | None:
        """Return percentiles of the age of the futures as they came in (s), or None if there were none."""
        if not self.ages:
            return None
        ages = [age for _, age in self.ages]
        return {f'p{percent}': round(float(np.percentile(ages, percent)), 4) for percent in (50, 90, 99)}

    def _judge(self, matched: list[Matched]) -> None:
        for match in matched:
            self.skill.add([[match.horizon]], match.predicted[None, None], match.now.tokens[None],
                           match.then.tokens[None, None])


def longest_run(stamps_ns, request: WindowRequest) -> int:
    """
    Return how many slices the frames with these stamps make at most, without a break between them.

    :param stamps_ns: header stamps of the frames that were delivered, in order of arrival.
    :param request: what the encoder asks for; the frames are chosen by the same window that perception uses.
    """
    window, longest, run = ClipWindow(request), 0, 0
    nothing, geometry = np.zeros((1, 1, 3), np.uint8), Geometry(1, 1, 0, 0, 1, 1)
    for stamp in stamps_ns:
        if window.offer(stamp) is not Verdict.TAKE:
            continue
        window.push(stamp, nothing, geometry)
        if window.ready():
            run = 1 if window.take(0).reset else run + 1
            longest = max(longest, run)
    return longest
