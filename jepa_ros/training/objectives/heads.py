# SPDX-License-Identifier: Apache-2.0
"""The losses of heads that read answers from latents."""

import torch
import torch.nn.functional as F

NO_CLASS = -1
ATTRIBUTES = 3.0  # weight of the attributes' loss: of four it gives encoders a gradient like the point's
LARGE = 0.3  # error of an attribute, of the labels' spread, from which on it counts as such and no longer squared


def point_likelihood(point, covariance, label):
    """
    Gaussian negative log likelihood of an image point.

    :param point: float [M, 2]; `covariance`: float [M, 2, 2]; `label`: float [M, 2]; all in 0..1 of the
        image.
    :returns: float [M], nats, without the constant.
    """
    a, b, c = covariance[:, 0, 0], covariance[:, 0, 1], covariance[:, 1, 1]
    determinant = a * c - b * b
    dx, dy = (label - point).unbind(-1)
    mahalanobis = (c * dx * dx - 2 * b * dx * dy + a * dy * dy) / determinant
    return 0.5 * (mahalanobis + determinant.log())


def votes_likelihood(votes, label):
    """
    Negative log likelihood of an image point under a mixture of Gaussians (Bishop 1994, Mixture density
    networks).

    Unlike the likelihood of the mixture's mean it tells every token by itself how right it is: a head that
    does not yet know where to look learns it from this.

    :param votes: `nets.readout.Votes` of M examples.
    :param label: float [M, 2].
    :returns: float [M], nats, without the constant.
    """
    xx, xy, yy = votes.covariance.unbind(-1)
    determinant = xx * yy - xy * xy
    dx, dy = (label[:, None] - votes.point).unbind(-1)
    mahalanobis = (yy * dx * dx - 2 * xy * dx * dy + xx * dy * dy) / determinant
    of_token = -0.5 * (mahalanobis + determinant.log())
    return -(votes.weight[..., 0].log_softmax(1) + of_token).logsumexp(1)


def attributes(mean, std, label, unit):
    """
    Huber's loss of the mean (1964), in units of the labels' spread, and the Gaussian negative log likelihood of the
    deviation, which the mean does not learn from (Stirn et al. 2023). What no one can tell, of a hidden handle, must not
    drown what is seen: large errors count as such, small ones squared, and the likelihood is weighted with the deviation,
    as that of the point is in `readout`.

    :param mean: float [M, A]; `std`: float [M, A]; `label`: float [M, A], NaN where unknown.
    :param unit: float [A], the spread of each.
    :returns: float [M]; an unknown number counts 0.
    """
    known = ~label.isnan()
    error = torch.where(known, label - mean, 0.0)
    likelihood = (std / unit).detach() * (0.5 * (error.detach() / std).square() + (std / unit).log())
    error = error / unit
    off = F.smooth_l1_loss(error, torch.zeros_like(error), reduction='none', beta=LARGE)
    return (off + torch.where(known, likelihood, 0.0)).sum(-1)


def whose_cell(point, grid):
    """
    Which token's cell a point lies in; of one outside of the image the nearest.

    :param point: float [M, 2], x and y in 0..1 of the image; `grid`: rows and columns.
    :returns: int64 [M].
    """
    rows, columns = grid
    column, row = ((point * point.new_tensor((columns, rows))).long()).unbind(-1)
    return row.clamp(0, rows - 1) * columns + column.clamp(0, columns - 1)


def readout(head, futures, dt, label):
    """
    What a `nets.readout.PointReadout` is trained with: the likelihood of its votes, that of the mean and
    covariance that it gives out, the cross-entropy of the votes' weights against the token in whose cell the point
    lies, and the loss of its attributes. Likelihoods alone let a head that cannot tell yet be content with a wide
    covariance; the third term tells it where to look, as heat maps of key points do, and learns many times as fast.

    The gradient of a likelihood grows as the deviation shrinks. Weighted with the deviation (Seitzer et al. 2022, "On
    the pitfalls of heteroscedastic uncertainty estimation with probabilistic neural networks", their β of a half) it
    stays of one size, and an encoder goes on learning the attributes when the point has become sharp.

    :param head: the readout; `futures`: float [M, N, D]; `dt`: float [M], s.
    :param label: float [M, 2 + A], the point (never NaN) and the attributes (NaN where unknown).
    :returns: float [M].
    """
    with torch.autocast(futures.device.type, enabled=False):  # a likelihood divides by small variances
        votes, at = head(futures.float(), dt, votes=True), label[:, :2]
        point, covariance = head.moments(votes)
        likelihood = 0.5 * (point_likelihood(point, covariance, at) + votes_likelihood(votes, at))
        rows, columns = head.encoder.grid
        deviation = torch.linalg.det(covariance.detach()).clamp_min(0) ** 0.25 * (rows * columns) ** 0.5
        cell = F.cross_entropy(votes.weight[..., 0], whose_cell(at, head.encoder.grid), reduction='none')
        loss = deviation * likelihood + cell
        if votes.mean is not None:
            loss = loss + ATTRIBUTES * attributes(votes.mean, votes.std, label[:, 2:], head.attributes.unit)
        return loss


def gaussian_likelihood(mean, covariance, label):
    """
    Gaussian negative log likelihood of a vector of any length.

    :param mean: float [M, P]; `covariance`: float [M, P, P], positive definite; `label`: float [M, P].
    :returns: float [M], nats, without the constant.
    """
    root = torch.linalg.cholesky(covariance.float())
    white = torch.linalg.solve_triangular(root, (label - mean).float()[..., None], upper=False)[..., 0]
    return 0.5 * white.square().sum(-1) + root.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def classification(logits, label, smoothing=0.0):
    """
    Cross-entropy over the clips that have a label.

    :param logits: float [M, C]; `label`: int64 [M], `NO_CLASS` where there is none.
    :returns: scalar; 0 (with a gradient of 0) where no clip has one.
    """
    known = (label != NO_CLASS).sum().clamp_min(1)
    return (
        F.cross_entropy(logits, label, ignore_index=NO_CLASS, label_smoothing=smoothing, reduction='sum')
        / known
    )
