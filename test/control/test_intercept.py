# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from riding import BELT_TOP, HORIZONS, Handle, camera, instant

from jepa_ros.control.bar import GRASP
from jepa_ros.control.calibration import CalibrationError
from jepa_ros.control.intercept import Arm, HandleTrack, TrackSettings, intercept
from jepa_ros.control.path import PredictedPath, PredictionError

OPEN = TrackSettings(lane=(0.0, 10.0), handle_spread=10.0)  # nothing is known beforehand


def follow(handle, seconds=1.0, settings=OPEN, track=None, begin=0.0, **told) -> HandleTrack:
    """The track after the futures of some frames at 20 Hz."""
    track = track or HandleTrack(settings)
    for time in np.arange(begin, begin + seconds, 0.05):
        track.add(handle.path(time, **told), camera())
    return track


@settings(max_examples=25, deadline=None)
@given(st.floats(-0.3, 0.3), st.floats(-0.06, 0.06), st.floats(0.74, 0.88), st.floats(-0.1, 0.3), st.floats(-1.5, 1.5))
def test_exact_futures_give_the_handle_exactly(x, y, z, speed, yaw):
    handle = Handle((x, y, z), speed, yaw)
    state = follow(handle, 0.5).at(instant(0.75))
    np.testing.assert_allclose(state.position, handle.at(0.75), atol=2e-3)
    np.testing.assert_allclose(state.velocity, (speed, 0, 0), atol=4e-3)
    assert abs(np.sin(state.yaw - yaw)) < 1e-6
    assert np.linalg.eigvalsh(state.covariance)[0] > -1e-12


def test_a_turned_belt_is_the_same_belt():
    handle = Handle()
    turned = follow(handle, settings=replace(OPEN, belt_yaw=0.0)).at(instant(1.2))
    # seen from a frame that is turned by a quarter, the belt runs along -y
    quarter = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    ours = camera()
    there = replace(ours, position=quarter @ ours.position, rotation=quarter @ ours.rotation)
    track = HandleTrack(replace(OPEN, belt_yaw=-np.pi / 2))
    for time in np.arange(0, 1.0, 0.05):
        track.add(handle.path(time), there)
    state = track.at(instant(1.2))
    np.testing.assert_allclose(state.position, quarter @ turned.position, atol=1e-9)
    np.testing.assert_allclose(state.velocity, quarter @ turned.velocity, atol=1e-9)
    wide = np.kron(np.eye(2), quarter)
    np.testing.assert_allclose(state.covariance[:3, :3], (wide @ turned.covariance @ wide.T)[:3, :3], atol=1e-9)


def test_what_is_known_of_lane_and_height_helps_where_the_camera_looks_along_the_belt():
    handle = Handle((0.0, 0.0, BELT_TOP + 0.2))
    errors = {}
    for name, settings_ in (('open', OPEN), ('known', TrackSettings())):
        # 2 cm too high, and unsure of it: on the ray that is 6 cm off across the belt
        track = HandleTrack(settings_)
        for time in np.arange(0, 0.5, 0.05):
            path = handle.path(time, deviation=0.02)
            mean, std = path.attributes[GRASP]
            told = {GRASP: (mean + (0, 0, 0.02), np.full_like(std, 0.02))}
            track.add(replace(path, attributes=told), camera())
        state = track.at(instant(0.6))
        errors[name] = np.abs(state.position - handle.at(0.6))[1:], state.covariance[1, 1]
    assert errors['open'][0][0] > 0.04 and errors['open'][0][1] == pytest.approx(0.02, abs=1e-3)
    assert (errors['known'][0] < 0.6 * errors['open'][0]).all()
    assert errors['known'][1] < errors['open'][1] / 2


def test_a_bundle_that_does_not_tell_the_height_leaves_it_to_what_is_known():
    state = follow(Handle((0.0, 0.0, BELT_TOP + 0.2)), settings=TrackSettings(handle_yaw=0.4), told=False).at(instant(1.2))
    np.testing.assert_allclose(state.position, (0.24, 0.0, BELT_TOP + 0.2), atol=2e-3)
    assert state.yaw == pytest.approx(0.4)
    assert 0.005 < np.sqrt(state.covariance[2, 2]) < 0.03, 'the lane tells something of the height too'


def test_averaging_makes_nothing_certain_that_all_futures_may_be_wrong_about():
    once, often = (follow(Handle(), n * 0.05, deviation=0.02).at(instant(n * 0.05 + 0.1)) for n in (1, 20))
    for index in range(3):  # along the belt, across it and upwards
        assert often.covariance[index, index] > 0.3 * once.covariance[index, index]


def test_what_was_seen_of_the_motion_carries_on_while_futures_know_nothing():
    track = follow(Handle())
    for time in np.arange(1.0, 1.8, 0.05):  # a hidden handle: the futures fall behind, and say how little they know
        track.add(Handle().path(time, error=(-0.2 * (time - 1), 0, 0), deviation=0.15), camera())
    state = track.at(instant(2.1))
    np.testing.assert_allclose(state.position, Handle().at(2.1), atol=0.03)
    assert state.covariance[0, 0] > 1.2 * follow(Handle()).at(instant(1.3)).covariance[0, 0]


def test_a_height_that_was_felt_moves_the_handle_on_its_ray():
    handle = Handle()
    low = np.array([0.0, 0.0, -0.02])
    ray = handle.at(1.2) - camera().position
    low[:2] = ray[:2] * low[2] / ray[2]
    track = HandleTrack(TrackSettings(lane=(0.0, 1.0), handle_spread=1.0))
    follow(handle, track=track, error=tuple(low))
    before = track.at(instant(1.2)).position
    np.testing.assert_allclose(before, handle.at(1.2) + low, atol=4e-3)
    assert track.feel(handle.place[2] - BELT_TOP, 0.001)
    np.testing.assert_allclose(track.at(instant(1.2)).position, handle.at(1.2), atol=4e-3)
    other = replace(handle, place=(0.1, 0.1, 0.74), yaw=1.4)
    follow(other, 0.3, track=track, begin=1.0)
    np.testing.assert_allclose(track.at(instant(1.4)).position, other.at(1.4), atol=6e-3)


def test_what_was_felt_is_forgotten_with_the_bin_after_a_silence():
    track = follow(Handle())
    track.feel(0.14, 0.001)
    other = Handle((-0.9, 0.01, 0.82))
    follow(other, track=track, begin=6.0)
    np.testing.assert_allclose(track.at(instant(7.2)).position, follow(other, begin=6.0).at(instant(7.2)).position, atol=1e-9)


def test_nothing_can_be_felt_before_there_are_futures():
    track = HandleTrack(TrackSettings())
    assert not track.feel(0.2, 0.01)
    np.testing.assert_allclose(follow(Handle(), track=track).at(instant(1.2)).position, Handle().at(1.2), atol=3e-3)


def test_one_outlier_is_put_aside():
    track = follow(Handle())
    track.add(Handle().path(1.0, error=(0.15, 0, 0)), camera())
    np.testing.assert_allclose(track.at(instant(1.2)).position, Handle().at(1.2), atol=2e-3)


def test_two_that_agree_are_another_world():
    track = follow(Handle())
    moved = replace(Handle(), place=(0.15, 0.01, 0.82))
    follow(moved, 0.1, track=track, begin=1.0)
    np.testing.assert_allclose(track.at(instant(1.3)).position, moved.at(1.3), atol=5e-3)


def test_a_belt_that_stopped_is_believed_within_three_frames():
    track = follow(Handle())
    standing = Handle(tuple(Handle().at(1.0)), 0.0)
    follow(standing, 0.15, track=track, begin=1.0)
    state = track.at(instant(1.5))
    np.testing.assert_allclose(state.position, standing.at(0), atol=0.02)


def test_older_futures_change_nothing():
    track = follow(Handle())
    before = track.at(instant(1.2)).position
    track.add(Handle((0.3, 0, 0.8)).path(0.5), camera())
    np.testing.assert_array_equal(track.at(instant(1.2)).position, before)


@pytest.mark.parametrize('seconds', [-5.0, 1.46, 3.0])
def test_no_instant_outside_of_the_futures(seconds):
    with pytest.raises(PredictionError, match='the futures cover'):
        follow(Handle()).at(instant(seconds))


def test_it_says_what_it_cannot_read():
    with pytest.raises(PredictionError, match='no futures'):
        HandleTrack(OPEN).at(instant(0))
    assert HandleTrack(OPEN).span_ns == (0, 0) and HandleTrack(OPEN).instants_ns == []
    path = Handle().path(0.0)
    wrong = replace(path, attributes={GRASP: tuple(v[:, :1] for v in path.attributes[GRASP])})
    with pytest.raises(PredictionError, match='2 or 3 elements, found 1'):
        HandleTrack(OPEN).add(wrong, camera())
    sky = PredictedPath(path.stamp_ns, HORIZONS, path.points - (0, 2), path.covariances)
    with pytest.raises(CalibrationError):
        HandleTrack(OPEN).add(sky, camera())


@given(st.floats(1e-6, 3))
def test_time_to_grows_with_the_distance_and_respects_both_limits(distance):
    arm = Arm()
    time = arm.time_to(distance)
    assert time >= distance / arm.max_speed
    assert time >= 2 * np.sqrt(distance / arm.max_acceleration) - 1e-12
    assert arm.time_to(distance + 0.01) > time


@settings(max_examples=30, deadline=None)
@given(st.floats(-0.3, 0.6), st.floats(-0.3, 0.3), st.floats(0.7, 1.2), st.floats(0.05, 0.3), st.floats(0, 0.3))
def test_an_intercept_is_never_before_the_arm_can_be_there(x, y, z, speed, delay):
    handle, arm, tool = Handle(speed=speed), Arm(), np.array([x, y, z])
    track, start = follow(handle, 0.3), instant(0.3 + delay)
    found = intercept(track, tool, start, arm, lambda place: place[0] < 0.2)
    if found is None:
        return
    first, last = track.span_ns
    assert first <= found.stamp_ns <= last and found.handle.position[0] < 0.2
    way = float(np.linalg.norm(found.handle.position - tool))
    assert start + arm.time_to(way) * 1e9 <= found.stamp_ns + 1


def test_the_first_moment_is_found_and_none_where_there_is_none():
    track, over = follow(Handle(), 0.3), Handle().at(0.45)
    start = instant(0.35)
    found = intercept(track, over, start, Arm(), lambda place: True)
    assert found is not None and found.stamp_ns - start < 0.2e9
    assert intercept(track, over, start, Arm(), lambda place: False) is None
    assert intercept(track, over + (0, 0, 3), start, Arm(), lambda place: True) is None
