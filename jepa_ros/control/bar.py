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
    Return what a path tells of the bar, at its first horizon: what hardly changes is told best there.

    :param calibration: of the camera that the path was seen by; `belt`: height of the belt's top, m.
    :param height: what is said of the bar's height where the path says nothing, m.
    :returns: mean and standard deviation of cos 2ψ, sin 2ψ and the height above the belt (m), float64 [3] each;
        None where it tells nothing.
    :raises PredictionError: an attribute is longer or shorter than it must be.
    :raises CalibrationError: the foot of the handle does not lie on the belt in front of the camera.
    """
    if GRASP not in path.attributes:
        return None
    mean, std = _first(path, GRASP, (2, 3))
    if len(mean) == 2:
        heights = _height(path, calibration, belt) if FOOT in path.attributes else (height, UNTOLD)
        mean, std = (np.append(part, of) for part, of in zip((mean, std), heights))
    return mean, np.maximum(std, LEAST)


def _height(path: PredictedPath, calibration: Calibration, belt: float) -> tuple[float, float]:
    """
    Return the height above the belt, and the deviation of that, m.

    The ray of the handle is above its foot at one height only. Both directions in the picture say which, weighted with
    how sure the readout is of each.
    """
    offset, std = _first(path, FOOT, (2,))
    point = path.points[:1]
    foot, ray = (calibration.on_plane(points, belt) for points in (point + offset, point))
    covariance = foot.covariances(np.diag(np.maximum(std, LEAST) ** 2)[None])[0]
    by_height = ray.by_height[0]
    weighed = np.linalg.solve(covariance, by_height)
    variance = 1 / (weighed @ by_height)
    return variance * (weighed @ (foot.places - ray.places)[0]), np.sqrt(variance)


def _first(path: PredictedPath, name: str, lengths: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation of an attribute at the first horizon, [P] each; `lengths`: what P may be."""
    mean, std = (part[0] for part in path.attributes[name])
    if len(mean) not in lengths:
        raise PredictionError(
            f"expected the attribute '{name}' to have {' or '.join(map(str, lengths))} elements, found {len(mean)}"
        )
    return mean, std
