# SPDX-License-Identifier: Apache-2.0
"""
The losses that train an encoder: I-JEPA's and V-JEPA's.

Both ask the predictor for the target encoder's latents of what was hidden, and differ in what is hidden and
in the norm.
"""

import torch
import torch.nn.functional as F

from jepa_ros.nets.vit import normalise_output

NORMS = {'l1': F.l1_loss, 'l2': F.mse_loss, 'smooth_l1': F.smooth_l1_loss}


def distance(predicted, target, norm):
    """
    ‖ predicted − target ‖, the mean over all elements.

    :param norm: 'l2' squared error (I-JEPA's paper), 'smooth_l1' with its bend at 1 (I-JEPA's code), 'l1'
        (V-JEPA).
    """
    return NORMS[norm](predicted, target)


def widened(latents):
    """LN(latents), in float32 where they are narrower: a bfloat16 target has two digits."""
    return normalise_output(latents.to(torch.promote_types(latents.dtype, torch.float32)))


@torch.no_grad()
def encode_targets(target_encoder, frames, times):
    """
    sg(LN(f_ξ(v))): the target encoder's latents of a whole clip.

    :param frames: float [B, 3, F, height, width]; `times`: float [B, T], seconds.
    :returns: float [B, T * N, D], no gradient.
    """
    return widened(target_encoder(frames, times))


def i_jepa(f, g, x, times, context_ids, target_ids, targets, norm='smooth_l1'):
    """
    I-JEPA, Assran et al. 2023, section 3; facebookresearch/ijepa `src/train.py`.

    L_I-JEPA = Σ_k ‖ g_θ(f_θ(x_c), m_k) − sg(f_ξ(x_{t,k})) ‖² over K target blocks of 2D patches, as their
    mean. The context is encoded once; each target is filled by itself, so that the queries of one block do
    not see those of another.

    :param f: encoder; `g`: predictor; `x`: float [B, 3, 1, height, width], images; `times`: float [B, 1].
    :param context_ids: int64 [B, M], x_c; `target_ids`: int64 [B, K, Q], m_k.
    :param targets: float [B, N, D], sg(LN(f_ξ(x))) of the whole image.
    :param norm: key of `NORMS`: the code has smooth L1, the paper L2.
    """
    z_c = f(x, times, context_ids)
    z_k = _fill(g, z_c, context_ids, target_ids, times)
    return distance(z_k, _take(targets, target_ids), norm)


def v_jepa(f, g, v, times, masks, targets, norm='l1', context=None, grid=None):
    """
    V-JEPA, Bardes et al. 2024, equation 1; facebookresearch/vjepa2 `app/vjepa/train.py`,
    `app/vjepa_2_1/train.py`.

    L_V-JEPA = Σ_k ‖ g_θ(f_θ(v_c), m_k, Δt_k) − sg(f_ξ(v_{t,k})) ‖² over K targets, tubes of space and time,
    as the mean over the masks, and with L1 in place of the square. Δt_k enters through `times`: the predictor
    turns queries and keys by true times, so it knows how long before or after the context each token is. With
    a block-causal encoder (its `window`) this is the objective of a streaming encoder.

    V-JEPA 2.1 (Mur-Labadia et al. 2026, section 3) adds λ Σ_{i in c} d_i^(-1/2) | g_θ(...)_i − sg(f_ξ(v))_i |
    over the context tokens, d_i the distance to the nearest hidden token.

    :param f: encoder; `g`: predictor; `v`: float [B, 3, F, height, width]; `times`: float [B, T], seconds.
    :param masks: pairs of context ids int64 [B, M] and target ids int64 [B, K, Q]; each has its own pass of
        f.
    :param targets: float [B, T * N, D], sg(LN(f_ξ(v))) of the whole clip.
    :param norm: key of `NORMS`.
    :param context: λ, weight of the loss on context tokens (see `context_weight`); None for none. It needs
        the `grid` (rows, columns), a predictor that takes `with_context`, and K = 1.
    """
    losses = []
    for context_ids, target_ids in masks:
        z_c = f(v, times, context_ids)
        if context is not None:
            (m,) = target_ids.unbind(1)
            z_k, again = g(z_c, context_ids, m, times, with_context=True)
            error = (again - _take(targets, context_ids)).abs().mean(-1)
            seen = (error * context_weights(context_ids, m, grid)).mean()
            losses.append(distance(z_k, _take(targets, m), norm) + context * seen)
        else:
            z_k = _fill(g, z_c, context_ids, target_ids, times)
            losses.append(distance(z_k, _take(targets, target_ids), norm))
    return torch.stack(losses).mean()


def context_weights(context_ids, target_ids, grid):
    """
    d^(-1/2) of V-JEPA 2.1's context loss (facebookresearch/vjepa2,
    `app/vjepa_2_1/models/utils/masks_dist.py`).

    :param context_ids: int64 [B, M]; `target_ids`: int64 [B, Q]; `grid`: (rows, columns).
    :returns: float32 [B, M], d the Euclidean distance in slices, rows and columns to the nearest target
        token.
    """
    rows, columns = grid

    def places(ids):
        return torch.stack((ids // (rows * columns), ids // columns % rows, ids % columns), -1).float()

    return torch.cdist(places(context_ids), places(target_ids)).amin(-1).rsqrt()


def context_weight(step, final, start=15_000, end=30_000):
    """
    λ of V-JEPA 2.1's context loss: 0 until `start`, then rising in a line to `final` at `end`.

    Without the pause the encoder learns to copy before it learns to predict. The released configurations end
    at 0.5 for video.
    """
    return final * min(1.0, max(0.0, (step - start) / (end - start)))


def _fill(g, z_c, context_ids, target_ids, times):
    """The predictor's answers for K targets, each by itself: float [B, K, Q, D]."""
    k = target_ids.shape[1]
    repeated = (of.repeat_interleave(k, 0) for of in (z_c, context_ids, times))
    z, ids, at = repeated if k > 1 else (z_c, context_ids, times)
    return g(z, ids, target_ids.flatten(0, 1), at).unflatten(0, (-1, k))


def _take(latents, ids):
    """Latents float [B, T * N, D] at ids int64 [B, ...]: float [B, ..., D]."""
    flat = ids.flatten(1)
    return latents.gather(1, flat[..., None].expand(-1, -1, latents.shape[-1])).unflatten(1, ids.shape[1:])
