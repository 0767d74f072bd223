# SPDX-License-Identifier: Apache-2.0
"""All probes on one encoder: features, choices on validation, controls, noise, and the held-out clips once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from jepa_ros.evaluation.probes.probe import Probe
from jepa_ros.evaluation.probes.result import ProbeResult
from jepa_ros.evaluation.probes.settings import Settings
from jepa_ros.evaluation.probes.tracks import Splits


def run(
    bundle,
    splits: Splits,
    probes: Sequence[Probe | str] = (),
    settings: Settings = Settings(),
    cache: str | Path = '.cache/probes',
    tick: Callable[[str, int, int], None] = lambda what, done, of: None,
    threads: int = 1,
) -> dict[str, ProbeResult]:
    """
    Run probes on a frozen encoder. Two encoders are compared by two calls with the same splits and settings:
    their scores are then of the same sequences (`scores.difference`).

    :param bundle: `Bundle`, path or name.
    :param splits: of recordings; the held-out ones are encoded and judged once, after all choices were made.
    :param probes: instances or names (`catalogue.PROBES`); none: all that the recordings have labels for.
    :param cache: folder of the features, by bundle, recording and settings; may be deleted at any time.
    :param tick: called with what is done now, how much of it and how much there is.
    :param threads: of the session.
    :returns: by the probe's name.
    :raises ProbeError: when nothing can be probed.
    """
    raise NotImplementedError
