# SPDX-License-Identifier: Apache-2.0
"""The ledger of held-out data knows a recording by its bytes, and a look by pair, rule and settings."""

import dataclasses

import pytest

from jepa_ros.errors import JepaError
from jepa_ros.evaluation.audit import ledger as module
from jepa_ros.evaluation.audit.ledger import Ledger, Look, fingerprint

LOOK = Look(['00000001', '00000002'], 'rule', 'settings')
RUNS = {'a': '1', 'b': '2'}


def scored(path, look=LOOK, runs=RUNS):
    ledger = Ledger(path)
    with ledger.scoring(look, runs, {'audit': 'x'}):
        pass
    return ledger.looks(look, runs)


def test_a_recording_is_its_bytes_wherever_it_lies(tmp_path, monkeypatch):
    for name, content in (('one', b'abc'), ('two', b'abc'), ('three', b'abd')):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'bag.mcap').write_bytes(content)
    one, two, three = (fingerprint(tmp_path / name) for name in ('one', 'two', 'three'))
    assert one == two != three and fingerprint(tmp_path / 'one' / 'bag.mcap') != one
    monkeypatch.setattr(module, '_WHOLE', 2)  # of a large file the ends count, and its length
    assert fingerprint(tmp_path / 'one') != fingerprint(tmp_path / 'three')
    with pytest.raises(JepaError, match='gone: expected a recording'):
        fingerprint(tmp_path / 'gone')


def test_the_same_look_is_written_down_once_and_before_anything_is_scored(tmp_path):
    path = tmp_path / 'held_out.yaml'
    with pytest.raises(KeyboardInterrupt):
        with Ledger(path).scoring(LOOK, RUNS, {'audit': 'x'}):
            assert len(Ledger(path).entries) == 1
            raise KeyboardInterrupt
    date = Ledger(path).entries[0]['date']
    assert scored(path) == scored(path) == {'touched': date, 'changed': [], 'others': []}
    assert len(Ledger(path).entries) == 1


@pytest.mark.parametrize(
    'change, runs, kind, differs',
    [
        ({'rule_sha256': 'new'}, RUNS, 'changed', ['rule_sha256']),
        ({'settings_sha256': 'new'}, {'b': '2', 'c': '3'}, 'changed', ['settings_sha256']),
        ({'pair': ['00000001', '00000003']}, RUNS, 'others', ['pair']),
        ({}, {'b': '2'}, 'others', []),
    ],
)
def test_earlier_looks_at_the_same_recordings_are_told(tmp_path, change, runs, kind, differs):
    scored(tmp_path / 'l.yaml')
    found = scored(tmp_path / 'l.yaml', dataclasses.replace(LOOK, **change), runs)
    (look,) = found[kind]
    assert look['differs'] == differs and look['sequences'] == len(set(RUNS.values()) & set(runs.values()))
    assert scored(tmp_path / 'l.yaml') == {'touched': look['date'], 'changed': [], 'others': []}, 'it was first'


def test_other_recordings_are_no_concern(tmp_path):
    scored(tmp_path / 'l.yaml')
    found = scored(tmp_path / 'l.yaml', dataclasses.replace(LOOK, rule_sha256='new'), {'c': '3'})
    assert not found['changed'] and not found['others']


def test_a_fault_of_the_input_takes_the_entry_back_but_not_an_older_one(tmp_path):
    def fail(look):
        with pytest.raises(JepaError), Ledger(tmp_path / 'l.yaml').scoring(look, RUNS, {}):
            raise JepaError('no such probe')

    fail(LOOK)
    assert Ledger(tmp_path / 'l.yaml').entries == []
    scored(tmp_path / 'l.yaml')
    fail(LOOK)
    assert len(Ledger(tmp_path / 'l.yaml').entries) == 1


@pytest.mark.parametrize('text', ['{', '[]', 'format: 7'])
def test_what_is_no_ledger_is_named(tmp_path, text):
    (tmp_path / 'l.yaml').write_text(text)
    with pytest.raises(JepaError, match='l.yaml: expected a ledger'):
        Ledger(tmp_path / 'l.yaml')
