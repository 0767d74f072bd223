# SPDX-License-Identifier: Apache-2.0
"""
How learning rate, weight decay and EMA momentum move over the updates of a stage.

As in facebookresearch/ijepa and facebookresearch/vjepa2 (src/utils/schedulers.py): linear warm-up and cosine
for the rate, cosine without a warm-up for weight decay, a straight line for the momentum.
"""

import math


def rate(step, values):
    """
    :param step: 0-based update in the stage; `values`: `config.Stage`.
    :returns: learning rate.
    """
    if step < values.warmup:
        return values.rate_start + (values.rate - values.rate_start) * (step + 1) / values.warmup
    end = 0.01 * values.rate if values.rate_end is None else values.rate_end
    return _cosine(values.rate, end, (step - values.warmup) / max(1, values.steps - values.warmup))


def weight_decay(step, values):
    """The weight decay of an update; arguments as for `rate`."""
    end = values.weight_decay if values.weight_decay_end is None else values.weight_decay_end
    return _cosine(values.weight_decay, end, step / max(1, values.steps))


def momentum(step, values):
    """
    The momentum m of the target encoder, ξ ← m ξ + (1 − m) θ.

    :param values: a section with the key `ema`.
    """
    start, end = values.ema
    return start + (end - start) * step / max(1, values.steps)


def _cosine(start, end, share):
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
