# SPDX-License-Identifier: Apache-2.0
"""
Many recordings: what is finished is kept, what is faulty is counted, and Ctrl-C leaves what came until then.
"""

import json
import subprocess
import sys

import numpy as np
import pytest
from bundles import make_bundle
from faults import kinds
from recorded import START_NS, STEP_NS, camera, point_message, write_bag, write_video

from jepa_ros.cli import main
from jepa_ros.evaluation.replay import DONE, FAILED, INTERRUPTED, Options, Subject, replay
from jepa_ros.evaluation.replay_report import exit_code, replay_all


@pytest.fixture
def folder(tmp_path):
    """Two bags and a video, of different lengths."""
    for name, count in (('a', 20), ('b', 40)):
        write_bag(tmp_path / 'bags' / name, {'/camera': camera(count)})
    write_video(tmp_path / 'bags' / 'c.mp4', 40)
    return tmp_path / 'bags'


def run(*arguments):
    return main(['replay', *map(str, arguments)])


def report(out):
    """Read report.json, strictly: NaN is no JSON."""

    def refuse(word):
        raise AssertionError(word)

    return json.loads((out / 'report.json').read_text(), parse_constant=refuse)


def test_a_folder_gives_json_and_a_page_with_totals_over_all(folder, tiny, tmp_path, capsys):
    out = tmp_path / 'out'
    assert run(folder, '--bundle', tiny, '--out', out) == 0
    (found,) = report(out)['runs']
    assert [(r['name'], r['status']) for r in found['recordings']] == [('a', DONE), ('b', DONE), ('c', DONE)]
    cameras = [camera for r in found['recordings'] for camera in r['cameras']]
    assert [camera['frames'] for camera in cameras] == [20, 40, 40]
    total = found['total']
    assert total['slices'] == sum(camera['slices'] for camera in cameras) == 6 + 13 + 13
    assert total['recorded_s'] == pytest.approx(100 / 30, abs=0.01)
    assert total['speed'] == pytest.approx(total['recorded_s'] / total['wall_s'])
    for horizon, row in zip((0.1, 0.2, 0.3, 0.4, 0.5), total['skill']):
        each = [r for camera in cameras for r in camera['skill'] if r['horizon'] == row['horizon']]
        assert row['horizon'] == pytest.approx(horizon) and row['count'] == sum(r['count'] for r in each)
        assert row['error'] == pytest.approx(sum(r['count'] * r['error'] for r in each) / row['count'])
    assert total['stages']['encode']['count'] == 32 and total['limit'] in total['stages']
    assert all(
        set(camera['stages'][stage]['ms']) == {'p50', 'p90', 'p99'}
        for camera in cameras
        for stage in ('read', 'decode', 'encode', 'forecast')
    )
    assert 'kept' not in json.dumps(report(out))
    html = (out / 'report.html').read_text()
    assert (
        'Did the futures come true?' in html and 'data:image/jpeg;base64' in html and '3 recordings' in html
    )
    assert 'report.html' in capsys.readouterr().out


def test_what_is_finished_is_not_run_again_until_something_changes(folder, tiny, tmp_path):
    def ran(subject, **more):
        names = []
        replay_all(
            sorted(folder.iterdir()),
            [subject],
            tmp_path / 'out',
            **more,
            run=lambda path, subject, bag: names.append(path.stem) or replay(path, subject, bag=bag),
        )
        return ''.join(names)

    subject = Subject(tiny, Options(threads=1))
    assert ran(subject) == 'abc' and ran(subject) == ''
    assert ran(subject, again=True) == 'abc'
    assert ran(Subject(tiny, Options(threads=1, horizons=(0.2,)))) == 'abc'
    other = make_bundle(tmp_path / 'other', size=(32, 48), seed=1)
    assert ran(Subject(other, Options(threads=1))) == 'abc'
    assert ran(subject) == 'abc', 'the other horizons took its place'
    write_bag(tmp_path / 'new', {'/camera': camera(10)})
    (folder / 'a' / 'a.mcap').write_bytes(next((tmp_path / 'new').glob('*.mcap')).read_bytes())
    assert ran(subject) == 'a'
    for kept in (tmp_path / 'out' / 'recordings').glob('b-*'):
        kept.write_text('{"key": ')
    assert ran(subject) == 'b', 'a damaged one is made anew'


def test_bags_of_outputs_that_are_gone_are_made_again(bag, tiny, tmp_path):
    subject = Subject(tiny, Options(threads=1, mcap=tmp_path / 'mcap'))
    for _ in range(2):
        (made,) = replay_all([bag], [subject], tmp_path / 'out')
        (folder,) = (tmp_path / 'mcap').iterdir()
        assert list(folder.glob('*.mcap'))
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


def test_a_faulty_bag_is_named_and_counted_and_the_others_go_on(folder, tiny, tmp_path, capsys):
    (folder / 'broken.mcap').write_bytes(b'no bag at all')
    out = tmp_path / 'out'
    assert run(folder, '--bundle', tiny, '--out', out) == 1
    (found,) = report(out)['runs']
    assert {r['name']: r['status'] for r in found['recordings']}['broken'] == FAILED
    assert found['total']['failed'] == 1 and found['total']['done'] == 3
    assert 'broken.mcap' in capsys.readouterr().err
    assert 'broken.mcap cannot be read' in (out / 'report.html').read_text()
    assert not list((out / 'recordings').glob('broken*')), 'it is tried again next time'


def test_whatever_a_library_raises_is_the_recordings_fault(bag, subject, monkeypatch):
    monkeypatch.setattr(subject.session, '_encode', lambda frames: 1 / 0)
    result = replay(bag, subject)
    assert result['status'] == FAILED and result['error'].startswith('ZeroDivisionError')
    assert result['cameras'][0]['frames'] > 0


def test_ctrl_c_keeps_what_was_read_and_begins_nothing_more(folder, tiny, tmp_path):
    subject = Subject(tiny, Options(threads=1))

    def interrupted(path, subject, bag):
        def tick(topic, recorded, expected):
            if path.stem == 'b' and recorded > 1.0:
                raise KeyboardInterrupt

        return replay(path, subject, tick, bag)

    (found,) = runs = replay_all(sorted(folder.iterdir()), [subject], tmp_path / 'out', run=interrupted)
    assert [r['status'] for r in found['recordings']] == [DONE, INTERRUPTED]
    assert found['missing'] == 1 and exit_code(runs) == 130
    assert 25 < found['recordings'][1]['cameras'][0]['frames'] < 40
    (again,) = replay_all(sorted(folder.iterdir()), [subject], tmp_path / 'out')
    assert [r['cameras'][0]['frames'] for r in again['recordings']] == [20, 40, 40]


def test_ctrl_c_on_the_command_line_leaves_a_page_that_says_so(folder, tiny, tmp_path, monkeypatch):
    from jepa_ros.evaluation import replay as module

    monkeypatch.setattr(
        module.SurpriseTrace, 'see', lambda self, step: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    out = tmp_path / 'out'
    assert run(folder, '--bundle', tiny, '--out', out) == 130
    (found,) = report(out)['runs']
    assert found['total']['interrupted'] == 1 and found['missing'] == 2
    assert 'interrupted' in (out / 'report.html').read_text()


def test_two_bundles_on_the_same_recordings_side_by_side(folder, tiny, tmp_path, capsys):
    other = make_bundle(tmp_path / 'other', mode='frame', size=(32, 48))
    out = tmp_path / 'out'
    assert run(folder, '--compare', tiny, other, '--out', out) == 0
    one, two = report(out)['runs']
    assert (one['side'], two['side']) == ('A', 'B') and one['bundle']['model'] != two['bundle']['model']
    assert two['total']['slices'] > 1.9 * one['total']['slices'], (
        'an image encoder makes a slice of every frame'
    )
    html = (out / 'report.html').read_text()
    assert 'A: tiny_stream' in html and 'B: tiny_frame' in html and '&amp;' not in html


def test_all_cameras_or_those_that_are_named(subject, tiny, tmp_path):
    path = write_bag(tmp_path / 'bag', {f'/cam{i}/image': camera(10) for i in range(3)})
    assert len(replay(path, subject)['cameras']) == 3
    chosen = Subject(tiny, Options(topics=('cam2/image', '/cam0/image'), threads=1))
    assert [camera['topic'] for camera in replay(path, chosen)['cameras']] == ['/cam0/image', '/cam2/image']
    missing = replay(path, Subject(tiny, Options(topics=('/cam7/image',), threads=1)))
    assert (
        missing['status'] == FAILED
        and '/cam7/image' in missing['error']
        and '/cam2/image' in missing['error']
    )


def test_labels_judge_the_readout(tiny, tmp_path):
    labels = [
        (START_NS + i * STEP_NS, point_message(0.5, 0.5, float(i < 30), START_NS + i * STEP_NS))
        for i in range(60)
    ]
    path = write_bag(tmp_path / 'bag', {'/camera': camera(41), '/truth': labels})
    (camera_,) = replay(path, Subject(tiny, Options(labels='/truth', threads=1)))['cameras']
    row = camera_['points'][0]
    assert row['visible_count'] > 3 and row['hidden_count'] > 2 and row['hidden_hold_error'] == 0
    (missing,) = replay(path, Subject(tiny, Options(labels='/nothing', threads=1)))['cameras']
    assert kinds(missing['faults']) == ['labels'] and missing['points'] == []
    blind = make_bundle(tmp_path / 'blind', size=(32, 48), readout=False)
    (without,) = replay(path, Subject(blind, Options(labels='/truth', threads=1)))['cameras']
    assert 'no readout' in without['faults'][0]['text']


def test_a_bundle_without_futures_still_has_latents_and_latencies(bag, tmp_path):
    blind = make_bundle(tmp_path / 'blind', size=(32, 48), forecaster=False)
    out = tmp_path / 'out'
    assert run(bag, '--bundle', blind, '--out', out) == 0
    camera_ = report(out)['runs'][0]['recordings'][0]['cameras'][0]
    assert camera_['slices'] == 13 and camera_['forecasts'] == 0 and camera_['skill'] == []
    assert camera_['surprise'] is None and camera_['stages']['forecast']['ms'] is None


@pytest.mark.parametrize(
    'arguments, words',
    [
        (['nowhere.bag', '--bundle', 'BUNDLE'], 'nowhere.bag'),
        (['BAG', '--bundle', 'no_such_bundle'], 'no_such_bundle'),
        (['BAG', '--bundle', 'BUNDLE', '--horizons', '0.1,9'], '9'),
        (['BAG', '--compare', 'BUNDLE', 'BUNDLE', '--live'], '--live'),
        (['BAG', '--bundle', 'BUNDLE', '--out', 'BAG/metadata.yaml'], 'metadata.yaml'),
    ],
)
def test_a_wrong_argument_is_one_sentence_and_exit_code_2(bag, tiny, tmp_path, capsys, arguments, words):
    given = [a.replace('BAG', str(bag)).replace('BUNDLE', str(tiny)) for a in arguments]
    assert run(*given, *(() if '--out' in given else ('--out', tmp_path))) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    'arguments',
    [
        ['BAG'],
        ['BAG', '--bundle', 'B', '--compare', 'A', 'B'],
        ['BAG', '--bundle', 'B', '--horizons', 'soon'],
        ['BAG', '--bundle', 'B', '--moments', '-1'],
    ],
)
def test_arguments_that_do_not_parse(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2


def test_it_needs_neither_ros_nor_torch_nor_matplotlib(bag, tiny, tmp_path):
    code = (
        'import sys\nfor name in ("rclpy", "torch", "matplotlib", "mujoco"): sys.modules[name] = None\n'
        'from jepa_ros.cli import main\nsys.exit(main(sys.argv[1:]))'
    )
    done = subprocess.run(
        [sys.executable, '-c', code, 'replay', bag, '--bundle', tiny, '--out', tmp_path],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    html = (tmp_path / 'report.html').read_text()
    assert 'matplotlib is not installed' in html and '<svg' not in html and 'p99' in html


def test_a_recording_that_ships_is_known_by_its_name(tiny, tmp_path):
    assert run('conveyor', '--bundle', tiny, '--out', tmp_path) == 0
    assert report(tmp_path)['runs'][0]['recordings'][0]['cameras'][0]['slices'] > 100


def test_the_page_of_very_many_recordings_shows_the_ones_to_look_at(bag, subject):
    from jepa_ros.evaluation import replay_page
    from jepa_ros.evaluation.replay import total

    result = replay(bag, subject)
    results = [{**result, 'name': f'run{i}'} for i in range(200)]
    results[77] = {**result, 'name': 'odd', 'error': 'it is odd', 'status': FAILED}
    runs = [
        {
            'side': '',
            'live': False,
            'bundle': subject.about(),
            'recordings': results,
            'missing': 0,
            'total': total(results, subject.judge()),
        }
    ]
    content = replay_page.replay_page({'command': '', 'host': '', 'runs': runs})
    assert content.count('<details') == replay_page.SHOWN and 'it is odd' in content
    assert content.count('>run') >= 199


def test_horizons_of_all_recordings_are_those_asked_for(bag, tiny):
    (camera_,) = replay(bag, Subject(tiny, Options(horizons=(0.1, 0.4), threads=1)))['cameras']
    np.testing.assert_allclose([row['horizon'] for row in camera_['skill']], [0.1, 0.4], atol=1e-6)
