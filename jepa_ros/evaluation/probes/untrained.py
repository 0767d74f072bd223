# SPDX-License-Identifier: Apache-2.0
"""Answers that need no training: the label of the most similar training clip, and one that does not look."""

from __future__ import annotations

import numpy as np

from jepa_ros.evaluation.probes.heads import Answers, Spec
from jepa_ros.evaluation.probes.probe import Samples


class Nearest:
    """
    The label of the training clip whose tokens, each compared with the one at its place, have the largest cosine.

    What all training clips have in common is subtracted first: it tells nothing, and makes all clips alike.
    """

    def fit(self, samples: Samples) -> Nearest:
        """Remember the training clips."""
        flat = samples.tokens.reshape(len(samples), -1).astype(np.float32)
        self._mean = flat.mean(0)
        self._gallery, self._labels = _normed(flat - self._mean), samples.labels
        return self

    def answer(self, samples: Samples) -> Answers:
        """Return labels of training clips, [M, P]."""
        flat = samples.tokens.reshape(len(samples), -1).astype(np.float32)
        best = [
            (part @ self._gallery.T).argmax(1)
            for part in np.array_split(_normed(flat - self._mean), max(1, len(flat) // 256))
        ]
        return Answers(self._labels[np.concatenate(best)])


class Blind:
    """The same answer to everything: the mean label, or the most frequent classes."""

    def __init__(self, spec: Spec):
        self.spec = spec

    def fit(self, labels: np.ndarray) -> Blind:
        """Look at the training labels, as a head does."""
        if self.spec.classes:
            self._answer = np.bincount(labels, minlength=self.spec.outputs).astype(np.float32)
        else:
            self._answer = labels.mean(0)
        return self

    def answer(self, count: int) -> Answers:
        """Return as many answers."""
        return Answers(np.repeat(self._answer[None], count, 0))


def _normed(rows: np.ndarray) -> np.ndarray:
    return rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-6)
