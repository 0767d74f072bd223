# SPDX-License-Identifier: Apache-2.0
"""What episodes say together: rates, errors, comparisons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np

from jepa_ros.evaluation.rollout_errors import COLUMNS
from jepa_ros.evaluation.rollout_statistics import paired, wilson
from jepa_ros.sim.belt import SPEEDS

HIDDEN = 0.3  # s of the last second before the grasp from which on it counts as hidden
SPEED_EDGES = tuple(np.round(np.linspace(*SPEEDS, 6), 3).tolist())  # m/s
KINDS = ('visible', 'hidden', 'disturbed')
TARGET_BELT = 0.15, 0.25  # m/s: around 0.2
CROSSED = 45.0  # degrees from which on the fingers would close along the bar rather than across it


def summarise(episodes: Mapping[str, Sequence[dict]], reference: str) -> dict:
    """
    Return the figures of a run, as JSON takes them.

    :param episodes: name of a contender to its episodes.
    :param reference: the contender that says of every seed whether its handle was hidden, or its bin disturbed,
        before the grasp: it is the same for all of them then, so that they can be compared.
    """
    classes = {seed: class_of(episode) for seed, episode in _by_seed(episodes[reference]).items()}
    subsets: dict[str, Callable[[int], bool]] = {
        'all': lambda seed: True,
        'hidden or disturbed': lambda seed: classes.get(seed, 'neither') != 'neither',
        'neither': lambda seed: classes.get(seed) == 'neither',
    }
    return {
        'reference': reference,
        'seeds': sorted(classes),
        'classes': dict(Counter(classes.values())),
        'success': {
            name: {subset: rate([e for e in ran if chosen(e['seed'])]) for subset, chosen in subsets.items()}
            for name, ran in episodes.items()
        },
        'speeds': {name: by_speed(ran) for name, ran in episodes.items()},
        'hidden_share': {name: hidden_share(ran) for name, ran in episodes.items()},
        'why': {name: dict(Counter(e['why'] for e in ran if e['why'])) for name, ran in episodes.items()},
        'pairs': [
            {'subset': subset, 'first': a, 'second': b, **_pair(episodes[a], episodes[b], chosen)}
            for subset, chosen in subsets.items()
            if subset != 'neither'
            for a, b in combinations(episodes, 2)
        ],
        'errors': {name: error_rows(_rows(ran)) for name, ran in episodes.items()},
        'errors_at_0.2': {
            name: error_rows(_rows(ran, lambda belt: (belt >= TARGET_BELT[0]) & (belt <= TARGET_BELT[1])))
            for name, ran in episodes.items()
        },
        'error_speeds': {name: error_by_speed(ran) for name, ran in episodes.items()},
        'latencies': {name: ran[0]['latency'] for name, ran in episodes.items() if ran},
    }


def class_of(episode: dict) -> str:
    """Return 'hidden', 'disturbed' (whether hidden or not) or 'neither', before the grasp of an episode."""
    if episode['disturbed']:
        return 'disturbed'
    return 'hidden' if (episode['hidden'] or 0.0) >= HIDDEN else 'neither'


def rate(episodes: Sequence[dict]) -> dict:
    """Return how many were picked, with Wilson's 95 % interval, and the time and attempts that it took."""
    picked = [e for e in episodes if e['outcome'] == 'picked']
    low, high = wilson(len(picked), len(episodes))
    seconds = [e['seconds'] for e in picked]
    return {
        'episodes': len(episodes),
        'picked': len(picked),
        'rate': len(picked) / len(episodes) if episodes else None,
        'low': low,
        'high': high,
        'seconds': float(np.median(seconds)) if seconds else None,
        'attempts': float(np.mean([e['attempts'] for e in episodes])) if episodes else None,
    }


def by_speed(episodes: Sequence[dict]) -> list[dict]:
    """Return `rate` for each range of belt speeds, 'from' and 'to' in m/s."""
    return [
        {'from': low, 'to': high, **rate([e for e in episodes if low <= e['speed'] < high])}
        for low, high in _ranges()
    ]


def hidden_share(episodes: Sequence[dict]) -> float | None:
    """Return in which share of those with a grasp the handle was hidden for HIDDEN s of the second before."""
    hidden = [e['hidden'] >= HIDDEN for e in episodes if e['hidden'] is not None]
    return float(np.mean(hidden)) if hidden else None


def error_rows(rows: np.ndarray) -> list[dict]:
    """
    Return medians (cm; `turn` degrees) and shares in the 90 % ellipse per horizon and kind.

    :param rows: float [n, len(COLUMNS)]. What falls into the second after an intervention is 'disturbed'; the
        rest is 'visible' or 'hidden' by whether the newest frame showed the handle.
    """
    found = []
    horizons, column = np.unique(rows[:, 0]), _columns(rows)
    for horizon in horizons:
        for kind in KINDS:
            chosen = (rows[:, 0] == horizon) & (_kind(column) == KINDS.index(kind))
            if not chosen.any():
                continue
            off = rows[chosen, 1:4]
            whole = np.linalg.norm(off, axis=1)
            found.append(
                {
                    'horizon': float(horizon),
                    'kind': kind,
                    'count': int(chosen.sum()),
                    'median': float(np.median(whole)),
                    'p90': float(np.percentile(whole, 90)),
                    **{name: float(np.median(np.abs(v))) for name, v in zip(COLUMNS[1:4], off.T)},
                    'turn': float(np.median(np.abs(column['turn'][chosen]))),
                    'crossed': float((np.abs(column['turn'][chosen]) > CROSSED).mean()),
                    'inside': float(column['inside'][chosen].mean()),
                    'read_inside': float(column['read_inside'][chosen].mean()),
                }
            )
    return found


def error_by_speed(episodes: Sequence[dict], horizon: float = 0.4) -> list[dict]:
    """Return the median error (cm) at one horizon for each range of belt speeds, in view and hidden."""
    found = []
    for low, high in _ranges():
        rows = _rows([e for e in episodes if low <= e['speed'] < high])
        rows = rows[np.isclose(rows[:, 0], horizon)]
        medians = {row['kind']: row['median'] for row in error_rows(rows)}
        found.append({'from': low, 'to': high, **{kind: medians.get(kind) for kind in KINDS}})
    return found


def _rows(episodes: Sequence[dict], belt: Callable | None = None) -> np.ndarray:
    rows = [row for episode in episodes for row in episode['errors']]
    table = np.array(rows, float).reshape(-1, len(COLUMNS))
    return table if belt is None else table[belt(table[:, COLUMNS.index('belt')])]


def _columns(rows: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(COLUMNS, rows.T))


def _kind(column: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.where(column['disturbed'] > 0, 2, np.where(column['hidden'] > 0, 1, 0))


def _ranges() -> list[tuple[float, float]]:
    highest = SPEED_EDGES[-1] + 1e-9
    return list(zip(SPEED_EDGES[:-1], [*SPEED_EDGES[1:-1], highest]))


def _by_seed(episodes: Sequence[dict]) -> dict[int, dict]:
    return {episode['seed']: episode for episode in episodes}


def _pair(first: Sequence[dict], second: Sequence[dict], chosen: Callable[[int], bool]) -> dict:
    picked = [
        {seed: e['outcome'] == 'picked' for seed, e in _by_seed(ran).items() if chosen(seed)}
        for ran in (first, second)
    ]
    return paired(*picked)._asdict()
