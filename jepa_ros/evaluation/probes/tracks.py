# SPDX-License-Identifier: Apache-2.0
"""Sequences to probe on: stretches of recordings without a break, what else was recorded, and splits of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from jepa_ros.data import signals
from jepa_ros.data.frames import Recording
from jepa_ros.data.recordings import RecordingError, camera_topics, is_bag, open_recording
from jepa_ros.data.sequences import assert_disjoint, find_recordings, segments
from jepa_ros.evaluation.probes.scores import ProbeError
from jepa_ros.images import Geometry, centre_crop

MAX_GAP = 1.0  # s without frames that end a sequence
SPLITS = ('train', 'validation', 'held_out')


class Source:
    """One camera of one recording, with its frame times; what else was recorded is read when it is asked for.

    :param recording: open.
    :raises RecordingError: when it cannot be read.
    """

    def __init__(self, recording: Recording):
        self.recording = recording
        index = recording.index()
        self.times = signals.FrameTimes(index.stamps_ns, index.log_ns)
        self._read: dict[tuple, object] = {}

    @property
    def key(self) -> str:
        """What tells this file, as it is now, from any other."""
        path = Path(self.recording.path)
        files = sorted(p for p in path.rglob('*') if p.is_file()) if path.is_dir() else [path]
        sizes = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        return f'{path.resolve()}|{self.recording.topic}|{sizes}'

    @cached_property
    def size(self) -> tuple[int, int]:
        """Height and width of the received frames, px."""
        return next(iter(self.recording.frames())).image().shape[:2]

    def read(self, kind: str, topic: str, reader: Callable[[], object]):
        """Return what a reader gives, read once; a RecordingError is remembered too."""
        if (kind, topic) not in self._read:
            try:
                self._read[kind, topic] = reader()
            except RecordingError as error:
                self._read[kind, topic] = error
        found = self._read[kind, topic]
        if isinstance(found, RecordingError):
            raise found
        return found


@dataclass(frozen=True)
class Track:
    """
    A stretch of one camera's frames without a break.

    :param name: for people, and to pair encoders by.
    :param group: what it is split and resampled with: cameras that saw the same thing have one.
    :param source: the recording it is from.
    :param first: position of its first frame in the recording; `stop`: behind its last one.
    """

    name: str
    group: str
    source: Source
    first: int
    stop: int

    @property
    def path(self) -> Path:
        """The recording."""
        return Path(self.source.recording.path)

    @property
    def stamps_ns(self) -> np.ndarray:
        """int64 [T], ascending."""
        return self.source.times.ns[self.first : self.stop]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the received frames, px."""
        return self.source.size

    def points(self, topic: str) -> tuple[np.ndarray, np.ndarray]:
        """Places float32 [T, 2] in 0..1 of the received image and states uint8 [T] (`augment`: VISIBLE ...)."""

        def read():
            height, width = self.source.size
            whole = Geometry(width, height, 0, 0, width, height)
            geometries = [whole] * len(self.source.times.ns)
            return signals.read_points(self.source.recording, topic, self.source.times, geometries)

        xy, state = self.source.read('points', topic, read)
        return xy[self.first : self.stop], state[self.first : self.stop]

    def vectors(self, topic: str) -> np.ndarray:
        """float32 [T, P], NaN where unknown; see `signals.read_vectors` for what can be read."""
        recording, times = self.source.recording, self.source.times
        found = self.source.read('vectors', topic, lambda: signals.read_vectors(recording, topic, times))
        return found[self.first : self.stop]

    def classes(self, topic: str) -> np.ndarray:
        """str [T], '' where unknown; see `signals.read_classes` for what can be read."""
        recording, times = self.source.recording, self.source.times
        read = self.source.read('classes', topic, lambda: signals.read_classes(recording, topic, times))
        return np.array(read[self.first : self.stop], str)

    def depth(self, topic: str, aspect: tuple[int, int], grid: tuple[int, int], at: np.ndarray) -> np.ndarray:
        """
        Depth of the part of the image that a model sees, at some frames: only these are decoded.

        :param topic: of 16UC1 (mm) or 32FC1 (m): sensor_msgs/Image, or CompressedImage of compressedDepth (PNG).
        :param aspect: (height, width) of the model's frames, of which only the ratio counts.
        :param grid: rows and columns.
        :param at: int64 [M], positions of the frames.
        :returns: float32 [M, rows * columns], m, the median of each cell, NaN where nothing is known.
        """
        wanted = tuple((self.first + at).tolist())
        return self.source.read(
            f'depth{aspect}{grid}{wanted}', topic, lambda: _depth(self.source, topic, aspect, grid, wanted)
        )

    def later(self, at: np.ndarray, seconds: float) -> np.ndarray:
        """
        Positions of the frames that lie some time after others.

        :param at: int64 [M]; `seconds`: after them, negative: before.
        :returns: int64 [M], -1 where the nearest frame is further off than half the usual interval.
        """
        stamps = self.stamps_ns
        wanted = stamps[at] + round(seconds * 1e9)
        right = np.clip(np.searchsorted(stamps, wanted), 1, len(stamps) - 1)
        nearest = np.where(wanted - stamps[right - 1] <= stamps[right] - wanted, right - 1, right)
        reach = np.median(np.diff(stamps)) / 2 + 1e6
        return np.where(np.abs(stamps[nearest] - wanted) <= reach, nearest, -1)

    def moments(self, span: float, stride: float, reach: float) -> np.ndarray:
        """
        Positions of the frames at which clips end: as many as lie `stride` apart.

        :param span: s of frames that must lie before; `reach`: s that must follow.
        :returns: int64 [M].
        """
        stamps = self.stamps_ns
        step = int(np.median(np.diff(stamps))) if len(stamps) > 1 else 0
        # The oldest of the frames of a span lies one interval less than the span before its newest.
        first, last = stamps[0] + round(span * 1e9) - step, stamps[-1] - round(reach * 1e9)
        wanted = np.arange(first, last + 1, round(stride * 1e9))
        return np.unique(np.searchsorted(stamps, wanted - 10**6)).astype(np.int64)


@dataclass(frozen=True)
class Splits:
    """The same for every encoder that is compared. `held_out` may be empty: then nothing is held out."""

    train: tuple[Track, ...]
    validation: tuple[Track, ...]
    held_out: tuple[Track, ...] = ()

    def __post_init__(self):
        groups: dict[str, str] = {}
        for split in SPLITS:
            for track in getattr(self, split):
                if groups.setdefault(track.group, split) != split:
                    raise ProbeError(
                        f'expected {track.group} in one split, found it in {groups[track.group]} and {split}'
                    )
        if not self.train or not self.validation:
            raise ProbeError(
                'expected sequences to train on and others to choose on, found none of one of them'
            )


def tracks_of(path: str | Path, topic: str | None = None, max_gap: float = MAX_GAP) -> list[Track]:
    """
    Return the sequences of a recording: each camera, cut where its stamps step back or leave a gap.

    Each stretch is a group, which is what intervals draw anew: episodes lie in one bag with a gap between them. A camera that
    stalls parts a recording likewise; then raise `max_gap`.

    :param topic: of the camera; None: all cameras of a bag, which then share their groups.
    :param max_gap: s.
    :raises RecordingError: when it cannot be read.
    """
    path = Path(path)
    topics = (
        [topic] if topic or not is_bag(path) else [name for name, _, count in camera_topics(path) if count]
    )
    found = []
    for camera in topics:
        recording = open_recording(path, camera)
        source = Source(recording)
        stretches = segments(source.times.ns, max_gap)
        for number, (first, stop) in enumerate(stretches):
            part = f'#{number}' if len(stretches) > 1 else ''
            of_camera = f':{camera}' if len(topics) > 1 else ''
            found.append(Track(f'{path.stem}{of_camera}{part}', f'{path.stem}{part}', source, first, stop))
    return found


def load_splits(
    train: Iterable,
    validation: Iterable,
    held_out: Iterable = (),
    topic: str | None = None,
    limits: Sequence[int | None] = (None, None, None),
    tick: Callable[[int, int], None] = lambda done, of: None,
) -> Splits:
    """
    Open the recordings of each split.

    :param train: files, folders or globs; the others likewise.
    :param limits: of each split at most so many recordings, spread over all.
    :param tick: called with how many were opened, of how many.
    :raises RecordingError: for a pattern that finds nothing, or a recording in two splits.
    :raises ProbeError: when a split to train or choose on has no sequence.
    """
    patterns = {name: list(given) for name, given in zip(SPLITS, (train, validation, held_out))}
    assert_disjoint(**patterns)
    paths = {
        name: _some(find_recordings(given), limit) for (name, given), limit in zip(patterns.items(), limits)
    }
    count, done, loaded = sum(map(len, paths.values())), 0, {}
    for name, found in paths.items():
        loaded[name] = []
        for path in found:
            loaded[name] += tracks_of(path, topic)
            done += 1
            tick(done, count)
    return Splits(**{name: tuple(found) for name, found in loaded.items()})


def split_by_group(tracks: Iterable[Track], shares: Sequence[float] = (0.6, 0.2, 0.2)) -> Splits:
    """
    Split sequences that come together: the groups in their order, the first to train on.

    Neighbours in time stay together, so that little of what is held out was seen just before.

    :param shares: of train, validation and held out; the last may be 0.
    :raises ProbeError: when a split to train or choose on is left without sequence.
    """
    tracks = list(tracks)
    groups = list(dict.fromkeys(track.group for track in tracks))
    edges = np.round(np.cumsum([0, *shares]) / sum(shares) * len(groups)).astype(int)
    parts = [set(groups[a:b]) for a, b in zip(edges[:-1], edges[1:])]
    return Splits(*(tuple(track for track in tracks if track.group in part) for part in parts))


def _some(paths: list[Path], limit: int | None) -> list[Path]:
    if limit is None or len(paths) <= limit:
        return paths
    return [paths[i] for i in np.linspace(0, len(paths) - 1, limit).round().astype(int)]


def _depth(source: Source, topic: str, aspect, grid, at) -> np.ndarray:
    found = np.full((len(at), grid[0] * grid[1]), np.nan, np.float32)
    place = {int(source.times.ns[position]): i for i, position in enumerate(at)}
    for log_ns, message in source.recording.messages(topic):
        stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        number = place.get(stamp if source.times.stamped else log_ns)
        if number is not None:
            found[number] = cells(_metres(message, topic), aspect, grid)
    return found


def _metres(message, topic: str) -> np.ndarray:
    """Return a depth image in m, float32 [H, W], NaN where unknown."""
    data = np.frombuffer(message.data, np.uint8)
    if hasattr(message, 'format'):
        start = data.tobytes()[:64].find(b'\x89PNG')  # behind the header of compressed_depth_image_transport
        raw = cv2.imdecode(data[max(start, 0) :], cv2.IMREAD_UNCHANGED) if start >= 0 else None
        if raw is None or raw.dtype != np.uint16:
            raise RecordingError(f'expected {topic} to be a PNG of 16UC1, found {message.format!r}')
    else:
        kinds = {'16UC1': np.uint16, 'mono16': np.uint16, '32FC1': np.float32}
        if message.encoding not in kinds:
            raise RecordingError(f'expected {topic} to be 16UC1 or 32FC1, found {message.encoding!r}')
        dtype = np.dtype(kinds[message.encoding]).newbyteorder('>' if message.is_bigendian else '<')
        rows = data[: message.height * message.step].reshape(message.height, message.step)
        raw = np.ascontiguousarray(rows[:, : message.width * dtype.itemsize]).view(dtype)
    metres = raw.astype(np.float32) * (1e-3 if raw.dtype.kind == 'u' else 1)
    return np.where(np.isfinite(metres) & (metres > 0), metres, np.nan)


def cells(metres: np.ndarray, aspect: tuple[int, int], grid: tuple[int, int]) -> np.ndarray:
    """Return the median of each cell of a grid over the model's crop, float32 [rows * columns], NaN: unknown."""
    crop = centre_crop(metres.shape[1], metres.shape[0], aspect)
    seen = metres[crop.y : crop.y + crop.crop_height, crop.x : crop.x + crop.crop_width]
    rows, columns = (np.array_split(np.arange(n), parts) for n, parts in zip(seen.shape, grid))
    found = []
    for row in rows:
        for column in columns:
            known = seen[row[0] : row[-1] + 1, column[0] : column[-1] + 1]
            known = known[~np.isnan(known)]
            found.append(np.median(known) if known.size else np.nan)
    return np.array(found, np.float32)
