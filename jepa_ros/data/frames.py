# SPDX-License-Identifier: Apache-2.0
"""What all kinds of recordings are to their readers: frames in order, and any frame by its place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jepa_ros.data.bags import RecordingError
from jepa_ros.images import decode_compressed, decode_raw

# A video's clock starts at 1 s: a zero stamp means "no stamp" in ROS.
VIDEO_START_NS = 1_000_000_000


@dataclass(frozen=True)
class RecordedFrame:
    """One camera message as it was recorded: raw (`encoding` is set) or compressed (`format` is set).

    :param stamp_ns: header stamp; of a video its presentation time, counted from VIDEO_START_NS.
    :param log_ns: the time at which the bag received it; of anything else the same as `stamp_ns`.
    :param data: the bytes of the message (anything with a buffer of uint8).
    :param name: its file, where each frame is one.
    """

    stamp_ns: int
    log_ns: int
    frame_id: str
    data: np.ndarray = field(repr=False)
    encoding: str | None = None
    height: int = 0
    width: int = 0
    step: int = 0
    is_bigendian: bool = False
    format: str | None = None
    name: str = ''

    @property
    def compressed(self) -> bool:
        """Whether this was a CompressedImage."""
        return self.encoding is None

    def image(self) -> np.ndarray:
        """Return the decoded frame, RGB uint8 [H, W, 3].

        :raises ImageError: when it does not decode.
        """
        if self.compressed:
            return decode_compressed(self.data, self.format)
        return decode_raw(self.encoding, self.height, self.width, self.step, self.is_bigendian, self.data)


@dataclass(frozen=True)
class FrameIndex:
    """Where the frames of a recording are, so that any of them can be decoded without the ones before.

    :param stamps_ns: int64 [T], as in RecordedFrame.
    :param log_ns: int64 [T], likewise.
    :param places: [T, ...], whatever the kind of recording finds its frames by.
    """

    stamps_ns: np.ndarray
    log_ns: np.ndarray
    places: np.ndarray

    def __len__(self) -> int:
        return len(self.stamps_ns)


class Member(NamedTuple):
    """The place of a file in a shard, bytes."""

    offset: int
    size: int

    def bytes_of(self, path: Path) -> bytes:
        """:raises RecordingError: when the shard ends before the member does, or is gone."""
        try:
            with open(path, 'rb') as file:
                file.seek(self.offset)
                data = file.read(self.size)
        except OSError as error:
            raise RecordingError(f'{path}: expected a shard, found {error.strerror}') from error
        if len(data) != self.size:
            raise RecordingError(f'{path}: expected {self.size} bytes at {self.offset}, found {len(data)}')
        return data


class Recording(ABC):
    """The frames of one camera in one recording.

    Attributes: `path`; `locator`, what `recordings.reopen` needs beside the path to read frames again
    (numbers and strings); `topic` ('' where there are no topics); `member`, its key in a shard (''
    elsewhere); `name` (for people); `still`, whether the frames are independent images without a time;
    `count`, `duration` (s) and `rate` (Hz), all three estimates from what the file says of itself, 0 where it
    says nothing; `warnings`, one sentence for each fault found so far (damage at the end of a file is known
    only after it was read).
    """

    path: Path
    locator: tuple = ()
    topic: str = ''
    member: str = ''
    name: str
    still: bool = False
    count: int
    duration: float
    rate: float
    warnings: list[str]

    def __len__(self) -> int:
        return self.count

    @property
    def folder(self) -> str:
        """The name of the folder it lies in, which is its class in many collections."""
        return self.path.parent.name

    @abstractmethod
    def frames(self) -> Iterator[RecordedFrame]:
        """Yield the frames in log order."""

    def index(self) -> FrameIndex:
        """Return where the frames are. Frames are not decoded for it where the file can tell."""
        times = np.array([(frame.stamp_ns, frame.log_ns) for frame in self.frames()], np.int64).reshape(-1, 2)
        return FrameIndex(times[:, 0], times[:, 1], np.arange(len(times)))

    def read(self, index: FrameIndex, positions: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the frames at some positions of the index, RGB uint8 [H, W, 3]: those that `frames` gives.

        :param positions: int [F], ascending.
        :raises RecordingError: for a frame that is not there, or no longer.
        :raises ImageError: for one that does not decode.
        """
        wanted = iter(positions.tolist())
        position = next(wanted, None)
        for at, frame in enumerate(self.frames()):
            while at == position:
                yield frame.image()
                position = next(wanted, None)
            if position is None:
                return
        raise RecordingError(f'{self.path}: expected frame {position}, found the end')

    def messages(self, topic: str) -> Iterator[tuple[int, object]]:
        """Yield the bag time (ns) and the message of another topic (labels, camera_info), in log order.

        :raises RecordingError: when there is no such topic.
        """
        raise RecordingError(f'{self.path}: expected a bag with topic {topic}, found {self._what}')

    def texts(self, source: str) -> list[str] | None:
        """Return what a file beside each frame says, [T], or None when there are none of this kind."""
        return None

    _what = 'no bag'
