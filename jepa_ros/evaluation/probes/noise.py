# SPDX-License-Identifier: Apache-2.0
"""Appearance noise: what a camera sees differently while nothing in the scene is different."""

from __future__ import annotations

import cv2
import numpy as np


def noisy(images: np.ndarray, kind: str, strength: float, rng: np.random.Generator) -> np.ndarray:
    """
    Change how a clip looks.

    - light: another lamp: brightness within 35 %, gamma within a factor of 1.5, a colour cast within 15 %, and a
      slope of 30 % across the picture in a random direction; one draw for the clip.
    - texture: a pattern of coloured blobs, about an eighth of the picture wide, that darkens and lightens by 30 %;
      it stands still while the scene moves.
    - sensor: noise of every pixel and frame, 6 % of the range and more where it is bright.

    :param images: RGB uint8 [F, H, W, 3].
    :param strength: 1 as above, 0 nothing.
    :returns: uint8 [F, H, W, 3].
    """
    x = images.astype(np.float32) / 255
    height, width = images.shape[1:3]
    if kind == 'light':
        gamma = 1.5 ** (strength * rng.uniform(-1, 1))
        gain = (1 + 0.35 * strength * rng.uniform(-1, 1)) * (1 + 0.15 * strength * rng.uniform(-1, 1, 3))
        angle = rng.uniform(0, 2 * np.pi)
        v, u = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        slope = 1 + 0.3 * strength * (u * np.cos(angle) + v * np.sin(angle))
        x = x**gamma * gain.astype(np.float32) * slope[..., None].astype(np.float32)
    elif kind == 'texture':
        blobs = rng.uniform(-1, 1, (8, 8, 3)).astype(np.float32)
        pattern = cv2.resize(blobs, (width, height), interpolation=cv2.INTER_CUBIC)
        x = x * (1 + 0.3 * strength * pattern)
    elif kind == 'sensor':
        x = x + 0.06 * strength * np.sqrt(0.25 + x) * rng.standard_normal(x.shape, np.float32)
    else:
        raise ValueError(f'expected light, texture or sensor, found {kind}')
    return np.clip(x * 255 + 0.5, 0, 255).astype(np.uint8)
