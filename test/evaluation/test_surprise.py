# SPDX-License-Identifier: Apache-2.0
"""Surprise over time: a planted moment is found, shown with its frames, and never more than once a second."""

import base64

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jepa_ros.data.frames import RecordedFrame
from jepa_ros.evaluation.offline import Step
from jepa_ros.evaluation.surprise import APART, WIDTH, SurpriseTrace, overlay
from jepa_ros.latents import Latents

GRID = (2, 3)


def frame(shade, size=(48, 64)):
    height, width = size
    data = np.full(height * width * 3, shade, np.uint8)
    return RecordedFrame(1, 1, '', data, 'rgb8', height, width, 3 * width)


def step(time, surprise, reset=None, shade=0):
    tokens = np.broadcast_to(np.float32(surprise), 6).copy()
    latents = Latents(
        round(time * 1e9) + 1,
        np.zeros((6, 1), np.float32),
        np.zeros((6, 2), np.float32),
        np.zeros(6, np.float32),
        tokens,
        1,
    )
    return Step(latents, None, reset, time, frame(shade))


def decoded(jpeg):
    return cv2.imdecode(np.frombuffer(base64.b64decode(jpeg), np.uint8), cv2.IMREAD_COLOR)


def test_the_planted_moment_is_first_with_the_frame_before_it():
    trace = SurpriseTrace(GRID, 2)
    for i in range(60):
        trace.see(step(i / 10, 5.0 if i == 33 else 1.0, shade=i))
    first, second = trace.pictures()
    assert first['time_s'] == 3.3 and first['times_median'] == 5
    assert round(decoded(first['before']).mean()) == 32 and decoded(first['now']).shape[1] == WIDTH
    assert abs(second['time_s'] - 3.3) >= APART
    assert trace.figures()['max'] == 5 and len(trace.figures()['value']) == 60


def test_unknown_surprise_is_a_gap_and_a_trace_of_nothing_but_gaps_is_none():
    trace = SurpriseTrace(GRID)
    trace.see(step(0.0, np.nan))
    assert trace.figures() is None and trace.pictures() == []
    trace.see(step(0.1, 2.0))
    assert trace.figures()['value'] == [None, 2.0]


def test_after_a_break_there_is_no_frame_before():
    trace = SurpriseTrace(GRID)
    trace.see(step(0.0, 1.0))
    trace.see(step(5.0, 9.0, reset='a gap'))
    assert trace.pictures()[0]['before'] is None


def test_a_moment_whose_frame_does_not_decode_is_left_out():
    trace = SurpriseTrace(GRID)
    trace.see(
        Step(
            step(0.0, 1.0).latents,
            None,
            None,
            0.0,
            RecordedFrame(1, 1, '', np.zeros(9, np.uint8), format='jpeg'),
        )
    )
    assert len(trace.moments()) == 1 and trace.pictures() == []


@given(st.lists(st.floats(0, 10), min_size=1, max_size=80), st.integers(1, 5))
def test_moments_are_apart_in_order_and_led_by_the_highest(values, count):
    trace = SurpriseTrace(GRID, count)
    for i, value in enumerate(values):
        trace.see(step(i * 0.15, value))
    moments = trace.moments()
    assert 1 <= len(moments) <= count
    assert moments[0].surprise == pytest.approx(max(values), rel=1e-5)
    assert [m.surprise for m in moments] == sorted((m.surprise for m in moments), reverse=True)
    times = sorted(m.time for m in moments)
    assert all(b - a >= APART for a, b in zip(times, times[1:]))


def test_the_overlay_colours_the_surprising_token_and_dims_what_is_not_seen():
    image = np.full((200, 600, 3), 128, np.uint8)  # a grid of 2x3 sees the middle 300 columns
    tokens = np.zeros(GRID, np.float32)
    tokens[0, 2] = 1.0
    drawn = overlay(image, tokens).astype(int)
    colour = np.ptp(drawn, axis=2)
    assert drawn.shape == (160, 480, 3)
    assert colour[20, 340] > 60 and colour[140, 140] < 20
    assert drawn[:, :110].max() < 64 < drawn[140, 140].min()
