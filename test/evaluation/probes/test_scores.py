# SPDX-License-Identifier: Apache-2.0
"""Scores by sequence: their value, their interval, and the paired difference."""

import numpy as np
import pytest

from jepa_ros.evaluation.probes.scores import ProbeError, Scores, difference, resampled


def scores(hits, counts=None, groups=('a', 'b')):
    hits = np.array(hits, float)
    names = [f's{i}' for i in range(len(hits))]
    return Scores.of(names, groups, hits, np.ones_like(hits) if counts is None else np.array(counts, float))


def test_clips_add_up_by_sequence_and_empty_groups_are_left_out():
    found = Scores.of(
        ['x', 'y', 'x'],
        ('a', 'b', 'none'),
        [[1, 0, 0], [0, 3, 0], [0, 0, 0]],
        [[1, 0, 0], [0, 2, 0], [1, 0, 0]],
    )
    assert found.sequences == ('x', 'y') and found.clips == 4
    assert found.by_group() == {'a': 0.5, 'b': 1.5, 'none': None}
    assert found.value() == 1.0 and found.by_sequence() == {'x': 0.5, 'y': 1.5}
    assert Scores.from_dict(found.to_dict()).to_dict() == found.to_dict()


def test_nothing_counted_is_no_score():
    empty = Scores.of([], ('a',), np.zeros((0, 1)), np.zeros((0, 1)))
    assert np.isnan(empty.value()) and np.isnan(empty.interval()).all() and empty.clips == 0


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        low, high = scores(rng.random((40, 1)) < 0.6, groups=('a',)).interval(0.9, draws=200)
        covered += low <= 0.6 <= high
    assert 80 <= covered <= 98


def test_a_difference_is_paired():
    """What both have in common, here how hard each sequence is, does not widen it."""
    hard = np.random.default_rng(1).normal(0, 5, (30, 1))
    found = difference(scores(hard + 1, groups=('a',)), scores(hard, groups=('a',)))
    assert (
        found.value == pytest.approx(1) and found.low == pytest.approx(1) and found.high == pytest.approx(1)
    )
    assert found.sequences == 30


def test_scores_of_other_sequences_or_groups_are_refused():
    one = scores([[1, 1], [1, 0]])
    with pytest.raises(ProbeError, match='found 2 and 1 sequences'):
        difference(one, scores([[1, 1]]))
    with pytest.raises(ProbeError, match='2 groups'):
        difference(one, scores([[1, 1], [1, 0]], groups=('a', 'c')))


def test_every_draw_has_as_many_sequences():
    drawn = resampled(7, 50, 0)
    assert drawn.shape == (50, 7) and (drawn.sum(1) == 7).all() and drawn.std() > 0
