# SPDX-License-Identifier: Apache-2.0
"""Functions that processes started afresh can import: test modules themselves cannot be imported there."""

import cv2
import numpy as np


def small_picture(step):
    """Return a picture of one grey, uint8 [1000, 1000, 3], which OpenCV made on as many threads as it has."""
    return cv2.resize(np.full((2000, 2000, 3), step, np.uint8), (1000, 1000), interpolation=cv2.INTER_AREA)


def batch_of_clips(sampler, seed, size, step):
    """Return the clips of one step as arrays."""
    clips = [sampler.sample(np.random.default_rng([seed, step, index])) for index in range(size)]
    return {
        'images': np.stack([clip.images for clip in clips]),
        'times': np.stack([clip.times for clip in clips]),
    }
