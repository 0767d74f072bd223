# SPDX-License-Identifier: Apache-2.0
"""Random views of clips, the same for all frames of a clip; image points move along."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

NO_LABEL, VISIBLE, HIDDEN, OUTSIDE = 0, 1, 2, 3

Points = dict[str, tuple[np.ndarray, np.ndarray]]


def in_picture(state: np.ndarray) -> np.ndarray:
    """Return which states, uint8 [...], are of points in the picture, hidden by something or not."""
    return (state == VISIBLE) | (state == HIDDEN)


@dataclass(frozen=True)
class Augment:
    """Random changes of view, the same for all frames of a clip.

    The crop with an aspect is the random resized crop of I-JEPA (`src/transforms.py` of
    facebookresearch/ijepa, which takes torchvision's) and V-JEPA (`app/vjepa/transforms.py` and
    `src/datasets/utils/video/transforms.py` of facebookresearch/jepa): area uniform in `scale`, logarithm of
    the aspect uniform, place uniform; after ten crops that do not fit, the largest central one. I-JEPA takes
    scales 0.3 to 1 and aspects 3/4 to 4/3 and mirrors nothing, V-JEPA's configurations 0.3 to 1, 0.75 to 1.35
    and mirror; V-JEPA's motion shift, which no released configuration turns on, is left out. `colour` is
    the distortion that I-JEPA's code has and its recipes leave off: brightness, contrast, saturation (0.8
    times the strength) and hue (0.2 times) in random order for 80 % of the clips, grey for 20 %.

    Vectors and actions (`signals`) do not move along: leave `flip` off for a robot whose motion has a left
    and a right.

    :param scale: range of the area of the crop as a fraction of the image.
    :param flip: mirror half of the clips left to right.
    :param aspect: range of a factor on the aspect ratio of the clips (width over height), so that 1 distorts
        nothing; None keeps the aspect ratio of the image.
    :param colour: strength of the colour distortion, 0..1.
    """

    scale: tuple[float, float] = (0.6, 1.0)
    flip: bool = True
    aspect: tuple[float, float] | None = None
    colour: float = 0.0


def view(
    images: np.ndarray,
    points: Points,
    size: tuple[int, int],
    augment: Augment | None,
    rng: np.random.Generator | None,
) -> tuple[np.ndarray, Points]:
    """Bring frames to a size, through a random view if one is asked for; points follow.

    :param images: uint8 [F, h, w, 3].
    :param points: for each label places float32 [F, 2] in 0..1 and states uint8 [F]; a point that falls
        outside the view becomes OUTSIDE.
    :param size: height and width (px) of the view.
    :returns: uint8 [F, H, W, 3] and the points in its coordinates.
    """
    height, width = images.shape[1:3]
    box, flip = (0, 0, width, height), False
    if augment is not None:
        box = _box(augment, width, height, size, rng)
        flip = augment.flip and rng.random() < 0.5
    if (height, width) != tuple(size) or box != (0, 0, width, height):
        images = np.stack([_resized(image, box, size) for image in images])
    if flip:
        images = np.ascontiguousarray(images[:, :, ::-1])
    if augment is not None and augment.colour:
        images = _distort(images, augment.colour, rng)
    moved = {}
    for name, (xy, state) in points.items():
        xy = ((xy * (width, height) - box[:2]) / box[2:]).astype(np.float32)
        if flip:
            xy[:, 0] = 1 - xy[:, 0]
        inside = np.all((xy >= 0) & (xy <= 1), axis=1)
        moved[name] = (xy, np.where(inside | (state == NO_LABEL), state, OUTSIDE).astype(np.uint8))
    return images, moved


def _box(augment, width, height, size, rng) -> tuple[int, int, int, int]:
    """Return a random crop: left, top, width, height (px)."""
    if augment.aspect is None:
        side = np.sqrt(rng.uniform(*augment.scale))
        crop_width, crop_height = max(1, round(width * side)), max(1, round(height * side))
        x, y = int(rng.integers(width - crop_width + 1)), int(rng.integers(height - crop_height + 1))
        return x, y, crop_width, crop_height
    low, high = (factor * size[1] / size[0] for factor in augment.aspect)
    for _ in range(10):
        area = width * height * rng.uniform(*augment.scale)
        aspect = np.exp(rng.uniform(np.log(low), np.log(high)))
        crop_width, crop_height = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            x, y = int(rng.integers(width - crop_width + 1)), int(rng.integers(height - crop_height + 1))
            return x, y, crop_width, crop_height
    aspect = min(max(width / height, low), high)
    crop_width, crop_height = min(width, round(height * aspect)), min(height, round(width / aspect))
    crop_width, crop_height = max(1, crop_width), max(1, crop_height)
    return (width - crop_width) // 2, (height - crop_height) // 2, crop_width, crop_height


def _resized(image, box, size):
    x, y, width, height = box
    how = cv2.INTER_AREA if height > size[0] else cv2.INTER_LINEAR
    return cv2.resize(image[y : y + height, x : x + width], size[::-1], interpolation=how)


def _distort(images: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Change the colours of a clip, one draw for all of it. uint8 [F, H, W, 3] in and out."""
    if rng.random() < 0.8:
        gains = rng.uniform(max(0.0, 1 - 0.8 * strength), 1 + 0.8 * strength, 3)
        turn = rng.uniform(-0.2 * strength, 0.2 * strength)
        for change in rng.permutation(4):
            if change == 0:
                images = _blend(images, 0.0, gains[0])
            elif change == 1:
                images = _blend(images, _grey(images).mean(), gains[1])
            elif change == 2:
                images = _blend(images, _grey(images)[..., None], gains[2])
            else:
                images = _turn(images, turn)
    if rng.random() < 0.2:
        images = np.repeat(np.rint(_grey(images)).astype(np.uint8)[..., None], 3, -1)
    return images


def _blend(images, other, gain):
    """Return gain · images + (1 - gain) · other, as torchvision's colour changes do."""
    return np.clip(np.rint(images * np.float32(gain) + np.float32(1 - gain) * other), 0, 255).astype(np.uint8)


def _grey(images):
    """Return the luminance of ITU-R BT.601, float32 [F, H, W]."""
    return images @ np.array([0.299, 0.587, 0.114], np.float32)


def _turn(images, turn):
    """Turn the hue by a fraction of the circle."""
    flat = cv2.cvtColor(np.ascontiguousarray(images).reshape(-1, images.shape[2], 3), cv2.COLOR_RGB2HSV)
    flat[..., 0] = (flat[..., 0].astype(np.int16) + round(180 * turn)) % 180
    return cv2.cvtColor(flat, cv2.COLOR_HSV2RGB).reshape(images.shape)
