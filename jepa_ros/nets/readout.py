# SPDX-License-Identifier: Apache-2.0
"""
The readout: futures to one image point and its covariance per horizon, and what else is true of that point.

Every token votes with a Gaussian (its own centre plus an offset, and a covariance) and a weight; the answer
is the mean and covariance of that mixture. Where the tokens disagree the covariance grows by itself, and a
hidden object can be placed between tokens. Attributes, such as how a handle is turned, are read by a part of its
own from what lies around that point.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from jepa_ros.nets import rotary as rope
from jepa_ros.nets.forecaster import DtEmbedding
from jepa_ros.nets.vit import NORM_EPS, Block, ChannelNorm, initialise

MIN_STD = (
    0.003  # of the image: below the size of a pixel of any encoder, so that the likelihood stays bounded
)
FIRST_STD = 0.1  # of a vote before training, of the image
LOG_RANGE = 4.0  # ln of the factor by which a deviation may be smaller or larger than the spread of the labels
CELLS, CHANNELS = 4, 16  # cells on each side of a token, and what is said of each
WINDOW = (20, 12)  # cells around a point from which its attributes are read: five tokens high, three wide
HIDDEN = 128


class PointReadout(nn.Module):
    """
    Transformer blocks over the tokens of one slice of futures, and what each of them votes for.

    :param encoder: the `EncoderConfig` whose futures it reads.
    :param future_dim: D_future; `width`, `depth`, `heads`: of the blocks.
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
        # ln of the factor on the covariance that validation asks for: at dt = 0, and its slope per second.
        self.register_buffer('calibration', torch.zeros(2))
        initialise(self, self.blocks)
        # A vote that began as narrow as MIN_STD would pull at the nearest token alone, and hard.
        nn.init.constant_(self.vote.bias[3:4].data, FIRST_STD)
        nn.init.constant_(self.vote.bias[5:6].data, FIRST_STD)
        self.attributes = AttributeReadout(encoder, future_dim, attributes) if attributes else None

    def read(self, futures, dt):
        """
        :param futures: float [K, N, D_future]; `dt`: float [K], seconds.
        :returns: float [K, N, width].
        """
        horizons, n = futures.shape[:2]
        ids = torch.arange(n, device=futures.device).expand(horizons, -1)
        table = rope.token_table(torch.zeros_like(dt)[:, None], ids, self.encoder.grid, self.head_dim)
        x = self.embed(self.norm_in(futures)) + self.dt(dt)[:, None]
        for block in self.blocks:
            x = block(x, table)
        return self.norm(x)

    def centres(self, futures):
        """Where the tokens lie, float [N, 2] (x, y in 0..1 of the model's image)."""
        rows, columns = self.encoder.grid
        ids = torch.arange(futures.shape[1], device=futures.device)
        return torch.stack(((ids % columns + 0.5) / columns, (ids // columns + 0.5) / rows), -1).to(futures.dtype)

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


class AttributeReadout(nn.Module):
    """
    Numbers that are true of a point, from what lies around it.

    Every token is unfolded into cells, finer than itself, and a window of cells is cut out around the point, to less than
    a cell (as spatial transformers do, Jaderberg et al. 2015): whatever the point is of lies at the same place of the
    window, and plain convolutions read it. Blocks over tokens, which see the same thing anew at every place within a
    token, took many times as long to learn the same.

    It is a part of its own: where one network answered for the point as well, the gradient of the point's likelihood,
    which grows as the point becomes sharp, left the attributes unlearned. The deviation is told of features that its
    likelihood does not change, so that it cannot buy a good likelihood with a worse mean (Stirn et al. 2023, "Faithful
    heteroscedastic regression with neural networks").

    :param encoder: the `EncoderConfig` whose futures it reads.
    :param future_dim: D_future.
    :param attributes: A, how many.
    """

    def __init__(self, encoder, future_dim, attributes):
        super().__init__()
        self.grid = encoder.grid
        self.unfold = nn.Sequential(nn.LayerNorm(future_dim, eps=NORM_EPS), nn.Linear(future_dim, CELLS**2 * CHANNELS))
        layers, before, (rows, columns) = [], CHANNELS + 2, WINDOW
        for channels, stride in ((64, 1), (64, 2), (96, 2)):
            layers += [nn.Conv2d(before, channels, 3, stride, 1), ChannelNorm(channels, eps=NORM_EPS), nn.GELU()]
            before = channels
        self.look = nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * (rows // 4) * (columns // 4), HIDDEN))
        self.dt = DtEmbedding(HIDDEN)
        self.mean, self.log_std = nn.Linear(HIDDEN, attributes), nn.Linear(HIDDEN, attributes)
        # Middle and spread of the training labels: the units that the heads above compute in.
        self.register_buffer('middle', torch.zeros(attributes))
        self.register_buffer('unit', torch.ones(attributes))
        nn.init.zeros_(self.log_std.weight)  # as much as the labels spread
        nn.init.zeros_(self.log_std.bias)

    def scale_to(self, middle, unit):
        """:param middle: of the training labels, float [A]; `unit`: their spread."""
        self.middle.copy_(torch.as_tensor(middle))
        self.unit.copy_(torch.as_tensor(unit))

    def window(self, futures, point):
        """
        Cells around a point, linear between cells, and nothing beyond the picture.

        :param futures: float [K, N, D_future]; `point`: float [K, 2], x and y in 0..1 of the model's image.
        :returns: float [K, CHANNELS, *WINDOW].
        """
        rows, columns = self.grid
        cells = self.unfold(futures).unflatten(1, (rows, columns)).unflatten(-1, (CELLS, CELLS, CHANNELS))
        cells = cells.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)  # [K, CHANNELS, rows, columns] of cells
        down = _between(point[:, 1] * (rows * CELLS), WINDOW[0], rows * CELLS)
        across = _between(point[:, 0] * (columns * CELLS), WINDOW[1], columns * CELLS)
        return down[:, None] @ cells @ across[:, None].transpose(-1, -2)

    def forward(self, futures, dt, point):
        """
        :param futures: float [K, N, D_future]; `dt`: float [K], seconds.
        :param point: float [K, 2], x and y in 0..1 of the model's image.
        :returns: mean and standard deviation, float [K, A] each.
        """
        seen = self.window(futures, point)
        place = (point - 0.5)[:, :, None, None].expand(-1, -1, *WINDOW)
        x = F.gelu(self.look(torch.cat((seen, place), 1)) + self.dt(dt))
        log_std = self.log_std(x.detach()).clamp(-LOG_RANGE, LOG_RANGE)
        return self.middle + self.unit * self.mean(x), self.unit * log_std.exp()


def _between(at, wanted, given):
    """
    Weights of a linear interpolation along one axis.

    :param at: float [K], the middle of the window in cells, 0 at the first one's edge.
    :param wanted: of the window, in cells; `given`: of the picture.
    :returns: float [K, wanted, given].
    """
    centres = torch.arange(given, device=at.device, dtype=at.dtype) + 0.5
    places = at[:, None] + torch.arange(wanted, device=at.device, dtype=at.dtype) - (wanted - 1) / 2
    return (1 - (places[:, :, None] - centres).abs()).clamp_min(0)


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
