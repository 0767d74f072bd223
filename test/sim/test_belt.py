# SPDX-License-Identifier: Apache-2.0
"""What the belt is told stays within its limits and holds every kind of event."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jepa_ros.sim.belt import SPEEDS, BeltProgram

DT = 0.01


def run(seed, seconds):
    program = BeltProgram(np.random.default_rng(seed))
    return np.array(
        [(program.step(DT), program.event) for _ in range(round(seconds / DT))],
        dtype=[('speed', float), ('event', 'U8')],
    )


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_speeds_and_accelerations_are_limited(seed):
    told = run(seed, 60)
    assert told['speed'].max() <= SPEEDS[1] and told['speed'].min() >= -0.15
    assert np.abs(np.diff(told['speed'])).max() <= 1.2 * DT + 1e-9
    np.testing.assert_array_equal(told, run(seed, 60))


def test_it_runs_mostly_and_stops_and_reverses_now_and_then():
    told = np.concatenate([run(seed, 120) for seed in range(10)])
    share = {event: float(np.mean(told['event'] == event)) for event in ('run', 'stop', 'reverse')}
    assert 0.75 < share['run'] < 0.95 and share['stop'] > 0.03 and share['reverse'] > 0.01
    assert np.mean(np.abs(told['speed']) < 1e-6) > 0.02, 'a stop is a standstill'


def test_after_a_stop_or_a_reverse_it_runs_again():
    events = run(3, 600)['event']
    changes = [(a, b) for a, b in zip(events, events[1:]) if a != b]
    assert all('run' in change for change in changes) and len(changes) > 20
