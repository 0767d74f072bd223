# SPDX-License-Identifier: Apache-2.0
import io
import json

import pytest
from rich.console import Console

from jepa_ros import host
from jepa_ros.evaluation import rollout_table
from jepa_ros.evaluation.rollout_page import render
from jepa_ros.evaluation.rollout_summary import _rows as rows_of
from jepa_ros.evaluation.rollout_summary import class_of, error_rows, hidden_share, rate, summarise


def episode(seed, picked=True, hidden=0.0, disturbed=False, speed=0.2, error=1.0, **more):
    """One as `Episode.run` returns it, with two instants whose paths are off by `error` cm along the belt."""
    rows = [[0.1, error, 0, 0, 0, 0, 1, 1, speed, -50.0], [0.4, error, 0, 0, int(bool(hidden)), int(disturbed), 0, 1, speed, 8.0]]
    return {
        'contender': 'x', 'latency': 0.03, 'seed': seed, 'speed': speed, 'covered': True,
        'outcome': 'picked' if picked else 'lost', 'why': '' if picked else 'missed', 'reason': '',
        'seconds': 5.0 if picked else None, 'length': 6.0, 'attempts': 1, 'grasp': 4.0, 'hidden': hidden,
        'disturbed': disturbed, 'paths': 9, 'errors': rows, 'strip': None, **more,
    }  # fmt: skip


@pytest.fixture
def report():
    # which seeds are hidden is said by the oracle, whatever the others saw
    oracle = [episode(1, hidden=0.5), episode(2, hidden=0.3, disturbed=True, speed=0.29), episode(3, speed=0.06)]
    vjepa = [episode(1, False, error=3.0), episode(2, error=2.0, speed=0.29), episode(3, hidden=0.9, speed=0.06)]
    return summarise({'vjepa': vjepa, 'oracle': oracle}, 'oracle'), {'vjepa': vjepa, 'oracle': oracle}


def test_the_reference_says_which_seeds_are_hidden_or_disturbed(report):
    found, _ = report
    assert found['classes'] == {'hidden': 1, 'disturbed': 1, 'neither': 1}
    rates = found['success']['vjepa']
    assert [rates[key]['picked'] for key in ('all', 'hidden or disturbed', 'neither')] == [2, 1, 1]
    assert [rates[key]['episodes'] for key in ('all', 'hidden or disturbed', 'neither')] == [3, 2, 1]
    assert found['hidden_share'] == {'vjepa': pytest.approx(1 / 3), 'oracle': pytest.approx(2 / 3)}
    assert found['why'] == {'vjepa': {'missed': 1}, 'oracle': {}}


def test_pairs_and_speeds(report):
    found, _ = report
    pair = next(p for p in found['pairs'] if p['subset'] == 'all')
    assert (pair['first'], pair['second'], pair['only_first'], pair['only_second']) == ('vjepa', 'oracle', 0, 1)
    speeds = found['speeds']['oracle']
    assert [row['episodes'] for row in speeds] == [1, 0, 0, 1, 1]
    assert speeds[1]['rate'] is None and speeds[0]['rate'] == 1.0


def test_errors_by_horizon_and_kind(report):
    found, _ = report
    rows = {(row['horizon'], row['kind']): row for row in found['errors']['vjepa']}
    assert rows[0.1, 'visible']['count'] == 3 and rows[0.1, 'visible']['median'] == 2.0
    assert (rows[0.1, 'visible']['turn'], rows[0.1, 'visible']['crossed']) == (50.0, 1.0)
    assert (rows[0.4, 'hidden']['turn'], rows[0.4, 'hidden']['crossed']) == (8.0, 0.0)
    assert rows[0.4, 'hidden']['count'] == 1 and rows[0.4, 'hidden']['inside'] == 0.0
    assert {row['median'] for row in found['errors_at_0.2']['vjepa']} == {3.0}, 'the belt of 0.2 m/s alone'


def test_a_disturbed_instant_is_neither_hidden_nor_in_view():
    kinds = [row['kind'] for row in error_rows(rows_of([episode(1, hidden=0.5, disturbed=True)]))]
    assert kinds == ['visible', 'disturbed']
    assert error_rows(rows_of([])) == []


def test_an_episode_without_a_grasp():
    never = episode(1, False, hidden=None, grasp=None, attempts=0)
    assert class_of(never) == 'neither' and hidden_share([never]) is None
    assert rate([never])['seconds'] is None and rate([])['rate'] is None


def test_it_can_be_shown_and_kept(report):
    found, episodes = report
    json.dumps(found)
    console = Console(file=io.StringIO(), width=200)
    rollout_table.show(console, found)
    said = console.file.getvalue()
    assert '2 of 3' in said and 'vjepa lost: missed 1' in said and '67 %' in said
    whole = {'command': 'jepa evaluate rollout', 'host': host.describe(), 'latency': '0.08 s', 'interrupted': True, 'bundles': {}, **found}
    html = render(whole, episodes)
    assert '2 of 3' in html and 'McNemar' in html and '<svg' in html
    assert 'late by 0.08 s, as was asked' in html and 'was interrupted' in html
