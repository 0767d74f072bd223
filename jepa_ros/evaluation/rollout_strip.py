# SPDX-License-Identifier: Apache-2.0
"""Pictures of an episode side by side: what the contender saw, and where it expected the handle."""

from __future__ import annotations

import base64
from collections import deque

import cv2
import numpy as np

from jepa_ros.gaussian import ELLIPSE
from jepa_ros.images import encode_jpeg

KEPT = 160  # frames: 8 s at 20 Hz
WIDTH = 240  # px of one picture
AROUND = (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0)  # s from the grasp
LEAD = 0.4  # s, the prediction that is drawn
TRUE, PREDICTED = (80, 255, 80), (255, 120, 0)  # RGB


class Strip:
    """Keeps the newest pictures, and draws those that tell what happened."""

    def __init__(self):
        self._kept: deque[tuple] = deque(maxlen=KEPT)
        self._path = None

    def see(self, stamp_ns: int, picture: np.ndarray | None, handle: np.ndarray | None, opinion) -> None:
        """
        Keep a frame.

        :param picture: RGB uint8 [H, W, 3] as it was drawn; None: nothing is kept.
        :param handle: where it truly is, 0..1, None outside of the picture.
        :param opinion: of the contender on this frame; None: that before still holds.
        """
        self._path = opinion.path if opinion is not None else self._path
        if picture is not None:
            self._kept.append((stamp_ns, picture, handle, self._path))

    def choose(self, grasp_ns: int | None, outcome: str) -> dict | None:
        """
        Return {'jpeg': base64, 'times': s from the grasp or the end, 'outcome'}; None without pictures.

        :param grasp_ns: around which the pictures are chosen; None: the last ones, half a second apart.
        """
        if not self._kept:
            return None
        stamps = np.array([kept[0] for kept in self._kept])
        zero = stamps[-1] if grasp_ns is None else grasp_ns
        wanted = np.array(AROUND) - (AROUND[-1] if grasp_ns is None else 0)
        chosen = sorted({int(np.abs(stamps - (zero + lead * 1e9)).argmin()) for lead in wanted})
        drawn = [_draw(*self._kept[index][1:]) for index in chosen]
        gap = np.full((drawn[0].shape[0], 4, 3), 255, np.uint8)
        row = [part for picture in drawn for part in (picture, gap)][:-1]
        return {
            'jpeg': base64.b64encode(encode_jpeg(np.hstack(row), 80)).decode(),
            'times': [round((stamps[index] - zero) / 1e9, 2) for index in chosen],
            'outcome': outcome,
        }


def _draw(picture: np.ndarray, handle: np.ndarray | None, path) -> np.ndarray:
    height = round(picture.shape[0] * WIDTH / picture.shape[1])
    small = cv2.resize(picture, (WIDTH, height), interpolation=cv2.INTER_AREA)
    size = np.array([WIDTH, height])
    if path is not None and path.horizons[0] <= LEAD <= path.horizons[-1]:
        point = path.at(LEAD)
        scaled = point.covariance * size[:, None] * size
        values, axes = np.linalg.eigh(scaled)
        half = np.clip(np.sqrt(ELLIPSE * np.maximum(values, 0)), 2, 4 * WIDTH)
        angle = np.degrees(np.arctan2(axes[1, 1], axes[0, 1]))
        centre = np.clip(point.position * size, -WIDTH, 2 * WIDTH)
        box = tuple(map(float, centre)), (float(2 * half[1]), float(2 * half[0])), float(angle)
        cv2.ellipse(small, box, PREDICTED, 1, cv2.LINE_AA)
        cv2.circle(small, tuple(int(v) for v in centre), 2, PREDICTED, -1, cv2.LINE_AA)
    if handle is not None:
        place = tuple(int(v) for v in handle * size)
        cv2.drawMarker(small, place, TRUE, cv2.MARKER_CROSS, 9, 1, cv2.LINE_AA)
    return small
