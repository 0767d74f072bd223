# SPDX-License-Identifier: Apache-2.0
"""Recordings decoded once: small frames, their stamps and labels, in a cache that is mapped into memory.

Header stamps are the time base. Where they jump back or ahead the recording is cut into segments
(`segments`), and no clip crosses from one into the next.
"""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.progress import track

from jepa_ros.data.recordings import Recording, RecordingError, is_bag, is_recording, open_recording
from jepa_ros.errors import JepaError
from jepa_ros.images import Geometry, ImageError, fit

logger = logging.getLogger(__name__)

NO_LABEL, VISIBLE, HIDDEN = 0, 1, 2
CACHE_FORMAT = 1  # raise it when what is stored, or how frames are made, changes


@dataclass(frozen=True)
class Sequence:
    """The frames of one camera in one recording.

    :param name: of the recording, for people.
    :param path: the recording.
    :param stamps_ns: int64 [T], in the order of the recording (not sorted: see `segments`).
    :param images: RGB uint8 [T, h, w, 3], mapped from the cache.
    :param points: for each label its places, float32 [T, 2] in 0..1 of the cached image, and its state,
        uint8 [T]: NO_LABEL, VISIBLE or HIDDEN (known, but something is in front of it).
    """

    name: str
    path: Path
    stamps_ns: np.ndarray
    images: np.ndarray
    points: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.stamps_ns)


def segments(stamps_ns: np.ndarray, max_gap: float) -> list[tuple[int, int]]:
    """Return the stretches (first, behind the last) in which the stamps ascend without a gap.

    :param stamps_ns: int64 [T].
    :param max_gap: the longest step inside a segment, s.
    """
    if not len(stamps_ns):
        return []
    steps = np.diff(stamps_ns)
    cuts = np.flatnonzero((steps <= 0) | (steps > max_gap * 1e9)) + 1
    edges = [0, *cuts.tolist(), len(stamps_ns)]
    return list(zip(edges[:-1], edges[1:]))


def find_recordings(patterns: Iterable[str | Path]) -> list[Path]:
    """Return the recordings that files, folders and glob patterns name, in order and each once.

    A folder that is itself no bag stands for all recordings below it.

    :raises RecordingError: when a pattern names nothing, or a file that is no recording.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        matches = [Path(m) for m in sorted(glob.glob(os.path.expanduser(str(pattern)), recursive=True))]
        recordings = [r for match in matches for r in _below(match)]
        if not recordings:
            what = 'files that are none' if matches else 'nothing'
            raise RecordingError(f'{pattern}: expected videos or bags, found {what}')
        found.update(dict.fromkeys(r.resolve() for r in recordings))
    return list(found)


def _below(path: Path) -> list[Path]:
    if is_recording(path):
        return [path]
    return [r for child in sorted(path.iterdir()) for r in _below(child)] if path.is_dir() else []


def assert_disjoint(**splits: Iterable[str | Path]) -> None:
    """Check that no recording is in two splits, so that nothing is judged on what it was trained on.

    :param splits: for each split (train=..., validation=...) its patterns.
    :raises RecordingError: naming a recording that is in two of them.
    """
    owner: dict[Path, str] = {}
    for split, patterns in splits.items():
        for path in find_recordings(patterns):
            if owner.setdefault(path, split) != split:
                raise RecordingError(f'{path}: expected in one split, found in {owner[path]} and in {split}')


def load_sequences(
    patterns: Iterable[str | Path],
    size: tuple[int, int],
    cache_dir: str | Path,
    topic: str | None = None,
    labels: Mapping[str, str] | None = None,
    progress: bool = True,
) -> list[Sequence]:
    """Load recordings as sequences of small frames, decoding only those that the cache does not hold yet.

    Recordings that cannot be read are named in the log, skipped and counted.

    :param patterns: files, folders or globs of videos and bags.
    :param size: height and width (px) of the cached frames; `images.fit` makes them.
    :param cache_dir: where the decoded frames are kept; may be deleted at any time.
    :param topic: the camera topic of the bags; None where each has one.
    :param labels: label name to topic of geometry_msgs/PointStamped: x, y in 0..1 of the received image, z 1
        where it is visible and 0 where it is hidden; the message belongs to the frame with the nearest stamp.
    :raises RecordingError: when nothing is left.
    """
    paths = find_recordings(patterns)
    labels = dict(labels or {})
    loaded, skipped = [], []
    for path in track(paths, 'recordings', disable=not progress):
        try:
            loaded.append(_load(path, size, Path(cache_dir), topic, labels))
        except JepaError as error:
            logger.warning('skipped %s', error)
            skipped.append(path)
    if skipped:
        logger.warning('%d of %d recordings were skipped', len(skipped), len(paths))
    if not loaded:
        raise RecordingError(
            f'expected at least one readable recording, found none among {len(paths)}; '
            f'the first is {paths[0]}'
        )
    return loaded


def _load(
    path: Path, size: tuple[int, int], cache_dir: Path, topic: str | None, labels: dict[str, str]
) -> Sequence:
    if not is_bag(path):
        topic, labels = None, {}
    entry = cache_dir / _cache_key(path, size, topic, labels)
    if not entry.is_dir():
        _decode(open_recording(path, topic), size, labels, entry)
    about = json.loads((entry / 'about.json').read_text())
    arrays = np.load(entry / 'arrays.npz')
    stamps_ns = arrays['stamps_ns']
    images = np.memmap(entry / 'images.u8', np.uint8, 'r', shape=(len(stamps_ns), *size, 3))
    points = {name: (arrays[f'xy_{name}'], arrays[f'state_{name}']) for name in labels}
    for warning in about['warnings']:
        logger.warning('%s', warning)
    return Sequence(about['name'], path, stamps_ns, images, points)


def _cache_key(path: Path, size: tuple[int, int], topic: str | None, labels: dict[str, str]) -> str:
    """Return a folder name that changes whenever the recording or what is wanted of it does."""
    files = sorted(f for f in path.rglob('*') if f.is_file()) if path.is_dir() else [path]
    state = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    key = json.dumps([CACHE_FORMAT, state, list(size), topic, sorted(labels.items())])
    return f'{path.stem}-{hashlib.sha256(key.encode()).hexdigest()[:16]}'


def _decode(recording: Recording, size: tuple[int, int], labels: dict[str, str], entry: Path) -> None:
    """Decode a recording into a cache entry; the entry appears whole or not at all."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    workspace = Path(tempfile.mkdtemp(prefix='.decoding-', dir=entry.parent))
    try:
        stamps, logs, geometries, faults = [], [], [], []
        with (workspace / 'images.u8').open('wb') as file:
            for frame in recording.frames():
                try:
                    image, geometry = fit(frame.image(), size)
                except ImageError as error:
                    faults.append(error)
                    continue
                file.write(image.tobytes())
                stamps.append(frame.stamp_ns)
                logs.append(frame.log_ns)
                geometries.append(geometry)
        warnings = list(recording.warnings)
        if faults:
            warnings.append(f'{recording.path}: {len(faults)} frame(s) do not decode ({faults[0]})')
        if not stamps:
            raise RecordingError(
                f'{recording.path}: expected frames, found none; {"; ".join(warnings)}'.rstrip('; ')
            )
        stamps_ns = np.array(stamps, np.int64)
        if len(stamps) > 1 and len(set(stamps)) == 1:
            warnings.append(
                f'{recording.path}: all header stamps are {stamps[0]}; the bag time is used instead'
            )
            stamps_ns = np.array(logs, np.int64)
        arrays = {'stamps_ns': stamps_ns}
        for name, topic in labels.items():
            arrays[f'xy_{name}'], arrays[f'state_{name}'] = _labels(recording, topic, stamps_ns, geometries)
        np.savez(workspace / 'arrays.npz', **arrays)
        (workspace / 'about.json').write_text(json.dumps({'name': recording.name, 'warnings': warnings}))
        try:
            workspace.rename(entry)
        except OSError:
            if not entry.is_dir():  # another process may have finished the same entry meanwhile
                raise
    finally:
        shutil.rmtree(workspace, ignore_errors=True)


def _labels(
    recording: Recording, topic: str, stamps_ns: np.ndarray, geometries: list[Geometry]
) -> tuple[np.ndarray, np.ndarray]:
    """Return float32 [T, 2] places in 0..1 of the cached image and uint8 [T] states of a label.

    A label belongs to the frame with the nearest stamp, if that is nearer than half the usual frame interval.
    """
    xy = np.zeros((len(stamps_ns), 2), np.float32)
    state = np.zeros(len(stamps_ns), np.uint8)
    order = np.argsort(stamps_ns, kind='stable')
    ascending = stamps_ns[order]
    reach = np.median(np.diff(ascending)) / 2 if len(ascending) > 1 else 10**9
    for _, message in recording.messages(topic):
        stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        after = int(np.searchsorted(ascending, stamp))
        nearest = min(
            (i for i in (after - 1, after) if 0 <= i < len(ascending)),
            key=lambda i: abs(ascending[i] - stamp),
        )
        if abs(ascending[nearest] - stamp) > reach:
            continue
        frame = order[nearest]
        xy[frame] = geometries[frame].from_received(np.array([message.point.x, message.point.y]))
        inside = bool(np.all((xy[frame] >= 0) & (xy[frame] <= 1)))
        state[frame] = (VISIBLE if message.point.z > 0.5 else HIDDEN) if inside else NO_LABEL
    return xy, state
