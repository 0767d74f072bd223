# SPDX-License-Identifier: Apache-2.0
"""From a point of the picture to a place in the room: a pinhole camera, and where it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jepa_ros.errors import JepaError

MIN_SLOPE = 0.02  # of a ray to a plane: flatter, a pixel would be metres


class CalibrationError(JepaError):
    """A camera is not as it must be, or does not see what it was asked about."""


@dataclass(frozen=True)
class PlanePoints:
    """
    Where rays meet a horizontal plane.

    :param places: float64 [K, 2], x and y, m.
    :param by_image: float64 [K, 2, 2], derivative of the places by the points of the image (0..1).
    :param by_height: float64 [K, 2], derivative of the places by the plane's height.
    """

    places: np.ndarray
    by_image: np.ndarray
    by_height: np.ndarray

    def covariances(self, covariances: np.ndarray) -> np.ndarray:
        """:return: float64 [K, 2, 2], m^2, from those of the points of the image, [K, 2, 2]."""
        return self.by_image @ covariances @ self.by_image.transpose(0, 2, 1)


@dataclass(frozen=True)
class Calibration:
    """
    A camera without distortion, and the pose of its optical frame (x right, y down, z forward).

    :param size: width and height in px of the pictures that the matrix belongs to; what is received may have
        any size, its points are 0..1.
    :param matrix: float64 [3, 3], the pinhole matrix K, px.
    :param position: float64 [3], of the optical frame in the frame that places are wanted in, m.
    :param rotation: float64 [3, 3], the axes of the optical frame in that frame, as columns.
    :raises CalibrationError: a shape or a value is not so.
    """

    size: tuple[int, int]
    matrix: np.ndarray
    position: np.ndarray
    rotation: np.ndarray

    def __post_init__(self):
        for name, shape in (('size', (2,)), ('matrix', (3, 3)), ('position', (3,)), ('rotation', (3, 3))):
            value = np.asarray(getattr(self, name), np.float64)
            if value.shape != shape or not np.isfinite(value).all():
                raise CalibrationError(
                    f"expected {shape} finite numbers as the camera's {name}, found {value.tolist()}"
                )
            object.__setattr__(self, name, value)
        if self.size.min() <= 0 or self.matrix[0, 0] <= 0 or self.matrix[1, 1] <= 0:
            raise CalibrationError(
                'expected a camera with a size and focal lengths above zero, found '
                f'{self.size.tolist()} px and {self.matrix[0, 0]:g}, {self.matrix[1, 1]:g} px '
                '(is the camera calibrated?)'
            )
        if not np.array_equal(self.matrix[2], (0, 0, 1)):
            raise CalibrationError(
                f"expected 0, 0, 1 as the last row of the camera's matrix, found {self.matrix[2].tolist()}"
            )
        if not np.allclose(self.rotation.T @ self.rotation, np.eye(3), atol=1e-4):
            raise CalibrationError("expected a rotation as the camera's orientation, found something else")
        # from (x, y, 1) of the image to a direction
        pixels = np.diag([*self.size, 1.0])
        object.__setattr__(self, '_directions', self.rotation @ np.linalg.solve(self.matrix, pixels))

    def on_plane(self, points: np.ndarray, height: float) -> PlanePoints:
        """
        Meet the rays of points of the image with a horizontal plane.

        :param points: float [K, 2], 0..1 of the image; outside of it is allowed.
        :param height: z of the plane, m.
        :raises CalibrationError: a ray does not meet the plane in front of the camera, or is nearly parallel.
        """
        points = np.asarray(points, np.float64)
        homogeneous = np.concatenate([points, np.ones((len(points), 1))], axis=1)
        rays = homogeneous @ self._directions.T
        drop = height - self.position[2]
        slope = rays[:, 2] / np.linalg.norm(rays, axis=1)
        if not (slope * np.sign(drop) > MIN_SLOPE).all():
            raise CalibrationError(
                f'expected points of the image that lie on the plane at {height:.2f} m, in front of the camera '
                f'at {self.position[2]:.2f} m, found {np.round(points, 3).tolist()}'
            )
        stretch = drop / rays[:, 2]
        by_height = rays[:, :2] / rays[:, 2:]
        axes = self._directions[:, :2]  # how a ray turns with x and y of the image
        by_image = stretch[:, None, None] * (axes[:2] - by_height[:, :, None] * axes[2])
        return PlanePoints(self.position[:2] + stretch[:, None] * rays[:, :2], by_image, by_height)

    def to_image(self, places: np.ndarray) -> np.ndarray:
        """
        Where places are in the picture.

        :param places: float [K, 3], m.
        :return: float64 [K, 2], 0..1; outside of that they are out of the picture.
        :raises CalibrationError: a place is behind the camera.
        """
        seen = np.linalg.solve(self._directions, (np.asarray(places, np.float64) - self.position).T)
        if not (seen[2] > 0).all():
            raise CalibrationError('expected places in front of the camera, found some behind it')
        return (seen[:2] / seen[2]).T
