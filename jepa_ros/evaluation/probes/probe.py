# SPDX-License-Identifier: Apache-2.0
"""
What a probe is: a task, where its labels come from, a metric, and the controls that keep it honest.

A user adds one by deriving from `ClassProbe` or `VectorProbe` and giving its labels (docs/probes.md). Everything
else (features, heads, choice on validation, controls, noise, held-out score) is the same for all.

Letters: M moments, T slices, N tokens, D width, K horizons, C classes, P elements of a vector, G groups.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np

from jepa_ros.evaluation.probes.scores import ProbeError, Scores
from jepa_ros.evaluation.probes.settings import Settings
from jepa_ros.evaluation.probes.tracks import Track

TEMPORAL_CONTROLS = ('shuffled', 'last', 'permuted', 'raw', 'random')
STATIC_CONTROLS = ('last', 'permuted', 'raw', 'random')


@dataclass(frozen=True)
class Labels:
    """What is true at some moments of a sequence, with more than the labels themselves.

    :param values: as `ClassProbe` and `VectorProbe` say.
    :param groups: str [M] (with the view 'futures' [M, K]): a score is the mean over these groups. None: one.
    :param extra: arrays [M, ...] (with the view 'futures' [M, K, ...]) that only the metric needs.
    """

    values: np.ndarray
    groups: np.ndarray | None = None
    extra: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Samples:
    """What a head is trained or judged on.

    :param tokens: float16 [M, T, N, D]; `times`: float32 [M, T], s.
    :param names: [M], the sequence of each, as it is resampled.
    :param labels: int64 [M] classes, or float32 [M, P]; no label is missing.
    :param groups: int64 [M], which group of the metric each belongs to; classes are groups by themselves.
    :param group_names: of these groups.
    :param extra: arrays [M, ...] that only the metric needs.
    """

    tokens: np.ndarray = field(repr=False)
    times: np.ndarray = field(repr=False)
    names: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    groups: np.ndarray = field(repr=False)
    group_names: tuple[str, ...]
    extra: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.labels)


class Probe(ABC):
    """
    A task on frozen latents.

    :ivar name: for the command line; `task`: what is asked, in words; `metric`: what a score is, in words.
    :ivar temporal: whether order in time is meant to be needed; it decides which controls are run.
    :ivar higher: whether a higher score is better.
    :ivar view: what the head is offered: 'context' (T coarse slices), 'newest' (the newest slice, fine) or
        'futures' (one of the K predicted slices, fine, each a sample of its own; an encoder without forecaster
        and the baselines offer the context instead, with times counted from the instant asked for).
    :ivar horizon: how far after the moment the label lies at most, s: 0 for what is seen now.
    :ivar heads: which are trained, the first of them ruling: 'attentive', 'linear'; or 'nearest' alone, which
        learns nothing and answers with the label of the most similar training clip.
    """

    name: str
    task: str
    metric: str
    temporal: bool = True
    higher: bool = True
    view: str = 'context'
    horizon: float = 0.0
    heads: tuple[str, ...] = ('attentive', 'linear')

    @property
    def controls(self) -> tuple[str, ...]:
        """Names of the controls that are run."""
        return TEMPORAL_CONTROLS if self.temporal else STATIC_CONTROLS

    def variants(self) -> tuple[str, ...]:
        """Orders of frames whose features the probe needs besides those of its controls."""
        return ('true',)

    @abstractmethod
    def labels(self, track: Track, at: np.ndarray, settings: Settings) -> np.ndarray | Labels:
        """
        Return the labels of some moments of a sequence.

        :param track: what was recorded; a topic that it lacks raises RecordingError, which leaves the recording
            out of this probe.
        :param at: int64 [M], positions of the newest frames.
        :param settings: of the run, with the horizons that are asked for.
        """

    def labels_of(
        self, variant: str, track: Track, at: np.ndarray, settings: Settings
    ) -> np.ndarray | Labels:
        """Return the labels of clips shown in an order of `variants()`; the same for all, unless that is asked."""
        return self.labels(track, at, settings)


class ClassProbe(Probe):
    """
    A task with classes: `labels` returns their names, [M], '' where there is none.

    The score is the mean over the classes of the share of clips whose class is among the `top` likeliest; the
    classes are those of the training clips, others are left out. Heads
    are trained with the logarithm of the classes' frequencies added to the logits, which makes the mean over the
    classes, and not the most frequent ones, what they are good at (Menon et al. 2021, logit adjustment).
    """

    top: int = 1


class VectorProbe(Probe):
    """
    A task with vectors: `labels` returns float [M, P], or [M, K, P] with the view 'futures', NaN where unknown.

    The score is the mean `error`, over groups where the labels have some; lower is better.
    """

    higher = False

    def error(self, prediction: np.ndarray, label: np.ndarray, samples: Samples) -> np.ndarray:
        """Return the error of each answer, [M]: by default the Euclidean distance. Both are float [M, P]."""
        return np.linalg.norm(prediction - label, axis=-1)

    def details(self, prediction: np.ndarray, label: np.ndarray, samples: Samples) -> dict[str, np.ndarray]:
        """Return further errors by name, [M] each, NaN for clips that do not count."""
        return {}


__all__ = ['ClassProbe', 'Labels', 'Probe', 'ProbeError', 'Samples', 'Scores', 'VectorProbe']
