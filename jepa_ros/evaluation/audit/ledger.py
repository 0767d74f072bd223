# SPDX-License-Identifier: Apache-2.0
"""
The ledger of held-out data: which recordings were scored, when, under which rule.

A held-out recording is worth what it is only as long as nobody chose anything by it. The ledger is a YAML
file that audits append to before they score; what it says about earlier looks goes into the record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

import yaml

from jepa_ros.errors import JepaError, one_line
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


@dataclass(frozen=True)
class Look:
    """
    What tells one look at held-out recordings from another.

    :param pair: model ids of image and video encoder.
    :param rule_sha256: of the rule that decides; `settings_sha256`: of the settings of the probes.
    """

    pair: list[str]
    rule_sha256: str
    settings_sha256: str


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

    @contextmanager
    def scoring(self, about: Look, sequences: Mapping[str, str], today: Mapping[str, str]) -> Iterator[None]:
        """
        Write down that recordings are scored, before they are; once for the same look at the same recordings.

        A fault of the input (`JepaError`) showed nothing of the recordings, and takes the entry back.

        :param sequences: name to fingerprint.
        :param today: what else the entry says, such as the name of the audit.
        :raises PageError: the ledger cannot be written.
        """
        mine = {**asdict(about), 'sequences': dict(sequences)}
        known = any(all(entry[key] == mine[key] for key in mine) for entry in self.entries)
        if not known:
            now = datetime.now(timezone.utc).strftime('%Y-%m-%dT%H:%M:%SZ')
            self.entries.append({'date': now, **today, **mine})
            self._write()
        try:
            yield
        except JepaError:
            if not known:
                self.entries.pop()
                self._write()
            raise

    def looks(self, about: Look, sequences: Mapping[str, str]) -> dict:
        """
        Return what the record says of the held-out data.

        :returns: ``touched``, when this look was taken first; of what came before that ``changed``, entries
            that scored some of it with the same pair under another rule or other settings: what was seen then
            may have made these; and ``others``, those of other pairs, or of more or fewer recordings.
        """
        prints = set(sequences.values())
        found: dict = {'touched': None, 'changed': [], 'others': []}
        for entry in self.entries:
            shared = len(prints & set(entry['sequences'].values()))
            if not shared:
                continue
            differs = [key for key, value in asdict(about).items() if entry[key] != value]
            if not differs and set(entry['sequences'].values()) == prints:
                found['touched'] = entry['date']
                break
            kind = 'changed' if differs and 'pair' not in differs else 'others'
            said = {key: value for key, value in entry.items() if key != 'sequences'}
            found[kind].append({**said, 'differs': differs, 'sequences': shared})
        return found

    def _write(self) -> None:
        content = {'format': FORMAT, 'entries': self.entries}
        page.write(self.path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110))
