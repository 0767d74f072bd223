# SPDX-License-Identifier: Apache-2.0
"""What was read of a recording once: its frames made small, or only where they are, with all labels.

An entry of the cache is a folder that appears whole or not at all; its name changes whenever the recording,
or what is wanted of it, does. The whole cache may be deleted at any time.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from jepa_ros.data import signals
from jepa_ros.data.frames import FrameIndex, Recording
from jepa_ros.data.recordings import RecordingError, is_bag, kind_of, open_recordings, reopen
from jepa_ros.errors import JepaError
from jepa_ros.images import Geometry, ImageError, centre_crop, fit

CACHE_FORMAT = 3  # raise it when what is stored, or how frames are made, changes
NAMED = 20  # faulty frames of a recording that its warning names
WORKSPACE = '.decoding-'


class CacheError(JepaError):
    """A cache that has no room."""


@dataclass(frozen=True)
class Wanted:
    """What is wanted of every recording; see `sequences.load_sequences`."""

    size: tuple[int, int]
    topic: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    vectors: Mapping[str, str] = field(default_factory=dict)
    classes: Mapping[str, str] = field(default_factory=dict)
    rate: float | None = None
    stream: bool = False

    def of(self, path: Path) -> Wanted:
        """Return what of this a recording can have: only bags have topics, only images want a rate."""
        bag = is_bag(path)
        return Wanted(
            self.size,
            self.topic if bag else None,
            dict(self.labels) if bag else {},
            dict(self.vectors) if bag else {},
            dict(self.classes),
            None if bag else self.rate,
            self.stream,
        )


@dataclass(frozen=True)
class CachedImages:
    """The frames of a sequence in a cache entry; behaves as the uint8 array [T, h, w, 3] that it reads.

    They are read, not mapped: a mapping holds a file open for each of maybe many thousand sequences, and ends
    the process when the file is cut short.
    """

    file: Path
    first: int
    shape: tuple[int, int, int, int]

    dtype = np.dtype(np.uint8)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, positions) -> np.ndarray:
        """:raises RecordingError: when the file is gone or cut short."""
        bytes_each = int(np.prod(self.shape[1:]))
        positions = _positions(positions, len(self))
        out = np.empty((positions.size, *self.shape[1:]), np.uint8)
        try:
            with open(self.file, 'rb', buffering=0) as file:
                for image, position in zip(out, positions.reshape(-1).tolist()):
                    file.seek((self.first + position) * bytes_each)
                    if file.readinto(image) != bytes_each:
                        raise RecordingError(
                            f'{self.file}: expected {self.shape[0]} frames, found a file cut short'
                        )
        except OSError as error:
            raise RecordingError(f'{self.file}: expected cached frames, found {error.strerror}') from error
        return out.reshape(*positions.shape, *self.shape[1:])

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self[:].astype(dtype or np.uint8, copy=False)


@dataclass(frozen=True)
class StreamedImages:
    """The frames of a recording, decoded when they are asked for: the same as `CachedImages` would give."""

    path: Path
    locator: tuple
    index: FrameIndex
    size: tuple[int, int]

    dtype = np.dtype(np.uint8)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self.index), *self.size, 3)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, positions) -> np.ndarray:
        """:raises RecordingError: when a frame cannot be read or does not decode."""
        positions = _positions(positions, len(self))
        places, back = np.unique(positions, return_inverse=True)
        try:
            found = reopen(self.path, *self.locator).read(self.index, places)
            frames = np.stack([fit(image, self.size)[0] for image in found])
        except (ImageError, OSError) as error:
            raise RecordingError(f'{self.path}: {error}') from error
        return frames[back.reshape(-1)].reshape(*positions.shape, *self.shape[1:])

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self[:].astype(dtype or np.uint8, copy=False)


def _positions(positions, count: int) -> np.ndarray:
    """Return an index as an array of positions; IndexError where it is out of range, as iteration needs."""
    return np.arange(count)[positions]


class Cache:
    """The entries in a folder.

    :param folder: None keeps nothing; only for `Wanted.stream`.
    :param limit: bytes that all entries may take; the longest unused ones give way. None: the disk.
    """

    def __init__(self, folder: Path | None, limit: int | None = None):
        self.folder, self.limit = folder, limit
        self._began = time.time()
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        ours = re.compile(re.escape(f'{WORKSPACE}{socket.gethostname()}-') + '([0-9]+)-[^-]+')
        for name in os.listdir(folder):  # what processes that were killed have left
            if (match := ours.fullmatch(name)) and not _alive(int(match[1])):
                shutil.rmtree(folder / name, ignore_errors=True)

    def entry(self, path: Path, wanted: Wanted) -> Path | None:
        """Return the entry of a recording if there is one, marked as used now."""
        entry = self.folder / _key(path, wanted.of(path)) if self.folder else None
        if entry is None or not (entry / 'about.json').is_file():
            return None
        _touch(entry)
        return entry

    def make(self, path: Path, wanted: Wanted) -> Path | tuple[list[dict], dict[str, np.ndarray]]:
        """Read a recording.

        :returns: its entry; without a folder what `load` returns of one.
        :raises RecordingError: when it cannot be read.
        :raises CacheError: when there is no room.
        """
        wanted = wanted.of(path)
        recordings = open_recordings(path, wanted.topic, wanted.rate)
        if self.folder is None:
            return _read(recordings, wanted, lambda data: None)
        entry = self.folder / _key(path, wanted)
        with self._workspace(entry) as workspace:
            need = 0 if wanted.stream else sum(len(r) for r in recordings) * int(np.prod(wanted.size)) * 3
            self._make_room(path, need)
            with (workspace / 'images.u8').open('wb') as file:
                about, arrays = _read(recordings, wanted, file.write)
            if wanted.stream:
                (workspace / 'images.u8').unlink()
            np.savez(workspace / 'arrays.npz', **arrays)
            (workspace / 'about.json').write_text(json.dumps(about))
            self._make_room(path, 0)
            try:
                workspace.rename(entry)
            except OSError:
                if not entry.is_dir():  # another process may have finished the same entry meanwhile
                    raise
        _touch(entry)
        return entry

    @contextmanager
    def _workspace(self, entry: Path) -> Iterator[Path]:
        name = f'{WORKSPACE}{socket.gethostname()}-{os.getpid()}-'
        try:
            workspace = Path(tempfile.mkdtemp(prefix=name, dir=self.folder))
            try:
                yield workspace
            finally:
                shutil.rmtree(workspace, ignore_errors=True)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise CacheError(
                f'{self.folder}: expected room for the frames of {entry.name}, found a full disk: free some, '
                'name another folder for the cache, or decode on the fly'
            ) from error

    def _make_room(self, path: Path, need: int) -> None:
        """Delete entries that nobody in this run used until `need` more bytes fit."""
        free = shutil.disk_usage(self.folder).free
        if need > free:
            raise CacheError(
                f'{self.folder}: expected {_gb(need)} of free disk for the frames of {path}, found '
                f'{_gb(free)}: free some, name another folder for the cache, or decode on the fly'
            )
        if self.limit is None:
            return
        sizes = {folder: _size(folder) for folder in self.folder.iterdir() if folder.is_dir()}
        total = sum(sizes.values()) + need
        used = {entry: _used(entry) for entry in sizes if not entry.name.startswith(WORKSPACE)}
        for entry in sorted(used, key=used.get):
            if total <= self.limit or used[entry] >= self._began:
                break
            shutil.rmtree(entry, ignore_errors=True)
            total -= sizes[entry]
        if total > self.limit:
            raise CacheError(
                f'{self.folder}: expected at most {_gb(self.limit)} of cached frames, found {_gb(total)} '
                f'with those of {path}: allow more, ask for smaller frames, or decode on the fly'
            )


def load(entry: Path) -> tuple[list[dict], dict[str, np.ndarray]]:
    """Return what an entry says of its sequences, and their arrays by 'NUMBER/NAME'."""
    with np.load(entry / 'arrays.npz') as arrays:
        return json.loads((entry / 'about.json').read_text()), dict(arrays)


def _read(recordings, wanted, write) -> tuple[list[dict], dict[str, np.ndarray]]:
    """Read recordings; those that hold no frame are named in the warnings of the first that does."""
    about, arrays, first, empty = [], {}, 0, []
    for recording in recordings:
        try:
            index, kept, geometries = (_index if wanted.stream else _decode)(recording, wanted, write)
        except RecordingError as error:
            empty.append(str(error))
            continue
        number = len(about)
        times = signals.FrameTimes(index.stamps_ns, index.log_ns)
        warnings = list(recording.warnings)
        if not times.stamped:
            warnings.append(
                f'{recording.path}: all header stamps are {index.stamps_ns[0]}; the bag time is used instead'
            )
        found = {'stamps_ns': times.ns}
        if wanted.stream:
            found |= {'log_ns': index.log_ns, 'places': index.places}
        for name, topic in wanted.labels.items():
            found[f'xy_{name}'], found[f'state_{name}'] = signals.read_points(
                recording, topic, times, geometries
            )
        for name, source in wanted.vectors.items():
            vector = signals.read_vectors(recording, source, times)
            if vector.shape[1]:  # a topic without a message says as much as none
                found[f'vector_{name}'] = vector
        for name, source in wanted.classes.items():
            values = signals.read_classes(recording, source, times)
            # Beside a shard's images there is one for each, also for those that do not decode.
            if len(values) != len(times.ns):
                values = [values[i] for i in kept]
            found[f'class_{name}'] = np.array(values)
        arrays |= {f'{number}/{name}': array for name, array in found.items()}
        about.append(
            {
                'name': recording.name,
                'member': recording.member,
                'first': first,
                'still': recording.still,
                'locator': recording.locator,
                'warnings': warnings,
            }
        )
        first += len(times.ns)
    if not about:
        raise RecordingError(empty[0])
    about[0]['warnings'] += empty
    return about, arrays


def _decode(recording: Recording, wanted: Wanted, write) -> tuple[FrameIndex, list[int], list[Geometry]]:
    """Write the frames that decode; return when they are, which they are, and which part of each is there."""
    stamps, logs, geometries, kept, faults = [], [], [], [], []
    for number, frame in enumerate(recording.frames()):
        try:
            image, geometry = fit(frame.image(), wanted.size)
        except ImageError as error:
            faults.append(f'{frame.name}: {error}' if frame.name else str(error))
            continue
        write(image.tobytes())
        stamps.append(frame.stamp_ns)
        logs.append(frame.log_ns)
        geometries.append(geometry)
        kept.append(number)
    if faults:
        named = '; '.join(faults[:NAMED]) + ('; ...' if len(faults) > NAMED else '')
        recording.warnings.append(f'{recording.path}: {len(faults)} frame(s) do not decode ({named})')
    if not stamps:
        raise RecordingError(
            f'{recording.path}: expected frames, found none; {"; ".join(recording.warnings)}'.rstrip('; ')
        )
    return (
        FrameIndex(np.array(stamps, np.int64), np.array(logs, np.int64), np.arange(len(stamps))),
        kept,
        geometries,
    )


def _index(recording: Recording, wanted: Wanted, write) -> tuple[FrameIndex, list[int], list[Geometry]]:
    """Find out where the frames are. All are taken to be as large as the first."""
    index = recording.index()
    if not len(index):
        raise RecordingError(
            f'{recording.path}: expected frames, found none; {"; ".join(recording.warnings)}'.rstrip('; ')
        )
    geometries = []
    if wanted.labels:
        image = next(recording.read(index, np.array([0])))
        geometries = [centre_crop(image.shape[1], image.shape[0], wanted.size)] * len(index)
    return index, list(range(len(index))), geometries


def _key(path: Path, wanted: Wanted) -> str:
    """Return a folder name that changes whenever the recording or what is wanted of it does."""
    kind = kind_of(path)
    if path.is_dir():
        pattern = '*' if kind and kind.name == 'images' else '**/*'
        files = sorted(f for f in path.glob(pattern) if f.is_file())
    else:
        files = [path]
    state = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    asked = [list(wanted.size), wanted.topic, wanted.rate, wanted.stream]
    asked += [sorted(table.items()) for table in (wanted.labels, wanted.vectors, wanted.classes)]
    digest = hashlib.sha256(json.dumps([CACHE_FORMAT, state, asked]).encode()).hexdigest()[:16]
    return f'{path.stem}-{digest}'


def _size(folder: Path) -> int:
    """Return the bytes in a folder, of which another process may just delete something."""
    total = 0
    for file in folder.glob('*'):
        try:
            total += file.stat().st_size
        except OSError:
            continue
    return total


def _touch(entry: Path) -> None:
    now = time.time()  # by this clock: the file system's own may be behind it
    with suppress(OSError):  # a cache that others own is only read
        os.utime(entry, (now, now))


def _used(entry: Path) -> float:
    try:
        return entry.stat().st_mtime
    except OSError:
        return 0.0


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _gb(count: int) -> str:
    return f'{count / 1e9:.3g} GB'
