# SPDX-License-Identifier: Apache-2.0
"""From answers to scores, and from scores to whether a task is temporal."""

from __future__ import annotations

import numpy as np

from jepa_ros.evaluation.probes.heads import Answers
from jepa_ros.evaluation.probes.probe import ClassProbe, Probe, Samples
from jepa_ros.evaluation.probes.scores import Difference, Scores, difference

ORDERLESS = ('shuffled', 'last')
NEGLIGIBLE = 0.1  # share of what was learned: order that adds less adds nothing


def judge(probe: Probe, samples: Samples, answers: Answers) -> Scores:
    """Score the answers to samples."""
    if isinstance(probe, ClassProbe):
        values = _among(answers.values, samples.labels, probe.top)
    else:
        values = probe.error(answers.values, samples.labels, samples)
    return _scores(samples, values)


def further(probe: Probe, samples: Samples, answers: Answers) -> dict[str, Scores]:
    """Score them by the probe's further metrics."""
    if isinstance(probe, ClassProbe):
        first = _among(answers.values, samples.labels, 1)
        return {'top-1 recall': _scores(samples, first)} if probe.top > 1 else {}
    found = probe.details(answers.values, samples.labels, samples)
    return {name: _scores(samples, values) for name, values in found.items()}


def margin(probe: Probe, scores: Scores, other: Scores, confidence: float) -> Difference:
    """Return by how much one is better than another, better counted positive."""
    pair = (scores, other) if probe.higher else (other, scores)
    return difference(*pair, confidence)


def verdict(probe: Probe, margins: dict[str, Difference], learned: float) -> str:
    """
    Say whether a task is temporal for an encoder.

    :param margins: by how much it beats the controls of ORDERLESS.
    :param learned: by how much it beats permuted labels.
    :returns: 'static', 'temporal', 'not temporal' or 'undecided', as `ProbeResult.verdict` says.
    """
    if not probe.temporal:
        return 'static'
    found = [margins[name] for name in ORDERLESS if name in margins]
    if len(found) == len(ORDERLESS) and all(gain.low > 0 for gain in found):
        return 'temporal'
    # Of what was not learned, nothing is said.
    if any(gain.high < 0 or (learned > 0 and gain.high <= NEGLIGIBLE * learned) for gain in found):
        return 'not temporal'
    return 'undecided'


def _among(logits: np.ndarray, labels: np.ndarray, top: int) -> np.ndarray:
    """Return whether each label is among the likeliest, float [M]; of equals the first ones are."""
    likeliest = np.argsort(-logits, axis=1, kind='stable')[:, :top]
    return (likeliest == labels[:, None]).any(1).astype(float)


def _scores(samples: Samples, values: np.ndarray) -> Scores:
    """Add up values [M], NaN: does not count, by sequence and group."""
    counts = np.zeros((len(samples), len(samples.group_names)))
    counted = ~np.isnan(values)
    counts[np.flatnonzero(counted), samples.groups[counted]] = 1
    return Scores.of(samples.names, samples.group_names, counts * np.nan_to_num(values)[:, None], counts)
