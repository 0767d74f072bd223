# SPDX-License-Identifier: Apache-2.0
"""Recordings as sequences of small frames with their stamps, labels, vectors and classes.

Header stamps are the time base. Where they jump back or ahead the recording is cut into segments
(`segments`), and no clip crosses from one into the next.
"""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from rich.progress import track

from jepa_ros.data import cache as caches
from jepa_ros.data import faults
from jepa_ros.data.augment import HIDDEN, NO_LABEL, OUTSIDE, VISIBLE
from jepa_ros.data.cache import Cache, CachedImages, CacheError, StreamedImages, Wanted
from jepa_ros.data.folders import is_image
from jepa_ros.data.frames import FrameIndex
from jepa_ros.data.loader import ClipLoader
from jepa_ros.data.recordings import RecordingError, is_recording, kind_of, known_kinds
from jepa_ros.data.shards import expand_braces
from jepa_ros.errors import JepaError

__all__ = [
    'HIDDEN',
    'NO_LABEL',
    'OUTSIDE',
    'VISIBLE',
    'Sequence',
    'assert_disjoint',
    'find_recordings',
    'load_sequences',
    'matches',
    'segments',
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sequence:
    """The frames of one camera in one recording.

    :param name: of the recording, for people.
    :param path: the recording.
    :param stamps_ns: int64 [T], in the order of the recording (not sorted: see `segments`).
    :param images: RGB uint8 [T, h, w, 3]: an array, or what reads one from the cache or the recording; it
        travels to other processes as the name of a file.
    :param points: for each label its places, float32 [T, 2] in 0..1 of the cached image, and its state,
        uint8 [T]: NO_LABEL, VISIBLE, HIDDEN (known, but something is in front of it) or OUTSIDE (known, but not
        in the picture).
    :param vectors: float32 [T, P] each, NaN where unknown.
    :param classes: the names of the classes, str [T] each, '' where unknown.
    :param still: the frames are independent images: they have no times, and no clip of several is cut from
        them.
    :param source: the number of the pattern that named it.
    :param member: its key in a shard.
    """

    name: str
    path: Path
    stamps_ns: np.ndarray
    images: np.ndarray | CachedImages | StreamedImages
    points: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    vectors: dict[str, np.ndarray] = field(default_factory=dict)
    classes: dict[str, np.ndarray] = field(default_factory=dict)
    still: bool = False
    source: int = 0
    member: str = ''

    def __len__(self) -> int:
        return len(self.stamps_ns)

    def key(self, position: int) -> str:
        """Return how faults call the file that a frame is in: PATH, or PATH#MEMBER where it holds many."""
        return f'{self.path}#{self.member or position}' if self.member or self.still else str(self.path)


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


def matches(pattern: str | Path) -> list[Path]:
    """Return the files and folders that a pattern names; braces and `~` are expanded as a shell does."""
    names = expand_braces(os.path.expanduser(str(pattern)))
    return [Path(match) for name in names for match in sorted(glob.glob(name, recursive=True))]


def find_recordings(patterns: Iterable[str | Path]) -> list[Path]:
    """Return the recordings that files, folders and glob patterns name, in order and each once.

    A folder that is itself no bag stands for all recordings below it, but for hidden ones (`.name`: a recording
    that is still being written); braces are expanded (`{000..009}.tar`).

    :raises RecordingError: when a pattern names nothing, or a file that is no recording.
    """
    return [path for path, _ in _find(patterns)]


def _find(patterns: Iterable[str | Path]) -> list[tuple[Path, int]]:
    """Return the recordings, each with the number of the first pattern that names it."""
    found: dict[Path, int] = {}
    for number, pattern in enumerate(patterns):
        named = matches(pattern)
        recordings = [recording for path in named for recording in _below(path)]
        if not recordings:
            what = 'files that are none' if named else 'nothing'
            raise RecordingError(f'{pattern}: expected {known_kinds()}, found {what}')
        for recording in recordings:
            found.setdefault(recording.resolve(), number)
    return list(found.items())


def _below(path: Path) -> list[Path]:
    found = [path] if is_recording(path) else []
    # A folder of images may have others below it, a bag has not.
    if path.is_dir() and (not found or kind_of(path).name == 'images'):
        children = sorted(
            child for child in path.iterdir() if not (is_image(child.name) or child.name.startswith('.'))
        )
        found += [recording for child in children for recording in _below(child)]
    return found


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
    cache_dir: str | Path | None,
    topic: str | None = None,
    labels: Mapping[str, str] | None = None,
    progress: bool = True,
    *,
    vectors: Mapping[str, str] | None = None,
    classes: Mapping[str, str] | None = None,
    rate: float | None = None,
    stream: bool = False,
    workers: int = 0,
    cache_limit: int | None = None,
) -> list[Sequence]:
    """Load recordings as sequences of small frames, reading only those that the cache does not hold yet.

    Recordings that cannot be read are named in the log, skipped and counted. Each recording is kept as soon
    as it was read, so that a call that was interrupted goes on where it was.

    :param patterns: files, folders or globs of recordings (`recordings.KINDS`).
    :param size: height and width (px) of the frames; `images.fit` makes them.
    :param cache_dir: where the decoded frames are kept; may be deleted at any time.
    :param topic: the camera topic of the bags; None where each has one.
    :param labels: label name to topic of geometry_msgs/PointStamped: x, y in 0..1 of the received image, z 1
        where it is visible and 0 where it is hidden; the message belongs to the frame with the nearest stamp.
    :param vectors: vector name to topic of a bag (`signals.read_vectors`).
    :param classes: class name to where it is read (`signals.read_classes`): 'folder', 'cls' of a shard, a
        topic.
    :param rate: frames per second of folders of numbered images; None: their images are independent.
    :param stream: frames are decoded anew whenever a clip needs them, for sets that no disk holds decoded;
        the cache then holds only where they are (with `cache_dir` None not even that). The frames are the
        same.
    :param workers: processes that read; 0: this one. A recording that ends its process is skipped like any
        other that cannot be read.
    :param cache_limit: bytes the cache may take; entries that this call does not use give way first, those of
        another run too, which then misses them.
    :raises RecordingError: when nothing is left.
    :raises CacheError: when the cache has no room.
    """
    if cache_dir is None and not stream:
        raise CacheError(
            'expected a folder for the cache of decoded frames, or to decode on the fly; found neither'
        )
    found = _find(patterns)
    wanted = Wanted(tuple(size), topic, labels or {}, vectors or {}, classes or {}, rate, stream)
    cache = Cache(Path(cache_dir) if cache_dir is not None else None, cache_limit)
    entries = [_entry(cache, path, wanted) for path, _ in found]
    missing = [i for i, entry in enumerate(entries) if entry is None]
    names = [found[i][0] for i in missing]
    read = partial(_read, cache, wanted, names)
    results: list = entries
    if missing:
        with ExitStack() as stack:
            made = map(read, range(len(missing)))
            if workers:
                lost = partial(_lost, names)
                count = min(workers, len(missing))
                made = stack.enter_context(
                    ClipLoader(read, 0, len(missing), count, ahead=len(missing), lost=lost, queued=1)
                )
            # The bar first: `zip` asks it once more at the end, and only then is it full.
            for result, i in zip(track(made, 'recordings', len(missing), disable=not progress), missing):
                results[i] = result
    loaded, skipped = [], 0
    for (path, source), result in zip(found, results):
        if not isinstance(result, _Skipped):
            try:
                loaded += _sequences(path, source, wanted.size, result)
                continue
            except (OSError, ValueError, KeyError) as error:  # an entry that somebody damaged
                result = _Skipped(f'{path}: expected a whole cache entry at {result}, found {error}')
        skipped += 1
        faults.report(path, result.reason)
    if skipped:
        logger.warning('%d of %d recordings were skipped', skipped, len(found))
    if not loaded:
        raise RecordingError(
            f'expected at least one readable recording, found none among {len(found)}; '
            f'the first is {found[0][0]}'
        )
    return loaded


@dataclass(frozen=True)
class _Skipped:
    """Stands in for a recording that cannot be read."""

    reason: str


def _entry(cache: Cache, path: Path, wanted: Wanted):
    """Return what the cache has of a recording; of one that is not there, a link to nothing, that it is skipped."""
    try:
        return cache.entry(path, wanted)
    except OSError as error:
        return _Skipped(f'{path}: expected a recording that can be opened, found {error.strerror or error}')


def _lost(paths: list[Path], number: int, sentence: str) -> _Skipped:
    return _Skipped(f'{paths[number]}: {sentence}')


def _read(cache: Cache, wanted: Wanted, paths: list[Path], number: int):
    path = paths[number]
    if faults.is_quarantined(path):
        return _Skipped(f'{path}: the process that read it did not survive it')
    try:
        with faults.reading(path):
            return cache.make(path, wanted)
    except CacheError:
        raise
    except (JepaError, OSError) as error:
        return _Skipped(str(error))


def _sequences(path: Path, source: int, size: tuple[int, int], result) -> list[Sequence]:
    """Return the sequences of a recording, from its entry or from what was read without a cache."""
    abouts, arrays = caches.load(result) if isinstance(result, Path) else result
    sequences = []
    by_number: dict[str, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        number, _, rest = name.partition('/')
        by_number.setdefault(number, {})[rest] = array
    for number, about in enumerate(abouts):
        mine = by_number[str(number)]
        stamps_ns = mine['stamps_ns']
        if 'places' in mine:
            index = FrameIndex(stamps_ns, mine['log_ns'], mine['places'])
            images = StreamedImages(path, tuple(about['locator']), index, size)
        else:
            images = CachedImages(result / 'images.u8', about['first'], (len(stamps_ns), *size, 3))
        for warning in about['warnings']:
            logger.warning('%s', warning)
        sequences.append(
            Sequence(
                about['name'],
                path,
                stamps_ns,
                images,
                {name: (xy, mine[f'state_{name}']) for name, xy in _named(mine, 'xy_')},
                dict(_named(mine, 'vector_')),
                dict(_named(mine, 'class_')),
                about['still'],
                source,
                about['member'],
            )
        )
    return sequences


def _named(arrays: dict[str, np.ndarray], prefix: str) -> list[tuple[str, np.ndarray]]:
    return [(name.removeprefix(prefix), array) for name, array in arrays.items() if name.startswith(prefix)]
