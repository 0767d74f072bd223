# SPDX-License-Identifier: Apache-2.0
"""Start a video encoder from an image encoder's weights."""

from jepa_ros.errors import JepaError

PATCH_EMBEDDING = 'patch_embed.weight'


def inflate_from_image(state, tubelet):
    """
    The weights of an image encoder as those of a video encoder.

    The patch embedding is repeated over the frames of a tubelet and divided by their number, so that a still
    picture gives what the image gave (Carreira and Zisserman 2017, section 3: "inflating" filters).
    Everything else is as it is: rows and columns turn the features they turned, and the features of the time
    axis, which one slice never turned, begin to turn.

    :param state: state dict of an `Encoder` with tubelet 1; it is not changed.
    :param tubelet: frames of a tubelet of the video encoder.
    :returns: state dict of an `Encoder` with that tubelet and the same size, depth and patch.
    :raises JepaError: for weights that are not an image encoder's.
    """
    shape = tuple(state[PATCH_EMBEDDING].shape) if PATCH_EMBEDDING in state else None
    if shape is None or len(shape) != 5 or shape[2] != 1:
        raise JepaError(
            f'expected the weights of an image encoder, with {PATCH_EMBEDDING} [D, 3, 1, patch, patch], '
            f'found {shape or "no such weight"}'
        )
    return {**state, PATCH_EMBEDDING: state[PATCH_EMBEDDING].repeat(1, 1, tubelet, 1, 1) / tubelet}
