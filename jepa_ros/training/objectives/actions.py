# SPDX-License-Identifier: Apache-2.0
"""The action-conditioned forecaster's loss."""

from jepa_ros.training.objectives.masked import distance


def action_forecast(forecaster, latents, times, actions, states, newest, rollout=2, norm='l1'):
    """
    V-JEPA 2-AC, Assran et al. 2025, section 3.1; facebookresearch/vjepa2 `app/vjepa_droid/train.py`.

    L = L_teacher-forcing + L_rollout. The first forecasts every later slice from the true slice before it,
    the second `rollout` slices from the forecaster's own answers (the paper rolls out 2). Both are L1 against
    LayerNormed latents.

    :param latents: float [B, T, N, D], LayerNormed, no gradient, causal (see `forecast.forecast`); `times`:
        float [B, T], seconds.
    :param actions: float [B, T - 1, A], action t is taken between slices t and t + 1; `states`: float [B, T,
        P].
    :param newest: index of the newest context slice; all slices after it are forecast.
    :returns: loss, and a dict of its two terms (detached).
    """
    first = newest - forecaster.context + 1
    at = times - times[:, newest, None]
    context, later, dt = latents[:, first : newest + 1], latents[:, newest + 1 :], at[:, newest + 1 :]
    actions, states = actions[:, newest:], states[:, newest:-1]
    forced = forecaster(context, at[:, first : newest + 1], actions, states, dt, later[:, :-1])
    steps = slice(0, min(rollout, dt.shape[1]))
    rolled = forecaster(context, at[:, first : newest + 1], actions[:, steps], states[:, steps], dt[:, steps])
    teacher, own = distance(forced, later, norm), distance(rolled, later[:, steps], norm)
    return teacher + own, {'teacher_forced': teacher.detach(), 'rollout': own.detach()}
