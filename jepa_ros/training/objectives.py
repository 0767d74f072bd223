# SPDX-License-Identifier: Apache-2.0
"""
What is minimised.

Notation: f_θ the encoder, f_ξ its exponential moving average (the target encoder), g_θ the predictor,
LN LayerNorm without affine, sg stop-gradient.
"""

import torch
import torch.nn.functional as F

from jepa_ros.nets.vit import normalise_output


def masked_prediction(encoder, predictor, frames, times, context_ids, target_ids, targets):
    """
    V-JEPA's loss: the latents of hidden tokens from the tokens that were kept.

    L = mean | g_θ(f_θ(x_context), positions) − sg(LN(f_ξ(x)))_hidden |, L1 as in Bardes et al. 2024, equation 1.

    :param frames: float [B, 3, F, height, width]; `times`: float [B, T].
    :param context_ids: int64 [B, M]; `target_ids`: int64 [B, Q].
    :param targets: float [B, T * N, D], the target encoder's latents of the whole clip, already LayerNormed.
    """
    context = encoder(frames, times, context_ids)
    predicted = predictor(context, context_ids, target_ids, times)
    hidden = targets.gather(1, target_ids[..., None].expand(-1, -1, targets.shape[-1]))
    return F.l1_loss(predicted, hidden)


def forecast(forecaster, latents, times, context, newest, targets):
    """
    The forecaster's loss: later latents from earlier ones, all from one block-causal pass of the target encoder.

    The pass is causal, so a context slice holds nothing of the slices after it: nothing leaks. Δt is whatever the
    clip's jittered and stretched frames give, so it is drawn from a continuum.

    :param latents: float [B, T, N, D], LayerNormed latents of the target encoder, no gradient.
    :param times: float [B, T], seconds.
    :param context: S, slices read.
    :param newest: index of the newest context slice, S - 1 <= newest < T - 1.
    :param targets: K indices of later slices.
    :returns: loss (mean squared error), futures float [B, K, N, D], dt float [B, K].
    """
    first = newest - context + 1
    origin = times[:, newest:newest + 1]
    dt = times[:, targets] - origin
    futures = forecaster(latents[:, first:newest + 1], times[:, first:newest + 1] - origin, dt)
    return F.mse_loss(futures, latents[:, targets]), futures, dt


@torch.no_grad()
def start_from_least_squares(forecaster, latents, times):
    """
    Set the forecaster's trend to the least-squares forecast, feature by feature.

    Gradient descent gets there too, slowly: most tokens of most scenes stand still and say nothing about trends.

    :param forecaster: untrained; its `trend` is written.
    :param latents: float [C, T, N, D], a bank of clips; `times`: float [C, T], seconds.
    """
    context, dim = forecaster.context, latents.shape[-1]
    powers, terms = len(forecaster.trend), context + 1
    normal = torch.zeros(dim, powers, terms, powers, terms, dtype=torch.float64)
    moment = torch.zeros(dim, powers, terms, dtype=torch.float64)
    for chunk, at in zip(latents.split(32), times.split(32)):
        chunk = chunk.float()
        for newest in range(context - 1, chunk.shape[1] - 1):
            past = chunk[:, newest - context + 1:newest + 1]
            past = torch.cat((past, torch.ones_like(past[:, :1])), 1)  # [C, terms, N, D]
            change = chunk[:, newest + 1:] - chunk[:, newest, None]  # [C, K, N, D]
            power = forecaster.powers(at[:, newest + 1:] - at[:, newest, None])  # [C, K, powers]
            gram = torch.einsum('cind,cjnd->cijd', past, past)
            normal += torch.einsum('ckp,ckq,cijd->dpiqj', power, power, gram)
            moment += torch.einsum('cpnd,cind->dpi', torch.einsum('ckp,cknd->cpnd', power, change), past)
    normal, moment = normal.flatten(3).flatten(1, 2), moment.flatten(1)
    ridge = 1e-4 * normal.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] * torch.eye(powers * terms)
    solution = torch.linalg.solve(normal + ridge, moment)
    forecaster.trend.copy_(solution.float().unflatten(1, (powers, terms)).permute(1, 2, 0))


def point_likelihood(point, covariance, label):
    """
    Gaussian negative log likelihood of an image point.

    :param point: float [M, 2]; `covariance`: float [M, 2, 2]; `label`: float [M, 2]; all in 0..1 of the image.
    :returns: float [M], nats, without the constant.
    """
    a, b, c = covariance[:, 0, 0], covariance[:, 0, 1], covariance[:, 1, 1]
    determinant = a * c - b * b
    dx, dy = (label - point).unbind(-1)
    mahalanobis = (c * dx * dx - 2 * b * dx * dy + a * dy * dy) / determinant
    return 0.5 * (mahalanobis + determinant.log())


@torch.no_grad()
def encode_targets(target_encoder, frames, times):
    """The target encoder's latents of a whole clip: float [B, T * N, D], LayerNormed (sg(LN(f_ξ(x))))."""
    return normalise_output(target_encoder(frames, times).float())
