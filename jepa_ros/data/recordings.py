# SPDX-License-Identifier: Apache-2.0
"""Camera recordings: video files and the camera topics of bags, frame by frame, as they were recorded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from jepa_ros.data.bags import STORAGE_SUFFIXES, Bag, RecordingError, Topic
from jepa_ros.data.videos import VIDEO_SUFFIXES, Video
from jepa_ros.images import decode_compressed, decode_raw

__all__ = [
    'RecordedFrame',
    'Recording',
    'RecordingError',
    'VIDEO_START_NS',
    'camera_topics',
    'is_bag',
    'is_recording',
    'open_recording',
]

RAW_TYPE = 'sensor_msgs/msg/Image'
COMPRESSED_TYPE = 'sensor_msgs/msg/CompressedImage'
# A video's clock starts at 1 s: a zero stamp means "no stamp" in ROS.
VIDEO_START_NS = 1_000_000_000


@dataclass(frozen=True)
class RecordedFrame:
    """One camera message as it was recorded: raw (`encoding` is set) or compressed (`format` is set).

    :param stamp_ns: header stamp; of a video its presentation time, counted from VIDEO_START_NS.
    :param log_ns: the time at which the bag received it; of a video the same as `stamp_ns`.
    :param data: the bytes of the message (anything with a buffer of uint8).
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


class Recording(ABC):
    """The frames of one camera in one recording.

    Attributes: `path`; `topic` ('' for a video); `name` (for people); `count`, `duration` (s) and `rate`
    (Hz), all three estimates from what the file says of itself, 0 where it says nothing; `warnings`, one
    sentence for each fault found so far (damage at the end of a file is known only after it was read).
    """

    path: Path
    topic: str
    name: str
    count: int
    duration: float
    rate: float
    warnings: list[str]

    def __len__(self) -> int:
        return self.count

    @abstractmethod
    def frames(self) -> Iterator[RecordedFrame]:
        """Yield the frames in log order."""

    @abstractmethod
    def messages(self, topic: str) -> Iterator[tuple[int, object]]:
        """Yield the bag time (ns) and the message of another topic (labels, camera_info), in log order.

        :raises RecordingError: when there is no such topic.
        """


class VideoRecording(Recording):
    """A video file: its frames are raw rgb8 images."""

    def __init__(self, path: Path):
        self._video = Video(path)
        self.path, self.topic, self.name = path, '', path.stem
        self.count, self.duration, self.rate = self._video.count, self._video.duration, self._video.rate
        self.warnings = self._video.warnings

    def frames(self) -> Iterator[RecordedFrame]:
        for since_start_ns, image in self._video.frames():
            stamp_ns = VIDEO_START_NS + since_start_ns
            height, width, _ = image.shape
            yield RecordedFrame(
                stamp_ns, stamp_ns, 'camera', image.reshape(-1), 'rgb8', height, width, 3 * width
            )

    def messages(self, topic: str) -> Iterator[tuple[int, object]]:
        raise RecordingError(f'{self.path}: expected a bag with topic {topic}, found a video')


class BagRecording(Recording):
    """One camera topic of a bag."""

    def __init__(self, bag: Bag, topic: Topic):
        self._bag, self._msgtype = bag, topic.msgtype
        self.path, self.topic, self.name = bag.path, topic.name, f'{bag.path.stem}:{topic.name}'
        self.count, self.duration = topic.count, bag.duration
        self.rate = (topic.count - 1) / bag.duration if bag.duration and topic.count > 1 else 0.0
        self.warnings = bag.warnings

    def frames(self) -> Iterator[RecordedFrame]:
        for log_ns, message in self._bag.messages(self.topic):
            stamp = message.header.stamp
            about = (stamp.sec * 10**9 + stamp.nanosec, log_ns, message.header.frame_id, message.data)
            if self._msgtype == COMPRESSED_TYPE:
                yield RecordedFrame(*about, format=message.format)
            else:
                yield RecordedFrame(
                    *about,
                    message.encoding,
                    message.height,
                    message.width,
                    message.step,
                    bool(message.is_bigendian),
                )

    def messages(self, topic: str) -> Iterator[tuple[int, object]]:
        return self._bag.messages(topic)


def is_recording(path: Path) -> bool:
    """Whether the name of a path says that it is a bag or a video (it may still be damaged)."""
    if path.is_dir():
        return (path / 'metadata.yaml').is_file() or any(f.suffix in STORAGE_SUFFIXES for f in path.iterdir())
    return path.suffix.lower() in (*VIDEO_SUFFIXES, *STORAGE_SUFFIXES, '.bag')


def camera_topics(path: str | Path) -> list[tuple[str, str, int]]:
    """List the camera topics of a recording as (topic, type, number of frames).

    A video has one, with topic '' and type 'video/CODEC'.

    :raises RecordingError: when the recording cannot be read.
    """
    path = _existing(path)
    if is_bag(path):
        return [tuple(topic) for topic in _cameras(Bag(path))]
    video = Video(path)
    return [('', f'video/{video.codec}', video.count)]


def open_recording(path: str | Path, topic: str | None = None) -> Recording:
    """Open a video file, a rosbag2 (directory or storage file) or a ROS 1 bag.

    :param topic: the camera topic; None takes the only one there is, and is right for a video.
    :raises RecordingError: when the recording cannot be read, lacks the topic, or several cameras are there
        to choose from.
    """
    path = _existing(path)
    if not is_bag(path):
        if topic:
            raise RecordingError(f'{path}: expected a bag with topic {topic}, found a video')
        return VideoRecording(path)
    bag = Bag(path)
    cameras = _cameras(bag)
    listing = ', '.join(f'{camera.name} ({camera.count} frames)' for camera in cameras) or 'none'
    if topic:
        chosen = [camera for camera in cameras if camera.name.strip('/') == topic.strip('/')]
        if not chosen:
            raise RecordingError(f'{path}: expected camera topic {topic}, found {listing}')
    else:
        chosen = [camera for camera in cameras if camera.count]
        if len(chosen) != 1:
            raise RecordingError(f'{path}: expected one camera topic or the name of one, found {listing}')
    return BagRecording(bag, chosen[0])


def _cameras(bag: Bag) -> list[Topic]:
    return [topic for topic in bag.topics if topic.msgtype in (RAW_TYPE, COMPRESSED_TYPE)]


def is_bag(path: Path) -> bool:
    """Whether a path that exists would be opened as a bag, not as a video."""
    return path.is_dir() or path.suffix in (*STORAGE_SUFFIXES, '.bag')


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.exists():
        raise RecordingError(f'{path}: expected a video or a bag, found no such file')
    return path
