# SPDX-License-Identifier: Apache-2.0
"""
The readout: futures to one image point and its covariance per horizon, and what else is true of that point.

Every token votes with a Gaussian (its own centre plus an offset, and a covariance) and a weight; the answer
is the mean and covariance of that mixture. Where the tokens disagree the covariance grows by itself, and a
hidden object can be placed between tokens. Attributes, such as how a handle is turned, are voted on with the
same weights.
"""

from typing import NamedTuple

import torch
from torch import nn

from jepa_ros.nets import rotary as rope
from jepa_ros.nets.forecaster import DtEmbedding
from jepa_ros.nets.vit import NORM_EPS, Block, initialise

MIN_STD = (
    0.003  # of the image: below the size of a pixel of any encoder, so that the likelihood stays bounded
)


FIRST_STD = 0.1  # of a vote before training, of the image


class PointReadout(nn.Module):
    """
    :param encoder: the `EncoderConfig` whose futures it reads.
    :param future_dim: D_future.
    :param attributes: A, numbers that it tells besides the point.
    """

    def __init__(self, encoder, future_dim, width=96, depth=2, heads=3, attributes=0):
        super().__init__()
        self.encoder, self.head_dim = encoder, width // heads
        self.norm_in = nn.LayerNorm(future_dim, eps=NORM_EPS)
        self.embed = nn.Linear(future_dim, width)
        self.dt = DtEmbedding(width)
        self.blocks = nn.ModuleList(Block(width, heads, 4 * width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.vote = nn.Linear(width, 6)  # weight, offset x and y, lower triangle of the vote's covariance
        self.attributes = nn.Linear(width, 2 * attributes) if attributes else None
        # ln of the factor on the covariance that validation asks for: at dt = 0, and its slope per second.
        self.register_buffer('calibration', torch.zeros(2))
        initialise(self, self.blocks)
        # A vote that began as narrow as MIN_STD would pull at the nearest token alone, and hard.
        nn.init.constant_(self.vote.bias[3:4].data, FIRST_STD)
        nn.init.constant_(self.vote.bias[5:6].data, FIRST_STD)
        if self.attributes is not None:
            nn.init.constant_(self.attributes.bias[attributes:].data, 5 * FIRST_STD)

    def forward(self, futures, dt, votes=False):
        """
        The mean and calibrated covariance of all votes.

        :param futures: float [K, N, D_future].
        :param dt: float [K], seconds.
        :param votes: return the `Votes` instead: what training asks for. (Sharded weights are whole in a call of
            the module alone.)
        :returns: point float [K, 2] (x, y in 0..1 of the model's image), covariance float [K, 2, 2]; with
            attributes also their mean and standard deviation, float [K, A] each.
        """
        found = self.votes(futures, dt)
        if votes:
            return found
        point, covariance, *attributes = self.moments(found)
        factor = (self.calibration[0] + self.calibration[1] * dt).exp()
        return point, factor[:, None, None] * covariance, *attributes

    def moments(self, votes):
        """
        The mean and covariance of votes, as `forward` gives them, before the covariance is calibrated.

        :param votes: `Votes`.
        """
        weight = votes.weight.softmax(1)
        point = (weight * votes.point).sum(1)
        spread = votes.point - point[:, None]
        xx, xy, yy = votes.covariance.unbind(-1)
        xx, yy = xx + spread[..., 0] ** 2, yy + spread[..., 1] ** 2
        xy = xy + spread[..., 0] * spread[..., 1]
        covariance = (weight * torch.stack((xx, xy, xy, yy), -1)).sum(1).unflatten(-1, (2, 2))
        if self.attributes is None:
            return point, covariance
        mean = (weight * votes.mean).sum(1)
        variance = (weight * (votes.variance + (votes.mean - mean[:, None]) ** 2)).sum(1)
        return point, covariance, mean, variance.sqrt()

    def votes(self, futures, dt):
        """
        What every token says.

        :param futures: float [K, N, D_future]; `dt`: float [K], seconds.
        :returns: `Votes`.
        """
        horizons, n = futures.shape[:2]
        rows, columns = self.encoder.grid
        ids = torch.arange(n, device=futures.device).expand(horizons, -1)
        table = rope.token_table(torch.zeros_like(dt)[:, None], ids, self.encoder.grid, self.head_dim)
        x = self.embed(self.norm_in(futures)) + self.dt(dt)[:, None]
        for block in self.blocks:
            x = block(x, table)
        x = self.norm(x)
        weight, offset, triangle = self.vote(x).split((1, 2, 3), dim=-1)
        centres = torch.stack(((ids % columns + 0.5) / columns, (ids // columns + 0.5) / rows), -1)
        a, b, c = triangle.unbind(-1)  # L = [[a, 0], [b, c]]
        least = MIN_STD**2
        covariance = torch.stack((a * a + least, a * b, b * b + c * c + least), -1)
        mean = variance = None
        if self.attributes is not None:
            mean, own = self.attributes(x).chunk(2, dim=-1)
            variance = own * own + least
        return Votes(weight, centres.to(x.dtype) + offset, covariance, mean, variance)


class Votes(NamedTuple):
    """
    A mixture of Gaussians, one from each token.

    :param weight: float [K, N, 1], before the softmax over tokens.
    :param point: float [K, N, 2]; `covariance`: float [K, N, 3], xx, xy and yy.
    :param mean: of the attributes, float [K, N, A], or None; `variance`: the same.
    """

    weight: torch.Tensor
    point: torch.Tensor
    covariance: torch.Tensor
    mean: torch.Tensor | None
    variance: torch.Tensor | None
