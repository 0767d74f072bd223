# SPDX-License-Identifier: Apache-2.0
"""
Judging forecasts: pairs are matched by time, never across a break, and labels by the horizon's own moment.
"""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from bundles import make_bundle
from conftest import shared_data
from rich.console import Console

from jepa_ros.cli import main
from jepa_ros.data import signals
from jepa_ros.data.bags import RecordingError
from jepa_ros.data.recordings import open_recording
from jepa_ros.engine.session import open_session
from jepa_ros.evaluation import forecast_command
from jepa_ros.evaluation.forecast import evaluate
from jepa_ros.evaluation.judge import Judge, Labels
from jepa_ros.evaluation.offline import OfflineRun, Step
from jepa_ros.latents import Futures, Latents

S = 1_000_000_000
HORIZONS = np.float32([0.1, 0.2])
CENTRE = np.float32([[0.5, 0.5]])


def step(time, value, forecast=None, reset=None):
    """One token of width 1: seen `value` at `time` (s), forecasting `forecast` for each horizon."""
    stamp = round(time * S)
    latents = Latents(
        stamp, np.float32([[value]]), CENTRE, np.zeros(1, np.float32), np.zeros(1, np.float32), 1
    )
    futures = (
        None
        if forecast is None
        else Futures(stamp, HORIZONS, np.float32(forecast).reshape(2, 1, 1), CENTRE, 1)
    )
    return Step(latents, futures, reset)


def judged(steps):
    judge = Judge(HORIZONS, np.zeros(1, np.float32), slice_period=0.1)
    for each in steps:
        judge.see(each)
    return {row['horizon']: row for row in judge.report()['skill']}


def test_a_forecast_is_compared_with_what_is_seen_at_its_own_time():
    rows = judged([step(1.0, 0, [5, 7]), step(1.1, 5), step(1.2, 7)])
    assert {round(h, 2): row['count'] for h, row in rows.items()} == {0.1: 1, 0.2: 1}
    assert all(row['error'] == 0 and row['skill'] == 1 for row in rows.values())
    assert sorted(row['persistence_error'] for row in rows.values()) == [25, 49]


def test_jitter_within_half_a_slice_counts_and_a_dropped_slice_leaves_a_hole():
    assert [row['count'] for row in judged([step(1.0, 0, [5, 7]), step(1.13, 5)]).values()] == [1]
    assert judged([step(1.0, 0, [5, 7]), step(1.4, 5)]) == {}


def test_labels_are_those_in_the_picture_in_the_order_of_their_stamps(monkeypatch, caplog):
    """Whatever the topic holds: poses of markers leave the picture too."""
    read = [(3 * S, (0.3, 0.6), False), (1 * S, (0.1, 0.2), True), (2 * S, (1.2, 0.5), True)]
    monkeypatch.setattr(signals, 'points', lambda recording, topic: [(t, np.array(xy), seen) for t, xy, seen in read])
    labels = Labels.read(SimpleNamespace(frames=lambda: []), '/handle')
    assert labels.stamps_ns.tolist() == [1 * S, 3 * S]
    assert labels.xy.tolist() == [[0.1, 0.2], [0.3, 0.6]] and labels.visible.tolist() == [True, False]
    read[:] = read[2:]
    assert Labels.read(SimpleNamespace(frames=lambda: [], name='a bag'), '/handle') is None
    assert 'nothing of /handle in a bag is in the picture' in caplog.text


def test_labels_that_cannot_be_read_say_why(monkeypatch, caplog):
    def points(recording, topic):
        raise RecordingError(f'expected topic {topic}, found none')

    monkeypatch.setattr(signals, 'points', points)
    assert Labels.read(SimpleNamespace(), '/handle') is None
    assert 'not judged: expected topic /handle, found none' in caplog.text


def test_nothing_is_compared_across_a_break():
    assert judged([step(1.0, 0, [5, 7]), step(1.1, 5, reset='a gap')]) == {}


def test_labels_are_those_of_the_predicted_moment_and_hidden_ones_are_told_apart():
    judge = Judge(HORIZONS, np.zeros(1, np.float32), slice_period=0.1)
    stamps = np.array([1.0, 1.1, 1.2]) * S
    xy = np.array([[0.1, 0.5], [0.2, 0.5], [0.3, 0.5]])
    visible = np.array([True, True, False])
    futures = step(1.0, 0, [0, 0]).futures
    points = np.float32([[0.2, 0.5], [0.3, 0.54]]), np.tile(np.float32(np.eye(2) * 0.01**2), (2, 1, 1))
    judge.point(futures, points, Labels(stamps.astype(np.int64), xy, visible, aspect=0.75))
    near, far = judge.report()['points']
    assert near['visible_count'] == 1 and near['visible_error'] == pytest.approx(0, abs=1e-6)
    assert near['visible_inside_90'] == 1.0 and near['hidden_error'] is None
    assert far['hidden_count'] == 1 and far['hidden_error'] == pytest.approx(0.03, abs=1e-6)  # in widths
    assert far['hidden_inside_90'] == 0.0 and far['hidden_hold_error'] == pytest.approx(0.2)


@pytest.fixture(scope='module')
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp('bundle') / 'tiny', mode='stream', size=(32, 48))


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp('video') / 'square.mp4'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), 20, (64, 48))
    for index in range(60):
        image = np.full((48, 64, 3), 30, np.uint8)
        cv2.rectangle(image, (index // 2, 15), (index // 2 + 12, 30), (200, 220, 240), -1)
        writer.write(image)
    writer.release()
    return path


def test_a_recording_gives_one_step_per_tubelet_and_futures_once_there_is_context(bundle, video):
    session = open_session(bundle, threads=1)
    steps = list(OfflineRun(session, open_recording(video)))
    context = session.manifest.forecaster.context
    assert len(steps) == 30
    assert [s.futures is not None for s in steps] == [False] * (context - 1) + [True] * (31 - context)
    assert (np.diff([s.latents.stamp_ns for s in steps]) == round(0.1 * S)).all()


def test_the_command_prints_skill_and_writes_it(bundle, video, tmp_path, capsys):
    assert main(['evaluate', 'forecast', str(bundle), str(video), '--json', str(tmp_path / 'f.json')]) == 0
    assert 'skill over shrunk' in capsys.readouterr().out
    written = json.loads((tmp_path / 'f.json').read_text())
    assert [report['recording'] for report in written['reports']] == ['square', 'all']
    assert written['reports'][0]['skill'][0]['count'] > 20


def test_futures_of_another_space_have_no_skill_and_are_read_still(capsys):
    point = {f'{kind}_{key}': 0.5 for kind in ('visible', 'hidden') for key in ('error', 'hold_error', 'inside_90')}
    point |= {'horizon': 0.1, 'visible_count': 7, 'hidden_count': 0}
    forecast_command._print(Console(width=140), {'recording': 'run', 'slices': 9, 'skill': [], 'points': [point]}, [])
    said = capsys.readouterr().out
    assert 'run: 9 slices, no skill: the futures are not of the space of the latents' in said and 'in 90 % ellipse' in said
    forecast_command._print(Console(width=140), {'recording': 'run', 'slices': 1, 'skill': [], 'points': []}, [])
    assert 'too short' in capsys.readouterr().out


def test_recordings_too_short_and_breaks_of_a_real_bag_are_survived(bundle):
    """The gaps of two seconds between the arm's episodes are never forecast across."""
    bags = shared_data() / 'bags'
    reports = evaluate(bundle, [bags / 'bridge_dev18_mcap'], topic='/cam0/image_raw/compressed', threads=1)
    assert reports[0]['slices'] == 18 * 5
    assert sum(row['count'] for row in reports[0]['skill']) <= 18 * 5 * 2
    assert evaluate(bundle, [bags / 'raspicam_aruco_images_mcap'], threads=1)[-1]['skill'] == []


def test_a_missing_recording_is_one_sentence(bundle, capsys):
    assert main(['evaluate', 'forecast', str(bundle), 'nowhere.mp4']) == 2
    assert 'nowhere.mp4' in capsys.readouterr().err
