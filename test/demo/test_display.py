# SPDX-License-Identifier: Apache-2.0
"""What the table says, line by line."""

import threading

import numpy as np
from rich.console import Console

from jepa_ros.demo.display import Display, live_rows, skill_line, summary_rows, table
from jepa_ros.demo.figures import CONTROLLER, PERCEPTION, Figures
from jepa_ros.latents import Futures, token_centres

NOW = 1_795_000_000_000_000_000


def running() -> Figures:
    figures = Figures(0.1)
    for i in range(31):
        figures.camera(NOW + i * 33_333_333)
    tokens, centres = np.zeros((1, 2, 3), np.float32), token_centres((1, 2))
    figures.futures(Futures(NOW, np.array([0.1], np.float32), tokens, centres, 1), NOW + 40_000_000)
    figures.status(PERCEPTION, 0, 'ok', {'state': 'active', 'frames_early': '10', 'frames_used': '20',
                                         'frames_overrun': '3', 'frames_in_hz': '30'})
    figures.status(CONTROLLER, 0, 'ok', {'state': 'active', 'phase': 'following'})
    figures.followed(0.25, 0.5)
    figures.commanded(0.0)
    figures.commanded(0.1)
    return figures


def test_live_rows():
    found = dict(live_rows(running(), NOW + 1_500_000_000))
    assert found['frames in'] == '31 (30.0 Hz)'
    assert found['age on arrival'] == '40 ms, 99 % within 40 ms (newest now 1.50 s)'
    assert found['dropped'] == 'overrun 3 (and 10 between asked frames)'
    assert found['skill'] == 'too few futures have come true'
    assert found['controller'] == 'following the point at (0.25, 0.50)'
    assert 'warning' not in found


def test_summary_rows():
    found = dict(summary_rows(running()))
    assert found['age on arrival'] == '40 ms, 99 % within 40 ms'
    assert found['controller'] == '1 points followed, 1 of 2 commands moved'


def test_a_stopped_controller_says_why():
    figures = running()
    figures.status(CONTROLLER, 1, '', {'phase': 'stopped', 'reason': 'the futures are too old'})
    assert dict(live_rows(figures, NOW))['controller'] == 'stopped: the futures are too old'


def test_a_warning_of_perception_is_shown_once_frames_come():
    figures = Figures(0.1)
    figures.status(PERCEPTION, 1, 'no publisher', {})
    assert 'warning' not in dict(live_rows(figures, NOW)), 'the camera is not started yet'
    figures.camera(NOW)
    assert dict(live_rows(figures, NOW))['warning'] == 'no publisher'


def test_nothing_yet_is_no_error():
    assert dict(live_rows(Figures(0.1), NOW))['controller'] == 'not running'


def test_skill_line_leaves_out_what_is_unknown():
    skills = [{'horizon': h, 'skill': skill} for h, skill in ((0.1, 0.314), (0.2, -0.2), (0.3, None))]
    assert skill_line(skills) == '0.1 s +0.31, 0.2 s -0.20'


def test_elsewhere_than_on_a_terminal_lines_come_now_and_then(capsys):
    with Display('numbers through tiny', running(), threading.Lock()) as display:
        display.update()
        display.update()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == 'numbers through tiny'
    assert len(lines) == 2 and lines[1].startswith('frames in 31 (30.0 Hz) | latents out 0')


def test_the_table_holds_every_row():
    console = Console(width=100, record=True, file=open('/dev/null', 'w'))
    console.print(table('title', summary_rows(running())))
    text = console.export_text()
    assert all(label in text for label, _ in summary_rows(running()))
