# SPDX-License-Identifier: Apache-2.0
"""The rollouts of both bundles over the same seeds, as `jepa evaluate rollout` keeps them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

from jepa_ros.errors import one_line
from jepa_ros.evaluation.audit.config import AuditError
from jepa_ros.evaluation.audit.statistics import Interval
from jepa_ros.evaluation.rollout_statistics import paired, paired_difference
from jepa_ros.sim.seeds import HELD_OUT

CONTENDERS = ('ijepa', 'vjepa')  # what the run calls the image and the video bundle


@dataclass(frozen=True)
class Outcomes:
    """
    Whether each bundle took the bin.

    :param image: seed to success; `video` likewise, of the same seeds.
    """

    image: Mapping[int, bool]
    video: Mapping[int, bool]

    def gain(self, confidence: float) -> Interval:
        """Return the success rate of the video bundle minus that of the image bundle."""
        seeds, only_video, only_image, _ = paired(self.video, self.image)
        both = sum(self.video.values()) - only_video
        counts = both, only_video, only_image, seeds - both - only_video - only_image
        low, high = paired_difference(*counts, NormalDist().inv_cdf(0.5 + confidence / 2))
        return Interval((only_video - only_image) / seeds, low, high, confidence, seeds)

    def to_dict(self) -> dict:
        """Return plain values."""
        seeds = sorted(self.image)
        return {
            'seeds': seeds,
            'image': [int(self.image[seed]) for seed in seeds],
            'video': [int(self.video[seed]) for seed in seeds],
        }


def read(folder: Path, models: tuple[int, int]) -> Outcomes | None:
    """
    Return the outcomes of a run of `jepa evaluate rollout`, over the held-out seeds that both bundles ran.

    :param folder: of the run, with `plan.json` and a file per episode.
    :param models: model ids of the image and the video bundle that are audited.
    :returns: None where the folder, or an episode of one of them, is not there yet.
    :raises AuditError: it is something else, or the rollouts of other bundles.
    """
    if not folder.exists():
        return None
    plan = _json(folder / 'plan.json')
    said = [plan.get('models', {}).get(name) for name in CONTENDERS]
    if said != list(models):
        found, wanted = (
            ', '.join(f'{m:08x}' if m is not None else 'none' for m in ids) for ids in (said, models)
        )
        raise AuditError(
            f'{folder}: expected rollouts of the audited models {wanted}, found those of {found}'
        )
    taken = []
    for name in CONTENDERS:
        episodes = [_json(path) for path in sorted((folder / 'episodes' / name).glob('*.json'))]
        taken.append({int(e['seed']): e['outcome'] == 'picked' for e in episodes})
    both = taken[0].keys() & taken[1].keys() & set(HELD_OUT)  # what was tuned on others is no evidence
    return Outcomes(*({seed: one[seed] for seed in sorted(both)} for one in taken)) if both else None


def _json(path: Path) -> dict:
    try:
        values = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise AuditError(
            f'{path}: expected what `jepa evaluate rollout` keeps, found {one_line(error)}'
        ) from error
    if not isinstance(values, dict):
        raise AuditError(
            f'{path}: expected what `jepa evaluate rollout` keeps, found {type(values).__name__}'
        )
    return values
