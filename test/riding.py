# SPDX-License-Identifier: Apache-2.0
"""A handle on a belt as a camera's futures tell of it: nothing is drawn, nothing weighs anything."""

from dataclasses import dataclass

import numpy as np

from jepa_ros.control.bar import GRASP
from jepa_ros.control.calibration import Calibration
from jepa_ros.control.path import PredictedPath

S = 1_000_000_000
HORIZONS = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
BELT_TOP = 0.6  # m


def camera(position=(0.0, -1.16, 1.22), target=(0.0, 0.02, 0.70)) -> Calibration:
    """A camera beside the belt that looks over it, as that of the picking cell."""
    position = np.asarray(position, float)
    ahead = np.asarray(target, float) - position
    ahead /= np.linalg.norm(ahead)
    right = np.cross(ahead, (0, 0, 1))
    right /= np.linalg.norm(right)
    matrix = np.array([[360.0, 0, 160], [0, 360.0, 120], [0, 0, 1]])
    return Calibration((320, 240), matrix, position, np.stack([right, np.cross(ahead, right), ahead], axis=1))


@dataclass
class Handle:
    """
    :param place: float [3] at the time 0, m; ``speed`` along x, m/s; ``yaw`` of the bar, rad.
    """

    place: tuple[float, float, float] = (0.0, 0.01, 0.82)
    speed: float = 0.2
    yaw: float = 0.3

    def at(self, seconds) -> np.ndarray:
        """Where it is, float64 [..., 3]."""
        return np.asarray(self.place) + np.multiply.outer(seconds, (self.speed, 0.0, 0.0))

    def path(self, seconds, *, error=(0.0, 0.0, 0.0), deviation=0.003, sure=0.005, told=True, horizons=HORIZONS):
        """
        The futures of the frame at a time.

        :param error: float [3] by which they are off, m.
        :param deviation: standard deviation that they claim, 0..1 of the picture.
        :param sure: the same of yaw and height.
        :param told: whether they tell yaw and height.
        """
        places = self.at(seconds + horizons) + error
        covariances = np.tile(np.eye(2) * deviation**2, (len(horizons), 1, 1))
        grasp = [np.cos(2 * self.yaw), np.sin(2 * self.yaw), places[0, 2] - BELT_TOP]
        rows = np.tile(grasp, (len(horizons), 1))
        attributes = {GRASP: (rows, np.full_like(rows, sure))} if told else {}
        points = camera().to_image(places)
        return PredictedPath(round((10 + seconds) * S), horizons, points, covariances, attributes)


def instant(seconds) -> int:
    """A time of :meth:`Handle.at` as ns."""
    return round((10 + seconds) * S)
