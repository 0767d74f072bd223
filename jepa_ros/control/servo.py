# SPDX-License-Identifier: Apache-2.0
"""The control law: image-based visual servoing towards a target point, limited in speed and slew."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jepa_ros.control.path import PathPoint


@dataclass(frozen=True)
class ServoSettings:
    """
    What the law is tuned with.

    :param target: where in the image the followed point is to be, 0..1 of width and height.
    :param gain: share of the remaining error that is closed per second, 1/s.
    :param feed_forward: share of the point's predicted velocity that is added, 0..1.
    :param view_extent: width and height in m of what the camera sees at the object's distance.
    :param max_speed: limit of the commanded speed, m/s.
    :param max_acceleration: limit of its change (slew), m/s^2.
    """

    target: tuple[float, float] = (0.5, 0.5)
    gain: float = 1.0
    feed_forward: float = 0.5
    view_extent: tuple[float, float] = (1.0, 0.75)
    max_speed: float = 0.2
    max_acceleration: float = 0.5


class Servo:
    """
    The velocity that brings the followed point to the target.

    For a camera that translates parallel to its image, the classical law (Chaumette and Hutchinson, Visual
    servo control, part I, IEEE Robotics & Automation Magazine 13(4), 2006) reduces to ``v = Z/f * (gain *
    error + feed_forward * velocity)``; Z/f times the image's size is ``view_extent``. The error is taken at
    the predicted instant, which makes up for the delay of camera, network and arm.

    Where the camera is carried by what the command moves, the velocity it sees already contains the command.
    The loop is then stable for ``feed_forward + gain * lead < 1``; for a camera that stands still
    feed_forward may be 1.

    :param settings: how the law is tuned.
    :param period: time between two calls of ``step`` in s, which the slew limit counts in.
    """

    def __init__(self, settings: ServoSettings, period: float):
        self.settings = settings
        self.period = period
        self.velocity = np.zeros(2)

    def step(self, point: PathPoint) -> np.ndarray:
        """
        Compute the next command.

        :param point: the followed point at the instant aimed for.
        :return: float64 [2], velocity along x (right) and y (down) of the camera's optical frame, m/s.
        """
        settings = self.settings
        rate = settings.gain * (point.position - settings.target) + settings.feed_forward * point.velocity
        wanted = _limit(np.multiply(settings.view_extent, rate), settings.max_speed)
        change = _limit(wanted - self.velocity, settings.max_acceleration * self.period)
        self.velocity = self.velocity + change
        return self.velocity

    def stop(self) -> None:
        """Forget the last command: the next one starts from rest."""
        self.velocity = np.zeros(2)


def _limit(vector: np.ndarray, length: float) -> np.ndarray:
    """Shorten a vector to a length; its direction stays."""
    norm = float(np.hypot(*vector))
    return vector if norm <= length else vector * (length / norm)
