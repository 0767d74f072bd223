# SPDX-License-Identifier: Apache-2.0
"""All criteria must be met for the video encoder, one missed decides for the image encoder, else nobody wins."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jepa_ros.evaluation.audit.decision import (
    IMAGE,
    MET,
    MISSED,
    OPEN,
    PENDING,
    VIDEO,
    Criterion,
    decide,
    judge,
)
from jepa_ros.evaluation.audit.statistics import Interval


def interval(low, high, count=24):
    return Interval((low + high) / 2, low, high, 0.95, count)


def gain(low, high, limit=0.02, **values):
    return Criterion('temporal', 'gain on it', limit, interval(low, high), **values)


def loss(low, high, limit=0.02, **values):
    return Criterion('static', 'loss on it', limit, interval(low, high), at_most=True, **values)


@pytest.mark.parametrize(
    'criterion, state, words',
    [
        (gain(0.03, 0.09), MET, 'gain on it: 0.06 [0.03, 0.09] at 95 % from 24, at least 0.02 asked'),
        (gain(-0.03, 0.01), MISSED, 'at least 0.02 asked'),
        (gain(0.01, 0.09), OPEN, 'undecided, about 43 sequences would tell'),
        (loss(-0.03, 0.01), MET, 'at most 0.02 asked'),
        (loss(0.03, 0.09), MISSED, 'at most 0.02 asked'),
        (gain(0.0, 0.04, resolution=0.03), OPEN, 'a tie, known to 0.03'),
        (gain(0.03, 0.09, least=30), OPEN, '24 sequences are too few, 30 are needed'),
        (gain(0.03, 0.09, unearned='it needs no order'), OPEN, 'but it needs no order'),
        (gain(-0.03, 0.01, unearned='it needs no order'), MISSED, 'asked'),
        (gain(0.03, 0.09, void='nothing was learnt'), OPEN, 'gain on it: nothing was learnt'),
        (Criterion('closed_loop', 'rollouts', 0.0, None), OPEN, 'rollouts: not measured'),
        (Criterion('cost', 'memory', 1.5, Interval(1.2, 1.2, 1.2, 1.0, 1), at_most=True), MET, 'memory: 1.2, at'),
    ],
)
def test_the_whole_interval_must_lie_on_one_side(criterion, state, words):
    finding = judge(criterion)
    assert finding.state == state and words in finding.why


ENDS = st.tuples(st.floats(-1, 1), st.floats(0, 0.5)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(st.lists(ENDS, min_size=1, max_size=3), st.lists(ENDS, min_size=1, max_size=3))
def test_the_rule_of_all_and_one(gains, losses):
    criteria = [gain(*ends) for ends in gains] + [loss(*ends) for ends in losses]
    found = decide(criteria)
    states = [judge(criterion).state for criterion in criteria]
    assert (found.winner == VIDEO) == all(state == MET for state in states)
    assert (found.winner == IMAGE) == (MISSED in states)
    assert found.reasons and (found.winner == PENDING or found.sequences is None)


def test_what_is_pending_says_how_much_more_is_needed():
    found = decide([gain(0.01, 0.09), gain(0.015, 0.5), loss(-0.03, 0.01)])
    assert found.winner == PENDING and found.sequences == 43
    assert all('would tell' in reason for reason in found.reasons) and len(found.reasons) == 2


def test_nothing_temporal_decides_nothing_whatever_else_was_missed():
    found = decide([gain(0.03, 0.09, void='order is not needed'), loss(0.03, 0.09)])
    assert found.winner == PENDING and 'nothing temporal' in found.reasons[0]
    assert decide([Criterion('temporal', 'gain', 0.02, None), loss(-1, 0)]).winner == PENDING


def test_one_encoder_cannot_win_against_itself():
    found = decide([gain(0.03, 0.09), loss(-0.03, 0.01)], same='one encoder')
    assert found.winner == PENDING and found.reasons == ['one encoder']


@pytest.mark.parametrize('tie, winner', [('pending', PENDING), ('image', IMAGE)])
def test_ties_go_where_the_rule_says(tie, winner):
    tied = gain(0.0, 0.04, resolution=0.03)
    assert decide([tied, loss(-0.03, 0.01)], tie).winner == winner
    assert decide([tied, loss(0.0, 0.09)], tie).winner == PENDING, 'not all that is open is a tie'
