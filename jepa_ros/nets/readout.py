# SPDX-License-Identifier: Apache-2.0
"""
The readout: futures to one image point and its covariance per horizon, and what else is true of that point.

Every token votes with a Gaussian (its own centre plus an offset, and a covariance) and a weight; the answer
is the mean and covariance of that mixture. Where the tokens disagree the covariance grows by itself, and a
hidden object can be placed between tokens. Attributes, such as how a handle is turned, are read by a part of its
own from the tokens around that point.
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
NEAR = 0.75  # tokens, standard deviation of the window around a point from which its attributes are read
LOG_RANGE = 4.0  # ln of the factor by which a deviation may be smaller or larger than the spread of the labels
FAR = 3.0  # tokens, beyond which a token is told no more than that it is far from the point


class Reader(nn.Module):
    """
    Transformer blocks over the tokens of one slice of futures.

    :param encoder: the `EncoderConfig` whose futures it reads.
    :param future_dim: D_future; `width`, `depth`, `heads`: of the blocks.
    """

    def __init__(self, encoder, future_dim, width, depth, heads):
        super().__init__()
        self.encoder, self.head_dim = encoder, width // heads
        self.norm_in = nn.LayerNorm(future_dim, eps=NORM_EPS)
        self.embed = nn.Linear(future_dim, width)
        self.dt = DtEmbedding(width)
        self.blocks = nn.ModuleList(Block(width, heads, 4 * width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)

    def read(self, futures, dt, more=0.0):
        """
        :param futures: float [K, N, D_future]; `dt`: float [K], seconds.
        :param more: float [K, N, width], what else is known of the tokens.
        :returns: float [K, N, width].
        """
        horizons, n = futures.shape[:2]
        ids = torch.arange(n, device=futures.device).expand(horizons, -1)
        table = rope.token_table(torch.zeros_like(dt)[:, None], ids, self.encoder.grid, self.head_dim)
        x = self.embed(self.norm_in(futures)) + self.dt(dt)[:, None] + more
        for block in self.blocks:
            x = block(x, table)
        return self.norm(x)

    def centres(self, futures):
        """Where the tokens lie, float [N, 2] (x, y in 0..1 of the model's image)."""
        rows, columns = self.encoder.grid
        ids = torch.arange(futures.shape[1], device=futures.device)
        return torch.stack(((ids % columns + 0.5) / columns, (ids // columns + 0.5) / rows), -1).to(futures.dtype)


class PointReadout(Reader):
    """
    :param encoder: the `EncoderConfig` whose futures it reads.
    :param future_dim: D_future.
    :param attributes: A, numbers that it tells besides the point.
    """

    def __init__(self, encoder, future_dim, width=96, depth=2, heads=3, attributes=0):
        super().__init__(encoder, future_dim, width, depth, heads)
        self.vote = nn.Linear(width, 6)  # weight, offset x and y, lower triangle of the vote's covariance
        # ln of the factor on the covariance that validation asks for: at dt = 0, and its slope per second.
        self.register_buffer('calibration', torch.zeros(2))
        initialise(self, self.blocks)
        # A vote that began as narrow as MIN_STD would pull at the nearest token alone, and hard.
        nn.init.constant_(self.vote.bias[3:4].data, FIRST_STD)
        nn.init.constant_(self.vote.bias[5:6].data, FIRST_STD)
        self.attributes = (
            AttributeReadout(encoder, future_dim, width, depth, heads, attributes) if attributes else None
        )

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
        point, covariance = self.moments(found)
        factor = (self.calibration[0] + self.calibration[1] * dt).exp()
        attributes = () if self.attributes is None else (found.mean, found.std)
        return point, factor[:, None, None] * covariance, *attributes

    @staticmethod
    def moments(votes):
        """
        The mean and covariance of votes, as `forward` gives them, before the covariance is calibrated.

        :param votes: `Votes`.
        :returns: point float [K, 2], covariance float [K, 2, 2].
        """
        weight = votes.weight.softmax(1)
        point = (weight * votes.point).sum(1)
        spread = votes.point - point[:, None]
        xx, xy, yy = votes.covariance.unbind(-1)
        xx, yy = xx + spread[..., 0] ** 2, yy + spread[..., 1] ** 2
        xy = xy + spread[..., 0] * spread[..., 1]
        return point, (weight * torch.stack((xx, xy, xy, yy), -1)).sum(1).unflatten(-1, (2, 2))

    def votes(self, futures, dt):
        """
        What every token says of the point, and what those around it say of its attributes.

        :param futures: float [K, N, D_future]; `dt`: float [K], seconds.
        :returns: `Votes`.
        """
        x = self.read(futures, dt)
        weight, offset, triangle = self.vote(x).split((1, 2, 3), dim=-1)
        a, b, c = triangle.unbind(-1)  # L = [[a, 0], [b, c]]
        least = MIN_STD**2
        covariance = torch.stack((a * a + least, a * b, b * b + c * c + least), -1)
        votes = Votes(weight, self.centres(x) + offset, covariance)
        if self.attributes is None:
            return votes
        mean, std = self.attributes(futures, dt, self.moments(votes)[0].detach())
        return votes._replace(mean=mean, std=std)


class AttributeReadout(Reader):
    """
    Numbers that are true of a point, from the tokens around it.

    Its blocks are its own: where one set of blocks answered for the point as well, the gradient of the point's
    likelihood, which grows as the point becomes sharp, left the attributes unlearned. The deviation is told of
    features that its likelihood does not change, so that it cannot buy a good likelihood with a worse mean (Stirn et
    al. 2023, "Faithful heteroscedastic regression with neural networks").

    :param attributes: A, how many; others as for `Reader`.
    """

    def __init__(self, encoder, future_dim, width, depth, heads, attributes):
        super().__init__(encoder, future_dim, width, depth, heads)
        self.offset = nn.Linear(2, width)  # the point, as a token sees it
        self.mean, self.log_std = nn.Linear(width, attributes), nn.Linear(width, attributes)
        # Middle and spread of the training labels: the units that the heads above compute in.
        self.register_buffer('middle', torch.zeros(attributes))
        self.register_buffer('unit', torch.ones(attributes))
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.xavier_uniform_(parameter)
        nn.init.zeros_(self.log_std.weight)  # as much as the labels spread
        nn.init.zeros_(self.log_std.bias)

    def scale_to(self, middle, unit):
        """:param middle: of the training labels, float [A]; `unit`: their spread."""
        self.middle.copy_(torch.as_tensor(middle))
        self.unit.copy_(torch.as_tensor(unit))

    def forward(self, futures, dt, point):
        """
        :param futures: float [K, N, D_future]; `dt`: float [K], seconds.
        :param point: float [K, 2], x and y in 0..1 of the model's image.
        :returns: mean and standard deviation, float [K, A] each.
        """
        rows, columns = self.encoder.grid
        away = (self.centres(futures) - point[:, None]) * futures.new_tensor((columns, rows))
        near = (-0.5 * away.square().sum(-1) / NEAR**2).softmax(1)[..., None]
        x = self.read(futures, dt, self.offset(away.clamp(-FAR, FAR)))
        mean = (near * self.mean(x)).sum(1)
        log_std = (near * self.log_std(x.detach())).sum(1)
        return self.middle + self.unit * mean, self.unit * log_std.clamp(-LOG_RANGE, LOG_RANGE).exp()


class Votes(NamedTuple):
    """
    A mixture of Gaussians, one from each token, and the attributes of its mean.

    :param weight: float [K, N, 1], before the softmax over tokens.
    :param point: float [K, N, 2]; `covariance`: float [K, N, 3], xx, xy and yy.
    :param mean: of the attributes, float [K, A], or None; `std`: the same.
    """

    weight: torch.Tensor
    point: torch.Tensor
    covariance: torch.Tensor
    mean: torch.Tensor | None = None
    std: torch.Tensor | None = None
