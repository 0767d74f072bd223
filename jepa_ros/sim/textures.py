# SPDX-License-Identifier: Apache-2.0
"""Pictures on the surfaces of the scene, drawn from a seed."""

from __future__ import annotations

import cv2
import numpy as np

Colour = tuple[float, float, float]


def png(image: np.ndarray) -> bytes:
    """Encode an RGB image, uint8 [H, W, 3]."""
    return cv2.imencode('.png', image[:, :, ::-1])[1].tobytes()


def speckled(rng: np.random.Generator, colour: Colour, size: tuple[int, int], contrast: float) -> np.ndarray:
    """A surface of one colour with noise of several grain sizes that tiles without a seam.

    :param colour: RGB, 0..1.
    :param size: height and width, px.
    :param contrast: standard deviation of the noise, 0..1.
    :returns: RGB uint8 [H, W, 3].
    """
    noise = np.zeros(size, np.float32)
    for grain in (1, 3, 9):
        layer = rng.standard_normal(size).astype(np.float32)
        tiled = cv2.GaussianBlur(np.tile(layer, (3, 3)), (0, 0), grain)[
            size[0] : 2 * size[0], size[1] : 2 * size[1]
        ]
        noise += tiled / tiled.std() / 3
    image = np.array(colour, np.float32) + contrast * noise[:, :, None]
    return (255 * np.clip(image, 0, 1)).astype(np.uint8)


def belt(rng: np.random.Generator, colour: Colour, ribs: int) -> np.ndarray:
    """One period of a conveyor belt: rubber with cross ribs, a few scuffs and a joint, along the image's
    width.

    :param ribs: per period.
    """
    image = speckled(rng, colour, (256, 512), 0.05)
    light = np.clip(np.array(colour) + 0.16, 0, 1) * 255
    dark = np.array(colour) * 0.45 * 255
    for rib in range(ribs):
        x = int((rib + 0.5) * 512 / ribs)
        cv2.line(image, (x, 0), (x, 255), dark.tolist(), 5)
        cv2.line(image, (x + 4, 0), (x + 4, 255), light.tolist(), 2)
    for _ in range(rng.integers(4, 9)):  # scuffs and paint, so that neighbouring ribs do not look alike
        shade = light if rng.random() < 0.7 else rng.uniform(0, 255, 3)
        start = rng.integers((30, 10), (480, 245))
        end = start + rng.integers((-28, -40), (28, 40))
        cv2.line(image, start.tolist(), end.tolist(), shade.tolist(), int(rng.integers(2, 8)), cv2.LINE_AA)
    cv2.line(image, (255, 0), (275, 255), dark.tolist(), 3)
    return image


def wall(rng: np.random.Generator, colour: Colour) -> np.ndarray:
    """A painted wall of panels or bricks."""
    image = speckled(rng, colour, (256, 256), 0.03)
    seam = (np.array(colour) * 0.7 * 255).tolist()
    rows, columns = rng.choice([(1, 2), (2, 2), (4, 2), (8, 4)])
    for row in range(rows):
        y = row * 256 // rows
        cv2.line(image, (0, y), (255, y), seam, 2)
        for column in range(columns):
            x = (column * 256 + (row % 2) * 128) // columns
            cv2.line(image, (x, y), (x, y + 256 // rows), seam, 2)
    return image


def hazard(rng: np.random.Generator) -> np.ndarray:
    """Diagonal warning stripes, black with yellow, red or white."""
    colour = [(240, 190, 20), (200, 40, 30), (235, 235, 235)][rng.integers(3)]
    y, x = np.mgrid[0:128, 0:128]
    image = np.where(((x + y) // 32 % 2 == 0)[:, :, None], np.array(colour), 25)
    return image.astype(np.uint8)
