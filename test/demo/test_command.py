# SPDX-License-Identifier: Apache-2.0
"""What the arguments of jepa demo start, without starting it."""

import argparse
import importlib.util
import signal
from pathlib import Path

import pytest

from jepa_ros.demo import command
from jepa_ros.errors import JepaError


@pytest.fixture
def started(monkeypatch):
    """Run the command with words; return what would be started: 'cell' or the name of a recording, and its arguments."""
    found = []
    monkeypatch.setattr(command, '_run_cell', lambda args: found.append(('cell', args)) or 0)
    monkeypatch.setattr(command, '_run_recording', lambda name, args: found.append((name, args)) or 0)
    monkeypatch.setattr(signal, 'signal', lambda *_: None)

    def start(*words):
        parser = argparse.ArgumentParser()
        command.configure(parser)
        assert command.run(parser.parse_args(words)) == 0
        return found.pop()

    return start


@pytest.mark.parametrize('installed, what', [(True, 'cell'), (False, 'conveyor')])
def test_without_arguments_it_is_the_cell_where_there_is_a_simulator(started, monkeypatch, installed, what):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: object() if installed else None)
    assert started()[0] == what


@pytest.mark.parametrize('words, what', [
    (['conveyor'], 'cell'),
    (['conveyor', '--picks', '2'], 'cell'),
    (['--video', 'conveyor'], 'conveyor'),
    (['--bag', 'conveyor'], 'conveyor'),
    (['--bag', 'b', '--topic', '/camera'], 'b'),
    (['some.mp4', '--rate', '2'], 'some.mp4'),
    (['some_bag', '--topic', '/camera'], 'some_bag'),
])
def test_what_is_run(started, words, what):
    assert started(*words)[0] == what


def test_the_cell_has_its_defaults_and_takes_others(started):
    _, args = started('conveyor')
    assert (args.picks, args.seconds, args.seed, args.speed) == (3, None, None, 1.0)
    assert not (args.no_film or args.viewer)
    _, args = started('conveyor', '--picks', '1', '--seconds', '5', '--seed', '7', '--speed', '0.5', '--no-film',
                      '--out', 'there', '--params-file', 'mine.yaml')
    assert (args.picks, args.seconds, args.seed, args.speed, args.no_film) == (1, 5.0, 7, 0.5, True)
    assert args.out == Path('there') and args.params_file == 'mine.yaml'


def test_a_recording_has_its_defaults(started):
    _, args = started('some.mp4')
    assert (args.topic, args.rate, args.image_transport, args.seconds) == (None, 1.0, 'auto', None)


@pytest.mark.parametrize('words, says', [
    (['conveyor', '--rate', '0.5'], 'expected --rate with a recording alone, found it with the cell'),
    (['some.mp4', '--picks', '2', '--no-film'], 'expected --picks, --no-film with the simulated cell alone, found '
     'it with some.mp4'),
    (['--video', 'a.mp4', '--seed', '7'], 'expected --seed with the simulated cell alone, found it with a.mp4'),
    (['conveyor', '--video', 'a.mp4'], "expected one thing to run, found 'conveyor' and 'a.mp4'"),
    (['--topic', '/camera'], 'expected --bag with --topic /camera, found none'),
    (['conveyor', '--topic', '/camera'], 'expected --bag with --topic /camera, found none'),
])
def test_what_does_not_go_together_is_said(started, words, says):
    with pytest.raises(JepaError) as error:
        started(*words)
    assert str(error.value) == says


@pytest.mark.parametrize('words', [['--picks', '0'], ['--speed', '0'], ['--seconds', 'inf'], ['--video', 'a', '--bag', 'b']])
def test_what_is_no_number_of_its_kind_is_refused(started, words):
    with pytest.raises(SystemExit) as error:
        started('conveyor', *words)
    assert error.value.code == 2
