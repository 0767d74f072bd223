# SPDX-License-Identifier: Apache-2.0
"""An audit's winner as the default bundle: `models/promoted`, which nodes and launch files follow."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path

import yaml

from jepa_ros.engine.bundle import Bundle, file_sha256
from jepa_ros.evaluation import page
from jepa_ros.evaluation.audit.config import AuditError
from jepa_ros.evaluation.audit.decision import PENDING
from jepa_ros.evaluation.audit.record import TransferAudit
from jepa_ros.paths import PROMOTED, share_directory

_DIFFERS = {'rule_sha256': 'another rule', 'settings_sha256': 'other settings of the probes'}


def refusal(record: TransferAudit) -> str:
    """Return why the winner of a record may not be promoted, or ''."""
    decision, held_out = record.evidence['decision'], record.evidence['held_out']
    if decision['winner'] == PENDING:
        return f'accepted_winner is pending: {decision["reasons"][0]}'
    if held_out['changed']:
        return f'{changed(held_out["changed"][0])}, by which this one may have been chosen: audit on others'
    return ''


def changed(look: dict) -> str:
    """Say that held-out recordings were scored before under what has since been changed."""
    differs = ' and '.join(_DIFFERS[key] for key in look['differs'])
    return f'{look["sequences"]} of these held-out recordings were scored on {look["date"]} under {differs}'


def promote(record: TransferAudit, path: Path) -> Path:
    """
    Make the winner the default bundle.

    :param path: of the record.
    :returns: the file that says so.
    :raises AuditError: it may not be promoted, or the bundle is no longer the audited one.
    :raises PageError: it cannot be written.
    """
    if why := refusal(record):
        raise AuditError(f'expected a winner to promote, found none: {why}')
    won = record.evidence['bundles'][record.evidence['decision']['winner']]
    bundle = Bundle.load(won['bundle'])
    if bundle.model_id != won['model_id']:
        raise AuditError(
            f'{bundle.path}: expected model {won["model_id"]:08x}, which was audited, '
            f'found {bundle.model_id:08x}'
        )
    share = share_directory()
    said = {
        'bundle': _relative(bundle.path, share / 'models'),
        'model_id': bundle.model_id,
        'audit': _relative(path, share),
        'audit_sha256': file_sha256(path),
        'date': datetime.now(timezone.utc).strftime('%Y-%m-%d'),
    }
    pointer = share / 'models' / PROMOTED
    words = '# The default bundle, as `jepa audit --promote` decided; without this file another stands in.\n'
    page.write(pointer, words + yaml.safe_dump(said, sort_keys=False))
    return pointer


def _relative(path: Path, folder: Path) -> str:
    """Return a path as seen from a folder that holds it, else an absolute one."""
    path, folder = path.resolve(), folder.resolve()
    return os.path.relpath(path, folder) if path.is_relative_to(folder) else str(path)
