# SPDX-License-Identifier: Apache-2.0
"""
The ledger of held-out data: which recordings were scored, when, under which rule.

A held-out recording is worth what it is only as long as nobody chose anything by it. The ledger is a YAML file
that audits append to before they score; what it says about earlier looks goes into the record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

import yaml

from jepa_ros.errors import one_line
from jepa_ros.evaluation import page
from jepa_ros.evaluation.audit.config import AuditError

FORMAT = 1
_WHOLE = 64 << 20  # bytes; of larger files beginning and end are read


def fingerprint(path: Path) -> str:
    """
    Return the sha256 of a recording, the same wherever it lies; of a file above 64 MiB its ends count.

    :raises AuditError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        files = sorted(p for p in path.rglob('*') if p.is_file()) if path.is_dir() else [path]
        for file in files:
            size = file.stat().st_size
            name = str(file.relative_to(path)) if path.is_dir() else ''
            digest.update(f'{name}\0{size}\0'.encode())
            with open(file, 'rb') as stream:
                if size <= _WHOLE:
                    digest.update(stream.read())
                else:
                    digest.update(stream.read(_WHOLE // 2))
                    stream.seek(-_WHOLE // 2, 2)
                    digest.update(stream.read())
    except OSError as error:
        raise AuditError(f'{path}: expected a recording, found {error.strerror or error}') from error
    return digest.hexdigest()


class Ledger:
    """
    The ledger in a file; there need not be one yet.

    :raises AuditError: the file is no ledger.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        self.entries: list[dict] = []
        if not self.path.exists():
            return
        try:
            values = yaml.safe_load(self.path.read_text(encoding='utf-8'))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise AuditError(f'{path}: expected a ledger, found {one_line(error)}') from error
        if not isinstance(values, dict) or values.get('format') != FORMAT:
            raise AuditError(f'{path}: expected a ledger in format {FORMAT}, found something else')
        self.entries = values['entries']

    def begin(
        self, audit: str, pair: list[str], rule: str, config: str, sequences: Mapping[str, str]
    ) -> None:
        """
        Write down that recordings are about to be scored, once for the same pair, rule and recordings.

        :param pair: model ids of image and video encoder.
        :param rule: sha256 of the rule; `config`: of the file.
        :param sequences: name to fingerprint.
        :raises PageError: the ledger cannot be written.
        """
        mine = {'pair': pair, 'rule_sha256': rule, 'sequences': dict(sequences)}
        if any(all(entry[key] == mine[key] for key in mine) for entry in self.entries):
            return
        now = datetime.now(timezone.utc).strftime('%Y-%m-%dT%H:%M:%SZ')
        self.entries.append({'audit': audit, 'date': now, 'config_sha256': config, **mine})
        content = {'format': FORMAT, 'entries': self.entries}
        page.write(self.path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110))

    def looks(self, pair: list[str], rule: str, sequences: Mapping[str, str]) -> dict:
        """
        Return what the record says of the held-out data.

        :returns: ``touched``, when this audit scored it; ``changed_rules``, entries that scored some of it with
            the same pair and another rule: what was seen then may have made this rule; ``others``, entries of
            other pairs or with other recordings beside the same rule.
        """
        prints = set(sequences.values())
        found: dict = {'touched': None, 'changed_rules': [], 'others': []}
        for entry in self.entries:
            shared = len(prints & set(entry['sequences'].values()))
            if not shared:
                continue
            same_pair, same_rule = entry['pair'] == pair, entry['rule_sha256'] == rule
            if same_pair and same_rule and set(entry['sequences'].values()) == prints:
                found['touched'] = entry['date']
                continue
            about = {key: entry[key] for key in ('audit', 'date', 'rule_sha256', 'config_sha256')}
            kind = 'changed_rules' if same_pair and not same_rule else 'others'
            found[kind].append({**about, 'sequences': shared})
        return found
