# SPDX-License-Identifier: Apache-2.0
"""Which seeds of the simulator are for what: a seed decides everything, and the ranges never overlap."""

from __future__ import annotations

from jepa_ros.errors import JepaError

TRAIN = range(0, 10_000)
VALIDATION = range(10_000, 20_000)
HELD_OUT = range(20_000, 30_000)


def parse(text: str) -> range:
    """Read one seed ('7') or a range without its end ('0:20').

    :raises JepaError: for anything else.
    """
    first, colon, stop = text.partition(':')
    try:
        seeds = range(int(first), int(stop) if colon else int(first) + 1)
    except ValueError:
        seeds = range(0)
    if not seeds or seeds[0] < 0:
        raise JepaError(f"seeds: expected a number or FIRST:STOP such as 0:20, found '{text}'")
    return seeds
