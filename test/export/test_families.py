# SPDX-License-Identifier: Apache-2.0
"""
The page of published models says what the table of families says, and its figures are right where others
counted.
"""

from pathlib import Path

import pytest

from jepa_ros import cli
from jepa_ros.engine.bookkeeping import parameters
from jepa_ros.export import families
from jepa_ros.nets.official.families import MODELS, ClipShape

PAGE = Path(__file__).resolve().parents[2] / 'docs' / 'official_models.md'


def test_the_page_holds_the_table_as_it_is_printed(capsys):
    assert cli.main(['export', '--families']) == 0
    printed = capsys.readouterr().out.strip()
    _, _, rest = PAGE.read_text(encoding='utf-8').partition('<!-- made by: jepa export --families -->\n')
    assert rest.partition('\n<!-- end -->')[0] == printed
    assert [line.split('`')[1] for line in printed.splitlines()[2:]] == list(MODELS)


@pytest.mark.parametrize(
    'name, window, new_slice, forecast',
    [
        ('vjepa2-vitl', 1656, 206, 232),
        ('vjepa2.1-vitl', None, None, 861),
        ('ijepa-vith14', 333, 'the same', None),
    ],
)
def test_figures_that_were_counted_elsewhere(name, window, new_slice, forecast):
    cells = dict(zip(families.COLUMNS, families.row(MODELS[name])))
    for column, expected in (
        ('GFLOP per window', window),
        ('GFLOP per new slice', new_slice),
        ('GFLOP per forecast', forecast),
    ):
        if isinstance(expected, int):
            assert int(cells[column]) == pytest.approx(expected, rel=0.01)
        elif expected:
            assert cells[column] == expected


def test_the_stock_predictor_over_2048_and_256_tokens(monkeypatch):
    """196 GFLOP for its blocks, and a few for its ends."""
    monkeypatch.setattr(families, 'HORIZONS', 1)
    model = MODELS['vjepa2-vitl']
    assert families._forecast_gflop(model, ClipShape.of(model, frames=16)) == pytest.approx(
        196 + 1.7, abs=0.5
    )


@pytest.mark.parametrize('name', MODELS)
def test_parameters_are_counted_alike_in_both_places(name):
    """
    What `jepa info` says of a bundle and what the table says; V-JEPA 2.1 has three norms and an image path
    more.
    """
    model = MODELS[name]
    counted = parameters(families.architecture(model), model.size.width, 3 * model.tubelet * model.patch**2)
    if model.modalities:
        counted += (3 * model.patch**2 + 3 + 2 * (len(model.taps) - 1)) * model.size.width
    assert counted == model.encoder_parameters


def test_which_predictors_become_forecasters():
    usable = [name for name, model in MODELS.items() if families.predicts_futures(model)]
    assert usable == [
        'vjepa2-vitl',
        'vjepa2-vith',
        'vjepa2-vitg',
        'vjepa2-vitg_384',
        'vjepa2.1-vitb',
        'vjepa2.1-vitl',
    ]


def test_defaults_are_how_the_weights_were_trained():
    assert [
        families.default_frames(MODELS[name])
        for name in ('ijepa-vith14', 'vjepa-vitl16', 'vjepa2-vitl', 'vjepa2-vitg_ac')
    ] == [1, 16, 16, 1]
    assert families.default_period(MODELS['vjepa2-vitl']) == 0.25
    assert families.default_period(MODELS['vjepa-vitl16']) == pytest.approx(2 / 15)
