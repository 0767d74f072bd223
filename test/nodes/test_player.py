# SPDX-License-Identifier: Apache-2.0
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jepa_ros.data.recordings import RecordedFrame
from jepa_ros.nodes import player
from jepa_ros.nodes.player import PREFETCH, Pace, Player, Timeline

S = 10**9
T0 = 1_700_000_000 * S


def frame(stamp, log=None):
    """A frame with its stamp and log time in seconds after T0; a stamp of None is zero."""
    stamp_ns = 0 if stamp is None else T0 + round(stamp * S)
    return RecordedFrame(stamp_ns, T0 + round((stamp if log is None else log) * S), 'lens',
                         np.zeros(3, np.uint8), 'rgb8', 1, 1, 3)


class FakeRecording:
    """Plays given frames; remembers how many were read."""

    name = 'fake'

    def __init__(self, frames):
        self._frames, self.read = frames, 0

    def frames(self):
        for one in self._frames:
            self.read += 1
            yield one


class Audience:
    """Takes what a player hands out, and its steady time; sets ``enough`` when that many frames have come."""

    def __init__(self, frames, prepare=lambda one: one, *, enough=1, **options):
        self.stamps, self.times, self.ended = [], [], threading.Event()
        self.enough, self._count = threading.Event(), enough
        self.fault = 'not ended'
        self.recording = FakeRecording(frames)
        self.player = Player(self.recording, prepare, self.take, self.end, **options)

    def take(self, ready, stamp_ns):
        self.stamps.append(stamp_ns)
        self.times.append(player.time.monotonic())
        if len(self.stamps) == self._count:
            self.enough.set()

    def end(self, fault):
        self.fault = fault
        self.ended.set()

    def play(self):
        self.player.start()
        assert self.ended.wait(60)
        return self


class Clock:
    """Time that passes only while a player waits."""

    now = 1000.0

    def monotonic(self):
        return self.now

    def wait(self, seconds):
        self.now += seconds
        return False

    def is_set(self):
        return False


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(player, 'time', clock)
    return clock


def steps(frames):
    timeline = Timeline(frames[:PREFETCH])
    return [timeline.advance(one) for one in frames], timeline


def test_header_stamps_are_the_time_base():
    frames = [frame(t, log) for t, log in [(0, 0.3), (0.1, 0.31), (0.2, 0.32), (2.2, 2.5)]]
    found, timeline = steps(frames)
    np.testing.assert_allclose(found, [0, 0.1, 0.1, 2.0], atol=1e-9)
    assert timeline.fault is None and timeline.stamp(frames[-1]) == frames[-1].stamp_ns


@pytest.mark.parametrize('stamp, fault', [(None, 'zero'), (5.0, 'the same')])
def test_useless_stamps_fall_back_on_log_time_and_say_so(stamp, fault):
    frames = [frame(stamp, log) for log in (0, 0.1, 0.25)]
    found, timeline = steps(frames)
    np.testing.assert_allclose(found, [0, 0.1, 0.15], atol=1e-9)
    assert fault in timeline.fault
    assert timeline.stamp(frames[2]) == frames[2].log_ns


def test_one_frame_with_a_stamp_is_not_constant():
    assert Timeline([frame(3.0)]).fault is None


def test_where_a_camera_clock_is_set_the_log_bridges_the_jump():
    years = 10 * 365 * 86400
    frames = [frame(t, log) for t, log in [(0, 0), (0.1, 0.1), (years, 0.2), (years + 0.1, 0.3), (0.4, 0.4)]]
    np.testing.assert_allclose(steps(frames)[0], [0, 0.1, 0.1, 0.1, 0.1], atol=1e-9)


def test_a_recording_that_begins_again_takes_one_step():
    frames = [frame(t) for t in (0, 0.1, 0.2)]
    np.testing.assert_allclose(steps(frames * 2)[0], [0, 0.1, 0.1, 0.1, 0.1, 0.1], atol=1e-9)


@given(st.lists(st.floats(1, 3), min_size=1, max_size=20), st.floats(0.1, 10), st.data())
def test_pace_adds_up_the_steps_while_it_keeps_up(found, rate, data):
    """Waits that end late, by less than what counts as late, do not shift the schedule."""
    pace, now, dues = Pace(rate), 100.0, []
    for step in found:
        dues.append(pace.due(step, now))
        now = max(now, dues[-1]) + data.draw(st.floats(0, 0.09))
    expected = 100.0 + np.concatenate([[0], np.cumsum(found[1:])]) / rate
    np.testing.assert_allclose(dues, expected)
    assert pace.late == 0


def test_pace_that_cannot_be_kept_does_not_end_in_a_burst():
    pace = Pace(1.0)
    pace.due(0, 0.0)
    assert pace.due(0.1, 5.0) == 5.0  # it took five seconds to make ready
    assert pace.due(0.1, 5.0) == pytest.approx(5.1)
    assert pace.late == 1


@pytest.mark.parametrize('rate', [1.0, 2.0])
def test_frames_come_in_order_each_at_its_time_gaps_too_and_the_rate_divides_it(clock, rate):
    times = np.cumsum([0, *[0.01] * 20, 1.0, *[0.01] * 20])
    frames = [frame(t) for t in times]
    audience = Audience(frames, rate=rate)
    audience.player.closing = clock
    audience.play()
    assert audience.fault is None
    assert audience.stamps == [one.stamp_ns for one in frames]
    np.testing.assert_allclose(np.subtract(audience.times, audience.times[0]), times / rate, atol=1e-6)


def test_no_frame_comes_before_its_time_on_a_real_clock():
    times, began = np.arange(10) * 0.01, player.time.monotonic()
    audience = Audience([frame(t) for t in times]).play()
    assert np.all(np.subtract(audience.times, began) >= times - 1e-6)


def test_what_cannot_be_prepared_is_left_out():
    frames = [frame(t) for t in (0, 0.01, 0.02)]
    audience = Audience(frames, lambda one: None if one is frames[1] else one).play()
    assert audience.stamps == [frames[0].stamp_ns, frames[2].stamp_ns]


def test_a_file_that_goes_bad_ends_it_with_the_fault():
    def prepare(one):
        if one.stamp_ns > T0:
            raise OSError('gone')
        return one

    audience = Audience([frame(t) for t in (0, 0.01, 0.02)], prepare).play()
    assert str(audience.fault) == 'gone' and len(audience.stamps) == 1


def test_loop_goes_on():
    audience = Audience([frame(t) for t in (0, 0.01)], loop=True, enough=5)
    audience.player.start()
    assert audience.enough.wait(60)
    audience.player.close()
    assert audience.stamps[:5] == [T0, T0 + S // 100] * 2 + [T0]
    assert not audience.ended.is_set()


def test_close_interrupts_a_long_gap():
    audience = Audience([frame(t) for t in (0, 1000.0)])
    audience.player.start()
    assert audience.enough.wait(60)
    audience.player.close()  # comes back long before the gap is over
    assert not audience.player.is_alive() and not audience.ended.is_set()


def test_it_does_not_begin_when_told_not_to():
    audience = Audience([frame(0.0)], before_start=lambda: False).play()
    assert audience.stamps == [] and audience.recording.read == 0


def test_only_a_few_frames_are_read_ahead():
    audience = Audience([frame(t) for t in (0, *range(1000, 1100))])
    audience.player.start()
    assert audience.enough.wait(60)
    audience.player.close()
    assert 1 <= audience.recording.read <= 1 + 2 * PREFETCH
