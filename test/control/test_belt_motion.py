# SPDX-License-Identifier: Apache-2.0
"""A belt as a line: places are made up, and errors as futures have them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jepa_ros.control.belt_motion import LEAST, BeltMotion, MotionSettings

LEADS = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
PERIOD = 0.05


def follow(motion, frames, place, deviation=0.005, begin=0.0, error=lambda number, times: 0.0):
    """Paths of a thing at `place(times)` at 20 Hz."""
    for number in range(frames):
        stamp = begin + number * PERIOD
        times = stamp + LEADS
        motion.add(stamp, times, place(times) + error(number, times), np.full(len(times), deviation**2))
    return motion


def steady(speed=0.2, place=0.0):
    return lambda times: place + speed * times


@settings(max_examples=40, deadline=None)
@given(st.floats(-0.3, 0.3), st.floats(-0.5, 0.5), st.floats(1e-4, 0.02), st.integers(10, 40))
def test_a_steady_belt_is_followed(speed, place, deviation, frames):
    motion = follow(BeltMotion(MotionSettings()), frames, steady(speed, place), deviation)
    at = motion.times[[0, 3]]
    places, speeds, variances = motion.at(at)
    np.testing.assert_allclose(places, steady(speed, place)(at), atol=0.02)
    np.testing.assert_allclose(speeds, speed, atol=0.05)
    assert (np.abs(places - steady(speed, place)(at)) < 3 * np.sqrt(variances)).all()
    assert 0 < variances[0] < variances[1]


def test_many_paths_tell_the_speed_but_the_place_no_better_than_their_errors_are_alike():
    once, often = (
        follow(BeltMotion(MotionSettings()), frames, steady(), 0.02).at(np.array([(frames - 1) * PERIOD + 0.1]))
        for frames in (1, 20)
    )
    deviation = np.sqrt(often[2][0])
    assert 0.6 * 0.02 < deviation < 0.9 * np.sqrt(once[2][0])
    assert often[1][0] == pytest.approx(0.2, abs=0.02)


def test_the_deviation_that_is_told_is_that_of_the_errors():
    """Over many belts and readings, drawn as the filter believes them to be."""
    rng, believed, deviation = np.random.default_rng(0), MotionSettings(), 0.02
    slope = np.sqrt((1 + believed.caution) * deviation**2) / (LEADS[-1] - LEADS[0])
    fade = np.exp(-PERIOD / believed.alike)
    squares = []
    for _ in range(300):
        motion, place = BeltMotion(believed), 0.0
        speed, alike = rng.normal(*believed.belt_speed), rng.normal(size=2)
        for number in range(30):
            stamp = number * PERIOD
            own = rng.normal(size=len(LEADS)) * np.sqrt(believed.caution * deviation**2 + LEAST**2)
            # what the belt does on the way is small beside the errors, and left out
            read = place + speed * LEADS + deviation * alike[0] + slope * (LEADS - LEADS[0]) * alike[1] + own
            motion.add(stamp, stamp + LEADS, read, np.full(len(LEADS), deviation**2))
            place += speed * PERIOD
            speed += rng.normal() * np.sqrt(believed.restless * PERIOD)
            alike = fade * alike + np.sqrt(1 - fade**2) * rng.normal(size=2)
        (found,), _, (variance,) = motion.at(np.array([stamp + 0.1]))
        squares.append((found - place + speed * (PERIOD - 0.1)) ** 2 / variance)
    assert 0.8 < np.mean(squares) < 1.25, np.mean(squares)


def test_paths_that_claim_little_move_little():
    """A hidden thing: what was seen of its motion carries on, however wrong the futures that know nothing are."""
    motion = follow(BeltMotion(MotionSettings()), 20, steady(), 0.01)
    follow(motion, 16, steady(), 0.15, begin=1.0, error=lambda number, times: -0.2 * (times - 1.0))
    at = motion.times[[0, 3]]
    places, _, variances = motion.at(at)
    np.testing.assert_allclose(places, steady()(at), atol=0.03)
    assert 0.01 < np.sqrt(variances[0]) < 0.06, 'and it becomes less certain'


def test_a_belt_that_changes_its_speed_is_noticed_by_degrees():
    motion = follow(BeltMotion(MotionSettings()), 20, steady(), 0.02)
    speeds = []
    for number in range(30):
        follow(motion, 1, steady(0.0, 0.2), 0.02, begin=1.0 + number * PERIOD)
        speeds.append(motion.at(motion.times[:1])[1][0])
    assert speeds[0] > 0.1 and abs(speeds[-1]) < 0.04
    assert motion.at(motion.times[:1])[0][0] == pytest.approx(0.2, abs=0.02)


def test_one_far_off_is_put_aside_and_a_second_is_another_world():
    motion = follow(BeltMotion(MotionSettings()), 20, steady())
    follow(motion, 1, steady(0.2, 0.5), begin=1.0)
    times = motion.times
    np.testing.assert_allclose(times, 1.0 + LEADS)
    assert motion.at(times[:1])[0][0] == pytest.approx(steady()(times[0]), abs=2e-3), 'what was known before, then'
    follow(motion, 1, steady(), begin=1.05)
    follow(motion, 1, steady(0.2, 0.5), begin=1.1)
    assert motion.at(motion.times[:1])[0][0] == pytest.approx(steady()(motion.times[0]), abs=2e-3), 'not in a row'
    follow(motion, 1, steady(0.1, 0.5), begin=1.15)
    assert motion.first == motion.times[0], 'nothing before its first horizon is known of another world'
    places, speeds, _ = motion.at(motion.times)
    np.testing.assert_allclose(places, steady(0.1, 0.5)(motion.times), atol=5e-3)
    np.testing.assert_allclose(speeds, 0.1, atol=0.02)


def test_one_horizon_will_do():
    motion = BeltMotion(MotionSettings())
    for number in range(20):
        stamp = number * PERIOD
        motion.add(stamp, np.array([stamp + 0.1]), np.array([0.2 * (stamp + 0.1)]), np.array([1e-4]))
    places, speeds, _ = motion.at(motion.times)
    assert places[0] == pytest.approx(0.2 * motion.times[0], abs=5e-3) and speeds[0] == pytest.approx(0.2, abs=0.03)


def test_what_was_seen_elsewhere_is_shifted():
    motion = follow(BeltMotion(MotionSettings()), 5, steady())
    before = motion.at(motion.times)
    motion.shift(0.03)
    for was, now, by in zip(before, motion.at(motion.times), (0.03, 0, 0)):
        np.testing.assert_allclose(now, was + by)
