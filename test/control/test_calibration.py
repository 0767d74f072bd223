# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from riding import camera

from jepa_ros.control.calibration import Calibration, CalibrationError

near = st.floats(-0.5, 0.5)
heights = st.floats(0.6, 0.95)
DOWN = np.diag([1.0, -1.0, -1.0])  # looks straight down
MATRIX = np.array([[200.0, 0, 160], [0, 200.0, 120], [0, 0, 1]])


@given(near, near, heights)
def test_there_and_back(x, y, height):
    point = camera().to_image([(x, y, height)])
    np.testing.assert_allclose(camera().on_plane(point, height).places, [(x, y)], atol=1e-9)


def test_looking_straight_down_a_pixel_is_height_over_focal_length():
    above = Calibration((320, 240), MATRIX, (1.0, 2.0, 3.0), DOWN)
    met = above.on_plane([(0.5, 0.5), (0.5 + 20 / 320, 0.5), (0.5, 0.5 + 20 / 240)], 1.0)
    np.testing.assert_allclose(met.places, [(1.0, 2.0), (1.2, 2.0), (1.0, 1.8)], atol=1e-12)
    np.testing.assert_allclose(met.by_image[0], np.diag([320 * 2 / 200, -240 * 2 / 200]), atol=1e-12)
    np.testing.assert_allclose(met.by_height[0], 0, atol=1e-12)


@given(near, near, heights)
def test_the_derivatives_are_those_of_the_places(x, y, height):
    calibration, step = camera(), 1e-6
    point = calibration.to_image([(x, y, height)])
    met = calibration.on_plane(point, height)
    for axis in range(2):
        moved = calibration.on_plane(point + np.eye(2)[axis] * step, height).places
        np.testing.assert_allclose(met.by_image[0][:, axis], (moved - met.places)[0] / step, atol=1e-3)
    raised = calibration.on_plane(point, height + step).places
    np.testing.assert_allclose(met.by_height[0], (raised - met.places)[0] / step, atol=1e-4)


def test_covariances_come_along():
    above = Calibration((320, 240), MATRIX, (0.0, 0.0, 2.0), DOWN)
    met = above.on_plane([(0.5, 0.5)], 0.0)
    np.testing.assert_allclose(met.covariances(np.diag([0.01, 0.04])[None])[0],
                               np.diag([0.01 * 3.2**2, 0.04 * 2.4**2]), atol=1e-12)


@pytest.mark.parametrize('height, point', [
    (3.0, (0.5, 0.5)),  # above a camera that looks down
    (0.8, (0.5, -0.6)),  # a ray to the sky
])
def test_a_ray_that_does_not_meet_the_plane_is_refused(height, point):
    with pytest.raises(CalibrationError, match=rf'expected .* plane at {height:.2f} m'):
        camera().on_plane([(0.5, 0.5), point], height)


def test_a_place_behind_the_camera_is_not_in_the_picture():
    with pytest.raises(CalibrationError, match='behind'):
        camera().to_image([(0.0, 0.0, 0.8), (0.0, -3.0, 1.0)])


@pytest.mark.parametrize('change, said', [
    ({'size': (0, 240)}, 'size and focal lengths above zero'),
    ({'matrix': np.diag([0.0, 1.0, 1.0])}, 'is the camera calibrated'),
    ({'matrix': np.diag([1.0, 1.0, 0.0])}, 'last row'),
    ({'matrix': np.eye(2)}, 'camera\'s matrix'),
    ({'position': (0.0, np.nan, 1.0)}, 'camera\'s position'),
    ({'rotation': 2 * np.eye(3)}, 'a rotation'),
])
def test_what_is_no_camera_is_refused(change, said):
    given_ = {'size': (320, 240), 'matrix': MATRIX, 'position': (0, 0, 2), 'rotation': DOWN, **change}
    with pytest.raises(CalibrationError, match=said):
        Calibration(**given_)
