# SPDX-License-Identifier: Apache-2.0
"""How far a predicted path was from where the handle then was, by horizon, in view and hidden."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

HORIZONS = 0.1, 0.2, 0.3, 0.4  # s after the stamp of a path
MAX_STEP = 0.25  # s between two true places that are interpolated
MAX_SPEED = 1.0  # m/s: what is faster is another handle
_NS = 1e9


@dataclass(frozen=True)
class Place:
    """Where the handle is at one instant, m, whether it can be seen, and whether its bin rides on the belt."""

    stamp_ns: int
    position: np.ndarray
    visible: bool
    riding: bool


class HandleErrors:
    """
    Judges a path once the truth of its instants has come.

    Only bins that ride on the belt count, from a path that was made while the handle was in the picture, in view
    or hidden: a bin in the gripper is no prediction any more.
    """

    def __init__(self):
        self._truth: list[Place] = []
        self._stamps: list[int] = []
        self._waiting: list[tuple[int, float, np.ndarray]] = []  # stamp of the path, horizon, place
        self._errors: dict[tuple[float, bool], list[float]] = {}  # by horizon and whether it was in view

    def truth(self, stamp_ns: int, position, visible: bool, riding: bool) -> None:
        """
        Take a true place in; they come in the order of their stamps.

        :param position: float [3], m, in the frame of the paths.
        """
        if self._stamps and stamp_ns <= self._stamps[-1]:
            return
        self._truth.append(Place(stamp_ns, np.asarray(position, float), visible, riding))
        self._stamps.append(stamp_ns)
        waiting, self._waiting = self._waiting, []
        for made_ns, horizon, place in waiting:
            if made_ns + round(horizon * _NS) <= stamp_ns:
                self._judge(made_ns, horizon, place)
            else:
                self._waiting.append((made_ns, horizon, place))

    def path(self, stamp_ns: int, points: list[tuple[int, np.ndarray]]) -> None:
        """
        Take a path in: where it says that the handle will be each of HORIZONS after its stamp.

        :param stamp_ns: when it was made.
        :param points: instant (ns) and place (m) of each of its points, in the order of the instants.
        """
        ahead = [(instant_ns - stamp_ns) / _NS for instant_ns, _ in points]
        places = np.array([place for _, place in points], float)
        for horizon in HORIZONS:
            if not ahead or not ahead[0] <= horizon <= ahead[-1]:
                continue
            place = np.array([np.interp(horizon, ahead, axis) for axis in places.T])
            instant_ns = stamp_ns + round(horizon * _NS)
            if self._stamps and instant_ns <= self._stamps[-1]:
                self._judge(stamp_ns, horizon, place)
            else:
                self._waiting.append((stamp_ns, horizon, place))

    def rows(self) -> list[dict]:
        """Return horizon (s), in_view, count, and the median and 90th percentile of the distance (m)."""
        return [
            {
                'horizon': horizon,
                'in_view': in_view,
                'count': len(errors),
                'median_m': round(float(np.median(errors)), 5),
                'p90_m': round(float(np.percentile(errors, 90)), 5),
            }
            for (horizon, in_view), errors in sorted(self._errors.items(), key=lambda i: (i[0][0], not i[0][1]))
        ]

    def median(self, horizon: float) -> tuple[float, float] | None:
        """Return the judged horizon (s) next to one and the median error there (m), in view and hidden alike."""
        judged = {key[0] for key in self._errors}
        if not judged:
            return None
        nearest = min(judged, key=lambda known: abs(known - horizon))
        found = self._errors.get((nearest, True), []) + self._errors.get((nearest, False), [])
        return nearest, float(np.median(found))

    def _judge(self, made_ns: int, horizon: float, place: np.ndarray) -> None:
        when_made, then = self._at(made_ns), self._at(made_ns + round(horizon * _NS))
        if when_made is None or then is None or not (when_made.riding and then.riding):
            return
        if np.linalg.norm(then.position - when_made.position) > MAX_SPEED * horizon:
            return
        error = float(np.linalg.norm((place - then.position)[:2]))
        self._errors.setdefault((horizon, when_made.visible), []).append(error)

    def _at(self, instant_ns: int) -> Place | None:
        """Return what was true at an instant, between the frames before and after it."""
        index = bisect_left(self._stamps, instant_ns)
        if index == len(self._stamps):
            return None
        after = self._truth[index]
        if after.stamp_ns == instant_ns:
            return after
        if index == 0:
            return None
        before = self._truth[index - 1]
        span = (after.stamp_ns - before.stamp_ns) / _NS
        if span > MAX_STEP or np.linalg.norm(after.position - before.position) > MAX_SPEED * span:
            return None
        share = (instant_ns - before.stamp_ns) / _NS / span
        place = before.position + share * (after.position - before.position)
        return Place(instant_ns, place, before.visible, before.riding and after.riding)
