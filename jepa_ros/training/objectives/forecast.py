# SPDX-License-Identifier: Apache-2.0
"""
The forecaster's losses: later latents from earlier ones.

The error of every clip and horizon counts relative to that of persistence there. A plain mean would be the
error of the few recordings in which everything moves, and a forecaster that pleases those disturbs the scenes
that mostly stand still.
"""

import torch

from jepa_ros.nets.vit import normalise_output

# Error of persistence (a latent's variance is 1) below which a scene stands still and counts no more.
STILL = 1e-3


def relative_error(futures, latents, newest):
    """
    Mean squared error of a forecast over that of persistence: 1 is as good as the newest latent unchanged.

    :param futures: float [B, K, N, D]; `latents`: float [B, K, N, D], what came.
    :param newest: float [B, N, D], the newest latents of the context.
    :returns: float [], the mean over clips and horizons.
    """
    error = (futures - latents).square().mean((2, 3))
    return (error * _weights(latents, newest)).mean()


def _weights(latents, newest):
    """1 / persistence error per clip and horizon: float [B, K]."""
    persistence = (latents - newest[:, None]).square().mean((2, 3))
    return 1 / (persistence + STILL)


def forecast(forecaster, latents, times, context, newest, targets):
    """
    The forecaster's loss: later latents from earlier ones, all from one block-causal pass of the target
    encoder.

    The pass is causal, so a context slice holds nothing of the slices after it: nothing leaks. (Latents of a
    bidirectional encoder come from `prefix.encode_prefix` and `prefix.encode_newest`.) Δt is whatever the
    clip's jittered and stretched frames give, so it is drawn from a continuum.

    :param latents: float [B, T, N, D], LayerNormed latents of the target encoder, no gradient.
    :param times: float [B, T], seconds.
    :param context: S, slices read.
    :param newest: index of the newest context slice, S - 1 <= newest < T - 1.
    :param targets: K indices of later slices.
    :returns: loss (`relative_error`), futures float [B, K, N, D], dt float [B, K].
    """
    first = newest - context + 1
    origin = times[:, newest : newest + 1]
    dt = times[:, targets] - origin
    futures = forecaster(latents[:, first : newest + 1], times[:, first : newest + 1] - origin, dt)
    return relative_error(futures, latents[:, targets], latents[:, newest]), futures, dt


def joint_forecast(encoder, forecaster, frames, times, newest, later, targets):
    """
    The forecaster's loss with a gradient into the encoder: a term beside `v_jepa` while an encoder is
    pretrained.

    Only the frames up to the newest context slice are encoded, whatever the encoder's attention: nothing
    leaks.

    :param frames: float [B, 3, F, height, width]; `times`: float [B, T], seconds.
    :param newest: index of the newest context slice; `later`: K indices of later slices.
    :param targets: float [B, T * N, D], `encode_targets` of the whole clip.
    :returns: loss (`relative_error`).
    """
    seen = newest + 1
    frames = frames[:, :, : frames.shape[2] // times.shape[1] * seen]
    latents = normalise_output(encoder(frames, times[:, :seen])).unflatten(1, (seen, -1))[
        :, -forecaster.context :
    ]
    at = times - times[:, newest, None]
    futures = forecaster(latents, at[:, seen - latents.shape[1] : seen], at[:, later])
    targets = targets.unflatten(1, (times.shape[1], -1))
    return relative_error(futures, targets[:, later], targets[:, newest])


@torch.no_grad()
def start_from_least_squares(forecaster, latents, times):
    """
    Set the forecaster's trend to the least-squares forecast, feature by feature, with the weights of
    `relative_error`.

    Gradient descent gets there too, slowly: most tokens of most scenes stand still and say nothing about
    trends.

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
            past = chunk[:, newest - context + 1 : newest + 1]
            past = torch.cat((past, torch.ones_like(past[:, :1])), 1)  # [C, terms, N, D]
            change = chunk[:, newest + 1 :] - chunk[:, newest, None]  # [C, K, N, D]
            power = forecaster.powers(at[:, newest + 1 :] - at[:, newest, None])  # [C, K, powers]
            weighted = power * _weights(chunk[:, newest + 1 :], chunk[:, newest])[..., None]
            gram = torch.einsum('cind,cjnd->cijd', past, past)
            normal += torch.einsum('ckp,ckq,cijd->dpiqj', weighted, power, gram)
            moment += torch.einsum('cpnd,cind->dpi', torch.einsum('ckp,cknd->cpnd', weighted, change), past)
    normal, moment = normal.flatten(3).flatten(1, 2), moment.flatten(1)
    ridge = 1e-4 * normal.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] * torch.eye(powers * terms)
    solution = torch.linalg.solve(normal + ridge, moment)
    forecaster.trend.copy_(solution.float().unflatten(1, (powers, terms)).permute(1, 2, 0))
