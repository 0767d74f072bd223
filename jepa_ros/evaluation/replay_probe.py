# SPDX-License-Identifier: Apache-2.0
"""
What a recorded vector (a position, a state) can be read from: a linear probe on latents and futures.

Ridge regression from the tokens to the vector, fitted on parts of the recording and judged on the others, so that a
bundle needs no readout for it. One probe serves latents and futures, which live in one space: fitted on latents with
the vector of their own time and on futures with that of the time they speak of.

Letters: M slices, R rows (a slice or a future), F features, P elements, K horizons.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from jepa_ros.data.bags import RecordingError
from jepa_ros.data.frames import Recording
from jepa_ros.data.signals import FrameTimes, Vectors
from jepa_ros.data.tables import SUFFIX, read_table, table_of
from jepa_ros.evaluation.offline import Step
from jepa_ros.latents import pool

COARSE = (6, 8)  # blocks of tokens at most: places matter, and a recording is too short for more
ROWS = 1500  # at most; of a longer recording every second, fourth, ... slice is taken
PARTS = 5
LEAST = 20  # slices with a label below which nothing is fitted
APART = 0.5  # s between the labels that are fitted on and those that are judged
DECAYS = 10.0 ** np.arange(-4, 2)  # of the mean square of the features


@dataclass
class _Seen:
    """What is kept of a slice: when it was, after which break, and its features float16 [1 + K or 1, F]."""

    stamp_ns: int
    log_ns: int
    part: int
    features: np.ndarray = field(repr=False)


class ReplayProbe:
    """
    Collects the slices of one camera.

    :param source: a topic (`Vectors.read`) or a table (`tables.read_table`), and the elements to take: '/ee_state',
        '/ee_state:x,y,z', '*_tracks.csv'.
    :param horizons: float [K] (s) of the futures.
    :param grid: (rows, columns) of the tokens.
    :param comparable: whether the futures live in the space of the latents; else only latents are asked.
    """

    def __init__(self, source: str, horizons, grid: tuple[int, int], comparable: bool = True):
        self._source, _, elements = source.partition(':')
        self._elements = [name.strip() for name in elements.split(',') if name.strip()]
        self._grid = grid
        self._horizons = np.asarray(horizons, float) if comparable else np.zeros(0)
        self._seen: list[_Seen] = []
        self._count = self._part = 0
        self._stride = 1

    def see(self, step: Step) -> None:
        """Take the next step."""
        self._part += step.reset is not None
        self._count += 1
        if (self._count - 1) % self._stride:
            return
        latents = pool(step.latents, 'grid', self._grid, COARSE).tokens
        rows = [latents.reshape(1, -1)]
        if step.futures is not None and len(self._horizons):
            rows.append(
                pool(step.futures, 'grid', self._grid, COARSE).tokens.reshape(len(self._horizons), -1)
            )
        features = np.concatenate(rows).astype(np.float16)
        self._seen.append(_Seen(step.latents.stamp_ns, step.frame.log_ns, self._part, features))
        if len(self._seen) * (1 + len(self._horizons)) > ROWS:
            self._seen, self._stride = self._seen[::2], 2 * self._stride

    def result(self, recording: Recording, stamps_ns: np.ndarray) -> dict:
        """
        Fit and judge.

        :param stamps_ns: int64 [T], of all frames.
        :returns: ``source``, ``names``, ``slices`` with a label, ``parts`` that were judged in turn, ``rows`` by
            horizon (0: what is seen now): ``horizon``, ``count``, and the median distances ``error``, ``change_error``
            (of what is now and the change that is read, from latents to futures), ``hold_error`` (of expecting what
            is now) and ``mean_error`` (of the mean of the other parts), in units of the source;
            and ``series``: of the latents and of the furthest horizon the vectors told and read.
        :raises RecordingError: when the source cannot be read, or is too short.
        """
        vectors = self._vectors(recording, stamps_ns)
        names, columns = self._chosen(vectors)
        which = [(i, row) for i, seen in enumerate(self._seen) for row in range(len(seen.features))]
        slices, kinds = np.array(which, int).reshape(-1, 2).T
        ahead = np.round(np.concatenate([[0.0], self._horizons]) * 1e9).astype(np.int64)
        stamps = np.array([seen.stamp_ns for seen in self._seen], np.int64)
        logs = np.array([seen.log_ns for seen in self._seen], np.int64)
        now = vectors.at(FrameTimes(stamps, logs))[:, columns]
        labels = vectors.at(FrameTimes(stamps[slices] + ahead[kinds], logs[slices] + ahead[kinds]))[
            :, columns
        ]
        known = np.isfinite(labels).all(1) & np.isfinite(now[slices]).all(1)
        slices, kinds, labels = slices[known], kinds[known], labels[known]
        count = len(np.unique(slices))
        if count < LEAST:
            raise RecordingError(f'expected {self._source} at {LEAST} slices or more, found it at {count}')
        features = np.stack([self._seen[i].features[row] for i, row in zip(slices, kinds)]).astype(np.float32)
        parts, at = self._parts(slices), stamps[slices] + ahead[kinds]
        if _fitting(parts, at).sum(1).min() < LEAST // 2:
            raise RecordingError(
                f'expected {self._source} over a longer time, found too little of it to fit and judge'
            )
        fitted, mean = _judge(features, labels, parts, at)
        latents = {seen: row for row, (seen, kind) in enumerate(zip(slices, kinds)) if kind == 0}
        changed = now[slices] + fitted - fitted[[latents[seen] for seen in slices]]
        rows = []
        for kind in np.unique(kinds):
            of = kinds == kind
            errors = [_median(values[of] - labels[of]) for values in (fitted, changed, now[slices], mean)]
            horizon = float(self._horizons[kind - 1]) if kind else 0.0
            rows.append({'horizon': horizon, 'count': int(of.sum()), **dict(zip(_ERRORS, errors))})
        series = [
            {
                'horizon': rows[place]['horizon'],
                'time_s': ((at - stamps_ns[0])[of] / 1e9).tolist(),
                'told': labels[of].tolist(),
                'read': fitted[of].tolist(),
            }
            for place, of in ((0, kinds == 0), (-1, kinds == kinds.max()))
        ][: 1 if kinds.max() == 0 else 2]
        return {
            'source': self._source,
            'names': names,
            'slices': count,
            'parts': PARTS,
            'rows': rows,
            'series': series,
        }

    def _vectors(self, recording: Recording, stamps_ns: np.ndarray) -> Vectors:
        if self._source.endswith(SUFFIX):
            return read_table(table_of(self._source, recording.path), stamps_ns)
        return Vectors.read(recording, self._source)

    def _chosen(self, vectors: Vectors) -> tuple[list[str], list[int]]:
        names = vectors.names or [str(i) for i in range(vectors.table.shape[1])]
        missing = [name for name in self._elements if name not in names]
        if missing:
            raise RecordingError(
                f"expected element '{missing[0]}' in {self._source}, found {', '.join(names) or 'none'}"
            )
        chosen = self._elements or names
        return chosen, [names.index(name) for name in chosen]

    def _parts(self, slices: np.ndarray) -> np.ndarray:
        """Return to which of PARTS each row belongs: whole stretches between breaks, where there are enough."""
        stretches = np.array([self._seen[i].part for i in slices])
        order = np.unique(stretches if len(np.unique(stretches)) >= PARTS else slices)
        place = np.searchsorted(order, stretches if len(np.unique(stretches)) >= PARTS else slices)
        return place * PARTS // len(order)


_ERRORS = ('error', 'change_error', 'hold_error', 'mean_error')


def _fitting(parts: np.ndarray, at_ns: np.ndarray) -> np.ndarray:
    """Return which rows may be fitted on where each part is judged, bool [PARTS, R]: none near its labels in time."""
    reach, rows = round(APART * 1e9), []
    for part in range(PARTS):
        judged = parts == part
        first, last = at_ns[judged].min() - reach, at_ns[judged].max() + reach
        rows.append(~judged & ((at_ns < first) | (at_ns > last)))
    return np.array(rows)


def _judge(features, labels, parts, at_ns) -> tuple[np.ndarray, np.ndarray]:
    """
    Answer for each part with what was fitted on the others; of these the one after it chooses the decay.

    :param at_ns: int64 [R], of the labels.
    :returns: what was read, float [R, P], and the mean of the labels that were fitted on.
    """
    read, means = np.zeros_like(labels), np.zeros_like(labels)
    for part, rest in enumerate(_fitting(parts, at_ns)):
        judged, choosing = parts == part, rest & (parts == (part + 1) % PARTS)
        fitting = rest & ~choosing
        decay = DECAYS[-1]
        if choosing.any() and fitting.any():
            tried = _ridge(features, labels, fitting, choosing, DECAYS)
            decay = DECAYS[np.argmin([np.mean((answer - labels[choosing]) ** 2) for answer in tried])]
        (read[judged],) = _ridge(features, labels, rest, judged, [decay])
        means[judged] = labels[rest].mean(0)
    return read, means


def _ridge(features, labels, fitting, asked, decays) -> list[np.ndarray]:
    """Fit on some rows and answer for others, once for each decay: the dual form, as F is larger than R."""
    mean, centre = features[fitting].mean(0), labels[fitting].mean(0)
    scale = features[fitting].std(0) + 1e-3
    spread = labels[fitting].std(0) + 1e-9
    x, z = ((features[rows] - mean) / scale for rows in (fitting, asked))
    y = (labels[fitting] - centre) / spread
    kernel, cross = x @ x.T / x.shape[1], z @ x.T / x.shape[1]
    answers = []
    for decay in decays:
        weights = np.linalg.solve(kernel + decay * len(x) * np.eye(len(x), dtype=x.dtype), y)
        answers.append(cross @ weights * spread + centre)
    return answers


def _median(differences: np.ndarray) -> float:
    return float(np.median(np.linalg.norm(differences, axis=1)))
