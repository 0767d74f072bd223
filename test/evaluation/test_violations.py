# SPDX-License-Identifier: Apache-2.0
"""Pairs of clips: a planted surprise is found in its own kind, and nothing is found where nothing happens."""

import json

import numpy as np
import pytest
from bundles import make_bundle
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import START_NS, image_message, write_bag
from rosbags.typesys import Stores, get_typestore

from jepa_ros.cli import main
from jepa_ros.data.recordings import open_recording
from jepa_ros.engine.session import open_session
from jepa_ros.evaluation.offline import OfflineRun
from jepa_ros.evaluation.violations import ALL, Expectation, ViolationError, find_pairs, watch
from jepa_ros.evaluation.violations_statistics import area, relative, summary

STEP_NS = 50_000_000  # 20 Hz, as the tiny bundle asks for
COUNT, AT = 40, 24


def clip(path, numbers, happens=None, jitter=lambda i: 0):
    """Write a bag whose left half has the brightness of `numbers`; `happens`: at this frame, says /sim/violation;
    `jitter`: of the stamps, ns."""
    string = get_typestore(Stores.ROS2_HUMBLE).types['std_msgs/msg/String']
    logs = [START_NS + i * STEP_NS + jitter(i) for i in range(len(numbers))]
    said = [string('none' if happens is None or i < happens else 'jump') for i in range(len(numbers))]
    return write_bag(
        path,
        {
            '/camera': [(log, image_message(n, log, False)) for log, n in zip(logs, numbers)],
            '/sim/violation': list(zip(logs, said)),
        },
    )


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Three pairs in which the brightness jumps, and three whose clips are the same."""
    path = tmp_path_factory.mktemp('pairs')
    for seed in range(3):
        calm = [(seed + i) // 3 for i in range(COUNT)]
        jumps = [n + 18 * (i >= AT) for i, n in enumerate(calm)]
        clip(path / f'run{seed}_jump_possible', calm)
        clip(path / f'run{seed}_jump_impossible', jumps, AT)
        clip(path / f'run{seed}_still_possible', calm)
        clip(path / f'run{seed}_still_impossible', calm)
    return path


@pytest.fixture(scope='module')
def report(folder, tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp('out')
    assert main(['evaluate', 'violations', str(tiny), str(folder), '--out', str(out), '--threads', '1']) == 0
    return json.loads((out / 'report.json').read_text()), (out / 'report.html').read_text()


def test_the_planted_kind_is_found_and_the_other_is_chance(report):
    rows = {(row['kind'], row['context'], row['horizon']): row for row in report[0]['summary']}
    every_setting = [(s['context'], s['horizon']) for s in report[0]['settings']]
    assert every_setting[0] == (ALL, 0.1) and {context for context, _ in every_setting} == {ALL, 3}
    for setting in every_setting:
        jump, still, every = (rows[(kind, *setting)] for kind in ('jump', 'still', 'all'))
        assert (jump['relative']['value'], jump['area']['value'], jump['pairs']) == (1, 1, 3)
        assert (still['relative']['value'], still['area']['value']) == (0.5, 0.5)
        assert every['relative']['value'] == 0.75 and every['pairs'] == 6
    violations = {pair['name']: pair['violation_s'] for pair in report[0]['pairs']}
    assert violations['run0_jump'] == pytest.approx(AT * 0.05) and violations['run0_still'] is None


def test_the_page_says_what_was_noticed_and_shows_the_pairs(report):
    html = report[1]
    assert 'jump: cannot be told from chance (relative 1.00, 3 pairs)' in html, 'three are too few'
    assert html.count('<img') == 8 and 'most clearly told apart' in html and '3 slices' in html


def test_the_first_setting_is_what_the_node_publishes_as_surprise(folder, tiny):
    expectation = Expectation(tiny, (4,), threads=1)
    recording = open_recording(folder / 'run1_jump_impossible')
    seen = expectation.see(recording)
    published = [step.latents.surprise for step in OfflineRun(open_session(tiny, threads=1), recording)]
    np.testing.assert_allclose(seen.tokens, np.stack(published))
    np.testing.assert_allclose(seen.live, np.stack(published).mean(1), rtol=1e-5)
    assert abs(seen.times[np.nanargmax(seen.live)] - AT * 0.05) <= 0.1


@pytest.mark.parametrize('jitter', [lambda i: -(i % 3), lambda i: (-1) ** (i // 2) * 2_000_000])
def test_a_slice_that_comes_a_little_early_is_compared_as_well(tiny, tmp_path, jitter):
    expectation, numbers = Expectation(tiny, (ALL,), threads=1), [i // 3 for i in range(COUNT)]
    exact, real = (
        expectation.see(open_recording(clip(tmp_path / name, numbers, jitter=of)))
        for name, of in (('exact', lambda i: 0), ('real', jitter))
    )
    for setting in expectation.settings:
        np.testing.assert_array_equal(np.isfinite(real.errors[setting]), np.isfinite(exact.errors[setting]))


def test_a_context_is_a_memory_that_begins_so_many_slices_before_the_forecast(folder, tiny):
    """A clip's first so many slices are all of its past; from then on less is remembered than that."""
    context = 6  # slices; the tiny encoder's cache holds four, its layers remember longer
    seen = Expectation(tiny, (ALL, context), threads=1).see(open_recording(folder / 'run0_jump_impossible'))
    for ahead, horizon in enumerate((0.1, 0.2, 0.3, 0.4, 0.5), 1):
        whole, short = seen.errors[ALL, horizon], seen.errors[context, horizon]
        first = context - 1 + ahead
        assert np.isnan(short[:first]).all() and np.isfinite(short[first:]).all()
        assert short[first] == pytest.approx(whole[first], rel=1e-4)
        assert not np.allclose(short[first + 1 :], whole[first + 1 :], rtol=1e-4)


@pytest.mark.parametrize('mode', ['frame', 'clip'])
def test_an_encoder_without_memory_has_one_context(folder, tmp_path, mode):
    bundle = make_bundle(tmp_path / mode, mode=mode, size=(32, 48))
    expectation = Expectation(bundle, threads=1)
    assert expectation.contexts == (ALL,)
    (pair,) = find_pairs([folder / 'run2_jump_possible', folder / 'run2_jump_impossible'])
    possible, impossible = watch(pair, expectation)
    for setting in expectation.settings:
        assert impossible.score(setting, 'max') > 2 * possible.score(setting, 'max')
    with pytest.raises(ViolationError, match="'all' alone"):
        Expectation(bundle, (4,))


def test_surprises_without_meaning_are_found_in_about_half_of_the_pairs_and_the_intervals_know():
    rng, covered, trials, pairs = np.random.default_rng(0), 0, 60, 24
    for trial in range(trials):
        shared, own = rng.normal(size=pairs), rng.normal(size=(2, pairs))
        found = area(*(shared + own), seed=trial)
        covered += found.low <= 0.5 <= found.high
        assert found.low <= found.estimate <= found.high
    assert 0.85 * trials <= covered


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_changing_the_sides_mirrors_both_figures(pairs):
    possible, impossible = zip(*pairs)
    for figure in (relative, area):
        one, other = figure(possible, impossible), figure(impossible, possible)
        assert one.estimate + other.estimate == pytest.approx(1)
        assert 0 <= one.estimate <= 1 and one.count == len(pairs)


def test_three_pairs_that_agree_show_nothing_and_four_do():
    lows = [relative([0] * count, [1] * count).low for count in (1, 3, 4, 40)]
    assert lows[1] < 0.5 < lows[2] < lows[3] < 1 and lows[0] > 0


def test_what_happens_behind_the_screen_counts_in_both_directions():
    def pair(kind, possible, impossible):
        scores = {'possible': possible, 'impossible': impossible}
        score = {f'{name}_{over}': value for name, value in scores.items() for over in ('mean', 'max')}
        return {'kind': kind, 'scores': [{'context': ALL, 'horizon': 0.1, **score}]}

    forgetful = [pair('vanish', 2, 1), pair('appear', 1, 2), pair('jump', 1, 2)] * 4  # what comes into view surprises, no more
    rows = {row['kind']: row['relative']['value'] for row in summary(forgetful)}
    assert rows['vanish'] == 0 and rows['appear'] == 1 and rows['vanish + appear'] == 0.5
    assert rows['all'] == pytest.approx(2 / 3)


def test_clips_that_are_no_pairs_are_named(folder, tiny, tmp_path, capsys):
    assert main(['evaluate', 'violations', str(tiny), str(folder / 'run0_jump_possible')]) == 2
    assert 'without run0_jump_impossible' in capsys.readouterr().err
    clip(tmp_path / 'some_run', [1, 2, 3])
    assert main(['evaluate', 'violations', str(tiny), str(tmp_path)]) == 2
    assert 'jepa sim record --violations' in capsys.readouterr().err
    for name in ('short_jump_possible', 'short_jump_impossible'):
        clip(tmp_path / name, [1, 2, 3])
    assert main(['evaluate', 'violations', str(tiny), str(tmp_path), '--out', str(tmp_path / 'out')]) == 2
    assert 'long enough' in capsys.readouterr().err


@pytest.mark.parametrize('words', ['0', 'most', '4,', '-1'])
def test_contexts_that_do_not_parse(tiny, words, capsys):
    with pytest.raises(SystemExit):
        main(['evaluate', 'violations', str(tiny), 'x', f'--contexts={words}'])
    assert 'as 4,8,all' in capsys.readouterr().err
