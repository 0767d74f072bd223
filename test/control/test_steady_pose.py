# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jepa_ros.control.steady_pose import PoseReading, SteadyPose

LEAN = 1.5  # m across per m of height: the camera looks down at less than 45 degrees
PERIOD = 0.05


def reading(across=0.01, height=0.21, yaw=0.3, deviation=0.01, lean=LEAN):
    told = np.array([np.cos(2 * yaw), np.sin(2 * yaw), height])
    return PoseReading(across - lean * height, lean, deviation**2, told, np.array([0.1, 0.1, deviation]) ** 2)


def follow(pose, frames, begin=0.0, gate=3.0, **told):
    return [pose.add(begin + number * PERIOD, reading(**told), gate) for number in range(frames)]


def unknown(lane=(0.0, 10.0), height=(0.2, 10.0), yaw=None):
    return SteadyPose(0.0, lane, height, yaw)


@settings(max_examples=40, deadline=None)
@given(st.floats(-0.1, 0.1), st.floats(0.1, 0.3), st.floats(-1.5, 1.5))
def test_what_is_told_is_believed_where_nothing_was_known(across, height, yaw):
    pose = unknown()
    assert all(follow(pose, 5, across=across, height=height, yaw=yaw))
    assert pose.across == pytest.approx(across, abs=1e-3) and pose.height == pytest.approx(height, abs=1e-4)
    assert abs(np.sin(pose.yaw[0] - yaw)) < 0.01


def test_lane_and_height_that_are_known_bear_on_each_other_through_the_ray():
    """4 cm too high is 6 cm across: the lane knows better, and so of the height."""
    open_, known = unknown(), unknown(lane=(0.01, 0.005))
    for pose in (open_, known):
        follow(pose, 10, across=0.07, height=0.25, deviation=0.02)
    assert open_.height == pytest.approx(0.25, abs=1e-3) and open_.across == pytest.approx(0.07, abs=1e-3)
    assert known.across < 0.02 and known.height < 0.23


def test_a_height_that_was_felt_holds_and_moves_the_bar_on_its_ray():
    pose = unknown()
    follow(pose, 10, across=0.07, height=0.25, deviation=0.02)
    assert pose.feel(0.21, 0.003, 6.0) and pose.felt
    assert pose.height == pytest.approx(0.21, abs=2e-3) and pose.across == pytest.approx(0.01, abs=5e-3)
    follow(pose, 20, begin=0.5, across=0.07, height=0.25, deviation=0.02)
    assert pose.height == pytest.approx(0.21, abs=5e-3), 'futures that are off as before change nothing'


def test_what_was_felt_far_from_the_bar_that_is_seen_was_something_else():
    pose = unknown()
    follow(pose, 10, across=0.07, height=0.21, deviation=0.005)
    assert not pose.feel(0.29, 0.003, 6.0) and not pose.felt
    assert pose.height == pytest.approx(0.21, abs=1e-3)


def test_a_bundle_that_tells_no_pose_leaves_it_to_what_is_known():
    pose = unknown(lane=(0.01, 0.005), height=(0.2, 0.03), yaw=0.4)
    for number in range(10):
        assert pose.add(number * PERIOD, replace(reading(), told=None, told_variance=None), 3.0)
    assert pose.yaw == (pytest.approx(0.4), pytest.approx(0.0, abs=0.01))
    assert pose.height == pytest.approx(0.21, abs=5e-3), 'lane and ray tell the height'


def test_averaging_makes_nothing_certain_that_all_readings_may_be_wrong_about():
    pose = unknown()
    follow(pose, 60, deviation=0.02)
    assert np.sqrt(pose.across_height[1, 1]) > 0.017


@pytest.mark.parametrize('changed', [{'height': 0.3}, {'yaw': 1.3}, {'across': 0.2}])
def test_what_is_far_off_is_put_aside_and_it_says_since_when(changed):
    pose = unknown()
    follow(pose, 20)
    before = pose.height, pose.across, pose.yaw
    assert follow(pose, 4, begin=1.0, **changed) == [False] * 4
    assert pose.doubted == 1.0 and (pose.height, pose.across, pose.yaw) == before
    assert follow(pose, 1, begin=1.2) == [True] and pose.doubted is None


def test_a_yaw_of_which_readings_disagree_is_uncertain():
    pose = unknown()
    for number in range(20):
        follow(pose, 1, begin=number * PERIOD, yaw=1.5 * (number % 2), gate=np.inf)
    assert pose.yaw[1] > unknown_after_agreement() * 3


def unknown_after_agreement():
    pose = unknown()
    follow(pose, 20)
    return pose.yaw[1]
