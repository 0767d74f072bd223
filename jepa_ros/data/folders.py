# SPDX-License-Identifier: Apache-2.0
"""Folders of JPEG and PNG files: independent images, or the numbered frames of a video."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import numpy as np

from jepa_ros.data.bags import RecordingError
from jepa_ros.data.frames import VIDEO_START_NS, FrameIndex, RecordedFrame, Recording
from jepa_ros.images import ImageError, decode_compressed

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png')
NOTHING = np.empty(0, np.uint8)  # stands for a file that is gone; it does not decode
STILL_STEP_NS = 1_000_000_000  # between independent images, which have no time of their own
IS_SECONDS = re.compile(r'[0-9]+\.[0-9]+')
DIGITS_TO_NS = {13: 10**6, 16: 10**3, 19: 1}  # of a time since 1970: milli-, micro- and nanoseconds


def is_image(name: str) -> bool:
    """Whether the name of a file says that it is an image."""
    return name.lower().endswith(IMAGE_SUFFIXES)


class ImageFolder(Recording):
    """The images directly in a folder, in natural order of their names (frame_2 before frame_10).

    They are the frames of a video when their names are times, in seconds with a decimal point or in whole
    milli-, micro- or nanoseconds since 1970, or when a rate is given. Otherwise they are independent. An EXIF
    orientation is not applied, as for a camera's messages.

    :param rate: frames per second; the last number in each name counts frames from the first on, so that a
        missing file leaves a gap; where numbers are missing or repeat, the order counts.
    """

    def __init__(self, path: Path, rate: float | None = None):
        self.path, self.name, self.warnings, self.locator = path, path.name, [], ('images',)
        self._names = sorted(filter(is_image, os.listdir(path)), key=_natural)
        if all(map(IS_SECONDS.fullmatch, map(_stem, self._names))):
            self._names.sort(key=lambda name: Decimal(_stem(name)))
        if not self._names:
            raise RecordingError(f'{path}: expected images, found none')
        stems = [_stem(name) for name in self._names]
        stamps = _times(stems)
        if stamps is None and rate:
            stamps = _counted(stems, rate)
        self.still = stamps is None
        if stamps is None:
            stamps = [VIDEO_START_NS + i * STILL_STEP_NS for i in range(len(stems))]
        self._stamps = np.array(stamps, np.int64)
        self.count = len(stems)
        self.duration = 0.0 if self.still else (max(stamps) - min(stamps)) / 1e9
        self.rate = (self.count - 1) / self.duration if self.duration else 0.0

    @classmethod
    def at(cls, path: Path) -> ImageFolder:
        """Return one that can only `read`: what an index knows is not looked up again."""
        folder = cls.__new__(cls)
        folder.path = path
        return folder

    _what = 'a folder of images'

    @property
    def folder(self) -> str:
        return self.path.name if self.still else self.path.parent.name

    def frames(self) -> Iterator[RecordedFrame]:
        for name, stamp in zip(self._names, self._stamps.tolist()):
            try:
                data, about = self._bytes(name), name
            except RecordingError as error:
                data, about = NOTHING, str(error)
            yield RecordedFrame(stamp, stamp, 'camera', data, format=about, name=name)

    def index(self) -> FrameIndex:
        return FrameIndex(self._stamps, self._stamps, np.array([os.fsencode(name) for name in self._names]))

    def read(self, index: FrameIndex, positions: np.ndarray) -> Iterator[np.ndarray]:
        for name in map(os.fsdecode, index.places[positions].tolist()):
            try:
                yield decode_compressed(self._bytes(name), name)
            except ImageError as error:
                raise RecordingError(f'{self.path / name}: {error}') from error

    def _bytes(self, name: str) -> np.ndarray:
        try:
            return np.fromfile(self.path / name, np.uint8)
        except OSError as error:
            raise RecordingError(f'{self.path / name}: expected an image, found {error.strerror}') from error


def _stem(name: str) -> str:
    return name.rpartition('.')[0]


def _natural(name: str) -> list:
    """Return a sort key in which numbers count as numbers."""
    return [(0, int(part), part) if part.isdigit() else (1, 0, part) for part in re.split(r'([0-9]+)', name)]


def _times(stems: list[str]) -> list[int] | None:
    """Return the times (ns) that all names are, or None."""
    if all(map(IS_SECONDS.fullmatch, stems)):
        return [int(Decimal(stem) * 10**9) for stem in stems]
    lengths = {len(stem) if re.fullmatch(r'[0-9]+', stem) else 0 for stem in stems}
    unit = DIGITS_TO_NS.get(lengths.pop()) if len(lengths) == 1 else None
    return [int(stem) * unit for stem in stems] if unit else None


def _counted(stems: list[str], rate: float) -> list[int]:
    numbers = [int(found[-1]) if (found := re.findall(r'[0-9]+', stem)) else -1 for stem in stems]
    if -1 in numbers or len(set(numbers)) < len(numbers):
        numbers = list(range(len(stems)))
    return [VIDEO_START_NS + round((number - numbers[0]) * 1e9 / rate) for number in numbers]
