# SPDX-License-Identifier: Apache-2.0
"""How the bar of a handle lies: what a readout tells of it, in the units of a controller."""

from __future__ import annotations

import numpy as np

from jepa_ros.control.calibration import Calibration
from jepa_ros.control.path import PredictedPath, PredictionError

GRASP = 'grasp'  # the attribute: cos 2ψ, sin 2ψ, ψ from the belt to the bar; and the bar's height above the belt, m, or
FOOT = 'foot'  # the attribute: where, from the handle, the place on the belt straight below it is in the picture
UNTOLD = 1.0  # m, deviation of a height that nothing was said of
LEAST = 1e-4  # of what is told, so that nothing is certain


def bar(
    path: PredictedPath, calibration: Calibration, belt: float, height: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """
    Return what a path tells of the bar.

    :param calibration: of the camera that the path was seen by; `belt`: height of the belt's top, m.
    :param height: what is said of the bar's height where the path says nothing, m.
    :returns: mean and standard deviation of cos 2ψ, sin 2ψ and the height above the belt (m) per horizon, float64
        [K, 3] each; None where it tells nothing.
    :raises PredictionError: an attribute is longer or shorter than it must be.
    :raises CalibrationError: the foot of the handle does not lie on the belt in front of the camera.
    """
    grasp = path.attributes.get(GRASP)
    if grasp is None:
        return None
    mean, std = grasp
    _expect(GRASP, mean, (2, 3))
    if mean.shape[1] == 2:
        heights = _heights(path, calibration, belt) if FOOT in path.attributes else (height, UNTOLD)
        mean, std = (
            np.column_stack([part, np.broadcast_to(of, len(part))]) for part, of in zip((mean, std), heights)
        )
    return mean, np.maximum(std, LEAST)


def _heights(path: PredictedPath, calibration: Calibration, belt: float) -> tuple[np.ndarray, np.ndarray]:
    """
    Return heights above the belt, and their deviations, float64 [K] each, m.

    The ray of the handle is above its foot at one height only. Both directions in the picture say which, weighted with
    how sure the readout is of each.
    """
    offset, std = path.attributes[FOOT]
    _expect(FOOT, offset, (2,))
    foot = calibration.on_plane(path.points + offset, belt)
    ray = calibration.on_plane(path.points, belt)
    covariances = foot.covariances(np.maximum(std, LEAST)[:, :, None] ** 2 * np.eye(2))
    weighed = np.linalg.solve(covariances, ray.by_height[:, :, None])[:, :, 0]
    variance = 1 / (weighed * ray.by_height).sum(axis=1)
    return variance * (weighed * (foot.places - ray.places)).sum(axis=1), np.sqrt(variance)


def _expect(name: str, found: np.ndarray, lengths: tuple[int, ...]) -> None:
    if found.shape[1] not in lengths:
        raise PredictionError(
            f"expected the attribute '{name}' to have {' or '.join(map(str, lengths))} elements, found {found.shape[1]}"
        )
