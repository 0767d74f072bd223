# SPDX-License-Identifier: Apache-2.0
"""
The mask-token predictor: from the context's latents to the latents of hidden tokens. Used in pretraining.
"""

import torch
from torch import nn

from jepa_ros.nets import rotary as rope
from jepa_ros.nets.vit import NORM_EPS, Block, initialise


class Predictor(nn.Module):
    """
    A narrow transformer over context tokens and mask tokens together (V-JEPA, Bardes et al. 2024, section 3).

    :param encoder: the `EncoderConfig` of the encoder it reads.
    :param encoder_width: D.
    :param width: its own width, a multiple of `heads`.
    :param predicts_context: give the context tokens an output of their own, as V-JEPA 2.1 does
        (facebookresearch/vjepa2, `app/vjepa_2_1/models/predictor.py`).
    """

    def __init__(self, encoder, encoder_width, width=96, depth=4, heads=3, predicts_context=False):
        super().__init__()
        self.encoder, self.head_dim = encoder, width // heads
        self.embed = nn.Linear(encoder_width, width)
        self.blocks = nn.ModuleList(Block(width, heads, 4 * width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.proj = nn.Linear(width, encoder_width)
        self.proj_context = nn.Linear(width, encoder_width) if predicts_context else None
        initialise(self, self.blocks)
        self.mask_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(width), std=0.02))

    def forward(self, context, context_ids, target_ids, times, with_context=False):
        """
        Fill the target positions.

        :param context: float [B, M, D], the encoder's output on the kept tokens.
        :param context_ids: int64 [B, M]; `target_ids`: int64 [B, Q]; indices as in `rotary.token_table`.
        :param times: float [B, T], seconds.
        :param with_context: say again what the context is, too; needs `predicts_context`.
        :returns: float [B, Q, D]; and float [B, M, D] with `with_context`.
        """
        queries = self.mask_token.expand(*target_ids.shape, -1)
        x = torch.cat((self.embed(context), queries.to(context.dtype)), 1)
        ids = torch.cat((context_ids, target_ids), 1)
        rotary = rope.token_table(times / self.encoder.slice_period, ids, self.encoder.grid, self.head_dim)
        for block in self.blocks:
            x = block(x, rotary)
        seen = context_ids.shape[1]
        filled = self.proj(self.norm(x[:, seen:]))
        return (filled, self.proj_context(self.norm(x[:, :seen]))) if with_context else filled
