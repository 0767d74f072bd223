# SPDX-License-Identifier: Apache-2.0
"""What an audit decides where the truth is planted, what it keeps, and what it says of held-out recordings."""

import dataclasses

import numpy as np
import pytest
import yaml
from audited import evidence
from recorded import CAMERA, camera, write_bag

from jepa_ros.engine.bundle import Bundle
from jepa_ros.errors import JepaError
from jepa_ros.evaluation.audit import audit as module
from jepa_ros.evaluation.audit.audit import audit
from jepa_ros.evaluation.audit.config import Cost, Gain, Side
from jepa_ros.evaluation.audit.promotion import refusal
from jepa_ros.evaluation.audit.record import TransferAudit

pytestmark = pytest.mark.usefixtures('timed')
SEEDS = range(20)
IMAGE = {'recall': 0.6, 'depth': 0.10}


def planted(seed=0, sequences=24, image=None, video=None):
    """Return what runs probes on a pair of which the truth is known; sequences differ in how hard they are."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(0, 0.08, (sequences, 1))
    sides = {'tiny_ijepa': {**IMAGE, **(image or {})}, 'tiny_vjepa': {**IMAGE, **(video or {})}}

    def run(bundle, splits, names, tick):
        tick('probes', 1, 1)
        name = bundle.manifest.name
        return evidence(rng, name, sequences=sequences, hard=hard, **sides[name])

    return run


@pytest.fixture
def winners(config, place, opened, with_rule, monkeypatch):
    """Returns the winners over all seeds; recordings are opened and bundles loaded only once."""
    bundles = {side.bundle: Bundle.load(side.bundle) for side in (config.image, config.video)}
    monkeypatch.setattr(module.Bundle, 'load', bundles.get)
    monkeypatch.setattr(module, '_splits', lambda *_: opened)

    def run(rule=None, **plan):
        found = []
        for seed in SEEDS:
            # What is kept is kept for its settings: each seed is an audit of its own.
            settings = dataclasses.replace(config.probes, seed=seed)
            chosen = dataclasses.replace(with_rule(**(rule or {})), probes=settings)
            where = dataclasses.replace(place, ledger=place.ledger.with_name(f'{seed}.yaml'))
            found.append(audit(chosen, 'abc', where, run_probes=planted(seed, **plan)).accepted_winner)
        return found

    return run


@pytest.mark.parametrize(
    'plan, rule, winner',
    [
        ({'video': {'recall': 0.75}}, {}, 'tiny_vjepa'),
        ({'video': {'recall': 0.75, 'depth': 0.12}}, {}, 'tiny_vjepa'),  # a loss that is allowed
        ({'video': {'recall': 0.50}}, {}, 'tiny_ijepa'),
        ({'video': {'recall': 0.75, 'depth': 0.25}}, {}, 'tiny_ijepa'),  # too large a loss on the static probe
        ({'video': {'recall': 0.75}}, {'cost': Cost(inference=1.5)}, 'tiny_ijepa'),
        ({'video': {'recall': 0.75}, 'sequences': 4}, {}, 'pending'),
        ({'video': {'recall': 0.75, 'verdict': 'not temporal'}}, {}, 'pending'),
    ],
    ids=['gains', 'gains and loses little', 'loses', 'loses much', 'costs too much', 'few', 'no order needed'],
)
def test_planted_cases_are_decided_rightly_over_twenty_seeds(winners, plan, rule, winner):
    assert winners(rule, **plan) == [winner] * len(SEEDS)


def test_equally_good_encoders_never_promote_the_video_encoder(winners):
    assert 'tiny_vjepa' not in winners()


def test_on_static_only_data_nothing_speaks_for_video_however_much_better_it_is(winners):
    static = {'verdict': 'not temporal'}
    assert winners(image=static, video={'recall': 0.9, 'depth': 0.05, **static}) == ['pending'] * len(SEEDS)


def test_recordings_without_temporal_labels_decide_nothing(config, place):
    def run(bundle, splits, names, tick):
        found = planted()(bundle, splits, names, tick)
        return {'depth': found['depth']}

    record = audit(config, 'abc', place, run_probes=run)
    assert record.accepted_winner == 'pending' and record.probe_task == 'action_anticipation'
    assert 'nothing temporal was measured' in record.evidence['decision']['reasons'][0]
    assert 'no labels for it' in record.evidence['decision']['reasons'][1]


def test_one_encoder_against_itself_is_pending_whatever_its_probes_say(config, place, pair):
    config = dataclasses.replace(config, video=Side(str(pair[0]), name='another name'))
    lucky = iter(({}, {'recall': 0.9, 'depth': 0.01}))

    def run(bundle, splits, names, tick):
        return evidence(np.random.default_rng(0), bundle.manifest.name, **{**IMAGE, **next(lucky)})

    record = audit(config, 'abc', place, run_probes=run)
    assert record.accepted_winner == 'pending' and 'the same encoder' in refusal(record)


def test_too_little_data_says_how_much_more_is_needed(config, place):
    record = audit(config, 'abc', place, run_probes=planted(sequences=4, video={'recall': 0.75}))
    decision = record.evidence['decision']
    assert decision['sequences_needed'] >= config.rule.least_sequences
    assert all('sequences are too few' in reason for reason in decision['reasons'])


def test_the_record_holds_the_rule_its_hash_and_what_stands_behind_the_decision(config, place, tmp_path):
    record = audit(config, 'abc', place, command='jepa audit tiny', run_probes=planted(video={'recall': 0.75}))
    assert record.as_row() == {
        'image_encoder': 'tiny_ijepa',
        'video_encoder': 'tiny_vjepa',
        'probe_task': 'action_anticipation',
        'split': 'held_out_tiny_sequences',
        'metric': 'top-5 recall',
        'accepted_winner': 'tiny_vjepa',
    }
    evidence_ = record.evidence
    assert evidence_['rule']['sha256'] == config.rule.sha256() and evidence_['config']['sha256'] == 'abc'
    assert evidence_['rule']['temporal'] == [dataclasses.asdict(config.rule.temporal[0])]
    assert [item['state'] for item in evidence_['criteria']] == ['met'] * 3
    assert [evidence_['costs'][side]['mode'] for side in ('image', 'video')] == ['frame', 'stream']
    assert sorted(evidence_['held_out']['sequences']) == ['heldout/heldout_0', 'heldout/heldout_1']
    scores = evidence_['probes']['action_anticipation']['video']['scores']
    assert len(scores['sums']) == 24, 'what decided can be computed again'
    record.write(tmp_path / 'record.yaml')
    assert TransferAudit.read(tmp_path / 'record.yaml') == record
    assert yaml.safe_load((tmp_path / 'record.yaml').read_text())['accepted_winner'] == 'tiny_vjepa'


class Counting:
    """Runs planted probes and counts how often; may be cut off at one of them."""

    def __init__(self, cut=None, error=KeyboardInterrupt, **plan):
        self.runs, self._cut, self._error, self._run = [], cut, error, planted(**plan)

    def __call__(self, bundle, *rest):
        name = bundle.manifest.name
        if name == self._cut:
            raise self._error
        self.runs.append(name)
        return self._run(bundle, *rest)


def test_held_out_recordings_are_scored_once_and_a_cut_off_audit_goes_on(config, place, monkeypatch):
    first = Counting(cut='tiny_vjepa')
    with pytest.raises(KeyboardInterrupt):
        audit(config, 'abc', place, run_probes=first)
    again = Counting(cut='tiny_ijepa', video={'recall': 0.75})
    monkeypatch.setattr(module.costs, 'measure', None)  # kept too
    record = audit(config, 'abc', place, run_probes=again)
    assert (first.runs, again.runs) == (['tiny_ijepa'], ['tiny_vjepa'])
    held_out = record.evidence['held_out']
    assert held_out['touched'] and not held_out['changed'] and not held_out['others']
    once_more = audit(config, 'abc', place, run_probes=Counting(cut='tiny_vjepa'))
    assert {**once_more.evidence, 'made': None} == {**record.evidence, 'made': None}
    assert len(yaml.safe_load(place.ledger.read_text())['entries']) == 1


def test_a_changed_rule_on_the_same_held_out_recordings_is_named_and_promotes_nothing(with_rule, config, place):
    plan = {'run_probes': Counting(video={'recall': 0.75})}
    strict = audit(with_rule(temporal=[Gain('action_anticipation', 0.5)]), 'abc', place, **plan)
    assert strict.accepted_winner == 'tiny_ijepa' and not refusal(strict)
    loose = audit(config, 'def', place, **plan)
    assert loose.accepted_winner == 'tiny_vjepa', 'the decision follows the rule that is given'
    (look,) = loose.evidence['held_out']['changed']
    assert look['differs'] == ['rule_sha256'] and look['rule_sha256'] == strict.evidence['rule']['sha256']
    assert look['config_sha256'] == 'abc' and look['sequences'] == 2
    assert 'under another rule, by which this one may have been chosen' in refusal(loose)
    assert plan['run_probes'].runs == ['tiny_ijepa', 'tiny_vjepa'], 'decided anew on the same evidence'


def test_changed_settings_are_named_as_a_changed_rule_is(config, place):
    audit(config, 'abc', place, run_probes=planted())
    other = dataclasses.replace(config, probes=dataclasses.replace(config.probes, steps=900))
    record = audit(other, 'def', place, run_probes=planted(video={'recall': 0.75}))
    assert 'under other settings of the probes' in refusal(record)


def test_another_pair_on_the_same_recordings_is_told(config, place, pair):
    audit(config, 'abc', place, run_probes=planted())
    swapped = dataclasses.replace(config, image=config.video, video=config.image)
    record = audit(swapped, 'abc', place, run_probes=planted())
    (look,) = record.evidence['held_out']['others']
    assert look['differs'] == ['pair'] and look['audit'] == 'tiny' and not record.evidence['held_out']['changed']


def test_a_fault_of_the_input_does_not_spend_held_out_recordings(config, place):
    with pytest.raises(JepaError, match='no such probe'):
        audit(config, 'abc', place, run_probes=Counting(cut='tiny_ijepa', error=JepaError('no such probe')))
    wrong = dataclasses.replace(config.rule, temporal=[Gain('action_anticipation', 0.02, metric='top-1')])
    with pytest.raises(JepaError, match=r"expected a metric or group of action_anticipation \(.*grasp.*\), found 'top-1'"):
        audit(dataclasses.replace(config, rule=wrong), 'abc', place, run_probes=planted())
    assert yaml.safe_load(place.ledger.read_text())['entries'] == []


def test_recordings_in_two_splits_and_names_given_twice_are_refused(config, place):
    twice = dataclasses.replace(config.data, validation=['train'])
    with pytest.raises(JepaError, match='train_0'):
        audit(dataclasses.replace(config, data=twice), 'abc', place, run_probes=planted())
    named = dataclasses.replace(config, image=dataclasses.replace(config.image, name='tiny_vjepa'))
    with pytest.raises(JepaError, match="expected two names, found 'tiny_vjepa' twice"):
        audit(named, 'abc', place, run_probes=planted())


def test_rollouts_of_other_models_are_refused_before_anything_is_scored(with_rule, place, tmp_path):
    from jepa_ros.evaluation.audit.config import ClosedLoop

    folder = tmp_path / 'rollout'
    folder.mkdir()
    (folder / 'plan.json').write_text('{"models": {"ijepa": 1, "vjepa": 2}}')
    with pytest.raises(JepaError, match='expected rollouts of the audited models .* found those of 00000001, 00000002'):
        audit(with_rule(closed_loop=ClosedLoop(0.0, str(folder))), 'abc', place, run_probes=planted())
    assert not place.ledger.exists()


def test_a_moved_recording_is_still_the_same_held_out_recording(config, place, tmp_path, recordings):
    audit(config, 'abc', place, run_probes=planted())
    write_bag(tmp_path / 'elsewhere' / 'fresh', {CAMERA: camera(44)})
    (tmp_path / 'elsewhere' / 'copy').symlink_to(recordings / 'heldout' / 'heldout_0')
    moved = dataclasses.replace(config.data, held_out=[str(tmp_path / 'elsewhere')])
    record = audit(dataclasses.replace(config, data=moved), 'abc', place, run_probes=planted(seed=1))
    (look,) = record.evidence['held_out']['others']
    assert look['sequences'] == 1
