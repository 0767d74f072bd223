# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from riding import BELT_TOP, Handle, camera

from jepa_ros.control.bar import FOOT, GRASP, UNTOLD, bar
from jepa_ros.control.calibration import CalibrationError
from jepa_ros.control.path import PredictedPath, PredictionError

GUESS = 0.11  # m


def seen(handle: Handle, by=None, error=(0.0, 0.0), sure=(0.01, 0.01)) -> PredictedPath:
    """A path whose readout tells the foot, off by an error in the picture."""
    by, path = by or camera(), handle.path(0.0, told=False)
    places = handle.at(path.horizons)
    feet = np.column_stack([places[:, :2], np.full(len(places), BELT_TOP)])
    points = by.to_image(places)
    turned = np.tile([np.cos(2 * handle.yaw), np.sin(2 * handle.yaw)], (len(places), 1))
    offset = by.to_image(feet) - points + error
    told = {GRASP: (turned, np.full_like(turned, 0.1)), FOOT: (offset, np.tile(sure, (len(places), 1)))}
    return replace(path, points=points, attributes=told)


@given(
    st.tuples(st.floats(-0.5, 0.5), st.floats(-0.15, 0.15), st.floats(0.05, 0.4)),
    st.tuples(st.floats(-0.3, 0.3), st.floats(-1.4, -0.6), st.floats(1.2, 2.0)),
    st.floats(-1.5, 1.5),
)
@settings(deadline=None)
def test_a_foot_tells_the_height_to_whoever_knows_the_camera(place, position, yaw):
    by = camera(position)
    x, y, height = place
    mean, std = bar(seen(Handle((x, y, BELT_TOP + height), 0.2, yaw), by), by, BELT_TOP, GUESS)
    assert mean.shape == std.shape == (3,)
    np.testing.assert_allclose(mean, [np.cos(2 * yaw), np.sin(2 * yaw), height], atol=1e-9)
    assert std[2] > 0


def test_the_deviation_of_a_height_is_that_of_its_errors():
    rng, by, handle = np.random.default_rng(3), camera(), Handle()
    sure = (0.02, 0.008)
    told = [bar(seen(handle, by, rng.normal(0, sure), sure), by, BELT_TOP, GUESS) for _ in range(2000)]
    heights = np.array([mean[2] for mean, _ in told])
    assert heights.mean() == pytest.approx(handle.place[2] - BELT_TOP, abs=1e-3)
    assert heights.std() == pytest.approx(np.mean([std[2] for _, std in told]), rel=0.1)


def test_the_surer_direction_decides():
    by = camera((0.9, -0.9, 1.6))  # from the side: both directions in the picture say something
    off = [
        abs(bar(seen(Handle(), by, (0.02, 0.0), sure), by, BELT_TOP, GUESS)[0][2] - 0.22)
        for sure in ((0.001, 0.1), (0.01, 0.01), (0.1, 0.001))
    ]
    assert off[0] > 2 * off[1] > 4 * off[2]


def test_a_height_in_metres_is_taken_as_it_is_and_one_that_is_not_told_is_a_guess():
    path = Handle().path(0.0)
    mean, std = bar(path, camera(), BELT_TOP, GUESS)
    np.testing.assert_array_equal(mean, path.attributes[GRASP][0][0])
    np.testing.assert_array_equal(std, path.attributes[GRASP][1][0])
    without = replace(path, attributes={GRASP: tuple(part[:, :2] for part in path.attributes[GRASP])})
    mean, std = bar(without, camera(), BELT_TOP, GUESS)
    assert mean[2] == GUESS and std[2] == UNTOLD
    assert bar(Handle().path(0.0, told=False), camera(), BELT_TOP, GUESS) is None


def test_what_it_cannot_read():
    path = seen(Handle())
    for name, length, said in ((GRASP, 1, '2 or 3 elements, found 1'), (FOOT, 1, '2 elements, found 1')):
        cut = {name: tuple(part[:, :length] for part in path.attributes[name])}
        with pytest.raises(PredictionError, match=f"'{name}' to have {said}"):
            bar(replace(path, attributes={**path.attributes, **cut}), camera(), BELT_TOP, GUESS)
    with pytest.raises(CalibrationError, match='lie on the plane'):  # above the horizon
        bar(seen(Handle(), error=(0.0, -3.0)), camera(), BELT_TOP, GUESS)
