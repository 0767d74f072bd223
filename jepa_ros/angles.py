# SPDX-License-Identifier: Apache-2.0
"""Angles that come round."""

import math


def wrapped(angle: float, period: float = 2 * math.pi) -> float:
    """
    Return the same direction within half a period of 0.

    :param angle: rad.
    :param period: rad after which a direction is the same again: pi for a bar, which has no front.
    """
    return float((angle + period / 2) % period - period / 2)
