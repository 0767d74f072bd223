# SPDX-License-Identifier: Apache-2.0
"""How often the impossible clip is the more surprising one, and how far that can be trusted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jepa_ros.evaluation.audit.statistics import RESAMPLES, Interval
from jepa_ros.evaluation.percentiles import expanded
from jepa_ros.evaluation.rollout_statistics import wilson

#: What happens behind a screen, in both directions: whoever takes an empty belt for dull is wrong in one of them.
HIDDEN = ('vanish', 'appear')


def relative(possible: Sequence[float], impossible: Sequence[float]) -> Interval:
    """
    Return in which share of the pairs the impossible clip surprises more; a tie is half. 0.5 is chance.

    The interval is Wilson's, which a few pairs that all agree do not shrink to nothing.

    :param possible: surprise of the possible clips; `impossible`: of their others, in the same order.
    """
    wins = _wins(np.asarray(impossible, float), np.asarray(possible, float))
    return Interval(float(wins.mean()), *wilson(wins.sum(), len(wins)), 0.95, len(wins))


def area(possible: Sequence[float], impossible: Sequence[float], seed: int = 0) -> Interval:
    """
    Return the area under the ROC curve: how likely any impossible clip surprises more than any possible one.

    The interval is of a bootstrap over pairs: clips of one pair are drawn together, since they share all else.
    """
    possible, impossible = np.asarray(possible, float), np.asarray(impossible, float)
    wins, count = _wins(impossible[:, None], possible[None, :]), len(possible)
    estimate, level = float(wins.mean()), expanded(0.95, count)
    if count < 2:
        return Interval(estimate, -np.inf, np.inf, 0.95, count)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    areas = ((drawn @ wins) * drawn).sum(1) / count**2
    low, high = np.quantile(areas, ((1 - level) / 2, (1 + level) / 2))
    return Interval(estimate, min(float(low), estimate), max(float(high), estimate), 0.95, count)


def summary(pairs: Sequence[dict]) -> list[dict]:
    """
    Sum up pairs.

    :param pairs: as `violations.watch_all` gives them.
    :returns: a row for each kind, for vanish and appear together, and for all where there are several, and each
        setting: ``kind``, ``context``, ``horizon``, ``pairs``, ``relative`` (of the means over time) and ``area``
        (of the highest), each with ``value``, ``low`` and ``high`` (None for the area of a single pair).
    """
    kinds = list(dict.fromkeys(pair['kind'] for pair in pairs))
    groups = {kind: {kind} for kind in kinds}
    if set(HIDDEN) < set(kinds):
        groups[' + '.join(HIDDEN)] = set(HIDDEN)
    if len(kinds) > 1:
        groups['all'] = set(kinds)
    rows = []
    for name, members in groups.items():
        chosen = [pair for pair in pairs if pair['kind'] in members]
        for place, setting in enumerate(chosen[0]['scores']):
            scores = [pair['scores'][place] for pair in chosen]
            rows.append(
                {
                    'kind': name,
                    'context': setting['context'],
                    'horizon': setting['horizon'],
                    'pairs': len(chosen),
                    'relative': _row(relative(*_columns(scores, 'mean'))),
                    'area': _row(area(*_columns(scores, 'max'))),
                }
            )
    return rows


def _columns(scores: list[dict], over: str) -> list[list[float]]:
    return [[score[f'{which}_{over}'] for score in scores] for which in ('possible', 'impossible')]


def _wins(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one > other) + 0.5 * (one == other)


def _row(found: Interval) -> dict[str, float | None]:
    ends = [float(end) if np.isfinite(end) else None for end in (found.low, found.high)]
    return {'value': found.estimate, 'low': ends[0], 'high': ends[1]}
