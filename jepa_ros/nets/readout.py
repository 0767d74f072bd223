# SPDX-License-Identifier: Apache-2.0
"""
The readout: futures to one image point and its covariance per horizon.

Every token votes with a Gaussian (its own centre plus an offset, and a covariance) and a weight; the answer
is the mean and covariance of that mixture. Where the tokens disagree the covariance grows by itself, and a
hidden object can be placed between tokens.
"""

import torch
from torch import nn

from jepa_ros.nets import rotary as rope
from jepa_ros.nets.forecaster import DtEmbedding
from jepa_ros.nets.vit import NORM_EPS, Block, initialise

MIN_STD = (
    0.003  # of the image: below the size of a pixel of any encoder, so that the likelihood stays bounded
)


class PointReadout(nn.Module):
    """
    :param encoder: the `EncoderConfig` whose futures it reads.
    :param future_dim: D_future.
    """

    def __init__(self, encoder, future_dim, width=96, depth=2, heads=3):
        super().__init__()
        self.encoder, self.head_dim = encoder, width // heads
        self.norm_in = nn.LayerNorm(future_dim, eps=NORM_EPS)
        self.embed = nn.Linear(future_dim, width)
        self.dt = DtEmbedding(width)
        self.blocks = nn.ModuleList(Block(width, heads, 4 * width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.vote = nn.Linear(width, 6)  # weight, offset x and y, lower triangle of the vote's covariance
        initialise(self, self.blocks)

    def forward(self, futures, dt):
        """
        :param futures: float [K, N, D_future].
        :param dt: float [K], seconds.
        :returns: point float [K, 2] (x, y in 0..1 of the model's image), covariance float [K, 2, 2].
        """
        horizons, n = futures.shape[:2]
        rows, columns = self.encoder.grid
        ids = torch.arange(n, device=futures.device).expand(horizons, -1)
        table = rope.token_table(torch.zeros_like(dt)[:, None], ids, self.encoder.grid, self.head_dim)
        x = self.embed(self.norm_in(futures)) + self.dt(dt)[:, None]
        for block in self.blocks:
            x = block(x, table)
        weight, offset, triangle = self.vote(self.norm(x)).split((1, 2, 3), dim=-1)
        weight = weight.softmax(1)
        centres = torch.stack(((ids % columns + 0.5) / columns, (ids // columns + 0.5) / rows), -1)
        votes = centres.to(x.dtype) + offset
        point = (weight * votes).sum(1)
        spread = votes - point[:, None]
        a, b, c = triangle.unbind(-1)  # L = [[a, 0], [b, c]]
        xx = a * a + MIN_STD**2 + spread[..., 0] ** 2
        xy = a * b + spread[..., 0] * spread[..., 1]
        yy = b * b + c * c + MIN_STD**2 + spread[..., 1] ** 2
        moments = (weight * torch.stack((xx, xy, xy, yy), -1)).sum(1)
        return point, moments.unflatten(-1, (2, 2))
