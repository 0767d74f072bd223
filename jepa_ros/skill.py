# SPDX-License-Identifier: Apache-2.0
"""
Forecast skill: 1 − error / error of a baseline, per horizon, in the encoder's own latent space.

Two baselines: *persistence* (the newest latent, unchanged), and *shrunk persistence* (the newest latent drawn
towards the training mean by the factor that is best on the very data the figure is computed on, which makes it the
strongest of its kind). A forecast that only beats the first may have learnt no more than to be cautious.
"""

import numpy as np


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
                         'shrink_factor': float(factor), 'skill': 1 - float(forecast / max(persistence, 1e-12)),
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
