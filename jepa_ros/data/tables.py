# SPDX-License-Identifier: Apache-2.0
"""Vectors of the frames of a recording from a table beside it (CSV)."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from jepa_ros.data.bags import RecordingError
from jepa_ros.data.signals import Vectors

SUFFIX = '.csv'


def table_of(source: str, recording: Path) -> Path:
    """
    Return the table that a source speaks of.

    :param source: a path; a star stands for the path of the recording without its suffix, so that '*_tracks.csv'
        is right for every video of a folder.
    """
    return Path(source.replace('*', str(recording.with_suffix('') if recording.is_file() else recording)))


def read_table(path: Path, stamps_ns: np.ndarray) -> Vectors:
    """
    Read a table with a line of names, and a column `frame` (counted from 0) or `time` (s after the first frame).

    The other columns are the elements of the vector; a column `track` tells several things apart, whose elements
    are then called NAME_TRACK.

    :param stamps_ns: int64 [T], of the frames.
    :raises RecordingError: when it cannot be read so.
    """
    try:
        with open(path, newline='', encoding='utf-8') as file:
            lines = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RecordingError(f'{path}: expected a table (CSV), found {error}') from error
    columns = list(lines[0]) if lines else []
    key = next((name for name in ('frame', 'time') if name in columns), None)
    values = [name for name in columns if name not in (key, 'track')]
    if key is None or not values:
        found = ', '.join(map(str, columns)) or 'none'
        raise RecordingError(f'{path}: expected a column frame or time and columns of numbers, found {found}')
    tracks = sorted({line['track'] for line in lines}) if 'track' in columns else ['']
    names = [f'{name}_{track}' if track else name for track in tracks for name in values]
    rows: dict[int, np.ndarray] = {}
    for number, line in enumerate(lines, 2):
        try:
            stamp = _stamp(key, float(line[key]), stamps_ns)
            found = [float(line[name] or 'nan') for name in values]
        except (TypeError, ValueError):
            raise RecordingError(f'{path}: expected numbers in line {number}, found {line}') from None
        if stamp is not None:
            row = rows.setdefault(stamp, np.full(len(names), np.nan))
            first = tracks.index(line.get('track') or '') * len(values) if len(tracks) > 1 else 0
            row[first : first + len(values)] = found
    stamps = np.array(sorted(rows), np.int64)
    table = np.array([rows[stamp] for stamp in sorted(rows)]).reshape(len(stamps), len(names))
    return Vectors(names, stamps, stamps, table)


def _stamp(key: str, value: float, stamps_ns: np.ndarray) -> int | None:
    """Return when a line is (ns), None for a frame that was not read."""
    if key == 'time':
        return int(stamps_ns[0]) + round(value * 1e9) if len(stamps_ns) else None
    if value != int(value):
        raise ValueError(value)
    return int(stamps_ns[int(value)]) if 0 <= value < len(stamps_ns) else None
