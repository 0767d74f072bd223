# SPDX-License-Identifier: Apache-2.0
"""Where to take the percentiles of a bootstrap."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np


def expanded(confidence: float, count: int) -> float:
    """
    Return the confidence to take percentiles at, so that those of few values cover what they promise.

    Percentiles of the bootstrap are too narrow by the factor sqrt((n - 1) / n) and by the normal where
    Student's t belongs; both are made good by taking them further out (Hesterberg 2015, "What Teachers Should
    Know About the Bootstrap", section 5.3, expanded percentiles).
    """
    if count < 2:
        return confidence
    reach = math.sqrt(count / (count - 1)) * student_quantile(0.5 + confidence / 2, count - 1)
    return 1 - 2 * NormalDist().cdf(-reach)


def student_quantile(p: float, degrees: int) -> float:
    """Return the p-quantile of Student's t distribution: t = sqrt(ν) tan θ has a density as cos(θ)^(ν-1)."""
    angles = np.linspace(-math.pi / 2, math.pi / 2, 40001)
    density = np.cos(angles).clip(0) ** (degrees - 1)
    below = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return math.sqrt(degrees) * math.tan(float(np.interp(p, below / below[-1], angles)))
