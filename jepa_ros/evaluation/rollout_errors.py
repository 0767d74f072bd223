# SPDX-License-Identifier: Apache-2.0
"""How far paths were from what then happened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jepa_ros.angles import wrapped
from jepa_ros.control.calibration import Calibration
from jepa_ros.gaussian import ELLIPSE

AFTER = 1.0  # s for which an intervention counts
SAME = 1_000_000  # ns by which instants of one moment may differ: they were reckoned in floats
#: What a row of `errors` holds: horizon, s; by how much the published path is off along the belt, across it and
#: upwards, cm; whether the handle was hidden at the newest frame; whether an intervention fell into the second
#: before the instant; whether the handle lay in the 90 % ellipse of the published path, and in that which the
#: contender gave in the picture; speed of the belt at the instant, m/s; by how much the direction of the bar is off,
#: degrees, -90 to 90.
COLUMNS = ('horizon', 'along', 'across', 'up', 'hidden', 'disturbed', 'inside', 'read_inside', 'belt', 'turn')


@dataclass(frozen=True)
class Moment:
    """
    What was true at a frame.

    :param stamp_ns: of it.
    :param position: of the handle, float64 [3], m.
    :param yaw: direction of the bar from x, rad, modulo pi.
    :param xy: of the handle in the picture, None outside of it.
    :param visible: whether it could be seen.
    :param free: whether the manipulator touched no bin.
    :param belt: speed, m/s.
    :param disturbed: whether something happened to belt or bin since the frame before.
    """

    stamp_ns: int
    position: np.ndarray
    yaw: float
    xy: np.ndarray | None
    visible: bool
    free: bool
    belt: float
    disturbed: bool


def errors(opinions: Sequence, moments: Sequence[Moment], camera: Calibration) -> list[list]:
    """
    Compare what was predicted, until the manipulator first touches a bin, with where the handle then was.

    Only instants count at which the handle was in the picture, as it was at the frame of the path.

    :param opinions: pairs of an `Opinion` and the path that the controller published after it: instants in ns
        and `HandleState`s; an instant of which it says nothing does not count.
    :returns: rows of COLUMNS.
    """
    touched = next((m.stamp_ns for m in moments if not m.free), moments[-1].stamp_ns)
    stamps = np.array([m.stamp_ns for m in moments])
    events = stamps[[m.disturbed for m in moments]]
    at = {m.stamp_ns: m for m in moments}
    rows = []
    for opinion, published in opinions:
        path, seen = opinion.path, at[opinion.path.stamp_ns]
        if seen.xy is None:
            continue
        instants = np.array([instant for instant, _ in published], np.int64)
        for index, horizon in enumerate(path.horizons):
            instant = path.stamp_ns + round(float(horizon) * 1e6) * 1000
            right = int(np.searchsorted(stamps, instant))
            if instant >= touched or right >= len(moments) or moments[right].xy is None:
                continue
            of_instant = np.flatnonzero(np.abs(instants - instant) <= SAME)
            if not of_instant.size:
                continue
            truth, (_, state) = _between(moments, right, instant), published[of_instant[0]]
            inside = _inside(state.position[:2], state.covariance[:2, :2], truth[:2])
            turn = wrapped(state.yaw - moments[right].yaw, np.pi)
            disturbed = bool(np.any((events <= instant) & (instant - events < AFTER * 1e9)))
            read = _inside(path.points[index], path.covariances[index], camera.to_image(truth[None])[0])
            belt = moments[right].belt
            rows.append(
                [
                    round(float(horizon), 4),
                    *(round(float(100 * v), 2) for v in state.position - truth),
                    int(not seen.visible),
                    int(disturbed),
                    int(inside),
                    int(read),
                    round(belt, 3),
                    round(float(np.degrees(turn)), 1),
                ]
            )
    return rows


def _between(moments: Sequence[Moment], right: int, instant: int) -> np.ndarray:
    """Return the handle's place between two frames."""
    after, before = moments[right], moments[max(right - 1, 0)]
    span = after.stamp_ns - before.stamp_ns
    weight = (instant - before.stamp_ns) / span if span else 1.0
    return before.position + weight * (after.position - before.position)


def _inside(mean, covariance, truth) -> bool:
    off = truth - mean
    try:
        return bool(off @ np.linalg.solve(covariance, off) <= ELLIPSE)
    except np.linalg.LinAlgError:
        return bool(np.allclose(off, 0))
