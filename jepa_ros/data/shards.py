# SPDX-License-Identifier: Apache-2.0
"""WebDataset shards: tar files whose members form samples by the name before the first dot.

https://github.com/webdataset/webdataset defines the names. That library streams shards from end to end; here
single members are read by their place in the file, which a seeded draw of clips needs, so the tar is read
directly. Samples are the same (a test reads shards both ways).
"""

from __future__ import annotations

import logging
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jepa_ros.data.bags import RecordingError
from jepa_ros.data.folders import IMAGE_SUFFIXES, NOTHING, STILL_STEP_NS
from jepa_ros.data.frames import VIDEO_START_NS, FrameIndex, Member, RecordedFrame, Recording
from jepa_ros.data.videos import VIDEO_SUFFIXES, VideoRecording
from jepa_ros.images import ImageError, decode_compressed

logger = logging.getLogger(__name__)

SHARD_SUFFIX = '.tar'


class Samples(NamedTuple):
    """What a shard holds: for each key its members by extension (lower case), and a fault or ''."""

    members: dict[str, dict[str, Member]]
    fault: str


def expand_braces(pattern: str) -> list[str]:
    """Return the names that a pattern like 'train-{000..009}.tar' or '{a,b}.tar' stands for, as a shell does.

    :param pattern: the name of a file that exists stands for itself.
    """
    if '{' not in pattern or Path(pattern).exists():
        return [pattern]
    return _expanded(pattern)


def _expanded(text: str) -> list[str]:
    """Expand the first braces that mean something, then what follows."""
    for start in (match.start() for match in re.finditer(r'\{', text)):
        depth, cuts = 0, [start]
        for at in range(start, len(text)):
            depth += {'{': 1, '}': -1}.get(text[at], 0)
            if text[at] == ',' and depth == 1:
                cuts.append(at)
            if depth == 0:
                break
        else:
            continue  # never closed: an ordinary character
        parts = [text[a + 1 : b] for a, b in zip(cuts, [*cuts[1:], at])]
        span = re.fullmatch(r'([0-9]+)\.\.([0-9]+)', parts[0])
        if len(parts) == 1 and not span:
            continue  # '{name}' stands for itself
        if len(parts) == 1:
            first, last = map(int, span.groups())
            padded = any(len(number) > 1 and number[0] == '0' for number in span.groups())
            width = max(map(len, span.groups())) if padded else 0
            way = 1 if last >= first else -1
            parts = [f'{number:0{width}}' for number in range(first, last + way, way)]
        else:
            parts = [name for part in parts for name in _expanded(part)]
        return [text[:start] + part + rest for part in parts for rest in _expanded(text[at + 1 :])]
    return [text]


def read_samples(path: Path) -> Samples:
    """List the samples of a shard. What stands before a damage is listed, and the damage is named.

    :raises RecordingError: when nothing in it can be read.
    """
    samples: dict[str, dict[str, Member]] = {}
    fault = ''
    try:
        size = path.stat().st_size
        with tarfile.open(path, 'r:') as tar:
            for info in tar:
                key, extension = _name(info.name)
                if not info.isreg() or not key:
                    continue
                if info.offset_data + info.size > size:
                    fault = f'is cut off in member {info.name}'
                    break
                samples.setdefault(key, {}).setdefault(extension, Member(info.offset_data, info.size))
                tar.members = []  # it would keep them all
    except (tarfile.TarError, OSError, ValueError) as error:
        fault = f'is damaged ({error})'
    if not samples:
        raise RecordingError(
            f'{path}: expected a WebDataset shard, found a file that {fault or "holds no samples"}'
        )
    return Samples(samples, fault)


def open_shard(path: Path) -> list[Recording]:
    """Open what a shard holds: all its images as one recording of independent frames, and each of its videos.

    Videos that cannot be read are named in the log and left out.

    :raises RecordingError: when nothing is left.
    """
    samples, fault = read_samples(path)
    recordings: list[Recording] = []
    images = {key: image for key, members in samples.items() if (image := _of(members, IMAGE_SUFFIXES))}
    if images:
        recordings.append(ShardImages(path, images, samples))
    faults = []
    for key, members in samples.items():
        if key not in images and (video := _of(members, VIDEO_SUFFIXES)):
            try:
                recordings.append(ShardVideo(path, key, video, members))
            except RecordingError as error:
                faults.append(str(error))
    if not recordings:
        raise RecordingError(
            faults[0] if faults else f'{path}: expected images or videos in its samples, found none'
        )
    if fault:
        faults.insert(0, f'{path} {fault}; {len(samples)} samples are there')
    recordings[0].warnings += faults
    return recordings


class ShardImages(Recording):
    """The images of a shard, independent of each other."""

    def __init__(self, path: Path, images: dict[str, Member], samples: dict[str, dict[str, Member]]):
        self.path, self.name, self.warnings, self.still, self.locator = path, path.stem, [], True, ('shard',)
        self._images, self._samples = images, samples
        self.count, self.duration, self.rate = len(images), 0.0, 0.0

    @classmethod
    def at(cls, path: Path) -> ShardImages:
        """Return one that can only `read`: what an index knows is not looked up again."""
        shard = cls.__new__(cls)
        shard.path = path
        return shard

    _what = 'a shard of images'

    def frames(self) -> Iterator[RecordedFrame]:
        index = self.index()
        for stamp, (key, place) in zip(index.stamps_ns.tolist(), self._images.items()):
            try:
                data, about = np.frombuffer(place.bytes_of(self.path), np.uint8), key
            except RecordingError as error:
                data, about = NOTHING, str(error)
            yield RecordedFrame(stamp, stamp, 'camera', data, format=about, name=key)

    def index(self) -> FrameIndex:
        stamps = VIDEO_START_NS + np.arange(len(self._images), dtype=np.int64) * STILL_STEP_NS
        return FrameIndex(stamps, stamps, np.array(list(self._images.values()), np.int64))

    def read(self, index: FrameIndex, positions: np.ndarray) -> Iterator[np.ndarray]:
        for place in index.places[positions].tolist():
            try:
                yield decode_compressed(Member(*place).bytes_of(self.path))
            except ImageError as error:
                raise RecordingError(f'{self.path}, member at byte {place[0]}: {error}') from error

    def texts(self, source: str) -> list[str] | None:
        return [_text(self.path, self._samples[key].get(source)) for key in self._images]


class ShardVideo(VideoRecording):
    """One video in a shard."""

    def __init__(self, path: Path, key: str, video: Member, members: dict[str, Member]):
        super().__init__(path, key, video)
        self._members = members

    def texts(self, source: str) -> list[str] | None:
        return [_text(self.path, self._members.get(source))]


def _name(name: str) -> tuple[str, str]:
    """Split the name of a member into key and extension; ('', '') where it is part of no sample."""
    match = re.fullmatch(r'((?:.*/)?[^./][^./]*)\.([^/]*)', name)
    if not match or re.match(r'__[^/]*__($|/)', name):
        return '', ''
    return match[1], match[2].lower()


def _of(members: dict[str, Member], suffixes: tuple[str, ...]) -> Member | None:
    return next((member for name, member in members.items() if f'.{name}'.endswith(suffixes)), None)


def _text(path: Path, member: Member | None) -> str:
    return '' if member is None else member.bytes_of(path).decode(errors='replace').strip()
