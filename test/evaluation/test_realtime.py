# SPDX-License-Identifier: Apache-2.0
"""
The simulated node: fast enough loses nothing, too slow loses what it must, and every frame is accounted for.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jepa_ros.clip import WindowRequest
from jepa_ros.evaluation.offline import Arrival
from jepa_ros.evaluation.realtime import QUEUE, percentiles, simulate

REQUEST = WindowRequest(frame_period=0.05, frames=2, new_frames=2, max_gap=0.8)
STEP_NS = 50_000_000


def frames(count, decode_s=0.001, step=0.05):
    return [Arrival(i * step, 10**12 + round(i * step * 1e9), decode_s) for i in range(count)]


def steps(count, seconds):
    return {10**12 + (2 * i + 1) * STEP_NS: seconds for i in range(count // 2)}


def test_a_node_that_is_fast_enough_loses_nothing_and_its_age_is_decode_and_step():
    found = simulate(REQUEST, frames(100), steps(100, 0.02))
    assert (found['slices'], found['offline'], found['lost'], found['overrun'], found['transport']) == (
        50,
        50,
        0,
        0,
        0,
    )
    assert found['age_ms'] == {name: pytest.approx(21.0) for name in ('p50', 'p90', 'p99')}
    assert found['busy'] == pytest.approx(50 * 0.02 / (99 * 0.05))


def test_a_step_of_two_and_a_half_slices_gives_two_fifths_of_them():
    found = simulate(REQUEST, frames(400), steps(400, 0.25))
    assert found['slices'] == pytest.approx(400 * 0.05 / 0.25, abs=2)
    assert found['lost'] == pytest.approx(0.6, abs=0.02) and found['busy'] > 0.98
    assert found['overrun'] == pytest.approx(400 - 2 * found['slices'], abs=2) and found['transport'] == 0
    assert found['age_ms']['p99'] <= 251 + 100 + 1  # the newest complete set, never an older one


def test_a_decoder_slower_than_the_camera_loses_frames_before_they_are_looked_at():
    found = simulate(REQUEST, frames(100, decode_s=0.1), steps(100, 0.01))
    assert found['transport'] == pytest.approx(50 - QUEUE, abs=QUEUE)


def test_what_was_never_measured_is_not_made_up():
    assert simulate(REQUEST, frames(1), {}) is None
    assert percentiles([]) is None


@given(st.lists(st.tuples(st.floats(0, 0.4), st.floats(0, 0.1)), min_size=2, max_size=60), st.floats(0, 0.3))
def test_any_pace_and_any_durations(pairs, step_s):
    now, arrivals = 0.0, []
    for step, decode_s in pairs:
        now += step
        arrivals.append(Arrival(now, 10**12 + round(now * 1e9), decode_s))
    found = simulate(REQUEST, arrivals, {1: step_s})
    assert 0 <= found['lost'] <= 1 and found['transport'] + found['overrun'] + 2 * found['slices'] <= len(
        arrivals
    )
    if found['age_ms']:
        assert found['age_ms']['p50'] >= 1e3 * step_s - 1e-3
