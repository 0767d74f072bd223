# SPDX-License-Identifier: Apache-2.0
"""
Forecast skill: 1 − error / error of a baseline, per horizon, in the encoder's own latent space.

Two baselines: *persistence* (the newest latent, unchanged), and *shrunk persistence* (the newest latent drawn
towards the training mean by the factor that is best on the very data the figure is computed on, which makes
it the strongest of its kind). A forecast that only beats the first may have learnt no more than to be
cautious.
"""

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from jepa_ros.latents import Futures, Latents

_NS = 1e9


class SkillTable:
    """
    Sums up squared errors per horizon.

    :param horizons: K seconds; a forecast counts for the nearest, if that is within half the smallest step.
    :param mean: float [D], the training mean of the latents.
    """

    def __init__(self, horizons, mean):
        self.horizons = np.asarray(horizons, float)
        self.mean = np.asarray(mean, np.float32)
        steps = np.diff(self.horizons)
        self.tolerance = 0.5 * float(steps.min()) if len(steps) else 0.5 * float(self.horizons[0])
        count = len(self.horizons)
        self.count = np.zeros(count, int)
        self.forecast, self.persistence = np.zeros(count), np.zeros(count)
        self._now, self._cross, self._then = np.zeros(count), np.zeros(count), np.zeros(count)

    def add(self, dt, futures, newest, observed):
        """
        :param dt: [B, K] seconds; `futures`: [B, K, N, D]; `newest`: [B, N, D], the latents at time 0;
            `observed`: [B, K, N, D], what was seen at dt. Arrays or CPU tensors.
        """
        dt, futures, newest, observed = (np.asarray(a, np.float32) for a in (dt, futures, newest, observed))
        for k in range(dt.shape[1]):
            nearest = np.abs(dt[:, k, None] - self.horizons).argmin(1)
            near = np.abs(dt[:, k] - self.horizons[nearest]) <= self.tolerance + 1e-6
            for row in np.flatnonzero(near):
                h, seen, now = nearest[row], observed[row, k], newest[row]
                self.count[h] += 1
                self.forecast[h] += np.mean((futures[row, k] - seen) ** 2)
                self.persistence[h] += np.mean((now - seen) ** 2)
                a, b = now - self.mean, seen - self.mean
                self._now[h] += np.mean(a * a)
                self._cross[h] += np.mean(a * b)
                self._then[h] += np.mean(b * b)

    def sums(self) -> list[list[float]]:
        """Everything added so far, to be kept: `add_sums` of a table with the same horizons takes it."""
        sums = self.count, self.forecast, self.persistence, self._now, self._cross, self._then
        return np.stack(sums).tolist()

    def add_sums(self, sums) -> None:
        """Add what another table gave as `sums`, as if all of it had been added here."""
        own = (self.count, self.forecast, self.persistence, self._now, self._cross, self._then)
        for total, more in zip(own, sums):
            total += np.asarray(more).astype(total.dtype)

    def rows(self):
        """One dict per horizon that was seen: horizon, count, errors and skills."""
        rows = []
        for h in np.flatnonzero(self.count):
            n = self.count[h]
            factor = self._cross[h] / max(self._now[h], 1e-12)
            shrunk = (self._then[h] - factor * self._cross[h]) / n
            forecast, persistence = self.forecast[h] / n, self.persistence[h] / n
            rows.append({'horizon': float(self.horizons[h]), 'count': int(n), 'error': float(forecast),
                         'persistence_error': float(persistence), 'shrunk_error': float(shrunk),
                         'shrink_factor': float(factor),
                         'skill': 1 - float(forecast / max(persistence, 1e-12)),
                         'skill_shrunk': 1 - float(forecast / max(shrunk, 1e-12))})
        return rows

    def figures(self):
        """The same as flat scalars for TensorBoard, with the mean skill over horizons."""
        rows, flat = self.rows(), {}
        for row in rows:
            flat[f'skill_{row["horizon"]:g}s'] = row['skill']
            flat[f'skill_shrunk_{row["horizon"]:g}s'] = row['skill_shrunk']
        flat['skill_shrunk_mean'] = float(np.mean([row['skill_shrunk'] for row in rows])) if rows else 0.0
        return flat


@dataclass(frozen=True)
class Matched:
    """
    A future whose time has come.

    :param futures: what was published; `index`: which of its horizons.
    :param now: the latents at the futures' stamp; `then`: those seen at their time.
    """

    futures: Futures = field(repr=False)
    index: int
    now: Latents = field(repr=False)
    then: Latents = field(repr=False)

    @property
    def horizon(self) -> float:
        """How far ahead it looked (s)."""
        return float(self.futures.horizons[self.index])

    @property
    def predicted(self) -> np.ndarray:
        """The predicted tokens, float32 [N, D]."""
        return self.futures.tokens[self.index]

    @property
    def change(self) -> float:
        """Mean squared difference between what was seen then and at first: the error of persistence."""
        return float(np.mean((self.then.tokens - self.now.tokens) ** 2))


class Matcher:
    """
    Waits for the time of each future and hands it out with what was seen then.

    :param tolerance: how far from its time the latents may lie (s).
    """

    def __init__(self, tolerance: float):
        self.tolerance = tolerance
        self._latents: deque[Latents] = deque()
        self._due: list[tuple[int, Futures, int]] = []  # (time in ns, futures, index of the horizon)

    def latents(self, latents: Latents) -> list[Matched]:
        """Take newly seen latents. :return: the futures that can be judged now."""
        matched = []
        if self._latents and latents.stamp_ns <= self._latents[-1].stamp_ns:  # the clock was set back
            matched += self.end()
            self._latents.clear()
        self._latents.append(latents)
        matched += [self._match(*due) for due in self._due if due[0] <= latents.stamp_ns]
        self._due = [due for due in self._due if due[0] > latents.stamp_ns]
        oldest = min((futures.stamp_ns for _, futures, _ in self._due), default=latents.stamp_ns)
        # Futures come a little after the latents they were made from: some are kept for those on the way.
        while len(self._latents) > 8 and self._latents[0].stamp_ns < oldest:
            self._latents.popleft()
        return [match for match in matched if match]

    def futures(self, futures: Futures) -> None:
        """Take newly published futures."""
        for index, horizon in enumerate(futures.horizons):
            # Horizons are float32: 0.3 s must not become 12 ns more.
            self._due.append((futures.stamp_ns + round(float(horizon) * 1e6) * 1000, futures, index))

    def end(self) -> list[Matched]:
        """Return the futures that the last latents reach although nothing newer came."""
        matched = [self._match(*due) for due in self._due]
        self._due.clear()
        return [match for match in matched if match]

    def _match(self, due_ns: int, futures: Futures, index: int) -> Matched | None:
        now = next((seen for seen in self._latents if seen.stamp_ns == futures.stamp_ns), None)
        later = [seen for seen in self._latents if seen.stamp_ns > futures.stamp_ns]
        if now is None or not later:
            return None
        then = min(later, key=lambda seen: abs(seen.stamp_ns - due_ns))
        near = abs(then.stamp_ns - due_ns) <= _NS * self.tolerance
        comparable = futures.tokens.shape[1:] == then.tokens.shape
        return Matched(futures, index, now, then) if near and comparable else None
