# SPDX-License-Identifier: Apache-2.0
"""The losses of heads that read answers from latents."""

import torch
import torch.nn.functional as F

NO_CLASS = -1


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
