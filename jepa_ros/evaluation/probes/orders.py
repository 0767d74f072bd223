# SPDX-License-Identifier: Apache-2.0
"""Orders in which a clip's frames are shown: the true one, and those of the controls."""

from __future__ import annotations

import numpy as np


def order(variant: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """
    Return which frame is shown at each place of a clip; the stamps stay where they are.

    - true: as recorded.
    - shuffled: in random order, each once, and in no case the true one: nothing tells what came when.
    - last: the newest throughout: a still picture.
    - swapped: the second half before the first: the labels of temporal ordering.

    :param count: frames of the clip.
    :returns: int64 [count].
    """
    places = np.arange(count)
    if variant == 'shuffled' and count > 1:
        drawn = places
        while (drawn == places).all():
            drawn = rng.permutation(count)
        return drawn
    if variant == 'last':
        return np.full(count, count - 1)
    if variant == 'swapped':
        return np.roll(places, count // 2)
    return places
