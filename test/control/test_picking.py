# SPDX-License-Identifier: Apache-2.0
"""The picking law against a bench: a tool that does what it is told, and a handle on a belt."""

from dataclasses import replace

import numpy as np
import pytest
from riding import BELT_TOP, Handle, camera, instant

from jepa_ros.angles import wrapped
from jepa_ros.control.belt_motion import MotionSettings
from jepa_ros.control.intercept import Arm, TrackSettings
from jepa_ros.control.picking import Picker, PickSettings, PickState, Tool

PERIOD = 0.05  # s, one frame per step
OPEN = 0.045  # m


class Bench:
    """
    :param handle: what the futures tell of, and what the fingers find.
    :param thick: m that closed fingers are kept open by the bar; 0: there is none.

    Attributes: `floor`: how low, z in m, the tool can come, by where the handle is from it; `blind`: whether no futures
    come; `told`: how they are, as of `Handle.path`; `states`: those so far.
    """

    def __init__(self, handle=Handle((-0.3, 0.01, 0.82)), thick=0.015, **settings):
        self.picker = Picker(replace(PickSettings(), **settings), PERIOD, 1)
        self.picker.calibration = camera()
        self.picker.enabled = True
        self.handle, self.thick, self.told, self.surprise, self.blind = handle, thick, {}, 0.1, False
        self.floor = lambda off: -np.inf
        self.time, self.tool, self.yaw = 0.0, np.array([0.60, -0.04, 1.10]), np.pi / 2
        self.opening, self.states, self.twists = OPEN, [], []

    def step(self):
        now = instant(self.time)
        if not self.blind:
            path = self.handle.path(self.time, **self.told)
            self.picker.futures.offer(path, path.stamp_ns, 1, now, now)
            self.picker.latents.offer(self.surprise, path.stamp_ns, 1, now, now)
        cosine, sine = np.cos(self.yaw), np.sin(self.yaw)
        rotation = np.array([[cosine, sine, 0], [sine, -cosine, 0], [0, 0, -1.0]])
        command = self.picker.step(now, now, Tool(self.tool.copy(), rotation), self.opening)
        if command.twist is not None:
            self.tool += command.twist[:3] * PERIOD
            self.tool[2] = max(self.tool[2], self.floor(self.off))
            self.yaw += command.twist[5] * PERIOD
            self.twists.append(command.twist)
        if command.gripper:
            least = self.thick if command.gripper[0] < OPEN else OPEN
            self.opening = max(least, self.opening - 0.15 * PERIOD) if least < OPEN else OPEN
        self.time += PERIOD
        self.states.append(command.state)
        return command

    def until(self, *states, seconds=10.0):
        """Step until it is in one of some states; returns the command."""
        for _ in range(round(seconds / PERIOD)):
            command = self.step()
            if command.state in states:
                return command
        raise AssertionError(f'expected {states}, found {list(dict.fromkeys(self.states))}')

    @property
    def off(self):
        """From the tool to the handle, float64 [3], m."""
        return self.handle.at(self.time) - self.tool


@pytest.mark.parametrize('speed', [0.05, 0.15, 0.30])
@pytest.mark.parametrize('yaw', [-0.5, 0.6, 1.6])
def test_it_closes_around_the_bar_at_its_speed_and_lifts_it(speed, yaw):
    bench = Bench(Handle((-0.3, 0.01, 0.82), speed, yaw))
    bench.until(PickState.CLOSING, seconds=20)
    depth = PickSettings().depth
    assert np.hypot(*bench.off[:2]) < 0.025 and bench.off[2] == pytest.approx(depth, abs=0.015)
    assert abs(np.sin(bench.yaw - yaw)) < 0.1
    assert bench.twists[-1][0] == pytest.approx(speed, abs=0.05)
    low = bench.tool[2]
    bench.until(PickState.HOLDING)
    assert bench.tool[2] - low == pytest.approx(PickSettings().lift, abs=0.03)
    ways = [PickState.TRACKING, PickState.LOWERING, PickState.CLOSING, PickState.LIFTING, PickState.HOLDING]
    assert [state for state in dict.fromkeys(bench.states) if state in ways] == ways
    for _ in range(60):
        assert bench.step().state is PickState.HOLDING, 'held for good where there is no place for it'


def test_speed_and_slew_stay_within_the_limits():
    bench = Bench()
    bench.until(PickState.HOLDING)
    arm, twists = PickSettings().arm, np.array(bench.twists)
    changes = np.diff(twists, axis=0)
    assert np.linalg.norm(twists[:, :3], axis=1).max() <= arm.max_speed + 1e-9
    assert np.linalg.norm(changes[:, :3], axis=1).max() <= arm.max_acceleration * PERIOD + 1e-9
    assert np.linalg.norm(twists[:, 3:], axis=1).max() <= PickSettings().max_turn + 1e-9


def test_a_bin_is_put_down_where_it_is_wanted():
    bench = Bench(place=(1.36, -0.52, 0.56))
    bench.until(PickState.RELEASING, seconds=20)
    assert np.hypot(*(bench.tool[:2] - (1.36, -0.52))) < 0.06
    bottom = bench.tool[2] + PickSettings().depth - (0.82 - BELT_TOP)
    assert bottom == pytest.approx(0.56, abs=0.025)
    assert bench.step().gripper == (OPEN,)
    bench.until(PickState.WAITING)


def test_a_hand_keeps_its_side_on_the_way_to_where_bins_are_put_down_however_slow_the_arm_is():
    arm = Arm(max_speed=0.1)
    bench = Bench(Handle((0.0, 0.01, 0.82), 0.05), place=(1.36, -0.52, 0.56), arm=arm)
    bench.until(PickState.CARRYING, seconds=30)
    sides = []
    while bench.step().state is PickState.CARRYING:
        off = bench.tool[:2] - arm.base
        sides.append(wrapped(bench.yaw - np.arctan2(off[1], off[0])))
        assert len(sides) * PERIOD < 30
    assert len(sides) * PERIOD > 3 and np.ptp(sides) < 0.15


@pytest.mark.parametrize('floor, bottom', [(-np.inf, 0.15), (0.60, 0.40)])
def test_a_bin_is_let_go_where_it_stands_however_far_down_that_is(floor, bottom):
    held = 0.82 - BELT_TOP - PickSettings().depth  # from the bottom of a bin to the tool
    bench = Bench(Handle((0.0, 0.01, 0.82), 0.05), place=(1.36, -0.52, 0.15), arm=Arm(max_speed=0.1))
    bench.until(PickState.PLACING, seconds=60)
    bench.floor = lambda off: floor
    bench.until(PickState.RELEASING, seconds=20)
    assert bench.tool[2] - held == pytest.approx(bottom, abs=0.025)


def test_an_empty_grasp_is_seen_at_once_and_tried_again_from_where_it_is():
    bench = Bench(Handle((0.0, 0.01, 0.82), 0.08), thick=0.0)
    bench.until(PickState.CLOSING)
    began = bench.time
    command = bench.until(PickState.RETREATING)
    assert 'closed on nothing' in command.reason and bench.time - began < PickSettings().closing_time
    bench.until(PickState.LOWERING)
    assert bench.tool[2] < 0.82 + PickSettings().hover + 0.02 and np.hypot(*bench.off[:2]) < 0.04
    assert PickState.WAITING not in bench.states[bench.states.index(PickState.CLOSING):]
    bench.thick = 0.015
    bench.until(PickState.HOLDING)


def test_fingers_that_closed_above_the_bar_look_lower():
    """It is lower than it seems, so it is elsewhere on the ray on which it was seen."""
    bench = Bench(Handle((-0.3, 0.01, 0.82), 0.08))
    low = np.array([0.0, 0.0, 0.045])
    low[:2] = (bench.handle.at(3.0) - camera().position)[:2] * low[2] / (bench.handle.at(3.0) - camera().position)[2]
    bench.told = {'error': tuple(low), 'deviation': 0.02, 'sure': 0.02}
    command, closed = bench.step(), []
    while command.state is not PickState.HOLDING and bench.time < 20:
        if command.state is PickState.CLOSING:  # pads are 2 cm above and below their middle
            closed.append(abs(bench.off[2] - PickSettings().depth) < 0.022)
            bench.thick = 0.015 if closed[-1] else 0.0
        command = bench.step()
    assert command.state is PickState.HOLDING and not closed[0]
    assert PickState.WAITING not in bench.states[2:], 'it began from where it was'


def test_it_does_not_look_beside_a_handle_that_is_seen_elsewhere_since():
    """A finger stands on the bar, which is 4.5 cm off; then it is seen rightly."""
    bench = Bench(Handle((-0.2, 0.01, 0.82), 0.05))
    bench.told = {'error': (0.0, 0.045, 0.0)}
    bench.floor = lambda off: 0.82 + PickSettings().touch if 0.03 < abs(off[1]) < 0.06 else -np.inf
    bench.until(PickState.LOWERING)
    bench.until(PickState.RETREATING)
    bench.told = {}
    bench.until(PickState.CLOSING)
    assert abs(bench.off[1]) < 0.02, 'it is between the fingers'
    assert bench.states.count(PickState.RETREATING) < 20, 'at the second attempt'


def sides(bench, *states):
    """By how much the hand is turned from how the arm points, rad, in every step until one of some states."""
    base, found, command = PickSettings().arm.base, [], bench.step()
    while command.state not in states and bench.time < 20:
        found.append(wrapped(bench.yaw - np.arctan2(*(bench.tool[:2] - base)[::-1])))
        command = bench.step()
    assert command.state in states
    return np.array(found)


def test_the_hand_keeps_to_its_side_of_a_bar_that_is_at_right_angles_to_the_arm():
    # on its way the bar passes the right angle, and from there on the other side of it is a little nearer
    found = sides(Bench(Handle((-0.3, 0.01, 0.82), 0.1, yaw=1.0)), PickState.CLOSING)
    assert (np.abs(found) < 2.0).all() and np.ptp(found[60:]) < 0.5


def test_the_hand_does_not_turn_round_between_attempts():
    bench = Bench(Handle((-0.3, 0.01, 0.82), 0.15, yaw=1.1), thick=0.0)
    bench.until(PickState.CLOSING)
    bench.until(PickState.RETREATING)
    bench.thick = 0.015
    assert np.ptp(sides(bench, PickState.HOLDING)) < 0.5


@pytest.mark.parametrize('yaw', [0.5, 0.8, 1.1])
def test_the_hand_turns_no_further_than_its_wrist(yaw):
    bench = Bench(Handle((-0.1, 0.01, 0.82), 0.1, yaw=yaw), arm=Arm(wrist=1.6))
    bench.yaw += 1.7
    found = sides(bench, PickState.CLOSING)
    assert found[-1] < 1.65 and abs(np.sin(bench.yaw - yaw)) < 0.15


def test_a_bin_that_slips_is_noticed():
    bench = Bench()
    bench.until(PickState.LIFTING)
    bench.opening = bench.thick = 0.0
    assert 'slipped' in bench.until(PickState.RETREATING, seconds=0.2).reason


@pytest.mark.parametrize('side', [1, -1])
def test_fingers_that_stand_on_the_bar_look_for_it_towards_the_camera_and_then_away_from_it(side):
    """The bar runs along the belt, beside where it seems to be, and a finger comes down on it."""
    bar, reach = 0.04 * side * np.sign(camera().position[1]), 0.82 + PickSettings().touch
    bench = Bench(Handle((-0.1, 0.01, 0.82), 0.05))
    bench.floor = lambda off: reach if 0.03 < abs(off[1] + bar) < 0.06 else -np.inf
    bench.until(PickState.LOWERING)
    began = bench.time
    command = bench.until(PickState.RETREATING)
    assert 'in the way' in command.reason and PickState.CLOSING not in bench.states
    assert PickSettings().patience < bench.time - began < 2.0, 'it does not press on the bin for long'
    if side < 0:
        bench.thick = 0.0
        bench.until(PickState.CLOSING)
        assert 'closed on nothing' in bench.until(PickState.RETREATING).reason
        bench.thick = 0.015
    bench.until(PickState.CLOSING)
    assert abs(bench.off[1] + bar) < 0.03, 'it is between the fingers'
    bench.until(PickState.HOLDING)


def test_fingers_that_stand_on_the_bar_tell_how_high_it_is():
    """It is higher than it seems, so it is elsewhere on the ray on which it was seen."""
    handle = Handle((-0.1, 0.01, 0.82), 0.05, yaw=0.0)
    bench = Bench(handle)
    bench.told = {'error': (0.0, 0.0585, -0.02)}
    bench.floor = lambda off: 0.82 + PickSettings().touch if 0.03 < abs(off[1]) < 0.07 else -np.inf
    command = bench.until(PickState.RETREATING)
    assert 'in the way' in command.reason and abs(bench.off[1]) > 0.04
    bench.until(PickState.CLOSING)
    assert abs(bench.off[1]) < 0.03, 'it is between the fingers'
    assert bench.off[2] == pytest.approx(PickSettings().depth, abs=0.015)
    bench.until(PickState.HOLDING)


def test_a_hand_that_met_something_far_above_the_bar_looks_beside_and_as_deep_as_before():
    """Once, something holds it up 10 cm too high: the bar is still where it is seen."""
    bench = Bench(Handle((-0.1, 0.01, 0.82), 0.05))
    bench.floor = lambda off: 0.92 + PickSettings().touch
    assert 'in the way' in bench.until(PickState.RETREATING).reason and PickState.CLOSING not in bench.states
    bench.floor = lambda off: -np.inf
    bench.until(PickState.CLOSING)
    assert bench.off[2] == pytest.approx(PickSettings().depth, abs=0.015)


def test_fingers_that_do_not_close_stand_on_something():
    bench = Bench(Handle((-0.1, 0.01, 0.82), 0.05), thick=OPEN)
    bench.until(PickState.CLOSING)
    assert 'in the way' in bench.until(PickState.RETREATING).reason
    assert PickState.LIFTING not in bench.states
    bench.thick = 0.015
    bench.until(PickState.HOLDING)


def test_fingers_that_are_down_go_up_before_they_follow_a_handle_that_went_elsewhere():
    bench = Bench()
    bench.until(PickState.LOWERING)
    while bench.off[2] < -0.03:
        bench.step()
    bench.handle = Handle(tuple(bench.handle.at(bench.time) - (0.12 + 0.2 * bench.time, 0, 0)))
    assert 'elsewhere' in bench.until(PickState.RETREATING).reason
    bench.until(PickState.TRACKING)
    assert bench.off[2] < -0.05
    bench.until(PickState.HOLDING)


def test_in_doubt_it_stays_above_and_then_gives_up():
    # a belt that may change its speed at any time: what was seen of it is worth little a moment later
    bench = Bench(track=TrackSettings(motion=MotionSettings(restless=3.0)))
    bench.until(PickState.LOWERING)
    bench.told = {'deviation': 0.3}
    heights = []
    while (command := bench.step()).state is PickState.LOWERING:
        if command.reason:
            heights.append(bench.tool[2])
    # what slew allows it to stop in
    assert heights and heights[0] - heights[-1] < 0.35**2 / 2.5
    assert command.state is PickState.RETREATING and 'uncertain' in command.reason


def test_doubt_that_passes_is_no_reason_to_give_up():
    bench = Bench()
    bench.until(PickState.LOWERING)
    told, bench.told = bench.told, {'deviation': 0.3}
    for _ in range(3):
        bench.step()
    bench.told = told
    bench.until(PickState.HOLDING)
    assert PickState.RETREATING not in bench.states


def test_a_handle_that_has_passed_is_not_chased():
    bench = Bench(Handle((0.5, 0.01, 0.82), 0.3))
    bench.until(PickState.WAITING, seconds=0.2)
    for _ in range(8):
        assert bench.step().state is PickState.WAITING
    assert np.hypot(*(bench.tool[:2] - PickSettings().home[:2])) < 0.01


@pytest.mark.parametrize('state', [PickState.TRACKING, PickState.LOWERING])
def test_a_handle_that_goes_back_out_of_the_workspace_is_not_followed(state):
    bench = Bench(Handle((-0.3, 0.01, 0.82), 0.1))
    bench.until(state)
    back = -0.15
    bench.handle = Handle(tuple(bench.handle.at(bench.time) - (back * bench.time, 0, 0)), back)
    assert 'went back out' in bench.until(PickState.RETREATING).reason
    bench.until(PickState.WAITING)
    for _ in range(20):
        bench.step()
        assert bench.tool[0] > PickSettings().arm.workspace[0] - 0.2


def test_a_handle_that_will_pass_out_of_reach_is_not_approached():
    bench = Bench(Handle((-0.4, 0.35, 0.82), 0.1), track=TrackSettings(lane=(0.0, 0.5)))
    home = bench.tool.copy()
    for _ in range(60):
        assert bench.step().state in (PickState.STOPPED, PickState.WAITING)
    np.testing.assert_allclose(bench.tool, home, atol=0.01)


def test_it_approaches_before_the_handle_is_in_reach_and_says_where_they_meet():
    bench = Bench(Handle((-0.6, 0.01, 0.82), 0.2))
    bench.until(PickState.TRACKING)
    assert abs(bench.tool[0] - PickSettings().arm.workspace[0]) < 0.05, 'it was there before the handle'
    command = bench.until(PickState.CLOSING)
    assert command.intercept is not None and command.intercept.stamp_ns > instant(bench.time - PERIOD)
    times = [time for time, _ in command.path]
    assert times == sorted(times) and len(times) == 5


@pytest.mark.parametrize('spoil, said', [
    (lambda bench: setattr(bench, 'blind', True), 'allowed'),
    (lambda bench: setattr(bench, 'surprise', 1.5), 'surprises'),
    (lambda bench: setattr(bench.picker, 'calibration', None), 'no calibration'),
    (lambda bench: setattr(bench, 'tool', np.full(3, np.nan)), 'not finite'),
    (lambda bench: setattr(bench, 'handle', Handle((0.0, 3.0, 1.6))), 'plane'),
])
def test_zeros_in_doubt_and_the_reason(spoil, said):
    bench = Bench()
    bench.until(PickState.APPROACHING)
    for _ in range(8):
        bench.step()
    spoil(bench)
    for _ in range(round(0.2 / PERIOD) + 1):
        command = bench.step()
    assert command.state is PickState.STOPPED and said in command.reason
    assert not command.twist.any() and command.gripper == ()


def test_it_goes_on_from_rest_when_the_doubt_is_gone():
    bench = Bench()
    bench.until(PickState.APPROACHING)
    for _ in range(8):
        bench.step()
    bench.blind = True
    bench.until(PickState.STOPPED)
    bench.blind = False
    command = bench.step()
    assert command.state is PickState.APPROACHING
    assert np.linalg.norm(command.twist[:3]) <= PickSettings().arm.max_acceleration * PERIOD + 1e-9
    bench.until(PickState.HOLDING)


def test_an_attempt_that_was_interrupted_for_long_is_given_up():
    bench = Bench(patience=0.2)
    bench.until(PickState.LOWERING)
    bench.blind = True
    for _ in range(12):
        bench.step()
    bench.blind = False
    command = bench.step()
    assert command.state in (PickState.RETREATING, PickState.APPROACHING) and 'given up' in command.reason


def test_once_the_fingers_close_the_camera_is_not_waited_for():
    bench = Bench()
    bench.until(PickState.CLOSING)
    bench.surprise, bench.told = 1.9, {'deviation': 0.4}
    began = len(bench.states)
    bench.until(PickState.HOLDING)
    assert PickState.STOPPED not in bench.states[began:]


def test_it_starts_disabled_and_still_says_what_it_expects():
    bench = Bench()
    assert not Picker(PickSettings(), PERIOD, 1).enabled
    bench.picker.enabled = False
    for _ in range(4):
        command = bench.step()
    assert command.state is PickState.DISABLED and command.twist is None and command.gripper == ()
    assert len(command.path) == 5


def test_enabled_again_with_its_fingers_down_it_goes_up_first():
    bench = Bench()
    bench.until(PickState.CLOSING)
    bench.picker.enabled = False
    for _ in range(60):
        bench.step()
    low = bench.tool.copy()
    bench.picker.enabled = True
    bench.until(PickState.WAITING)
    assert bench.tool[2] > low[2] + 0.1 and np.hypot(*(bench.tool - low)[:2]) < 0.02
    bench.until(PickState.STOPPED, PickState.WAITING)


def test_enabled_twice_it_goes_on_with_its_attempt():
    bench = Bench()
    bench.until(PickState.LOWERING)
    bench.picker.enabled = True
    assert bench.step().state is PickState.LOWERING and bench.twists[-1].any()


def test_disabled_with_a_bin_in_the_fingers_it_does_not_let_go():
    bench = Bench()
    bench.until(PickState.HOLDING)
    bench.picker.enabled = False
    bench.step()
    bench.picker.enabled = True
    command = bench.step()
    assert command.state is PickState.HOLDING and command.gripper == (0.0,)


def test_a_clock_set_back_forgets_the_handle():
    bench = Bench(handle=Handle((-0.3, 0.01, 0.82)))
    bench.until(PickState.APPROACHING)
    for _ in range(5):
        bench.step()
    bench.time, bench.handle = -5.0, Handle((0.8, 0.01, 0.82))
    command = bench.until(PickState.APPROACHING, seconds=1.0)
    np.testing.assert_allclose(command.path[0][1].position, bench.handle.at(bench.time - PERIOD + 0.1), atol=5e-3)


def test_settings_may_change_between_steps():
    bench = Bench()
    bench.until(PickState.APPROACHING)
    bench.picker.settings = replace(PickSettings(), max_error=0.0, track=TrackSettings(belt_height=0.5))
    assert bench.picker.track.settings.belt_height == 0.5
    assert 'uncertain' in bench.step().reason
