# SPDX-License-Identifier: Apache-2.0
"""The window: which frames are chosen, what is handed out, and where every frame went."""

import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jepa_ros.clip import ClipWindow, Verdict, WindowRequest
from jepa_ros.images import Geometry

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
GEOMETRY = Geometry(8, 6, 0, 0, 8, 6)
STREAM = WindowRequest(frame_period=0.05, frames=2, new_frames=2, max_gap=0.4)
CLIP = WindowRequest(frame_period=0.05, frames=8, new_frames=2, max_gap=0.4, anchored=True)
FRAME = WindowRequest(frame_period=0.05, frames=1, new_frames=1, max_gap=1.0)


def image_of(stamp):
    """A picture that tells its stamp."""
    return np.full((2, 2, 3), stamp % 251, np.uint8)


def offer(window, stamp, now=None, geometry=GEOMETRY):
    """Do what the callback does; return the verdict."""
    verdict = window.offer(stamp, now)
    if verdict is Verdict.TAKE:
        window.push(stamp, image_of(stamp), geometry)
    return verdict


def run(window, stamps):
    """Offer all stamps, taking after each what is ready; return the sets."""
    sets = []
    for stamp in stamps:
        offer(window, stamp)
        if window.ready():
            sets.append(window.take(0))
    return sets


def camera(rate, seconds, start=START):
    return [start + round(k * SECOND / rate) for k in range(round(rate * seconds))]


def milliseconds(stamps, start=START):
    return [round((stamp - start) / 1e6) for stamp in stamps]


@pytest.mark.parametrize('rate, expected', [
    (30, [0, 67, 100, 167, 200, 267, 300, 367]),
    (20, [0, 50, 100, 150, 200, 250, 300, 350]),
    (60, [0, 50, 100, 150, 200, 250, 300, 350]),
    (24, [0, 42, 125, 167, 208, 250, 292, 375]),
    (5, [0, 200, 400, 600, 800]),  # slower than asked for: every frame
])
def test_schedule_is_phase_locked(rate, expected):
    window = ClipWindow(FRAME)
    taken = [stamp for stamp in camera(rate, 1.0) if offer(window, stamp) is Verdict.TAKE]
    assert milliseconds(taken)[:8] == expected


def test_stream_gets_each_frame_once_in_tubelets():
    sets = run(ClipWindow(STREAM), camera(30, 0.5))
    assert [milliseconds(frames.stamps_ns) for frames in sets] == [
        [0, 67], [100, 167], [200, 267], [300, 367], [400, 467]]
    for frames in sets:
        assert frames.images.shape == (2, 2, 2, 3) and frames.reset is None and frames.geometry == GEOMETRY
        np.testing.assert_array_equal(frames.images[:, 0, 0, 0], frames.stamps_ns % 251)


def test_clip_is_anchored_at_the_newest_frame():
    sets = run(ClipWindow(CLIP), camera(20, 0.6))
    assert [milliseconds(frames.stamps_ns)[0] for frames in sets] == [0, 100, 200]
    assert all(np.diff(milliseconds(frames.stamps_ns)).tolist() == [50] * 7 for frames in sets)


def test_clip_takes_the_nearest_frame_where_one_is_missing():
    stamps = camera(20, 0.4)
    del stamps[3]
    first = run(ClipWindow(CLIP), [*stamps, stamps[-1] + SECOND // 20])[0]
    # 150 is missing; 100 and 200 are equally near, and the older one is taken
    assert milliseconds(first.stamps_ns) == [0, 50, 100, 100, 200, 250, 300, 350]


def test_a_slow_worker_gets_the_newest_frames_and_the_rest_is_counted():
    window = ClipWindow(STREAM)
    for stamp in camera(20, 0.5):
        offer(window, stamp)
    assert milliseconds(window.take(0).stamps_ns) == [400, 450]
    assert window.take(0) is None
    assert (window.counts['used'], window.counts['overrun'], window.counts['waiting']) == (2, 8, 0)


def test_clip_frames_that_are_seen_later_are_no_overrun():
    window = ClipWindow(CLIP)
    for stamp in camera(20, 0.6):
        offer(window, stamp)
    assert milliseconds(window.take(0).stamps_ns)[::7] == [200, 550]
    assert (window.counts['used'], window.counts['overrun']) == (8, 4)


def test_verdicts():
    window = ClipWindow(FRAME)
    assert offer(window, 0) is Verdict.ZERO
    assert offer(window, START, now=START) is Verdict.TAKE
    assert offer(window, START) is Verdict.DUPLICATE
    assert offer(window, START + 20_000_000) is Verdict.EARLY
    assert offer(window, START + 20_000_000) is Verdict.DUPLICATE
    assert offer(window, START - 100_000_000) is Verdict.LATE
    assert offer(window, START + SECOND, now=START + SECOND // 4) is Verdict.FUTURE
    assert offer(window, START + SECOND, now=START + 3 * SECOND // 4) is Verdict.TAKE
    window.close()
    assert offer(window, START + 2 * SECOND) is Verdict.CLOSED
    counts = window.counts
    assert {name: n for name, n in counts.items() if n} == {
        'zero': 1, 'duplicate': 2, 'early': 1, 'late': 1, 'future': 1, 'closed': 1,
        'overrun': 1, 'cleared': 1}


def test_future_is_a_parameter():
    window = ClipWindow(FRAME, max_future=2.0)
    assert offer(window, START + SECOND, now=START) is Verdict.TAKE


def test_jump_back_beyond_the_gap_clears_at_once():
    window = ClipWindow(STREAM)
    run(window, camera(20, 0.35))
    sets = run(window, camera(20, 0.1, start=START - 5 * SECOND))
    assert milliseconds(sets[0].stamps_ns, START - 5 * SECOND) == [0, 50]
    assert sets[0].reset == 'the clock of the images jumped back by 5.300 s'
    assert window.resets['jump'] == 1 and window.counts['cleared'] == 1 and window.counts['late'] == 0


def test_jump_back_within_the_gap_clears_at_the_fifth_late_frame():
    window = ClipWindow(STREAM)
    run(window, camera(20, 0.3))
    verdicts = [offer(window, stamp) for stamp in camera(20, 0.4, start=START - SECOND // 10)]
    assert verdicts[:6] == [Verdict.LATE] * 4 + [Verdict.TAKE] * 2
    assert 'jumped back by 0.150 s' in window.take(0).reset


def test_late_frames_that_do_not_rise_are_no_jump():
    window = ClipWindow(STREAM)
    run(window, camera(20, 0.3))
    late = [START + milli * 1_000_000 for milli in (90, 80, 70, 60, 50, 40, 30)]
    assert [offer(window, stamp) for stamp in late] == [Verdict.LATE] * 7


def test_frames_of_a_second_camera_with_a_slower_clock_are_no_jump():
    window = ClipWindow(FRAME)
    verdicts = [offer(window, stamp - shift) for stamp in camera(20, 1.0) for shift in (0, 130_000_000)]
    assert set(verdicts[1::2]) == {Verdict.LATE} and set(verdicts[::2]) == {Verdict.TAKE}


def test_gap_clears_what_was_waiting():
    window = ClipWindow(STREAM)
    offer(window, START)
    sets = run(window, camera(20, 0.1, start=START + 2 * SECOND))
    assert milliseconds(sets[0].stamps_ns) == [2000, 2050]
    assert sets[0].reset == 'there were no images for 2.000 s'
    assert window.counts['cleared'] == 1 and window.resets['gap'] == 1


@pytest.mark.parametrize('seconds, reset', [(0.4, None), (1.2, 'no frames were used for 1.150 s')])
def test_an_encoder_that_was_held_up_for_long_does_not_go_on_with_what_it_remembers(seconds, reset):
    window = ClipWindow(STREAM)
    assert run(window, camera(20, 0.1))[0].reset is None
    for stamp in camera(20, seconds, start=START + SECOND // 10):  # nobody takes what comes
        assert offer(window, stamp) is Verdict.TAKE
    frames = window.take(0)
    assert frames.reset == reset and window.resets['gap'] == (reset is not None)
    assert [frames.reset for frames in run(window, camera(20, 0.1, start=START + round(seconds * SECOND) + SECOND // 10))] == [None]


def test_the_reason_is_told_once():
    window = ClipWindow(FRAME)
    offer(window, START)
    window.clear('deactivated')
    sets = run(window, camera(20, 0.1, start=START + SECOND))
    assert [frames.reset for frames in sets] == ['deactivated', None]


def test_a_change_of_resolution_clears():
    window = ClipWindow(STREAM)
    offer(window, START)
    for k in (1, 2):
        offer(window, START + k * SECOND // 20, geometry=Geometry(16, 12, 0, 0, 16, 12))
    frames = window.take(0)
    assert frames.geometry.width == 16 and frames.reset == 'the image changed from 8x6 to 16x12'
    assert window.counts['cleared'] == 1 and window.counts['used'] == 2


def test_a_frame_that_could_not_be_decoded_is_counted():
    window = ClipWindow(STREAM)
    stamps = camera(20, 0.15)
    assert window.offer(stamps[0]) is Verdict.TAKE  # and never pushed
    assert [milliseconds(frames.stamps_ns) for frames in run(window, stamps[1:])] == [[50, 100]]
    assert window.counts['failed'] == 1


def test_a_frame_that_was_being_decoded_when_the_history_was_cleared_is_dropped():
    window = ClipWindow(FRAME)
    window.offer(START)
    window.clear('deactivated')
    window.push(START, image_of(START), GEOMETRY)
    assert not window.ready() and window.counts['cleared'] == 1


def test_take_blocks_until_a_frame_comes():
    window = ClipWindow(FRAME)
    taken = []
    worker = threading.Thread(target=lambda: taken.append(window.take(None)))
    worker.start()
    offer(window, START)
    worker.join(10)
    assert taken[0].stamps_ns.tolist() == [START]


def test_close_ends_a_blocked_take():
    window = ClipWindow(FRAME)
    taken = []
    worker = threading.Thread(target=lambda: taken.append(window.take(None)))
    worker.start()
    window.close()
    worker.join(10)
    assert taken == [None]


def test_take_gives_up_after_its_timeout():
    begun = time.monotonic()
    assert ClipWindow(FRAME).take(0.05) is None
    assert time.monotonic() - begun >= 0.05


def test_a_worker_beside_a_camera_never_sees_a_frame_twice():
    window = ClipWindow(STREAM)
    sets = []
    taken = threading.Event()

    def work():
        while (frames := window.take(None)) is not None:
            sets.append(frames)
            taken.set()

    worker = threading.Thread(target=work)
    worker.start()
    stamps = camera(20, 100)
    for index, stamp in enumerate(stamps):
        offer(window, stamp)
        if index % 40 == 39:  # let the worker catch up now and then, and fall behind in between
            assert taken.wait(10)
            taken.clear()
    window.close()
    worker.join(10)
    seen = np.concatenate([frames.stamps_ns for frames in sets])
    assert len(seen) >= 50
    assert (np.diff(seen) > 0).all()
    counts = window.counts
    assert counts['used'] == len(seen) and sum(counts.values()) == len(stamps)


# Steps between frames (ms): a steady camera, jitter, drops, duplicates, late frames, huge gaps, jumps back.
STEPS = st.lists(st.integers(1, 120) | st.sampled_from([33, 50, 0, -20, -300, 390, 410, 5000, -5000]),
                 max_size=80)
REQUESTS = st.sampled_from([STREAM, CLIP, FRAME,
                            WindowRequest(frame_period=0.033, frames=4, new_frames=4, max_gap=1.0)])


@given(steps=STEPS, request_=REQUESTS, takes=st.lists(st.booleans(), min_size=80, max_size=80),
       decoded=st.lists(st.sampled_from([True] * 9 + [False]), min_size=80, max_size=80))
def test_whatever_the_camera_does(steps, request_, takes, decoded):
    window = ClipWindow(request_)
    stamp, newest = START, None
    for offered, step in enumerate(steps, 1):
        stamp += step * 1_000_000
        if window.offer(stamp, START + 30 * SECOND) is Verdict.TAKE and decoded[offered - 1]:
            window.push(stamp, image_of(stamp), GEOMETRY)
        if takes[offered - 1] and (frames := window.take(0)) is not None:
            stamps = frames.stamps_ns
            assert len(stamps) == request_.frames == len(frames.images)
            assert (np.diff(stamps) >= 0 if request_.anchored else np.diff(stamps) > 0).all()
            assert (np.diff(stamps) <= request_.max_gap * SECOND).all()
            np.testing.assert_array_equal(frames.images[:, 0, 0, 0], stamps % 251)
            if newest is not None and frames.reset is None:
                assert stamps[-1] > newest
                if not request_.anchored:
                    assert stamps[0] > newest  # nothing is new twice
            newest = stamps[-1]
        counts = window.counts
        assert sum(counts.values()) == offered and min(counts.values()) >= 0
        assert counts['waiting'] <= request_.frames + 4  # memory is bounded


@given(jitter=st.lists(st.integers(-8_000_000, 8_000_000), min_size=120, max_size=120),
       dropped=st.sets(st.integers(0, 119), max_size=20), rate=st.sampled_from([20, 25, 30, 60]))
def test_jitter_and_drops_do_not_shift_the_clock(jitter, dropped, rate):
    window = ClipWindow(FRAME)
    stamps = [stamp + shift for k, (stamp, shift) in enumerate(zip(camera(rate, 120 / rate), jitter))
              if k not in dropped]
    taken = [stamp for stamp in stamps if offer(window, stamp) is Verdict.TAKE]
    elapsed = (taken[-1] - taken[0]) / SECOND
    assert len(taken) <= elapsed / 0.05 + 2.25  # never more than asked for
    assert (np.diff(taken) > 0).all()


@given(steps=st.lists(st.integers(20, 90), min_size=20, max_size=60))
def test_every_place_of_an_anchored_set_has_the_nearest_frame(steps):
    window = ClipWindow(CLIP)
    stamp, pushed = START, []
    for step in steps:
        stamp += step * 1_000_000
        if offer(window, stamp) is Verdict.TAKE:
            pushed.append(stamp)
        if (frames := window.take(0)) is not None:
            assert frames.stamps_ns[-1] == pushed[-1]
            for k, found in enumerate(reversed(frames.stamps_ns.tolist())):
                wanted = pushed[-1] - k * SECOND // 20
                assert abs(found - wanted) == min(abs(p - wanted) for p in pushed)
