# SPDX-License-Identifier: Apache-2.0
"""The figure of a run: every curve is what the log says, training and validation apart."""

import json

import cv2
import pytest

pytest.importorskip('matplotlib', reason='matplotlib is not installed (the train extra)')

from jepa_ros import cli  # noqa: E402
from jepa_ros.errors import JepaError  # noqa: E402
from jepa_ros.training import curves  # noqa: E402


def lines():
    """A log of two stages, with validation every second step."""
    found = []
    for step in range(1, 9):
        stage = 'pretraining' if step < 5 else 'heads'
        heads = {} if step < 5 else {'forecast': 0.5 / step}
        found.append(
            {'step': step, 'stage': stage, 'split': 'train', 'loss': 1 / step, **heads, 'skipped': 0}
        )
        if step % 2 == 0:
            for split in ('train_clips', 'validation'):
                skill = (
                    {}
                    if step < 5
                    else {'skill_0.1s': step / 10, 'skill_shrunk_0.1s': 0.1, 'skill_shrunk_mean': 0.1}
                )
                loss = {'loss' if step < 5 else 'forecast': 2 / step}
                found.append(
                    {'step': step, 'stage': stage, 'split': split, **loss, 'rank': 10.0 + step, **skill}
                )
    return found


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'a_run').mkdir()
    (tmp_path / 'a_run' / 'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines()))
    return tmp_path / 'a_run'


def test_a_curve_is_what_the_log_says(folder):
    found = curves.read(folder)
    assert curves.curve(found, 'validation', 'rank') == [[2, 4, 6, 8], [12.0, 14.0, 16.0, 18.0]]
    assert curves.curve(found, 'train', 'loss')[0] == list(range(1, 9))
    assert curves.curve(found, 'validation', 'nothing') == [[], []]


def test_the_panels_keep_training_and_validation_apart_and_losses_of_stages_too():
    found = curves.panels(lines())
    assert list(found) == [
        'loss: pretraining',
        'forecast: heads',
        'effective rank of the latents',
        'skill over shrunk persistence',
        'skill over persistence',
    ]
    assert [split for split, *_ in found['forecast: heads']] == ['train', 'train_clips', 'validation']
    assert [name for _, name, _ in found['skill over persistence']] == ['skill_0.1s', 'skill_0.1s']
    assert [name for _, name, _ in found['skill over shrunk persistence']] == [
        'skill_shrunk_0.1s',
        'skill_shrunk_0.1s',
    ]


def test_the_command_draws_runs_beside_each_other(folder, tmp_path, capsys):
    (tmp_path / 'short').mkdir()
    (tmp_path / 'short' / 'metrics.jsonl').write_text(
        ''.join(json.dumps(line) + '\n' for line in lines()[:6])
    )
    out = tmp_path / 'figure.png'
    assert cli.main(['curves', str(folder), str(tmp_path / 'short'), '--out', str(out)]) == 0
    picture = cv2.imread(str(out))
    assert picture.shape[1] > 5 * 400 and picture.shape[0] > 2 * 300 and picture.std() > 5


def test_a_log_of_the_first_version_is_drawn_as_far_as_it_goes(tmp_path):
    (tmp_path / 'metrics.jsonl').write_text(
        '{"step": 250, "rank": 2.0}\n{"step": 500, "rank": 3.0, "skill_0.1s": 0.1}\n'
    )
    found = curves.read(tmp_path)
    assert list(curves.panels(found)) == ['effective rank of the latents', 'skill over persistence']
    assert curves.curve(found, 'validation', 'rank') == [[250, 500], [2.0, 3.0]]
    curves.draw({'run': found}, tmp_path / 'figure.png')


def test_a_folder_without_a_log_and_a_place_that_takes_no_figure_are_named(tmp_path):
    with pytest.raises(JepaError, match='expected the log of a run of jepa train'):
        curves.read(tmp_path)
    with pytest.raises(JepaError, match='validated once, found none yet: young'):
        curves.draw({'young': lines()[:1]}, tmp_path / 'figure.png')
    with pytest.raises(JepaError, match='cannot write the figure'):
        curves.draw({'run': lines()}, tmp_path / 'nowhere' / 'figure.png')
