# SPDX-License-Identifier: Apache-2.0
"""What is the same for every encoder that is compared: the time it sees, the tokens offered, the budget."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

VARIANTS = ('true', 'shuffled', 'last', 'swapped')
NOISES = ('light', 'texture', 'sensor')


@dataclass(frozen=True)
class Settings:
    """How probes are run.

    :param span: of the frames before a moment that an encoder sees, its newest included, s.
    :param slices: T, instants of that span whose tokens a head is offered (the newest slice, then one every
        span / slices seconds before it).
    :param coarse: rows and columns that the tokens of such a slice are averaged to at most.
    :param fine: the same for the newest slice alone and for the futures.
    :param horizons: of the futures, s; those the bundle does not offer are left out.
    :param stride: between the moments of a sequence, s.
    :param reach: how long after a moment its sequence must go on, s: the largest horizon of all labels.
    :param steps: of the training of a head; `batch`: clips in each.
    :param rates: learning rates that are tried, and `decays`, weight decays; the pair is chosen on validation.
    :param noise: strength of the appearance noise, 1: as described in `noise`.
    :param seed: of heads, batches, orders and noise.
    :param confidence: with which order must matter, or not, for a verdict.
    """

    span: float = 0.8
    slices: int = 8
    coarse: tuple[int, int] = (3, 4)
    fine: tuple[int, int] = (6, 8)
    horizons: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5)
    stride: float = 1.0
    reach: float = 1.0
    steps: int = 200
    batch: int = 32
    rates: tuple[float, ...] = (5e-4, 2e-3)
    decays: tuple[float, ...] = (0.01, 0.3)
    noise: float = 1.0
    seed: int = 0
    confidence: float = 0.95

    def of_features(self) -> dict:
        """Return the settings that the cached features depend on."""
        keys = ('span', 'slices', 'coarse', 'fine', 'horizons', 'stride', 'reach', 'noise', 'seed')
        return {key: value for key, value in asdict(self).items() if key in keys}

    def key(self) -> str:
        """Return a short name for what the cached features depend on."""
        return hashlib.sha256(json.dumps(self.of_features(), sort_keys=True).encode()).hexdigest()[:12]
