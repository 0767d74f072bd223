# SPDX-License-Identifier: Apache-2.0
"""Encoder sizes, tiny to giant, as the I-JEPA and V-JEPA families publish them."""

from dataclasses import dataclass

from jepa_ros.errors import JepaError


@dataclass(frozen=True)
class Size:
    """
    :param width: latent dimension D.
    :param depth: number of transformer blocks.
    :param heads: attention heads; `width / heads` is the width of one head.
    :param mlp_width: hidden width of the feed-forward layer.
    """

    width: int
    depth: int
    heads: int
    mlp_width: int


# Widths, depths and heads of ViT (Dosovitskiy et al. 2021, Zhai et al. 2022) as used by
# facebookresearch/ijepa and facebookresearch/vjepa2. `giant` has 16 heads in I-JEPA; V-JEPA 2 uses 22, which
# is what we take for video.
SIZES = {
    'tiny': Size(192, 12, 3, 768),
    'small': Size(384, 12, 6, 1536),
    'base': Size(768, 12, 12, 3072),
    'large': Size(1024, 24, 16, 4096),
    'huge': Size(1280, 32, 16, 5120),
    'giant': Size(1408, 40, 22, 6144),
    'gigantic': Size(1664, 48, 26, 8192),
}


def size(name):
    """
    Look up an encoder size.

    :param name: a key of `SIZES`.
    :raises JepaError: for an unknown name.
    """
    if name not in SIZES:
        raise JepaError(f'encoder size must be one of {", ".join(SIZES)}, found {name!r}')
    return SIZES[name]
