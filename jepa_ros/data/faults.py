# SPDX-License-Identifier: Apache-2.0
"""What could not be read: named once, counted always, over all processes of a run.

The counts are of this process; `loader.ClipLoader` brings those of its workers home. A path may be a
recording or, behind a '#', a member of a shard.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Iterator, Mapping

logger = logging.getLogger(__name__)

NOTE_BYTES = 4096  # PATH_MAX

_counts: Counter[str] = Counter()
_new: Counter[str] = Counter()
_named: set[str] = set()
_quarantine: set[str] = set()
_note = None


def report(path, error) -> None:
    """Count a fault of a recording, and name it in the log the first time.

    :param error: the sentence, or an error whose text is one.
    """
    path = str(path)
    if path not in _named:
        _named.add(path)
        logger.warning('skipped %s', error, extra={'fault': path})
    _counts[path] += 1
    _new[path] += 1


def counts() -> dict[str, int]:
    """Return how often each path failed so far."""
    return dict(_counts)


def clear() -> None:
    """Forget all faults: a new run begins."""
    for kept in (_counts, _new, _named, _quarantine):
        kept.clear()


def quarantine(*paths) -> None:
    """Keep recordings from being read again: reading them ended a process."""
    _quarantine.update(map(str, paths))


def is_quarantined(path) -> bool:
    """Whether a path must not be read."""
    return str(path) in _quarantine


def quarantined() -> tuple[str, ...]:
    """Return the paths that must not be read."""
    return tuple(sorted(_quarantine))


@contextlib.contextmanager
def reading(path) -> Iterator[None]:
    """Note what this process reads, so that it is known should it not survive it."""
    if _note is not None:
        _note.value = str(path).encode()[: NOTE_BYTES - 1]
    try:
        yield
    finally:
        if _note is not None:
            _note.value = b''


# What `loader` needs.


def begin(note, paths) -> None:
    """Start afresh in a worker.

    :param note: shared bytes for `reading`.
    :param paths: the quarantine so far.
    """
    global _note
    clear()
    _note = note
    quarantine(*paths)


def drain() -> dict[str, int]:
    """Return the counts since the last call."""
    counted = dict(_new)
    _new.clear()
    return counted


def merge(counted: Mapping[str, int]) -> None:
    """Add the counts of a worker."""
    _counts.update(counted)


def is_news(record: logging.LogRecord) -> bool:
    """Whether a log record of a worker says what no other worker has said."""
    path = getattr(record, 'fault', None)
    if path in _named:
        return False
    if path is not None:
        _named.add(path)
    return True


def noted(note) -> str:
    """Return the path a worker that died was reading, or ''."""
    return note.value.decode(errors='replace')
