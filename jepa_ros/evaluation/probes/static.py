# SPDX-License-Identifier: Apache-2.0
"""Probes whose answer one frame holds: depth, how many bins there are, what was seen in the same pose."""

from __future__ import annotations

import numpy as np

from jepa_ros.data.augment import VISIBLE
from jepa_ros.evaluation.probes.probe import ClassProbe, VectorProbe

HALF_BAR = 0.1  # m, half the length of the bar that stands for a pose


class Depth(VectorProbe):
    """
    Depth of the parts of the picture.

    :param topic: of depth images with the stamps of the frames (`Track.depth` says which).
    """

    name, temporal, view = 'depth', False, 'newest'
    task = 'how far away is what is seen in each cell of a coarse grid, in the median'
    metric = 'mean error of depth (m)'

    def __init__(self, topic: str = '/camera/depth/image_raw/compressedDepth'):
        self.topic = topic

    def labels(self, track, at, settings):
        # The grid's shape is the crop's too: the labels must not depend on the encoder.
        return track.depth(self.topic, settings.coarse, settings.coarse, at)

    def error(self, prediction, label, samples):
        return np.abs(prediction - label).mean(-1)

    def details(self, prediction, label, samples):
        return {'relative error': (np.abs(prediction - label) / label).mean(-1)}


class Counting(ClassProbe):
    """
    How many objects can be seen.

    :param topic: of an integer.
    """

    name, temporal, view = 'counting', False, 'newest'
    task = 'how many bins can be seen'
    metric = 'share of clips counted right, mean over the numbers'

    def __init__(self, topic: str = '/sim/bins'):
        self.topic = topic

    def labels(self, track, at, settings):
        return track.classes(self.topic)[at]


class Retrieval(VectorProbe):
    """
    Pose-sensitive retrieval: of all training clips the most similar one is looked up, and should show the object
    in the same pose. Nothing is learned.

    :param topic: PoseStamped of the object in the camera's frame, x along its bar.
    :param seen: PointStamped that says where it is in the picture: clips in which it is not visible do not count.
    """

    name, temporal, view, heads = 'retrieval', False, 'newest', ('nearest',)
    task = 'which training clip shows the handle in the same pose'
    metric = 'distance between the ends of the two handles (m)'

    def __init__(self, topic: str = '/sim/handle_in_camera', seen: str = '/sim/handle'):
        self.topic, self.seen = topic, seen

    def labels(self, track, at, settings):
        pose = track.vectors(self.topic)[at]
        x, y, z, w = pose[:, 3:7].T
        along = np.stack([1 - 2 * (y * y + z * z), 2 * (x * y + z * w), 2 * (x * z - y * w)], -1)
        visible = track.points(self.seen)[1][at] == VISIBLE
        return np.where(visible[:, None], np.concatenate([pose[:, :3], along], -1), np.nan)

    def error(self, prediction, label, samples):
        """Return the mean distance of the ends; there is no telling one end from the other."""
        away = prediction[:, :3] - label[:, :3]
        one, other = (HALF_BAR * (prediction[:, 3:] - sign * label[:, 3:]) for sign in (1, -1))
        return np.minimum(_ends(away, one), _ends(away, other))

    def details(self, prediction, label, samples):
        place = np.linalg.norm(prediction[:, :3] - label[:, :3], axis=-1)
        cosine = np.abs((prediction[:, 3:] * label[:, 3:]).sum(-1))
        return {'distance (m)': place, 'angle (degrees)': np.degrees(np.arccos(np.clip(cosine, 0, 1)))}


def _ends(away: np.ndarray, turned: np.ndarray) -> np.ndarray:
    """Return the mean distance of two ends, [M], from what they have in common and where they differ, [M, 3]."""
    return (np.linalg.norm(away + turned, axis=-1) + np.linalg.norm(away - turned, axis=-1)) / 2
