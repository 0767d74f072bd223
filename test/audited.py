# SPDX-License-Identifier: Apache-2.0
"""Evidence of two encoders in which it is known who is better, and by how much."""

import numpy as np

from jepa_ros.evaluation.probes.result import Choice, HeldOut, ProbeResult
from jepa_ros.evaluation.probes.scores import Scores

CLASSES = ('approach', 'grasp', 'lift')
CLIPS = 12  # of each class in each sequence


def hits(rng, chance, sequences):
    """Return class-mean recall. :param chance: of a hit, 0..1, a number or [sequences, 1]."""
    chance = np.broadcast_to(np.clip(chance, 0.01, 0.99), (sequences, len(CLASSES)))
    return _scores(CLASSES, rng.binomial(CLIPS, chance).astype(float))


def errors(rng, mean, sequences):
    """Return mean errors (m), those of a sequence within about a tenth of the mean."""
    return _scores(('all',), CLIPS * mean * (1 + 0.1 * rng.standard_normal((sequences, 1))))


def evidence(rng, encoder, recall, depth, verdict='temporal', sequences=24, hard=0.0):
    """
    Return the results of a temporal and a static probe.

    :param recall: of the temporal one, 0..1; `depth`: error of the static one, m.
    :param verdict: of the temporal one.
    :param hard: what each sequence, [sequences, 1], takes from the recall of any encoder.
    """
    temporal = _result(
        'action_anticipation', encoder, hits(rng, recall - hard, sequences), hits(rng, 1 / 3, sequences), verdict
    )
    static = _result('depth', encoder, errors(rng, depth, sequences), errors(rng, 0.4, sequences), 'static')
    return {result.probe: result for result in (temporal, static)}


def _scores(groups, sums) -> Scores:
    names = tuple(f'run_{i:02d}' for i in range(len(sums)))
    return Scores(names, groups, sums, np.full_like(sums, CLIPS))


def _result(probe, encoder, scores, permuted, verdict) -> ProbeResult:
    temporal = verdict != 'static'
    return ProbeResult(
        probe=probe,
        task=f'the task of {probe}',
        metric='top-5 recall' if temporal else 'mean error (m)',
        temporal=temporal,
        higher=temporal,
        encoder=encoder,
        model_id=0,
        mode='frame',
        offered='8 slices of 3 x 4 tokens',
        choice=Choice(2e-3, 0.01, 0.5, ({'rate': 2e-3, 'decay': 0.01, 'score': 0.5},)),
        held_out=HeldOut('held-out', len(scores.sequences), 1, '2026-11-23T00:00:00+00:00', 'abc'),
        scores=scores,
        controls={'permuted': permuted},
        details={'first half': scores},
        verdict=verdict,
        clips={'held_out': scores.clips},
        sequences={'held_out': len(scores.sequences)},
    )
