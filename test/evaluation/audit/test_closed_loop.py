# SPDX-License-Identifier: Apache-2.0
"""Rollouts are read as `jepa evaluate rollout` keeps them, of the audited pair only."""

import pytest

from jepa_ros.errors import JepaError
from jepa_ros.evaluation.audit.closed_loop import CONTENDERS, read
from jepa_ros.evaluation.rollout_run import CONTENDERS as RUN
from jepa_ros.evaluation.rollout_run import Plan, Store
from jepa_ros.sim.seeds import HELD_OUT

FIRST = HELD_OUT.start


@pytest.fixture
def store(tmp_path):
    """A run of which the image bundle has three seeds, and the video bundle two of them and another."""
    store = Store(tmp_path / 'rollout')
    store.begin(Plan({}, {'ijepa': 1, 'vjepa': 2}, {}))
    for name, outcomes in (
        ('ijepa', {0: 'picked', 1: 'lost', 2: 'picked', -1: 'lost'}),
        ('vjepa', {1: 'picked', 2: 'picked', 3: 'lost', -1: 'picked'}),  # -1: one that the law was tuned on
    ):
        for seed, outcome in outcomes.items():
            store.save(name, {'seed': FIRST + seed, 'outcome': outcome})
    return store


def test_seeds_that_both_ran_are_paired(store, tmp_path):
    found = read(tmp_path / 'rollout', (1, 2))
    assert found.gain(0.95).estimate == 0.5 and found.gain(0.95).count == 2
    assert found.to_dict() == {'seeds': [FIRST + 1, FIRST + 2], 'image': [0, 1], 'video': [1, 1]}
    assert set(CONTENDERS) <= set(RUN)


def test_what_was_not_run_yet_is_none(store, tmp_path):
    assert read(tmp_path / 'nowhere', (1, 2)) is None
    for path in (tmp_path / 'rollout').glob('episodes/vjepa/*'):
        path.unlink()
    assert read(tmp_path / 'rollout', (1, 2)) is None


def test_rollouts_of_other_bundles_and_files_that_are_none_are_named(store, tmp_path):
    with pytest.raises(JepaError, match='audited models 00000001, 00000003, found those of 00000001, 00000002'):
        read(tmp_path / 'rollout', (1, 3))
    for text in ('{', '[]'):
        (tmp_path / 'rollout' / 'plan.json').write_text(text)
        with pytest.raises(JepaError, match='plan.json: expected what `jepa evaluate rollout` keeps'):
            read(tmp_path / 'rollout', (1, 2))
