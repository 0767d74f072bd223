# SPDX-License-Identifier: Apache-2.0
"""From scores, costs and rollouts to criteria: signs, groups, and what evidence cannot speak for."""

import dataclasses

import numpy as np
import pytest
from audited import errors, evidence

from jepa_ros.errors import JepaError
from jepa_ros.evaluation.audit.closed_loop import Outcomes
from jepa_ros.evaluation.audit.config import ClosedLoop, Cost, Gain, Loss, Rule
from jepa_ros.evaluation.audit.costs import Costs
from jepa_ros.evaluation.audit.criteria import criteria, gain_of
from jepa_ros.evaluation.probes.scores import ProbeError, Scores

RULE = Rule([Gain('action_anticipation', 0.02)], [Loss('depth', 0.05)])


@pytest.fixture
def pair():
    """The results of an image encoder and of a better video encoder."""
    rng = np.random.default_rng(0)
    return evidence(rng, 'image', 0.6, 0.10), evidence(rng, 'video', 0.8, 0.14)


def one(rule, pair, index=0, **values):
    pair = [dict(results) for results in pair]
    for side, changes in values.items():
        for probe, change in changes.items():
            results = pair[('image', 'video').index(side)]
            results[probe] = dataclasses.replace(results[probe], **change)
    return criteria(rule, *pair, None, None)[index]


def test_better_is_counted_positive_and_a_loss_is_a_gain_turned_round(pair):
    gain, loss = criteria(RULE, *pair, None, None)
    assert gain.interval.estimate == pytest.approx(0.2, abs=0.05) and not gain.at_most
    assert loss.interval.estimate == pytest.approx(0.04, abs=0.01) and loss.at_most
    assert gain.interval.low < gain.interval.estimate < gain.interval.high and gain.interval.count == 24


def test_of_few_sequences_intervals_are_wider_and_of_one_there_is_none():
    def width(sequences):
        pair = [evidence(np.random.default_rng(seed), 'x', 0.6, 0.1, sequences=sequences) for seed in (0, 1)]
        gain = gain_of(pair[0]['depth'], pair[1]['depth'], RULE)
        return gain.high - gain.low

    assert width(1) == np.inf and width(24) < width(6)


def test_a_group_or_a_further_metric_can_be_ruled_on(pair):
    def gain(metric):
        return one(Rule([Gain('action_anticipation', 0.02, metric)], RULE.static), pair)

    groups = [gain(name).interval.estimate for name in ('approach', 'grasp', 'lift')]
    assert np.mean(groups) == pytest.approx(gain('').interval.estimate) and len(set(groups)) == 3
    assert gain('first half').interval == gain('').interval and '(first half)' in gain('first half').name
    with pytest.raises(JepaError, match=r"\(first half, approach, grasp, lift\), found 'lif'"):
        gain('lif')
    with pytest.raises(JepaError, match='expected a probe with a linear head'):
        one(dataclasses.replace(RULE, head='linear'), pair)


def test_sequences_without_a_group_do_not_count_for_it():
    scores = Scores(('a', 'b'), ('seen', 'hidden'), np.array([[1.0, 2], [3, 0]]), np.array([[1.0, 4], [1, 0]]))
    assert scores.only('hidden').by_sequence() == {'a': 0.5} and scores.only('seen').value() == 2.0


@pytest.mark.parametrize('verdict', ['not temporal', 'undecided'])
def test_a_gain_without_order_is_not_earned_and_two_such_say_nothing(pair, verdict):
    changed = {'action_anticipation': {'verdict': verdict}}
    assert 'no gain in time' in one(RULE, pair, video=changed).unearned
    assert not one(RULE, pair, image=changed).unearned and not one(RULE, pair, image=changed).void
    void = one(RULE, pair, image=changed, video=changed).void
    assert f'image: {verdict}, video: {verdict}' in void


@pytest.mark.parametrize('index, probe', [(0, 'action_anticipation'), (1, 'depth')])
def test_what_neither_has_learnt_says_nothing(pair, index, probe):
    blind = {probe: {'controls': {'permuted': pair[0][probe].scores}}}
    seeing = {probe: {'controls': {'permuted': pair[1][probe].scores}}}
    assert 'permuted labels' in one(RULE, pair, index, image=blind, video=seeing).void
    assert not one(RULE, pair, index, image=blind).void, 'one of the two is enough'


def test_scores_of_other_sequences_are_not_compared(pair):
    other = {'depth': {'scores': errors(np.random.default_rng(0), 0.1, 5)}}
    changed = one(RULE, pair, 1, video=other)
    assert changed.interval is None and 'expected scores of the same sequences' in changed.void
    with pytest.raises(ProbeError):
        gain_of(pair[0]['depth'], dataclasses.replace(pair[1]['depth'], **other['depth']), RULE)


def costs(frame, **values):
    return Costs('stream', 'onnxruntime-cpu', 2, 0.05, [frame, 1.1 * frame], [1.0, 1.0], [0.1, 0.2],
                 **{'memory_mb': 100.0, 'training_hours': 10.0, **values})  # fmt: skip


def test_costs_are_ratios_and_what_is_not_known_is_said(pair):
    rule = dataclasses.replace(RULE, cost=Cost(3.0, 3.0, 2.0, 2.0, 'core hours'))
    found = criteria(rule, *pair, (costs(3.0), costs(7.0, memory_mb=None, training_hours=15.0)), None)[2:]
    assert [c.kind for c in found] == ['cost'] * 4 and all(c.at_most for c in found)
    assert found[0].interval.estimate == pytest.approx(2.0, rel=0.01)
    assert found[1].interval.estimate == 1.0 and found[3].interval.estimate == 1.5
    assert found[2].interval is None and 'could not be measured' in found[2].void
    assert found[3].name == 'training, core hours, video over image'
    untimed = criteria(rule, *pair, None, None)[2:]
    assert all(c.interval is None and c.void for c in untimed)


def test_a_closed_loop_is_paired_by_seed(pair):
    rule = dataclasses.replace(RULE, closed_loop=ClosedLoop(0.0))
    missing = criteria(rule, *pair, None, None)[2]
    assert missing.interval is None and 'jepa evaluate rollout' in missing.void
    seeds = range(40)
    outcomes = Outcomes({s: s % 2 == 0 for s in seeds}, {s: s % 2 == 0 or s % 5 == 0 for s in seeds})
    found = criteria(rule, *pair, None, outcomes)[2]
    assert found.interval.estimate == pytest.approx(0.1) and found.interval.count == 40
