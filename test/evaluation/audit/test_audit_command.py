# SPDX-License-Identifier: Apache-2.0
"""`jepa audit`: what it leaves and prints, its exit codes, and how it goes on."""

import dataclasses
import json

import numpy as np
import pytest
import yaml
from audited import evidence

from jepa_ros import paths
from jepa_ros.cli import main
from jepa_ros.evaluation.audit import audit, promotion
from jepa_ros.evaluation.audit.record import TransferAudit
from jepa_ros.evaluation.probes import suite


def here(jobs, tick):
    """As `side_by_side`, but in this process, where the suite is a planted one."""
    yield from ((number, function(*arguments, tick)) for number, (function, arguments) in enumerate(jobs))


@pytest.fixture
def run(config, recordings, timed, tmp_path, monkeypatch):
    """Returns what runs the command on a planted pair: exit code. Promotions go into a folder of the test."""
    monkeypatch.chdir(tmp_path)
    for module in (paths, promotion):
        monkeypatch.setattr(module, 'share_directory', lambda: tmp_path / 'share')
    (tmp_path / 'share' / 'models').mkdir(parents=True)
    # JSON makes lists of tuples, as they stand in YAML.
    (tmp_path / 'tiny.yaml').write_text(yaml.safe_dump(json.loads(json.dumps(dataclasses.asdict(config)))))

    def run(*options, sequences=24, error=None):
        rng = np.random.default_rng(0)

        def probes(bundle, splits, names, settings, cache, tick, threads):
            if error:
                raise error
            tick('features', 1, 2)
            video = bundle.manifest.name == 'tiny_vjepa'
            return evidence(rng, bundle.manifest.name, 0.85 if video else 0.6, 0.1, sequences=sequences)

        monkeypatch.setattr(suite, 'run', probes)
        monkeypatch.setattr(audit, 'side_by_side', here)
        return main(['audit', 'tiny.yaml', '--data', str(recordings), *options])

    return run


def test_a_decision_is_printed_written_and_promoted(run, tmp_path, capsys):
    assert run('--promote') == 0
    said = capsys.readouterr().out
    folder = tmp_path / 'jepa_audit' / 'tiny'
    record = TransferAudit.read(folder / 'record.yaml')
    assert record.accepted_winner == 'tiny_vjepa' and record.evidence['made']['command'] == 'jepa audit tiny.yaml'
    assert '<h1>Transfer audit: tiny</h1>' in (folder / 'report.html').read_text()
    assert (tmp_path / 'jepa_audit' / 'held_out.yaml').is_file()
    for words in ('tiny_vjepa', 'gain on action_anticipation', 'left in jepa_audit/tiny', 'promoted: '):
        assert words in said, said
    assert paths.find_promotion().bundle.name == 'tiny_vjepa'


def test_what_is_pending_ends_well_says_what_is_missing_and_promotes_nothing(run, capsys):
    assert run(sequences=4) == 0
    assert 'held-out sequences in all would decide what is open' in capsys.readouterr().out
    assert run('--promote') == 1
    assert 'nothing promoted: accepted_winner is pending' in capsys.readouterr().out
    assert paths.find_promotion() is None


def test_an_interruption_says_that_the_same_command_goes_on(run, tmp_path, capsys):
    assert run(error=KeyboardInterrupt) == 130
    assert 'what is finished is kept in jepa_audit/tiny, the same command goes on' in capsys.readouterr().err
    assert not (tmp_path / 'jepa_audit' / 'tiny' / 'record.yaml').exists()
    assert run() == 0


@pytest.mark.parametrize(
    'argument, words',
    [
        (['nothing.yaml'], "expected a configuration as a YAML file or one of none, found 'nothing.yaml'"),
        (['tiny.yaml', '--data', 'nowhere'], 'no file matches train in nowhere'),
    ],
)
def test_a_wrong_argument_is_one_sentence(run, capsys, argument, words):
    assert main(['audit', *argument]) == 2
    assert words in capsys.readouterr().err


def test_the_help_teaches(capsys):
    with pytest.raises(SystemExit, match='0'):
        main(['audit', '--help'])
    said = capsys.readouterr().out
    for words in ('held-out', 'record.yaml', 'exit codes', '--promote', 'config/audit: conveyor'):
        assert words in said
