# SPDX-License-Identifier: Apache-2.0
"""The record of an audit: what was compared, who was accepted, and the evidence behind it, as YAML."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from jepa_ros.errors import one_line
from jepa_ros.evaluation import page
from jepa_ros.evaluation.audit.config import AuditError, build
from jepa_ros.evaluation.audit.decision import PENDING

FORMAT = 1


@dataclass(frozen=True)
class TransferAudit:
    """
    One audit.

    :param image_encoder: name of the image encoder, such as ``ijepa_vith``.
    :param video_encoder: name of the video encoder, such as ``vjepa_vitl``.
    :param probe_task: the temporal task that the decision rests on first, such as
        ``short_horizon_action_anticipation``.
    :param split: what it was scored on, such as ``held_out_conveyor_sequences``.
    :param metric: of the task, such as ``top5_future_action_recall``.
    :param accepted_winner: name of one of the encoders, or ``pending`` until evidence decides.
    :param evidence: what stands behind it: rule, criteria, scores by sequence, costs, ledger (docs/audit.md);
        plain mappings, lists, text and numbers.
    """

    image_encoder: str
    video_encoder: str
    probe_task: str
    split: str
    metric: str
    accepted_winner: str = PENDING
    evidence: dict = field(default_factory=dict)

    def __post_init__(self):
        """
        Check the winner.

        :raises AuditError: it is neither of the encoders nor pending.
        """
        allowed = (PENDING, self.image_encoder, self.video_encoder)
        if self.accepted_winner not in allowed:
            raise AuditError(
                f'expected accepted_winner to be one of {", ".join(allowed)}, found {self.accepted_winner}'
            )

    def as_row(self) -> dict[str, str]:
        """Return the record as one row of a table, without the evidence."""
        return {
            entry.name: getattr(self, entry.name)
            for entry in dataclasses.fields(self)
            if entry.name != 'evidence'
        }

    def write(self, path: Path) -> None:
        """
        Write it as YAML, whole or not at all.

        :raises PageError: it cannot be written.
        """
        values = {'format': FORMAT, **self.as_row(), 'evidence': self.evidence}
        page.write(path, yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110))

    @classmethod
    def read(cls, path: Path) -> TransferAudit:
        """
        Read what `write` wrote.

        :raises AuditError: it is not there, no record, or one of another format.
        """
        try:
            values = yaml.safe_load(Path(path).read_text(encoding='utf-8'))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise AuditError(f'{path}: expected the record of an audit, found {one_line(error)}') from error
        found = values.pop('format', None) if isinstance(values, dict) else None
        if found != FORMAT:
            raise AuditError(f'{path}: expected the record of an audit in format {FORMAT}, found {found}')
        try:
            return build(cls, values)
        except AuditError as error:
            raise AuditError(f'{path}: {error}') from error


class _Dumper(yaml.SafeDumper):
    """Writes lists of numbers in one line, and never refers back to what stood before."""

    def ignore_aliases(self, data):
        return True

    def represent_sequence(self, tag, sequence, flow_style=None):
        flat = bool(sequence) and all(isinstance(item, (int, float)) for item in sequence)
        return super().represent_sequence(tag, sequence, flow_style=flat)
