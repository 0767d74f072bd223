# SPDX-License-Identifier: Apache-2.0
"""A Kalman filter for readings whose errors are alike for a while."""

from __future__ import annotations

import numpy as np


class AlikeFilter:
    """
    What is known of some values from readings that err alike.

    Readings of successive frames come from nearly the same pictures of the same thing: ten of them in half a second
    do not make a value ten times as certain, while what changes between them still tells how it moves. Their common
    errors are states besides the values, first-order Gauss-Markov processes in units of the deviations that readings
    claim (state augmentation for correlated measurement errors, Gelb, Applied Optimal Estimation, 1974). A reading
    that claims more than the one before errs as that one did and by something of its own besides, so of two that
    claim unlike deviations the errors are correlated by the smaller over the larger.

    :param time: of what is known at first, s.
    :param values: float64 [n]; `covariance`: of these, float64 [n, n].
    :param errors: of how many kinds the common errors are.

    Attributes: `time`, s; `state` float64 [n + errors], values first; `covariance` of that.
    """

    def __init__(self, time: float, values: np.ndarray, covariance: np.ndarray, errors: int):
        self._count = len(values)
        self.time, self.state = time, np.concatenate([values, np.zeros(errors)])
        self.covariance = np.eye(self._count + errors)
        self.covariance[: self._count, : self._count] = covariance
        self._claims: np.ndarray | None = None  # [errors], of the newest reading

    def ahead(
        self, time: float, move: np.ndarray, noise: np.ndarray, alike: float, claims: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """
        Return state and covariance at a time, without any further reading.

        :param time: s; before the newest reading errors fade too.
        :param move: float64 [n, n], how the values move until then; `noise` [n, n], by what else they may.
        :param alike: time in which errors become others, s.
        :param claims: deviations that the reading of that time claims, float64 [errors], above 0; None: as before.
        """
        count, errors = self._count, slice(self._count, None)
        kept = np.full(len(self.state) - count, np.exp(-abs(time - self.time) / alike))
        if claims is not None and self._claims is not None:
            kept = kept * np.minimum(claims / self._claims, self._claims / claims)
        whole = np.zeros_like(self.covariance)
        whole[:count, :count], whole[errors, errors] = move, np.diag(kept)
        covariance = whole @ self.covariance @ whole.T
        covariance[:count, :count] += noise
        covariance[errors, errors] += np.diag(1 - kept**2)
        return whole @ self.state, covariance

    @staticmethod
    def compare(state, covariance, rows, values, noise) -> tuple[np.ndarray, np.ndarray]:
        """
        Return how far a reading is from what was expected, float64 [K], and the covariance of that, [K, K].

        :param state: with `covariance` what was known of its time, from :meth:`ahead`.
        :param rows: how the reading depends on the state, float64 [K, n + errors].
        :param values: what was read, float64 [K]; `noise`: covariance of what errors it has of its own, [K, K].
        """
        return values - rows @ state, rows @ covariance @ rows.T + noise

    def take(self, time, state, covariance, rows, off, spread, claims=None) -> None:
        """
        Take a reading in.

        :param time: s; `state`, `covariance`: what was known of it, from :meth:`ahead`.
        :param rows: how the reading depends on the state, float64 [K, n + errors]; `off` and `spread`, from
            :meth:`compare`.
        :param claims: deviations that it claims, float64 [errors]; None: it errs like no other, as what is felt.
        """
        gain = np.linalg.solve(spread, rows @ covariance).T
        kept = covariance - gain @ spread @ gain.T
        self.time, self.state, self.covariance = time, state + gain @ off, (kept + kept.T) / 2
        self._claims = self._claims if claims is None else claims
