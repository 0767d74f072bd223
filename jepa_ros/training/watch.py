# SPDX-License-Identifier: Apache-2.0
"""
The watch over a run: it stops one that has collapsed or diverged, and says which sign it saw.

A JEPA that maps everything to one point has a perfect loss, so collapse is looked for in the latents
themselves.
"""

import logging
import math

import torch

from jepa_ros.errors import JepaError

logger = logging.getLogger(__name__)

LEAST_STD = 0.02  # of LayerNormed latents, where a healthy run has 0.3 to 1
MOST_DEAD = 0.5  # share of the dimensions that may lie below LEAST_STD
LEAST_RANK = 2.0  # effective dimensions
MOST_RISE = (
    10.0  # of the mean loss above its lowest, in units of that (at least 1): losses here are of order 1
)
MOST_NAMED = 20  # recordings in one message
MEMORY = 0.95  # of the mean loss: about 20 steps


def spread(latents):
    """
    How far latents differ from one another.

    :param latents: float [M, D], LayerNormed latents of many tokens of many clips.
    :returns: dict with `std` (mean over dimensions of the standard deviation over tokens), `std_least` (that
        of the dimension that varies least), `dead` (share of dimensions below LEAST_STD) and `rank`, the
        effective rank exp(entropy of the normalised singular values) of Roy and Vetterli 2007, as RankMe uses
        it.
    """
    std = latents.float().std(0)
    singular = torch.linalg.svdvals((latents - latents.mean(0)).double())
    share = singular / singular.sum().clamp_min(1e-12)
    entropy = -(share * share.clamp_min(1e-12).log()).sum()
    return {
        'std': std.mean().item(),
        'std_least': std.min().item(),
        'dead': (std < LEAST_STD).float().mean().item(),
        'rank': entropy.exp().item(),
    }


def check(figures, advice):
    """
    Stop a run whose latents have collapsed.

    :param figures: as `spread` gives them, and others; empty for none.
    :param advice: what to change, for the message.
    :raises JepaError: saying which sign it saw.
    """
    if 'std' in figures and not figures['std'] >= LEAST_STD:
        raise JepaError(
            f"training collapsed: the latents' standard deviation over tokens is {figures['std']:.4f} "
            f'(below {LEAST_STD}); {advice}'
        )
    if 'dead' in figures and figures['dead'] > MOST_DEAD:
        raise JepaError(
            f"training collapsed: {figures['dead']:.0%} of the latents' dimensions are constant (standard "
            f'deviation over tokens below {LEAST_STD}); {advice}'
        )
    if 'rank' in figures and not figures['rank'] >= LEAST_RANK:
        raise JepaError(
            f"training collapsed: the latents' effective rank is {figures['rank']:.2f} "
            f'(below {LEAST_RANK}); {advice}'
        )


class Losses:
    """
    Watches the loss of a stage, step by step.

    :param most_skipped: steps in a row whose loss or gradient may be not finite.
    """

    def __init__(self, most_skipped):
        self.most_skipped = most_skipped
        self.skipped, self.in_row, self._mean, self._lowest = 0, 0, None, math.inf

    def see(self, step, figures, sources):
        """
        :param step: for the message; `figures`: with `loss` and `gradient`; `sources`: called for the paths
            of the recordings in the batch.
        :returns: False for a step that was skipped.
        :raises JepaError: when too many in a row were, or the loss has risen far above its lowest.
        """
        loss, gradient = figures['loss'], figures['gradient']
        if not (math.isfinite(loss) and math.isfinite(gradient)):
            self.skipped, self.in_row = self.skipped + 1, self.in_row + 1
            sign = f'the loss is {loss}' if not math.isfinite(loss) else f"the gradient's norm is {gradient}"
            files = list(sources())
            more = f' and {len(files) - MOST_NAMED} more' if len(files) > MOST_NAMED else ''
            files = (', '.join(files[:MOST_NAMED]) or 'no recording') + more
            if self.in_row > self.most_skipped:
                raise JepaError(
                    f'training diverged: {sign} at step {step} and was not finite in {self.in_row} steps in '
                    f'a row, the last one with clips of {files}; lower rate, raise warmup, or take a bad '
                    'recording out of data.train'
                )
            logger.warning(
                'step %d is skipped (%d so far): %s; its clips come from %s', step, self.skipped, sign, files
            )
            return False
        self.in_row = 0
        self._mean = loss if self._mean is None else MEMORY * self._mean + (1 - MEMORY) * loss
        self._lowest = min(self._lowest, self._mean)
        if self._mean > self._lowest + MOST_RISE * max(1.0, abs(self._lowest)):
            raise JepaError(
                f'training diverged: the mean loss rose to {self._mean:.3g} at step {step}, its lowest was '
                f'{self._lowest:.3g}; lower rate or raise warmup'
            )
        return True

    def state(self):
        """Plain values, for a checkpoint."""
        return {'skipped': self.skipped, 'in_row': self.in_row, 'mean': self._mean, 'lowest': self._lowest}

    def load(self, state):
        """:param state: as `state` gave it."""
        self.skipped, self.in_row = state['skipped'], state['in_row']
        self._mean, self._lowest = state['mean'], state['lowest']
