# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from riding import HORIZONS, Handle, camera, instant

from jepa_ros.control.intercept import HandleState
from jepa_ros.evaluation.rollout_contenders import Opinion
from jepa_ros.evaluation.rollout_errors import COLUMNS, Moment, errors

HANDLE = Handle((-0.2, 0.0, 0.8))


def moments(count=30, **changes):
    """Frames at 20 Hz; `changes`: name of a field to a function of the frame's index."""
    made = []
    for index in range(count):
        place = HANDLE.at(index * 0.05)
        usual = {'yaw': HANDLE.yaw, 'xy': camera().to_image(place[None])[0], 'visible': True, 'free': True, 'belt': 0.2, 'disturbed': False}
        found = {name: changes[name](index) if name in changes else value for name, value in usual.items()}
        made.append(Moment(instant(index * 0.05), place, **found))
    return made


def opinion(seconds, off=(0.0, 0.0, 0.0), yaw=HANDLE.yaw):
    """What is said at a time, and a path that is off by so much, m."""
    path = HANDLE.path(seconds, deviation=0.01)
    states = [
        (instant(seconds + h), HandleState(HANDLE.at(seconds + h) + off, np.zeros(3), yaw, np.eye(6) * 1e-4))
        for h in HORIZONS
    ]
    return Opinion(path), tuple(states)


def table(rows):
    return dict(zip(COLUMNS, np.array(rows, float).T))


def test_by_how_much_in_which_direction():
    found = table(errors([opinion(0.2, (0.01, -0.03, 0.005))], moments(), camera()))
    np.testing.assert_allclose(found['horizon'], HORIZONS)
    np.testing.assert_allclose([found['along'], found['across'], found['up']], [[1.0] * 5, [-3.0] * 5, [0.5] * 5])
    assert not found['inside'].any(), '3 cm are outside of the 90 % ellipse of 1 cm'
    assert found['read_inside'].all() and not found['hidden'].any()


@pytest.mark.parametrize(('told', 'off'), [(0.3, 0.0), (0.1, -11.5), (0.3 + np.pi, 0.0), (-1.2, -85.9), (-1.4, 82.6)])
def test_a_bar_that_is_turned_by_half_a_turn_is_the_same(told, off):
    found = table(errors([opinion(0.2, yaw=told)], moments(), camera()))
    np.testing.assert_allclose(found['turn'], off, atol=0.1)


def test_a_truth_between_frames_is_interpolated():
    found = table(errors([opinion(0.2, (0, 0, 0))], moments(), camera()))
    np.testing.assert_allclose([found['along'], found['across'], found['up']], 0, atol=0.01)
    assert found['inside'].all()


def test_hidden_counts_at_the_newest_frame_and_an_intervention_for_a_second():
    rows = errors([opinion(0.2), opinion(0.4)], moments(visible=lambda i: i != 4, disturbed=lambda i: i == 13), camera())
    found = table(rows)
    np.testing.assert_array_equal(found['hidden'], [1] * 5 + [0] * 5)
    # the intervention is at 0.65 s: the horizons 0.5 of the first and 0.3 to 0.5 of the second lie behind it
    np.testing.assert_array_equal(found['disturbed'], [0, 0, 0, 0, 1] + [0, 0, 1, 1, 1])


def test_nothing_counts_once_the_bin_is_touched_or_out_of_the_picture():
    assert len(errors([opinion(0.2)], moments(free=lambda i: i < 10), camera())) == 2
    assert errors([opinion(0.2)], moments(xy=lambda i: None if i == 4 else np.array([0.5, 0.5])), camera()) == []
    unknown, _ = opinion(0.2)
    assert errors([(unknown, ())], moments(), camera()) == []


def test_what_was_published_for_other_instants_is_not_held_against_these():
    said, states = opinion(0.2)
    assert errors([(said, [(at - 50_000_000, state) for at, state in states])], moments(), camera()) == []
    found = table(errors([(said, states[2:])], moments(), camera()))
    np.testing.assert_allclose(found['horizon'], HORIZONS[2:])
    np.testing.assert_allclose(found['along'], 0, atol=0.01)


def test_a_covariance_without_extent_holds_only_the_truth_itself():
    said, states = opinion(0.2)
    flat = [(t, HandleState(s.position, s.velocity, 0.0, np.zeros((6, 6)))) for t, s in states]
    assert table(errors([(said, flat)], moments(), camera()))['inside'] == pytest.approx(np.ones(5))
