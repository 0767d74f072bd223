# SPDX-License-Identifier: Apache-2.0
"""The evidence of one probe on one encoder."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields

from jepa_ros.evaluation.probes.scores import Difference, Scores


@dataclass(frozen=True)
class Choice:
    """What was chosen on validation alone.

    :param rate: learning rate; `decay`: weight decay; None where there is nothing to train.
    :param score: on validation, of the chosen one.
    :param tried: all that were tried: rate, decay, score of each.
    """

    rate: float | None
    decay: float | None
    score: float
    tried: tuple[dict, ...] = ()


@dataclass(frozen=True)
class HeldOut:
    """What was judged on in the end, and when.

    :param split: 'held-out', or 'validation' where no held-out recordings were given: then the scores are those
        that the choice was made on, and too good.
    :param sequences: how many.
    :param touched: how many times its clips were encoded and judged in this run: 1.
    :param at: when, UTC; `choices`: sha256 over all choices, which were made before.
    """

    split: str
    sequences: int
    touched: int
    at: str
    choices: str


@dataclass(frozen=True)
class ProbeResult:
    """The evidence.

    :param probe: its name; `task`: what it asks, in words; `metric`: what a score is, in words.
    :param temporal: whether the task is meant to need order in time.
    :param higher: whether a higher score is better.
    :param encoder: name of the bundle; `model_id`: of it; `mode`: frame, clip or stream.
    :param offered: what the head saw, in words: tokens and time.
    :param choice: of the attentive head; `linear_choice` of the linear one (None where there is no head).
    :param scores: of the attentive head on the split named in `held_out`; `linear`: of the linear head.
    :param chance: of the best answer that does not look (from the training labels); None where there is none.
    :param controls: by name (shuffled, last, permuted, raw, random), retrained with the same choice; permuted:
        clips have the labels of one another, in training and in judging.
    :param noise: of the head that was trained on clean frames, on noisy ones, by kind.
    :param details: further metrics by name.
    :param verdict: 'static' (not meant to be temporal), 'temporal' (beats shuffled frames and the repeated last
        frame, each with its whole interval), 'not temporal' (a clip without order, or a still picture, does as
        well or better: the whole interval of the gain lies below a tenth of what is gained over permuted labels),
        'undecided' (the interval holds both).
    :param margins: by how much it beats these two controls, better counted positive.
    :param clips: labelled clips by split; `sequences`: of them, by split.
    :param seconds: wall time of training and judging, without encoding.
    """

    probe: str
    task: str
    metric: str
    temporal: bool
    higher: bool
    encoder: str
    model_id: int
    mode: str
    offered: str
    choice: Choice
    held_out: HeldOut
    scores: Scores
    linear_choice: Choice | None = None
    linear: Scores | None = None
    chance: Scores | None = None
    controls: dict[str, Scores] = field(default_factory=dict)
    noise: dict[str, Scores] = field(default_factory=dict)
    details: dict[str, Scores] = field(default_factory=dict)
    verdict: str = 'static'
    margins: dict[str, Difference] = field(default_factory=dict)
    clips: dict[str, int] = field(default_factory=dict)
    sequences: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def to_dict(self) -> dict:
        """Return plain values for JSON or YAML, each score with its value and interval; `from_dict` reads it."""
        plain = {}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, dict):
                plain[entry.name] = {name: _plain(part) for name, part in value.items()}
            else:
                plain[entry.name] = _plain(value)
        return plain

    @classmethod
    def from_dict(cls, data: dict) -> ProbeResult:
        """Return what `to_dict` was called on."""
        data = dict(data)
        for key in ('scores', 'linear', 'chance'):
            data[key] = Scores.from_dict(data[key]) if data[key] else None
        for key in ('controls', 'noise', 'details'):
            data[key] = {name: Scores.from_dict(value) for name, value in data[key].items()}
        data['margins'] = {name: Difference(**value) for name, value in data['margins'].items()}
        for key in ('choice', 'linear_choice'):
            if data[key]:
                data[key] = Choice(**{**data[key], 'tried': tuple(data[key]['tried'])})
        data['held_out'] = HeldOut(**data['held_out'])
        return cls(**data)


def _plain(value):
    if isinstance(value, Scores):
        low, high = value.interval()
        return {'value': value.value(), 'low': low, 'high': high, 'clips': value.clips, **value.to_dict()}
    if isinstance(value, (Choice, HeldOut, Difference)):
        plain = asdict(value)
        if isinstance(value, Choice):
            plain['tried'] = list(value.tried)
        return plain
    return value
