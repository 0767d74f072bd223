# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jepa_ros.control.watchdog import RefusedError, Watchdog, WatchdogSettings

S = 1_000_000_000
MODEL = 0xCAFE
LIMITS = WatchdogSettings(max_age=0.3, max_silence=0.4, max_future=0.05)


class Clocks:
    """The clock of stamps and the steady clock; tests move them together or apart."""

    def __init__(self):
        self.now, self.steady = 100 * S, 7 * S

    def advance(self, seconds, *, steady=None):
        self.now += round(seconds * S)
        self.steady += round((seconds if steady is None else steady) * S)


@pytest.fixture
def clocks():
    return Clocks()


@pytest.fixture
def dog():
    return Watchdog('futures', LIMITS, MODEL)


def offer(dog, clocks, content='path', age=0.0, model=MODEL):
    dog.offer(content, clocks.now - round(age * S), model, clocks.now, clocks.steady)


def refused(dog, clocks):
    with pytest.raises(RefusedError) as caught:
        dog.check(clocks.now, clocks.steady)
    return str(caught.value)


def test_before_the_first_message(dog, clocks):
    assert refused(dog, clocks) == 'no futures have arrived yet'


def test_a_good_message_is_held_until_it_is_too_old(dog, clocks):
    offer(dog, clocks, age=0.1)
    clocks.advance(0.2)
    assert dog.check(clocks.now, clocks.steady) == 'path'
    assert dog.age(clocks.now) == pytest.approx(0.3)
    clocks.advance(0.001)
    assert 'futures are 0.30 s old, 0.3 s allowed' in refused(dog, clocks)


def test_it_resumes_with_the_next_message(dog, clocks):
    offer(dog, clocks)
    clocks.advance(5)
    refused(dog, clocks)
    offer(dog, clocks, 'new')
    assert dog.check(clocks.now, clocks.steady) == 'new'


def test_a_message_that_arrives_too_old_is_not_acted_on(dog, clocks):
    offer(dog, clocks, age=0.31)
    assert 'old' in refused(dog, clocks)


def test_silence_counts_although_the_clock_of_stamps_stands_still(dog, clocks):
    offer(dog, clocks)
    clocks.advance(0, steady=0.41)
    assert 'no futures have arrived for 0.41 s' in refused(dog, clocks)


def test_sending_the_same_stamp_again_does_not_break_the_silence(dog, clocks):
    stamp = clocks.now
    for _ in range(5):
        dog.offer('path', stamp, MODEL, clocks.now, clocks.steady)
        clocks.advance(0, steady=0.1)
    assert 'no futures have arrived' in refused(dog, clocks)


def test_a_late_message_changes_nothing(dog, clocks):
    offer(dog, clocks, 'newest', age=0.05)
    offer(dog, clocks, 'late', age=0.15)
    assert dog.check(clocks.now, clocks.steady) == 'newest'


@pytest.mark.parametrize('fault, reason', [
    ({'model': 0xBEEF}, 'from model 0000beef, expected 0000cafe'),
    ({'age': -0.06}, '0.06 s in the future'),
    ({'age': 100}, 'stamp of the futures is zero'),
])
def test_a_wrong_message_is_refused_and_takes_back_what_was_held(dog, clocks, fault, reason):
    offer(dog, clocks)
    with pytest.raises(RefusedError, match=reason):
        offer(dog, clocks, 'wrong', **fault)
    assert reason in refused(dog, clocks)
    offer(dog, clocks, 'good')
    assert dog.check(clocks.now, clocks.steady) == 'good'


def test_a_little_future_is_a_difference_of_clocks(dog, clocks):
    offer(dog, clocks, age=-0.04)
    assert dog.check(clocks.now, clocks.steady) == 'path'


def test_when_the_clock_jumps_back_it_stops_and_then_takes_what_comes(dog, clocks):
    offer(dog, clocks, 'before')
    clocks.advance(-50, steady=0.01)
    assert 'in the future' in refused(dog, clocks)
    offer(dog, clocks, 'after')
    assert dog.check(clocks.now, clocks.steady) == 'after'


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 1), st.floats(-0.5, 0.5), st.booleans(),
                          st.booleans())))
def test_whatever_happens_nothing_old_future_or_foreign_is_acted_on(events):
    dog, clocks, received = Watchdog('futures', LIMITS, MODEL), Clocks(), {}
    for step, (moved, waited, age, ours, sends) in enumerate(events):
        clocks.advance(moved, steady=waited)
        if sends:
            stamp = clocks.now - round(age * S)
            received[step] = (stamp, clocks.steady, ours)
            try:
                dog.offer(step, stamp, MODEL if ours else MODEL + 1, clocks.now, clocks.steady)
            except RefusedError:
                pass
        try:
            stamp, arrival, good = received[dog.check(clocks.now, clocks.steady)]
        except RefusedError:
            continue
        assert good
        assert -0.05 <= (clocks.now - stamp) / S <= 0.3
        assert (clocks.steady - arrival) / S <= 0.4
