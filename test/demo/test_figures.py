# SPDX-License-Identifier: Apache-2.0
"""Figures against worlds whose futures are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jepa_ros.clip import WindowRequest
from jepa_ros.demo.figures import MIN_PAIRS, Figures, longest_run
from jepa_ros.latents import Futures, Latents, token_centres

SLICE = 0.1
HORIZONS = np.array([0.1, 0.3], np.float32)
CENTRES = token_centres((1, 2))
START_NS = 1_795_000_000_000_000_000  # large enough to hurt anything that keeps stamps as floats


def world(t: float) -> np.ndarray:
    """The tokens [2, 3] that are seen at time t (s): they drift."""
    return np.array([[t, 2 * t, 1], [0, -t, t]], np.float32)


def latents(t: float) -> Latents:
    return Latents(START_NS + round(t * 1e9), world(t), CENTRES, np.zeros(2, np.float32),
                   np.full(2, np.nan, np.float32), 7)


def futures(t: float, error: float = 0.0, horizons=HORIZONS) -> Futures:
    tokens = np.stack([world(t + h) + error * h for h in horizons]).astype(np.float32)
    return Futures(START_NS + round(t * 1e9), horizons, tokens, CENTRES, 7)


def run(times, error=0.0, delay=0.02) -> Figures:
    figures = Figures(SLICE)
    for t in times:
        figures.latents(latents(t))
        figures.futures(futures(t, error), START_NS + round((t + delay) * 1e9))
    figures.end()
    return figures


def test_a_perfect_forecast_has_skill_one():
    rows = run(np.arange(20) * SLICE).skills()
    assert [row['horizon'] for row in rows] == [0.1, 0.3]
    assert [row['pairs'] for row in rows] == [19, 17]
    assert [row['skill'] for row in rows] == pytest.approx([1, 1], abs=1e-4)


def test_a_forecast_that_says_nothing_changes_has_skill_zero():
    figures = Figures(SLICE)
    for t in np.arange(20) * SLICE:
        figures.latents(latents(t))
        same = np.stack([world(t)] * 2)
        figures.futures(Futures(START_NS + round(t * 1e9), HORIZONS, same, CENTRES, 7), START_NS)
    figures.end()
    assert [row['skill'] for row in figures.skills()] == pytest.approx([0, 0], abs=1e-5)


def test_skill_and_errors_are_those_of_the_definition():
    row = run(np.arange(20) * SLICE, error=0.5).skills()[1]
    persistence = np.mean((world(0.3) - world(0)) ** 2)
    assert row['error'] == pytest.approx(0.15 ** 2, rel=1e-3)
    assert row['persistence_error'] == pytest.approx(persistence, rel=1e-3)
    assert row['skill'] == pytest.approx(1 - 0.15 ** 2 / persistence, rel=1e-3)


def test_futures_of_another_space_are_counted_and_not_compared():
    figures = Figures(SLICE, comparable=False)
    for t in np.arange(20) * SLICE:
        figures.latents(latents(t))
        figures.futures(futures(t), START_NS)
    figures.end()
    assert figures.futures_count == 20 and figures.skills() == []


def test_too_few_pairs_have_no_skill():
    rows = run(np.arange(MIN_PAIRS + 1) * SLICE).skills()
    assert rows[0]['pairs'] == MIN_PAIRS and rows[0]['skill'] is not None
    assert rows[1]['pairs'] < MIN_PAIRS and rows[1]['skill'] is None


def test_a_still_scene_has_no_skill():
    figures = Figures(SLICE)
    for t in np.arange(20) * SLICE:
        seen = Latents(START_NS + round(t * 1e9), world(0), CENTRES, np.zeros(2), np.zeros(2), 7)
        figures.latents(seen)
        figures.futures(Futures(seen.stamp_ns, HORIZONS, np.stack([world(0)] * 2), CENTRES, 7), START_NS)
    assert [row['skill'] for row in figures.skills()] == [None, None]


def test_futures_whose_time_nobody_saw_are_not_judged():
    """Latents 0.4 s apart: nothing was seen 0.1 or 0.3 s after any; the latents themselves do not count."""
    rows = run(np.arange(20) * 0.4).skills()
    assert [row['pairs'] for row in rows] == [0, 0]


def test_a_clock_that_is_set_back_starts_anew():
    times = [*(np.arange(10) * SLICE), *(np.arange(10) * SLICE)]
    rows = run(times).skills()
    assert [row['pairs'] for row in rows] == [2 * 9, 2 * 7]
    assert rows[0]['skill'] == pytest.approx(1, abs=1e-4)


def test_age_is_that_at_arrival():
    assert run(np.arange(9) * SLICE, delay=0.025).age() == {'p50': 0.025, 'p90': 0.025, 'p99': 0.025}
    assert Figures(SLICE).age() is None


@given(st.lists(st.floats(0.02, 0.35), min_size=30, max_size=60))
def test_any_rhythm_pairs_only_what_is_near(steps):
    """Whatever the gaps: a perfect forecast is never blamed for more than the half slice it may be off."""
    rows = run(np.cumsum(steps)).skills()
    for row in rows:
        if row['pairs']:
            assert row['error'] <= 2 * (0.5 * SLICE) ** 2 + 1e-6  # 7/6 of the time's square


STREAM = WindowRequest(frame_period=0.05, frames=2, new_frames=2, max_gap=0.8)


@pytest.mark.parametrize('rate, count, gap_after, expected', [
    (30, 1, None, 0),  # a single picture
    (30, 10, None, 3),  # 0, 67, 100, 167, 200, 267, 300 ms
    (5, 10, None, 5),  # slower than asked: every frame counts
    (20, 40, 20, 10),  # two episodes with a break: the longer of two runs, not their sum
])
def test_longest_run_counts_what_perception_can_use(rate, count, gap_after, expected):
    times = np.arange(count) / rate + (0 if gap_after is None else 3.0 * (np.arange(count) >= gap_after))
    assert longest_run([START_NS + round(t * 1e9) for t in times], STREAM) == expected
