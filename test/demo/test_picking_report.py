# SPDX-License-Identifier: Apache-2.0
"""figures.json and the page, from figures that are known."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from jepa_ros.demo import picking_report
from jepa_ros.demo.conveyor import ConveyorOptions
from jepa_ros.demo.figures import CONTROLLER, PERCEPTION
from jepa_ros.demo.picking import CELL, PickingFigures

START_NS, WALL_NS, PERIOD = 1_000_000_000, 1_795_000_000_000_000_000, 50_000_000
SLOW = 'expected <b> & "more"'


def figures(age=0.03, period=PERIOD) -> PickingFigures:
    found = PickingFigures(0.1)
    found.says('waiting')
    for n in range(61):
        found.clock(START_NS + n * PERIOD, WALL_NS + n * period)
        found.camera(START_NS + n * PERIOD, WALL_NS + n * period)
        found.aged(START_NS + n * PERIOD, WALL_NS + n * period + round(age * 1e9))
        found.futures_count += 1
        if n == 20:
            found.happened('entered')
            found.says('closing')
    found.happened('taken')
    found.taken = 1
    found.status(CELL, 0, 'ok', {'seed': '20000'})
    found.status(PERCEPTION, 1, SLOW, {'frames_overrun': '2'})
    found.status(CONTROLLER, 0, 'following', {})
    found.errors._errors = {(0.1, True): [0.01], (0.4, True): [0.012, 0.012], (0.4, False): [0.03]}
    found.end()
    return found


def run(out: Path, found: PickingFigures) -> picking_report.Run:
    bundle = SimpleNamespace(manifest=SimpleNamespace(name='tiny'), model_id=7)
    recorder = SimpleNamespace(path=out / 'bag', counts={'/camera/image_raw': 61})
    return picking_report.Run(ConveyorOptions('tiny', out, video=False), bundle, found, recorder)


def test_figures_and_page_say_what_happened(tmp_path, capsys):
    assert picking_report.conclude(run(tmp_path, figures()), 0) == 0
    found = json.loads((tmp_path / 'figures.json').read_text())
    assert (found['picked'], found['bins'], found['attempts'], found['time_to_pick_s']) == (1, 1, 1, 2.0)
    assert (found['seed'], found['seed_range'], found['model']) == (20000, 'held out', '00000007')
    assert found['camera_hz'] == 20.0 and found['real_time_factor'] == 1.0
    assert found['future_age_s']['p99'] == 0.03 and found['targets']['met'] is True
    assert found['states'] == {'closing': 0.6667, 'waiting': 0.3333}
    assert [row['count'] for row in found['handle_error']] == [1, 2, 1]
    page = (tmp_path / 'index.html').read_text()
    for text in ('1 of 1', '1.2 cm', '30 ms', '20 Hz', 'closing 67 %', 'hidden', 'seed 20000'):
        assert text in page, text
    assert '<b> &' not in page and '&lt;b&gt; &amp;' in page, 'what a node says is text'
    assert 'http' not in page and '<video' not in page, 'it needs nothing else'
    said = capsys.readouterr().out
    assert '1 of 1 bins, 1 attempts' in said and 'index.html, figures.json' in said


@pytest.mark.parametrize('age, period, met', [(0.07, PERIOD, False), (0.03, 2 * PERIOD, False), (0.03, PERIOD, True)],
                         ids=['too old', 'too few', 'in time'])
def test_in_time_is_both_rate_and_age(age, period, met):
    assert picking_report.met(figures(age, period)) is met


def test_a_run_without_futures_is_a_fault_and_says_where_to_look(tmp_path, capsys):
    assert picking_report.conclude(run(tmp_path, PickingFigures(0.1)), 0) == 1
    assert 'no futures came: see what perception says in logs/' in capsys.readouterr().err
    page = (tmp_path / 'index.html').read_text()
    assert 'no futures came' in page and 'no path to judge' in page
    assert json.loads((tmp_path / 'figures.json').read_text())['targets']['met'] is None


def test_an_interrupted_run_keeps_its_code_and_an_earlier_film_goes(tmp_path):
    (tmp_path / picking_report.FILM).write_bytes(b'of an earlier run')
    assert picking_report.conclude(run(tmp_path, figures()), 130) == 130
    assert not (tmp_path / picking_report.FILM).exists()
    assert json.loads((tmp_path / 'figures.json').read_text())['picked'] == 1


def test_the_film_is_in_the_page(tmp_path):
    film = tmp_path / 'film.mp4'
    assert picking_report._video(film, None) == ''
    film.write_bytes(b'film')
    block = picking_report._video(film, b'picture')
    assert 'data:video/mp4;base64,ZmlsbQ==' in block and 'data:image/jpeg;base64,cGljdHVyZQ==' in block
