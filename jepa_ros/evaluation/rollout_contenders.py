# SPDX-License-Identifier: Apache-2.0
"""Who is compared: each tells, from the frames of a cell, where the handle will be."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from jepa_ros.control.bar import GRASP, bar
from jepa_ros.control.calibration import Calibration, CalibrationError
from jepa_ros.control.path import PredictedPath
from jepa_ros.engine.readout import Reading
from jepa_ros.evaluation.rollout_kalman import KalmanSettings, PlaneKalman
from jepa_ros.evaluation.rollout_perception import Perception, Sight
from jepa_ros.sim.labels import grasp
from jepa_ros.sim.world import BELT_TOP

HORIZONS = np.array([0.1, 0.2, 0.3, 0.4, 0.5])  # s, of the oracle
CONFIDENT = 0.04  # m, standard deviation on the belt up to which a reading begins a track, or is held


@dataclass(frozen=True)
class Opinion:
    """
    What a contender says of a frame.

    :param path: where the handle will be.
    :param surprise: of the latents; NaN where there are none.
    """

    path: PredictedPath
    surprise: float = float('nan')


class Contender(ABC):
    """
    One that is compared.

    :param latency: s from a frame to the path that is made of it.
    :param height: m of the handle above the belt, where the bundle does not tell.
    """

    def __init__(self, latency: float, height: float):
        self.latency, self.height = latency, height

    @abstractmethod
    def see(self, cell) -> Opinion | None:
        """Look at the current frame of a `ConveyorCell`; None where there is nothing to say."""

    def reset(self) -> None:
        """Forget everything, for another episode."""

    @property
    def picture(self) -> np.ndarray | None:
        """The current frame, RGB uint8 [H, W, 3], where it was drawn."""
        return None


def calibration(cell) -> Calibration:
    """Return the camera of a cell as the controller takes it; places are those of the world."""
    camera = cell.camera()
    return Calibration((camera.width, camera.height), camera.k, camera.position, camera.rotation)


class Oracle(Contender):
    """Knows pose and velocity of the handle at the frame; the bin may still be pushed afterwards."""

    def see(self, cell) -> Opinion:
        pose = cell.handle_pose()
        points = calibration(cell).to_image(pose.position + np.outer(HORIZONS, cell.handle_velocity()))
        exact = np.tile(1e-6 * np.eye(2), (len(HORIZONS), 1, 1))
        told = np.tile(grasp(pose), (len(HORIZONS), 1))
        attributes = {GRASP: (told, np.full(told.shape, 1e-3))}
        return Opinion(PredictedPath(cell.stamp_ns, HORIZONS, points, exact, attributes))


class Seeing(Contender):
    """
    One that looks through a bundle.

    :param perception: may be shared by several, one episode at a time.
    """

    def __init__(self, perception: Perception, latency: float, height: float):
        super().__init__(latency, height)
        self._perception = perception

    def see(self, cell) -> Opinion | None:
        sight = self._perception.see(cell)
        path = None if sight is None else self._judge(sight, calibration(cell))
        return None if path is None else Opinion(path, sight.surprise)

    def reset(self) -> None:
        self._perception.reset()
        self._perception.latency = self.latency

    @property
    def picture(self):
        return self._perception.picture

    @abstractmethod
    def _judge(self, sight: Sight, camera: Calibration) -> PredictedPath | None:
        """Return the path that follows from what was read."""

    def _told(self, sight: Sight, camera: Calibration) -> tuple[np.ndarray, np.ndarray] | None:
        """Return what is told of the bar, see `bar`; None where that is nothing, or leads beside the belt."""
        try:
            return bar(sight.path, camera, BELT_TOP, self.height)
        except CalibrationError:
            return None

    def _first(
        self, sight: Sight, camera: Calibration, told: tuple[np.ndarray, np.ndarray] | None
    ) -> _Measured | None:
        """
        Return the first horizon on the belt; None where the ray does not meet it.

        :param told: of the bar, see :meth:`_told`: as high as that says.
        """
        reading, height = sight.reading, self.height if told is None else told[0][2]
        try:
            there = camera.on_plane(reading.points[:1], BELT_TOP + height)
        except CalibrationError:
            return None
        covariance = there.covariances(reading.covariances[:1].astype(float))[0]
        return _Measured(there.places[0], covariance)


@dataclass(frozen=True)
class _Measured:
    """A place on the belt, float64 [2], m, and its covariance."""

    place: np.ndarray
    covariance: np.ndarray

    @property
    def certain(self) -> bool:
        return bool(np.linalg.eigvalsh(self.covariance)[-1] < CONFIDENT**2)


class Forecasting(Seeing):
    """The bundle itself: what its forecaster and readout say of every horizon."""

    def _judge(self, sight, camera):
        return sight.path


class HoldLast(Seeing):
    """What was read of the first horizon when it was last certain holds for ever."""

    def reset(self) -> None:
        super().reset()
        self._held: Reading | None = None

    def _judge(self, sight, camera):
        first = self._first(sight, camera, self._told(sight, camera))
        if first is not None and first.certain:
            self._held = sight.reading
        if self._held is None:
            return None
        held, row = self._held, np.zeros(len(sight.horizons), int)
        attributes = {name: (told.mean[row], told.std[row]) for name, told in held.attributes.items()}
        return PredictedPath(
            sight.stamp_ns, sight.horizons, held.points[row], held.covariances[row], attributes
        )


class Kalman(Seeing):
    """
    A Kalman filter on the belt, fed with what was read of the first horizon; height and yaw are averaged.

    :param settings: of the filter.
    """

    def __init__(
        self,
        perception: Perception,
        latency: float,
        height: float,
        settings: KalmanSettings = KalmanSettings(),
    ):
        super().__init__(perception, latency, height)
        self._settings = settings

    def reset(self) -> None:
        super().reset()
        self._filter = PlaneKalman(self._settings)
        self._average: _Average | None = None

    def _judge(self, sight, camera):
        now = sight.stamp_ns / 1e9
        self._measure(sight, camera, now)
        if self._filter.time is None:
            return None
        height = BELT_TOP + (self.height if self._average is None else self._average.told[0][2])
        predicted = [self._filter.predict(now + lead) for lead in sight.horizons]
        try:
            points = camera.to_image([(*place, height) for place, _ in predicted])
            by_place = np.linalg.inv(camera.on_plane(points, height).by_image)
        except CalibrationError:  # long out of the picture
            return None
        covariances = by_place @ [covariance for _, covariance in predicted] @ by_place.transpose(0, 2, 1)
        attributes = {}
        if self._average is not None:
            attributes[GRASP] = tuple(np.tile(part, (len(points), 1)) for part in self._average.told)
        return PredictedPath(sight.stamp_ns, sight.horizons, points, covariances, attributes)

    def _measure(self, sight: Sight, camera: Calibration, now: float) -> None:
        filter_, begun = self._filter, self._filter.begun
        told = self._told(sight, camera)
        first = self._first(sight, camera, told if self._average is None else self._average.told)
        if first is None or filter_.time is None and not first.certain:
            return
        taken = filter_.measure(now + sight.horizons[0], first.place, first.covariance)
        if taken and told is not None:
            if filter_.begun != begun:  # another bin, with another handle
                self._average = _Average()
            self._average.add(*told)


class _Average:
    """
    The mean of a constant, weighted by how certain each look at it was.

    Errors of neighbouring frames are alike, so the deviation that is told does not fall below a third of that
    of the best look.
    """

    def __init__(self):
        self._weight = self._sum = 0.0
        self._best = np.inf

    def add(self, mean: np.ndarray, std: np.ndarray) -> None:
        weight = 1 / np.maximum(std, 1e-4) ** 2
        self._weight, self._sum = self._weight + weight, self._sum + weight * mean
        self._best = np.minimum(self._best, std)

    @property
    def told(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean, and the deviation of that."""
        return self._sum / self._weight, np.maximum(self._weight**-0.5, self._best / 3)
