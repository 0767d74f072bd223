# SPDX-License-Identifier: Apache-2.0
"""Start an encoder from weights of another kind: a video encoder from an image encoder's, or one with another stem."""

from jepa_ros.errors import JepaError

#: What sees the pixels first: the embedding of a linear stem, the first layer of a hierarchical one, alone or in another.
PATCH_EMBEDDINGS = ('patch_embed.weight', 'patch_embed.0.weight', 'patch_embed.hierarchical.0.weight')
DETAILS = 'patch_embed.details.'  # of a convolutional stem, which holds a hierarchical one
FIRST_DETAIL = f'{DETAILS}0.weight'


def patch_embedding(state):
    """
    Find the weight that sees the frames of a tubelet.

    :param state: state dict of an `Encoder`.
    :returns: its name; None where there is none.
    """
    return next((name for name in PATCH_EMBEDDINGS if name in state), None)


def inflate_from_image(state, tubelet):
    """
    The weights of an image encoder as those of a video encoder.

    The patch embedding is repeated over the frames of a tubelet and divided by their number, so that a still
    picture gives what the image gave (Carreira and Zisserman 2017, section 3: "inflating" filters).
    Everything else is as it is: rows and columns turn the features they turned, and the features of the time
    axis, which one slice never turned, begin to turn.

    :param state: state dict of an `Encoder` with tubelet 1; it is not changed.
    :param tubelet: frames of a tubelet of the video encoder.
    :returns: state dict of an `Encoder` with that tubelet and the same size, depth, patch and stem.
    :raises JepaError: for weights that are not an image encoder's.
    """
    name = patch_embedding(state)
    shape = tuple(state[name].shape) if name else None
    if shape is None or len(shape) != 5 or shape[2] != 1:
        raise JepaError(
            f'expected the weights of an image encoder, with {" or ".join(PATCH_EMBEDDINGS)} [D, 3, 1, side, '
            f'side], found {shape or "no such weight"}'
        )
    inflated = {**state, name: state[name].repeat(1, 1, tubelet, 1, 1) / tubelet}
    if FIRST_DETAIL in state:  # [D, 3, side, side]: the frames of a colour are side by side
        inflated[FIRST_DETAIL] = state[FIRST_DETAIL].repeat_interleave(tubelet, 1) / tubelet
    return inflated


def with_details(state, encoder):
    """
    The weights of an encoder with a hierarchical stem as those of one with a convolutional stem.

    :param state: state dict of the one; it is not changed.
    :param encoder: the other, an `Encoder`, from which the convolutions come.
    :returns: state dict; `state` itself where the encoder's stem is another, or its weights have convolutions already.
    """
    own = encoder.state_dict()
    details = {name: value for name, value in own.items() if name.startswith(DETAILS)}
    if not details or FIRST_DETAIL in state:
        return state
    moved = {name.replace('patch_embed.', 'patch_embed.hierarchical.'): value for name, value in state.items()}
    return moved | details
