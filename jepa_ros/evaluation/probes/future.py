# SPDX-License-Identifier: Apache-2.0
"""Probes on predicted latents: what is where at each horizon, and which move leads there."""

from __future__ import annotations

from itertools import product

import numpy as np

from jepa_ros.data.augment import VISIBLE, in_picture
from jepa_ros.evaluation.probes.probe import Labels, VectorProbe

SPEED = 0.25  # m/s along each axis, of the candidate moves
MOVES = SPEED * np.array(list(product((-1, 0, 1), repeat=3)))  # m/s, [27, 3]


class HandlePosition(VectorProbe):
    """
    Where a point will be in the picture, in view and hidden.

    :param topic: PointStamped: x, y in 0..1 of the image, z 1 visible, 0 hidden.
    """

    name, view = 'handle_position', 'futures'
    task = 'where is the handle in the picture at each horizon'
    metric = 'distance (widths of the picture), mean over the horizons, in view and hidden'

    def __init__(self, topic: str = '/sim/handle'):
        self.topic = topic

    def labels(self, track, at, settings):
        xy, state = track.points(self.topic)
        height, width = track.size
        places, seen, groups = [], [], []
        for horizon in settings.horizons:
            later = track.later(at, horizon)
            known = (later >= 0) & in_picture(state[later])
            places.append(np.where(known[:, None], xy[later] * (1, height / width), np.nan))
            seen.append(state[later] == VISIBLE)
            groups.append(np.where(seen[-1], f'{horizon:g} s in view', f'{horizon:g} s hidden'))
        return Labels(np.stack(places, 1), np.stack(groups, 1), {'seen': np.stack(seen, 1)})

    def details(self, prediction, label, samples):
        error, seen = self.error(prediction, label, samples), samples.extra['seen']
        return {'in view': np.where(seen, error, np.nan), 'hidden': np.where(seen, np.nan, error)}


class EndEffector(VectorProbe):
    """
    Where the hand will be.

    :param topic: of a state (`signals.read_vectors`) that begins with x, y, z.
    """

    name, view = 'end_effector', 'futures'
    task = 'where is the end effector at each horizon'
    metric = 'distance (in the unit of the state), mean over the horizons'

    def __init__(self, topic: str = '/ee_state'):
        self.topic = topic

    def labels(self, track, at, settings):
        places = track.vectors(self.topic)[:, :3]
        later = np.stack([track.later(at, horizon) for horizon in settings.horizons], 1)
        names = np.array([f'{horizon:g} s' for horizon in settings.horizons])
        groups = np.broadcast_to(names, later.shape)
        return Labels(np.where(later[..., None] >= 0, places[later], np.nan), groups)


class Planning(VectorProbe):
    """
    Short-horizon planning support: candidate moves of the hand are ranked by how near they bring it to where the
    handle will be, as a head reads it from the predicted latents. The truth ranks them too.

    The candidates are 27 straight moves, at each axis of the camera -0.25, 0 or 0.25 m/s, kept up until the
    horizon.

    :param handle: PoseStamped of what is to be reached; `tool`: of the hand; `camera`: of the camera; all in one
        frame.
    :param seen: PointStamped of where the handle is in the picture: instants at which it is not in it do not
        count.
    """

    name, view = 'planning', 'futures'
    task = 'which of 27 moves of the hand bring it nearer to where the handle is at each horizon'
    metric = 'share of pairs of moves ranked wrong, mean over the horizons'

    def __init__(
        self,
        handle: str = '/sim/handle_pose',
        tool: str = '/arm/tool',
        camera: str = '/sim/camera_pose',
        seen: str = '/sim/handle',
    ):
        self.handle, self.tool, self.camera, self.seen = handle, tool, camera, seen

    def labels(self, track, at, settings):
        handle, tool = track.vectors(self.handle)[:, :3], track.vectors(self.tool)[at, :3]
        camera, state = track.vectors(self.camera)[at, 3:7], track.points(self.seen)[1]
        way, horizons = [], np.array(settings.horizons)
        for horizon in horizons:
            later = track.later(at, horizon)
            known = (later >= 0) & in_picture(state[later])
            way.append(np.where(known[:, None], _into(camera, handle[later] - tool), np.nan))
        ahead = np.broadcast_to(horizons, (len(at), len(horizons)))
        groups = np.broadcast_to(np.array([f'{horizon:g} s' for horizon in horizons]), ahead.shape)
        return Labels(np.stack(way, 1), groups, {'ahead': ahead})

    def error(self, prediction, label, samples):
        expected, true = (_left(way, samples.extra['ahead']) for way in (prediction, label))
        pairs = np.triu_indices(len(MOVES), 1)
        order, truth = (np.sign(left[:, pairs[0]] - left[:, pairs[1]]) for left in (expected, true))
        return (order != truth).mean(-1)

    def details(self, prediction, label, samples):
        """Return how much further from the handle the move that seemed best ends than the one that was (m)."""
        expected, true = (_left(way, samples.extra['ahead']) for way in (prediction, label))
        chosen = np.take_along_axis(true, expected.argmin(-1)[:, None], 1)[:, 0]
        return {'regret (m)': chosen - true.min(-1)}


def _left(way: np.ndarray, ahead: np.ndarray) -> np.ndarray:
    """Return what is left of a way [M, 3] after each move kept up for `ahead` [M] s: [M, 27], m."""
    return np.linalg.norm(way[:, None] - MOVES * ahead[:, None, None], axis=-1)


def _into(quaternion: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Return vectors [M, 3] along the axes of a frame with the orientation x, y, z, w [M, 4]."""
    axis, w = -quaternion[:, :3], quaternion[:, 3:]
    twice = 2 * np.cross(axis, vector)
    return vector + w * twice + np.cross(axis, twice)
