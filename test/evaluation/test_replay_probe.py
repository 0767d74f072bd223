# SPDX-License-Identifier: Apache-2.0
"""A linear probe reads what is in the tokens, on parts that it was not fitted on, and nothing else."""

import json

import numpy as np
import pytest
from faults import kinds
from recorded import START_NS, STEP_NS, image_message, point_message, write_bag

from jepa_ros.cli import main
from jepa_ros.data.bags import RecordingError
from jepa_ros.data.frames import RecordedFrame
from jepa_ros.data.signals import Vectors
from jepa_ros.evaluation.offline import Step
from jepa_ros.evaluation.replay_probe import ROWS, ReplayProbe
from jepa_ros.latents import Futures, Latents

S = 1_000_000_000
GRID, WIDTH, PERIOD = (2, 3), 8, S // 10
HORIZONS = np.float32([0.1, 0.2])
CENTRES = np.zeros((6, 2), np.float32)


def place(seconds):
    """Where a thing is at some times, [..., 2]."""
    return np.stack([np.sin(3 * seconds), np.cos(2 * seconds)], -1)


def steps(count, rng, told=True, breaks=()):
    """Steps whose tokens hold the place of their time, and whose futures that of theirs; `told`: or only noise."""
    way = rng.normal(size=(2, 6 * WIDTH))
    for i in range(count):
        stamp = S + i * PERIOD
        at = stamp / S + np.concatenate([[0.0], HORIZONS])
        tokens = (place(at) @ way if told else 0.0) + rng.normal(0, 0.05, (3, 6 * WIDTH))
        tokens = tokens.reshape(3, 6, WIDTH).astype(np.float32)
        nothing = np.zeros(6, np.float32)
        yield Step(
            Latents(stamp, tokens[0], CENTRES, nothing, nothing, 1),
            Futures(stamp, HORIZONS, tokens[1:], CENTRES, 1),
            'a gap' if i in breaks else None,
            i / 10,
            RecordedFrame(stamp, stamp, '', nothing),
        )


def probed(monkeypatch, count=100, source='/place', **how):
    probe = ReplayProbe(source, HORIZONS, GRID)
    for step in steps(count, np.random.default_rng(0), **how):
        probe.see(step)
    stamps = S + np.arange(count + 5, dtype=np.int64) * PERIOD
    vectors = Vectors(['x', 'y'], stamps, stamps, place(stamps / S))
    monkeypatch.setattr(Vectors, 'read', lambda recording, topic: vectors)
    return probe.result(None, stamps)


def test_what_the_tokens_hold_is_read_now_and_at_each_horizon(monkeypatch):
    found = probed(monkeypatch)
    assert [row['horizon'] for row in found['rows']] == pytest.approx([0, 0.1, 0.2])
    assert all(row['count'] == 100 and row['error'] < 0.1 * row['mean_error'] for row in found['rows'])
    now, near, far = found['rows']
    assert now['hold_error'] == 0 and near['hold_error'] < far['hold_error']
    assert far['change_error'] < 0.3 * far['hold_error']
    assert [round(series['horizon'], 3) for series in found['series']] == [0, 0.2]
    assert found['series'][1]['time_s'][0] == pytest.approx(0.2)


def test_from_tokens_that_hold_nothing_no_more_is_read_than_the_mean(monkeypatch):
    rows = probed(monkeypatch, told=False)['rows']
    assert all(row['error'] > 0.8 * row['mean_error'] for row in rows)


def test_stretches_between_breaks_stay_whole(monkeypatch):
    probe = ReplayProbe('/place', HORIZONS, GRID)
    for step in steps(70, np.random.default_rng(0), breaks=range(10, 70, 10)):
        probe.see(step)
    parts = probe._parts(np.arange(70))
    assert [len(set(part)) for part in parts.reshape(7, 10)] == [1] * 7 and set(parts) == set(range(5))


def test_a_long_recording_is_thinned_evenly(monkeypatch):
    found = probed(monkeypatch, count=2 * ROWS // 3 + 10)
    assert ROWS // 6 <= found['slices'] <= ROWS // 3
    assert np.ptp(np.diff(found['series'][0]['time_s'])) < 1e-6


@pytest.mark.parametrize(
    'count, source, words', [(15, '/place', 'found it at 15'), (100, '/place:x,q', "'q' in /place, found x, y")]
)
def test_too_little_or_another_element_is_one_sentence(monkeypatch, count, source, words):
    with pytest.raises(RecordingError, match=words):
        probed(monkeypatch, count, source)


def test_elements_can_be_chosen(monkeypatch):
    assert probed(monkeypatch, source='/place:y')['names'] == ['y']


def test_topics_and_tables_come_into_the_report_and_what_is_not_there_is_a_fault(tiny, tmp_path, capsys):
    logs = [START_NS + i * STEP_NS for i in range(100)]
    pictures = [(log, image_message(i * 2 // 5, log, True)) for i, log in enumerate(logs)]
    points = [(log, point_message(i / 100, 0.5, 1.0, log)) for i, log in enumerate(logs)]
    for name in 'ab':
        write_bag(tmp_path / 'bags' / name, {'/camera': pictures, '/truth': points})
    (tmp_path / 'bags' / 'a_tracks.csv').write_text(
        'frame,track,x\n' + '\n'.join(f'{i},bin,{i}' for i in range(100))
    )
    out = tmp_path / 'out'
    asked = ['--probe', '/truth:x', '--probe', '*_tracks.csv', '--threads', '1']
    assert main(['replay', str(tmp_path / 'bags'), '--bundle', str(tiny), '--out', str(out), *asked]) == 0
    recordings = json.loads((out / 'report.json').read_text())['runs'][0]['recordings']
    one, other = (recording['cameras'][0] for recording in recordings)
    assert [(p['source'], p['names']) for p in one['probes']] == [('/truth', ['x']), ('*_tracks.csv', ['x_bin'])]
    assert [p['source'] for p in other['probes']] == ['/truth'] and kinds(one['faults']) == []
    assert kinds(other['faults']) == ['probe'] and 'b_tracks.csv' in other['faults'][0]['text']
    first = one['probes'][0]
    assert first['rows'][0]['count'] == first['slices'] == one['slices'] and 'series' not in first
    assert first['rows'][0]['error'] < 0.5 * first['rows'][0]['mean_error'], 'brightness tells the time'
    assert 'b /camera: median error of /truth' in capsys.readouterr().out
    assert 'What a linear probe reads of /truth' in (out / 'report.html').read_text()
    of_table = one['probes'][1]['rows'][0]['mean_error']
    (tmp_path / 'bags' / 'a_tracks.csv').write_text(
        'frame,track,x\n' + '\n'.join(f'{i},bin,{10 * i}' for i in range(100))
    )
    assert main(['replay', str(tmp_path / 'bags'), '--bundle', str(tiny), '--out', str(out), *asked]) == 0
    again = json.loads((out / 'report.json').read_text())['runs'][0]['recordings'][0]['cameras'][0]
    assert again['probes'][1]['rows'][0]['mean_error'] == pytest.approx(10 * of_table), 'another table, another result'
