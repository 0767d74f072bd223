# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import numpy as np
import pytest

from jepa_ros.control.follower import Follower, FollowerSettings, Phase
from jepa_ros.control.path import PredictedPath
from jepa_ros.control.servo import ServoSettings
from jepa_ros.control.watchdog import RefusedError, WatchdogSettings

S = 1_000_000_000
MODEL = 7
HORIZONS = np.array([0.1, 0.3, 0.5])


class Bench:
    """A follower with clocks that tests move, and something that sends it futures and latents."""

    def __init__(self, **settings):
        self.now, self.steady = 50 * S, 3 * S
        usual = FollowerSettings(servo=ServoSettings(max_acceleration=100.0),
                                 watchdog=WatchdogSettings(0.3, 0.3, 0.05))
        self.follower = Follower(replace(usual, **settings), 0.05, MODEL)
        self.follower.enabled = True

    def send(self, *, at=(0.9, 0.5), velocity=(0.0, 0.0), deviation=0.01, surprise=0.1, age=0.0, model=MODEL):
        stamp = self.now - round(age * S)
        points = np.array(at) + HORIZONS[:, None] * velocity
        path = PredictedPath(stamp, HORIZONS, points, np.stack([np.eye(2) * deviation**2] * 3))
        self.follower.futures.offer(path, stamp, model, self.now, self.steady)
        self.follower.latents.offer(surprise, stamp, model, self.now, self.steady)

    def wait(self, seconds):
        self.now += round(seconds * S)
        self.steady += round(seconds * S)

    def step(self):
        return self.follower.step(self.now, self.steady)

    def assert_stopped(self, reason):
        command = self.step()
        assert command.phase is Phase.STOPPED
        assert reason in command.reason
        assert command.velocity is not None and not command.velocity.any()
        assert command.gripper == () and command.target is None


@pytest.fixture
def bench():
    return Bench()


def test_it_starts_disabled_and_then_sends_nothing_but_the_target():
    follower = Follower(FollowerSettings(), 0.05, MODEL)
    bench = Bench()
    bench.follower = follower
    bench.send()
    command = bench.step()
    assert command.phase is Phase.DISABLED and command.reason == 'disabled'
    assert command.velocity is None and command.gripper == ()
    np.testing.assert_allclose(command.target.position, [0.9, 0.5])


def test_enabled_it_follows(bench):
    bench.send()
    command = bench.step()
    assert command.phase is Phase.FOLLOWING and command.reason == ''
    assert command.velocity[0] > 0 and command.velocity[1] == pytest.approx(0)


def test_it_aims_at_now_plus_horizon_whatever_the_age_of_the_futures(bench):
    """A horizon counts from the newest frame; the point wanted is at now + horizon."""
    for age in (0.0, 0.1, 0.25):
        start = 0.2 + 0.4 * (bench.now / S - age - 50)  # where the object was in the newest frame
        bench.send(at=(start, 0.5), velocity=(0.4, 0.0), age=age)
        command = bench.step()
        expected = 0.2 + 0.4 * (bench.now / S + 0.2 - 50)
        assert command.target.position[0] == pytest.approx(expected)
        assert command.target_stamp_ns == bench.now + round(0.2 * S)
        bench.wait(0.35)


def test_a_horizon_beyond_the_futures_stops_it_and_a_fresher_message_resumes():
    bench = Bench(horizon=0.4)
    bench.send()
    bench.wait(0.15)
    bench.assert_stopped('cover 0.1..0.5 s')
    bench.send()
    assert bench.step().phase is Phase.FOLLOWING


def test_before_the_first_horizon_is_not_extrapolated_either():
    bench = Bench(horizon=0.05)
    bench.send()
    bench.assert_stopped('cover 0.1..0.5 s')


def test_expiry_by_stamp(bench):
    bench.send()
    bench.step()
    bench.wait(0.31)
    bench.assert_stopped('futures are 0.31 s old')
    bench.send()
    assert bench.step().phase is Phase.FOLLOWING


def test_expiry_by_the_steady_clock_while_the_other_stands_still(bench):
    bench.send()
    bench.step()
    bench.steady += round(0.31 * S)
    bench.assert_stopped('no futures have arrived for 0.31 s')


def test_another_model_stops_it(bench):
    bench.send()
    bench.step()
    with pytest.raises(RefusedError):
        bench.send(model=8)
    bench.assert_stopped('model 00000008, expected 00000007')
    bench.wait(0.05)
    bench.send()
    assert bench.step().phase is Phase.FOLLOWING


def test_doubt_by_covariance(bench):
    bench.send(deviation=0.2)
    bench.assert_stopped('standard deviation is 0.200 of the image, 0.1 allowed')
    bench.wait(0.1)
    bench.send(deviation=0.05)
    assert bench.step().phase is Phase.FOLLOWING


def test_doubt_by_surprise(bench):
    bench.send(surprise=1.5)
    bench.assert_stopped('surprises the model: 1.50, 1 allowed')
    bench.wait(0.1)
    bench.send(surprise=0.5)
    assert bench.step().phase is Phase.FOLLOWING


def test_surprise_that_was_not_measured_is_no_doubt(bench):
    bench.send(surprise=np.nan)
    assert bench.step().phase is Phase.FOLLOWING


def test_surprise_is_asked_for_unless_it_is_switched_off(bench):
    bench.send()
    bench.follower.latents.clear('no latents have arrived yet')
    bench.assert_stopped('no latents have arrived yet')
    bench.follower.settings = replace(bench.follower.settings, max_surprise=0.0)
    assert bench.step().phase is Phase.FOLLOWING


def test_after_a_stop_it_goes_on_from_rest():
    bench = Bench(servo=ServoSettings(max_acceleration=0.1))
    for _ in range(20):
        bench.send()
        fast = bench.step().velocity
        bench.wait(0.05)
    bench.wait(1.0)
    bench.assert_stopped('old')
    bench.send()
    slow = bench.step().velocity
    assert np.hypot(*slow) == pytest.approx(0.1 * 0.05) and np.hypot(*slow) < np.hypot(*fast)


def test_disabling_sends_nothing_more_and_forgets_the_speed():
    bench = Bench(servo=ServoSettings(max_acceleration=0.1))
    for _ in range(5):
        bench.send()
        bench.step()
        bench.wait(0.05)
    bench.follower.enabled = False
    assert bench.step().velocity is None
    bench.follower.enabled = True
    bench.send()
    assert np.hypot(*bench.step().velocity) == pytest.approx(0.1 * 0.05)


def test_the_gripper_closes_near_the_target_and_opens_beyond_twice_that():
    bench = Bench(grasp_radius=0.1, gripper_open=(0.04, 0.04), gripper_closed=(0.0, 0.0),
                  servo=ServoSettings(view_extent=(1.0, 1.0)))
    seen = []
    for x in (0.5 + d for d in (0.3, 0.15, 0.09, 0.15, 0.25)):
        bench.send(at=(x, 0.5))
        seen.append(bench.step().gripper == (0.0, 0.0))
        bench.wait(0.05)
    assert seen == [False, False, True, True, False]


def test_in_doubt_the_gripper_is_left_alone():
    bench = Bench(grasp_radius=0.1, gripper_open=(0.04,), gripper_closed=(0.0,))
    bench.send(at=(0.5, 0.5))
    assert bench.step().gripper == (0.0,)
    bench.wait(1.0)
    bench.assert_stopped('old')
