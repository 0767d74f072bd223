# SPDX-License-Identifier: Apache-2.0
"""
Heads that read a vector or a class from frozen latents: what training fits and the audit compares encoders
with.

A pooler makes one vector of a clip's tokens, a head makes the answer of it. The same probe is fitted on every
encoder that is compared, so that what differs is the latents.
"""

import torch
from torch import nn

from jepa_ros.errors import JepaError
from jepa_ros.nets.forecaster import DtEmbedding
from jepa_ros.nets.vit import NORM_EPS, Block, initialise

MIN_STD = 1e-3  # of a standardised label, so that the likelihood stays bounded
POOLINGS = ('linear', 'attentive')


class LinearPooler(nn.Module):
    """
    The mean over the tokens of each slice, slices side by side: nothing is learned, and their order counts.

    With one slice this is the average pooling of I-JEPA's linear evaluation (Assran et al. 2023, appendix
    A.2).
    """

    def __init__(self, dim, slices):
        super().__init__()
        self.width = dim * slices

    def forward(self, tokens, times):
        """:param tokens: float [B, T, N, D]; returns float [B, T * D]."""
        return tokens.mean(2).flatten(1)


class AttentivePooler(nn.Module):
    """
    One learned query attends to all tokens.

    V-JEPA 2's probe (Assran et al. 2025, section 5; facebookresearch/vjepa2
    `src/models/attentive_pooler.py`): `depth - 1` self-attention blocks, then a cross-attention block whose
    attention has no output layer. V-JEPA's (Bardes et al. 2024, section 4) has depth 1. What is ours: a
    token's time is added to it where `timed`, since an image encoder's tokens do not say when they were seen,
    and a probe that cannot tell order cannot tell motion.
    """

    def __init__(self, dim, heads, depth=4, timed=True):
        super().__init__()
        self.width, self.heads = dim, heads
        self.blocks = nn.ModuleList(Block(dim, heads, 4 * dim) for _ in range(depth - 1))
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.q, self.kv = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        initialise(self, self.blocks)
        self.mlp[-1].weight.data.div_((2.0 * depth) ** 0.5)
        # Begins larger than the rest, or a short fit would not notice it beside tokens of unit size.
        self.time = DtEmbedding(dim) if timed else None
        self.query = nn.Parameter(nn.init.trunc_normal_(torch.empty(dim), std=0.02))

    def forward(self, tokens, times):
        """:param tokens: float [B, T, N, D]; `times`: float [B, T], seconds; returns float [B, D]."""
        if self.time is not None:
            tokens = tokens + self.time(times)[:, :, None]
        x = tokens.flatten(1, 2)
        still = x.new_ones(1), x.new_zeros(1)  # the published probe knows no positions: nothing is turned
        for block in self.blocks:
            x = block(x, still)
        # With one query for all, attention needs no key or value per token: q·(Wk x + b) is x·(Wkᵀ q) but for a
        # number that the softmax drops, and the mean of Wv x + b is Wv of the mean. The same numbers, D times less.
        x = self.norm1(x)
        keys, values = self.kv.weight.unflatten(0, (2, self.heads, -1))  # [H, E, D] each
        query = self.q(self.query).unflatten(0, (self.heads, -1))
        logits = x @ torch.einsum('he,hed->dh', query, keys) / query.shape[-1] ** 0.5
        seen = logits.softmax(1).transpose(1, 2) @ x  # [B, H, D]
        read = torch.einsum('bhd,hed->bhe', seen, values).flatten(1) + self.kv.bias.chunk(2)[1]
        y = self.query + read
        return y + self.mlp(self.norm2(y))


class ClassHead(nn.Linear):
    """Logits float [B, C] from float [B, width]."""


class GaussianHead(nn.Module):
    """
    A vector and its covariance: the network gives the mean and a lower triangle L, the covariance is L Lᵀ +
    MIN_STD².
    """

    def __init__(self, width, outputs):
        super().__init__()
        self.outputs = outputs
        self.proj = nn.Linear(width, outputs + outputs * (outputs + 1) // 2)

    def forward(self, pooled):
        """:returns: mean float [B, P], covariance float [B, P, P]."""
        p = self.outputs
        mean, entries = self.proj(pooled).split((p, p * (p + 1) // 2), -1)
        triangle = entries.new_zeros(*entries.shape[:-1], p, p)
        rows, columns = torch.tril_indices(p, p)
        triangle[..., rows, columns] = entries
        # The diagonal starts near 1, the spread of a standardised label.
        root = triangle + torch.eye(p, device=entries.device, dtype=entries.dtype)
        return mean, root @ root.mT + MIN_STD**2 * torch.eye(p, device=entries.device, dtype=entries.dtype)


class Probe(nn.Module):
    """
    Pooler and head.

    :param dim: D, width of the latents; `slices`: T.
    :param outputs: classes, or length of the vector.
    :param classes: True for classes (logits), False for a vector with covariance.
    :param pooling: 'linear' or 'attentive'; `heads`, `depth` and `timed` are those of `AttentivePooler`.
    :raises JepaError: for another pooling.
    """

    def __init__(self, dim, slices, outputs, classes, pooling='attentive', heads=3, depth=4, timed=True):
        super().__init__()
        if pooling not in POOLINGS:
            raise JepaError(f'the pooling of a probe must be one of {", ".join(POOLINGS)}, found {pooling!r}')
        self.pooler = (
            LinearPooler(dim, slices) if pooling == 'linear' else AttentivePooler(dim, heads, depth, timed)
        )
        self.head = (ClassHead if classes else GaussianHead)(self.pooler.width, outputs)
        initialise(self.head)

    def forward(self, tokens, times):
        """
        :param tokens: float [B, T, N, D], LayerNormed latents; `times`: float [B, T], seconds, the newest 0.
        :returns: logits float [B, C], or mean float [B, P] and covariance float [B, P, P].
        """
        return self.head(self.pooler(tokens, times))
