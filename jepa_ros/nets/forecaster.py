# SPDX-License-Identifier: Apache-2.0
"""
The forecaster: from the latents of the last S slices to the latents at t + dt, for any dt in its trained
range.

A predictor whose mask tokens all lie in the future. Each horizon is asked for by N query tokens at time dt.
The context attends to itself alone and each horizon's queries to the context and to themselves, with the same
weights, so that the answer for one horizon does not depend on which others were asked for, and the context is
computed once.
"""

import math

import torch
from torch import nn

from jepa_ros.nets import rotary as rope
from jepa_ros.nets.vit import NORM_EPS, Block, initialise

TREND_POWERS = 2  # a straight line and its bend


class DtEmbedding(nn.Module):
    """Seconds to features: sines at octaves of one cycle per four seconds up to 16 Hz, then two layers."""

    def __init__(self, width):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(14, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, dt):
        """:param dt: float [...] in seconds; returns float [..., width]."""
        octaves = 2.0 ** torch.arange(-2, 5, device=dt.device, dtype=dt.dtype)
        angle = 2 * math.pi * dt[..., None] * octaves
        return self.layers(torch.cat((angle.sin(), angle.cos()), -1))


class Forecaster(nn.Module):
    """
    Δt-conditioned prediction of future latents.

    The output is the newest latent, plus a learned linear trend of the context's latents at the same place
    (per feature, a polynomial in dt that is zero at dt = 0), plus what the transformer adds. Both begin at
    zero, that is at persistence; what is left to the transformer is what moves from place to place.

    A token of the transformer is one place with all of its context: how a place changes is what tells motion, and
    attention over places costs the same for a long context as for a short one. The long context is needed: over
    0.3 s two places that are each read to 2 % of the image leave a speed that is hardly better known than before.

    :param encoder: the `EncoderConfig` whose latents it reads.
    :param latent_dim: D.
    :param context: S, slices it reads.
    """

    def __init__(self, encoder, latent_dim, context, width=128, depth=4, heads=4):
        super().__init__()
        self.encoder, self.context, self.head_dim = encoder, context, width // heads
        self.embed = nn.Linear(context * latent_dim, width)
        self.query = nn.Linear(context * latent_dim, width)
        self.late = nn.Linear(context - 1, width) if context > 1 else None
        self.dt = DtEmbedding(width)
        self.blocks = nn.ModuleList(Block(width, heads, 4 * width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.proj = nn.Linear(width, latent_dim)
        # The last row is a constant.
        self.trend = nn.Parameter(torch.zeros(TREND_POWERS, context + 1, latent_dim))
        initialise(self, self.blocks)
        nn.init.zeros_(self.proj.weight)
        nn.init.zeros_(self.proj.bias)

    def powers(self, dt):
        """
        The terms of the trend's polynomial.

        :param dt: float [...], seconds.
        :returns: float [..., TREND_POWERS]: dt in units of the context's length, to the power of 1 and up.
        """
        span = self.context * self.encoder.slice_period
        return (dt[..., None] / span) ** torch.arange(1, TREND_POWERS + 1, device=dt.device)

    def forward(self, context, times, dt):
        """
        Predict.

        :param context: float [B, S, N, D], latents of the last S slices, oldest first.
        :param times: float [B, S], their times in seconds relative to the newest (so the last is 0).
        :param dt: float [B, K], horizons in seconds after the newest slice.
        :returns: float [B, K, N, D].
        """
        batch, _, n, _ = context.shape
        horizons, newest = dt.shape[1], context[:, -1]
        ids = torch.arange(n, device=context.device)
        table = rope.token_table(torch.zeros_like(times[:, :1]), ids.expand(batch, -1), self.encoder.grid, self.head_dim)
        query_table = rope.token_table(
            dt.reshape(-1, 1) / self.encoder.slice_period,
            ids.expand(batch * horizons, -1),
            self.encoder.grid,
            self.head_dim,
        )

        places = context.transpose(1, 2).flatten(2)  # [B, N, S * D]
        late = self._lateness(times)[:, None]
        x = self.embed(places) + late
        q = ((self.query(places) + late)[:, None] + self.dt(dt)[:, :, None]).flatten(0, 1)  # [B * K, N, width]
        for block in self.blocks:
            x, q = self._block(block, x, q, table, query_table, horizons)
        q = self.norm(q).unflatten(0, (batch, horizons))
        slopes = torch.einsum('bsnd,psd->bpnd', context, self.trend[:, :-1]) + self.trend[:, None, -1]
        trend = torch.einsum('bkp,bpnd->bknd', self.powers(dt), slopes)
        # The newest latent is added last: in bfloat16 a small weight would be lost beside its 1.
        return newest[:, None] + (trend + self.proj(q))

    def _lateness(self, times):
        """What to add to every token for slices that did not come at the encoder's period: float [B, width]."""
        if self.late is None:
            return times.new_zeros(len(times), self.embed.out_features)
        due = torch.arange(1 - self.context, 0, device=times.device, dtype=times.dtype)
        return self.late(times[:, :-1] / self.encoder.slice_period - due)

    @staticmethod
    def _block(block, x, q, table, query_table, horizons):
        attn = block.attn
        context_q, context_k, context_v = attn.project(block.norm1(x), table)
        query_q, query_k, query_v = attn.project(block.norm1(q), query_table)
        keys, values = (
            torch.cat((of_context.repeat_interleave(horizons, 0), of_query), 2)
            for of_context, of_query in ((context_k, query_k), (context_v, query_v))
        )
        x = x + attn.attend(context_q, context_k, context_v)
        q = q + attn.attend(query_q, keys, values)
        return x + block.mlp(block.norm2(x)), q + block.mlp(block.norm2(q))
