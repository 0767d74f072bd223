# SPDX-License-Identifier: Apache-2.0
"""What a probe scored, kept by sequence, so that two encoders can be compared on the same sequences."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from jepa_ros.errors import JepaError
from jepa_ros.evaluation.percentiles import expanded

DRAWS = 2000


class ProbeError(JepaError):
    """Something a probe cannot be run on."""


@dataclass(frozen=True)
class Scores:
    """Sums and counts of a metric by sequence and group.

    A score is the mean over the groups of (sum over sequences of `sums`) / (the same of `counts`): with classes
    as groups and hits as sums it is the class-mean recall; with one group and errors it is the mean error.
    Groups without a count are left out.

    :param sequences: [S], names of what is resampled together (a recording, or a trajectory of several cameras).
    :param groups: [G], names of classes, or of horizons in view and hidden.
    :param sums: float64 [S, G]; `counts`: float64 [S, G].
    """

    sequences: tuple[str, ...]
    groups: tuple[str, ...]
    sums: np.ndarray = field(repr=False)
    counts: np.ndarray = field(repr=False)

    @classmethod
    def of(cls, names, groups, sums, counts) -> Scores:
        """Add up the clips of each sequence.

        :param names: [M], the sequence of each clip.
        :param sums: [M, G]; `counts`: [M, G], of each clip.
        """
        sequences, rows = np.unique(np.asarray(names, str), return_inverse=True)
        totals = np.zeros((2, len(sequences), len(groups)))
        for total, values in zip(totals, (sums, counts)):
            np.add.at(total, rows, values)
        return cls(tuple(sequences.tolist()), tuple(groups), *totals)

    def value(self, weights: np.ndarray | None = None) -> float:
        """The score; NaN where nothing was counted.

        :param weights: [S], how often each sequence counts; None: once.
        """
        return float(self._values(np.ones((1, len(self.sequences))) if weights is None else weights[None])[0])

    @property
    def clips(self) -> int:
        """How many answers were judged."""
        return int(round(self.counts.sum()))

    def by_group(self) -> dict[str, float | None]:
        """Return the score of each group, None where nothing was counted."""
        sums, counts = self.sums.sum(0), self.counts.sum(0)
        return {g: float(s / c) if c else None for g, s, c in zip(self.groups, sums, counts)}

    def by_sequence(self) -> dict[str, float]:
        """Return the score of each sequence by itself, where it has one."""
        values = {
            name: self._values(row[None])[0] for name, row in zip(self.sequences, np.eye(len(self.sums)))
        }
        return {name: float(value) for name, value in values.items() if not np.isnan(value)}

    def only(self, group: str) -> Scores:
        """Return the scores of one group, of the sequences that have any. :raises ValueError: no such group."""
        column = self.groups.index(group)
        rows = np.flatnonzero(self.counts[:, column])
        names = tuple(self.sequences[row] for row in rows)
        return Scores(names, (group,), *(part[rows, column, None] for part in (self.sums, self.counts)))

    def interval(self, level: float = 0.95, draws: int = DRAWS, seed: int = 0) -> tuple[float, float]:
        """Bootstrap interval of the score over sequences; without ends for fewer than two."""
        weights = resampled(len(self.sequences), draws, seed)
        return _interval(self._values(weights), level, len(self.sequences), self.value())

    def _values(self, weights: np.ndarray) -> np.ndarray:
        """Scores under weights [B, S]: [B]."""
        counts, sums = weights @ self.counts, weights @ self.sums
        known = counts > 0
        ratios = np.divide(sums, counts, out=np.zeros_like(sums), where=known)
        with np.errstate(invalid='ignore'):
            return ratios.sum(1) / known.sum(1)

    def to_dict(self) -> dict:
        """Return plain values; `from_dict` takes them."""
        return {
            'sequences': list(self.sequences),
            'groups': list(self.groups),
            'sums': self.sums.tolist(),
            'counts': self.counts.tolist(),
        }

    @classmethod
    def from_dict(cls, data: dict) -> Scores:
        """Return what `to_dict` was called on."""
        shape = len(data['sequences']), len(data['groups'])
        arrays = (np.array(data[key], float).reshape(shape) for key in ('sums', 'counts'))
        return cls(tuple(data['sequences']), tuple(data['groups']), *arrays)


@dataclass(frozen=True)
class Difference:
    """How much one score is above another, in the score's own unit.

    :param value: of all sequences; `low`, `high`: bounds of the interval, without ends (infinite) for fewer than two
        sequences; `level`: its confidence.
    :param sequences: how many sequences both have.
    """

    value: float
    low: float
    high: float
    level: float
    sequences: int


def difference(
    one: Scores, other: Scores, level: float = 0.95, draws: int = DRAWS, seed: int = 0
) -> Difference:
    """Return `one` minus `other` with a paired bootstrap over the sequences.

    Both are resampled alike, and a resample in which a group is empty is scored without it on both sides.

    :raises ProbeError: when they are not of the same sequences and groups.
    """
    if one.sequences != other.sequences or one.groups != other.groups:
        raise ProbeError(
            f'expected scores of the same sequences and groups, found {len(one.sequences)} and '
            f'{len(other.sequences)} sequences, {len(one.groups)} and {len(other.groups)} groups'
        )
    weights = resampled(len(one.sequences), draws, seed)
    value, count = one.value() - other.value(), len(one.sequences)
    low, high = _interval(one._values(weights) - other._values(weights), level, count, value)
    return Difference(value, low, high, level, count)


def resampled(count: int, draws: int, seed: int) -> np.ndarray:
    """Return how often each of `count` sequences was drawn with replacement, float64 [draws, count]."""
    drawn = (
        np.random.default_rng(seed).integers(count, size=(draws, count))
        if count
        else np.zeros((draws, 0), int)
    )
    weights = np.zeros((draws, count))
    np.add.at(weights, (np.arange(draws)[:, None], drawn), 1.0)
    return weights


def _interval(values: np.ndarray, level: float, count: int, estimate: float) -> tuple[float, float]:
    """Return percentiles of resampled values, taken further out for few sequences; they hold the estimate."""
    values = values[~np.isnan(values)]
    if not len(values):
        return float('nan'), float('nan')
    if count < 2:
        return float('-inf'), float('inf')
    level = expanded(level, count)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return min(float(low), estimate), max(float(high), estimate)
