# SPDX-License-Identifier: Apache-2.0
"""Angles come round and stay the same direction."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jepa_ros.angles import wrapped


@given(st.floats(-100, 100), st.sampled_from([math.pi, 2 * math.pi]))
def test_an_angle_comes_within_half_a_period_and_keeps_its_direction(angle, period):
    found = wrapped(angle, period)
    assert -period / 2 <= found <= period / 2
    turns = (angle - found) / period
    assert turns == pytest.approx(round(turns), abs=1e-9)
