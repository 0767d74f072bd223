# SPDX-License-Identifier: Apache-2.0
"""
The encoder of every published model: the blocks of `jepa_ros.nets.vit`, with the family's own ends.

I-JEPA embeds one image; V-JEPA 1, 2 and 2.1 embed tubelets, and 2.1 also single images through an embedding
of their own. All but 2.1 end in one norm; 2.1 has a norm at four depths, the last of which makes the latents
and all four together (`hierarchical`) what its large predictors read.
"""

import torch
from torch import nn

from jepa_ros.errors import JepaError
from jepa_ros.nets.official import positions
from jepa_ros.nets.official.families import ClipShape
from jepa_ros.nets.vit import NORM_EPS, Block, initialise


def all_ids(clip, batch=1, slices=None, device=None):
    """Indices of every token of a clip: int64 [batch, T * N]."""
    return torch.arange((slices or clip.slices) * clip.tokens, device=device).expand(batch, -1)


class OfficialEncoder(nn.Module):
    """
    Frames to latents, as the published weights compute them. Called as `jepa_ros.nets.vit.Encoder` is.

    :param model: `families.Model`.
    :param image_size: side or (height, width) in pixels, default the model's own.
    :param frames: frames of its clips, default the model's own; models with rotary positions take others as
        well.
    :param hierarchical: give the outputs at every tap side by side instead of the last one alone.
    """

    def __init__(self, model, image_size=None, frames=None, hierarchical=False):
        super().__init__()
        self.config = clip = ClipShape.of(model, image_size, frames)
        self.model, size, self.hierarchical = model, model.size, hierarchical
        self.heads, self.head_dim = size.heads, size.width // size.heads
        self.width = size.width * (len(model.taps) if hierarchical else 1)
        kernel = (model.tubelet, model.patch, model.patch)
        self.patch_embed = nn.Conv3d(3, size.width, kernel, stride=kernel)
        self.blocks = nn.ModuleList(Block(size.width, size.heads, size.mlp_width) for _ in range(size.depth))
        self.norms = nn.ModuleList(nn.LayerNorm(size.width, eps=NORM_EPS) for _ in model.taps)
        initialise(self, self.blocks)
        if model.modalities:
            self.patch_embed_img = nn.Conv3d(3, size.width, (1, *kernel[1:]), stride=(1, *kernel[1:]))
            self.img_mod_embed = nn.Parameter(torch.zeros(1, 1, size.width))
            self.video_mod_embed = nn.Parameter(torch.zeros(1, 1, size.width))
        if model.rotary:  # constants, made on the CPU even when the weights are still on the meta device
            cos, sin = self._rotary(all_ids(clip, device='cpu'))
            self.register_buffer('cos', cos, persistent=False)
            self.register_buffer('sin', sin, persistent=False)
        else:
            table = positions.added_table(model.positions, clip.slices, clip.grid, size.width)
            self.register_buffer('pos_embed', table)

    def _rotary(self, ids):
        return positions.rotary_of(self.model, ids, self.config.grid, self.head_dim)

    def embed(self, frames):
        """
        Patches to tokens, positions of the adding kinds included.

        A lone frame is an image to V-JEPA 2.1; to V-JEPA 1 and 2 it is repeated to fill a tubelet, as
        transformers does and as V-JEPA 2-AC was trained.

        :param frames: float [B, 3, F, height, width], normalised.
        :returns: float [B, T * N, D].
        :raises JepaError: when the image is not of the size this encoder was built for, or the clip too long
            or short for positions that are added.
        """
        clip, model, count = self.config, self.model, frames.shape[2]
        if tuple(frames.shape[3:]) != clip.image_size:
            raise JepaError(
                f'this {model.name} was built for images of {clip.image_size[0]}x{clip.image_size[1]} '
                f'pixels, found {frames.shape[3]}x{frames.shape[4]}'
            )
        lone = count == 1 and model.tubelet > 1
        if lone and not model.modalities:
            frames = frames.expand(-1, -1, model.tubelet, -1, -1)
        elif count % model.tubelet and not lone:
            raise JepaError(f'{model.name} takes a multiple of {model.tubelet} frames, found {count}')
        of_image = lone and model.modalities
        x = (self.patch_embed_img if of_image else self.patch_embed)(frames).flatten(2).transpose(1, 2)
        if model.modalities:
            x = x + (self.img_mod_embed if of_image else self.video_mod_embed)
        if not model.rotary:
            if x.shape[1] != self.pos_embed.shape[1]:
                raise JepaError(
                    f'this {model.name} was built for clips of {clip.frames} frames, found {count}'
                )
            x = x + self.pos_embed
        return x

    def forward(self, frames, times=None, ids=None):
        """
        Encode a clip.

        :param frames: float [B, 3, F, height, width], normalised.
        :param times: ignored: the published weights count slices, they know no seconds.
        :param ids: int64 [B, M], the tokens to keep; the others are dropped before the first block. All by
            default.
        :returns: float [B, M, D], after the norm; D is four times as wide when `hierarchical`.
        """
        x = self.embed(frames)
        if ids is not None:
            rotary = self._rotary(ids)
            x = x.gather(1, ids[..., None].expand(-1, -1, x.shape[-1]))
        elif not self.model.rotary:
            rotary = None
        elif x.shape[1] == self.cos.shape[2]:
            rotary = self.cos, self.sin
        else:
            rotary = self._rotary(all_ids(self.config, 1, x.shape[1] // self.config.tokens, x.device))
        levels = []
        for index, block in enumerate(self.blocks):
            x = block(x, rotary)
            if self.hierarchical and index in self.model.taps:
                levels.append(self.norms[len(levels)](x))
        return torch.cat(levels, -1) if self.hierarchical else self.norms[-1](x)
