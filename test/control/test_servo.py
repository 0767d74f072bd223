# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jepa_ros.control.path import PathPoint
from jepa_ros.control.servo import Servo, ServoSettings

PERIOD = 0.05
finite = st.floats(-1e30, 1e30)


def point(x, y, vx=0.0, vy=0.0):
    return PathPoint(np.array([x, y]), np.zeros((2, 2)), np.array([vx, vy]))


def test_an_object_right_of_and_below_the_target_moves_the_camera_right_and_down():
    velocity = Servo(ServoSettings(), PERIOD).step(point(0.8, 0.9))
    assert velocity[0] > 0 and velocity[1] > 0


def test_error_and_velocity_are_weighted_and_scaled_to_metres():
    settings = ServoSettings(target=(0.5, 0.25), gain=2.0, feed_forward=0.5, view_extent=(2.0, 1.0),
                             max_speed=100.0, max_acceleration=1e4)
    velocity = Servo(settings, PERIOD).step(point(0.6, 0.5, vx=1.0, vy=-0.4))
    np.testing.assert_allclose(velocity, [2.0 * (2.0 * 0.1 + 0.5 * 1.0), 1.0 * (2.0 * 0.25 - 0.5 * 0.4)])


def test_at_the_target_and_at_rest_nothing_is_commanded():
    assert not Servo(ServoSettings(), PERIOD).step(point(0.5, 0.5)).any()


@given(st.lists(st.tuples(finite, finite, finite, finite), min_size=1, max_size=10),
       st.floats(0.01, 2.0), st.floats(0.01, 20.0))
def test_speed_and_slew_are_never_exceeded(points, max_speed, max_acceleration):
    servo = Servo(ServoSettings(max_speed=max_speed, max_acceleration=max_acceleration), PERIOD)
    last = np.zeros(2)
    for values in points:
        velocity = servo.step(point(*values))
        assert np.isfinite(velocity).all()
        assert np.hypot(*velocity) <= max_speed * (1 + 1e-9)
        assert np.hypot(*(velocity - last)) <= max_acceleration * PERIOD * (1 + 1e-9)
        last = velocity


def test_the_speed_limit_keeps_the_direction():
    settings = ServoSettings(max_acceleration=1e4, view_extent=(1.0, 1.0))
    velocity = Servo(settings, PERIOD).step(point(3.5, 4.5))
    np.testing.assert_allclose(velocity, np.array([0.6, 0.8]) * 0.2, rtol=1e-9)


def test_after_a_stop_it_starts_from_rest():
    servo = Servo(ServoSettings(max_acceleration=0.1), PERIOD)
    for _ in range(20):
        servo.step(point(5, 5))
    servo.stop()
    assert np.hypot(*servo.step(point(5, 5))) == pytest.approx(0.1 * PERIOD)


@pytest.mark.parametrize('feed_forward', [0.0, 0.5])
def test_a_carried_camera_centres_a_still_object_despite_delay(feed_forward):
    """The camera sees itself move: predictions carry on its velocity of two frames ago, as forecasts do."""
    settings = ServoSettings(feed_forward=feed_forward, view_extent=(1.0, 1.0))
    servo, lead, delay = Servo(settings, PERIOD), 0.3, 2
    position, velocities = np.array([0.9, 0.2]), [np.zeros(2)] * delay
    for _ in range(300):
        seen = -velocities[-delay]
        velocities.append(servo.step(PathPoint(position + lead * seen, np.zeros((2, 2)), seen)))
        position = position - velocities[-1] * PERIOD
    np.testing.assert_allclose(position, [0.5, 0.5], atol=1e-3)
    assert np.abs(velocities[-1]).max() < 1e-3


def test_a_standing_camera_feeds_the_whole_velocity_forward():
    """A tool that starts at the object and is given the object's velocity stays with it."""
    servo = Servo(ServoSettings(gain=0.0, feed_forward=1.0, view_extent=(2.0, 1.0)), PERIOD)
    velocity = [servo.step(point(0.1, 0.5, vx=0.05)) for _ in range(10)][-1]
    np.testing.assert_allclose(velocity, [0.1, 0.0])
