# SPDX-License-Identifier: Apache-2.0
"""Collapse watch: a JEPA that maps everything to one point has a perfect loss, so look at the latents themselves."""

import torch

from jepa_ros.errors import JepaError

LEAST_STD = 0.02      # of LayerNormed latents, where a healthy run has 0.3 to 1
LEAST_RANK = 2.0      # effective dimensions


def spread(latents):
    """
    How far latents differ from one another.

    :param latents: float [M, D], LayerNormed latents of many tokens of many clips.
    :returns: dict with `std` (mean over dimensions of the standard deviation over tokens) and `rank`, the effective
        rank exp(entropy of the normalised singular values) of Roy and Vetterli 2007, as RankMe uses it.
    """
    centred = latents - latents.mean(0)
    singular = torch.linalg.svdvals(centred.double())
    share = singular / singular.sum().clamp_min(1e-12)
    entropy = -(share * share.clamp_min(1e-12).log()).sum()
    return {'std': centred.std(0).mean().item(), 'rank': entropy.exp().item()}


def check(loss, figures):
    """
    Stop a run that has collapsed or diverged.

    :param loss: the step's loss; `figures`: as `spread` gives them, or empty between validations.
    :raises JepaError: saying which sign it saw.
    """
    if loss is not None and loss != loss or loss in (float('inf'), float('-inf')):
        raise JepaError(f'training diverged: the loss is {loss}; lower rate or raise warmup')
    if figures and figures['std'] < LEAST_STD:
        raise JepaError(f'training collapsed: the latents\' standard deviation over tokens is {figures["std"]:.4f} '
                        f'(below {LEAST_STD}); lower pretraining.rate or raise pretraining.ema')
    if figures and figures['rank'] < LEAST_RANK:
        raise JepaError(f'training collapsed: the latents\' effective rank is {figures["rank"]:.2f} '
                        f'(below {LEAST_RANK}); lower pretraining.rate or raise pretraining.ema')
