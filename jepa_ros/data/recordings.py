# SPDX-License-Identifier: Apache-2.0
"""Camera recordings of every kind that is known: bags, videos, folders of images, shards."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jepa_ros.data.bags import STORAGE_SUFFIXES, Bag, RecordingError, Topic
from jepa_ros.data.folders import ImageFolder, is_image
from jepa_ros.data.frames import VIDEO_START_NS, FrameIndex, RecordedFrame, Recording
from jepa_ros.data.shards import SHARD_SUFFIX, ShardImages, open_shard
from jepa_ros.data.videos import VIDEO_SUFFIXES, Video, VideoRecording

__all__ = [
    'KINDS',
    'FrameIndex',
    'Kind',
    'RecordedFrame',
    'Recording',
    'RecordingError',
    'VIDEO_START_NS',
    'camera_topics',
    'cameras_in',
    'is_bag',
    'is_recording',
    'kind_of',
    'known_kinds',
    'open_recording',
    'open_recordings',
    'reopen',
]

RAW_TYPE = 'sensor_msgs/msg/Image'
COMPRESSED_TYPE = 'sensor_msgs/msg/CompressedImage'
DEPTH_ENDING = '/compressedDepth'  # of a topic of image_transport: a CompressedImage, but no picture


class BagRecording(Recording):
    """One camera topic of a bag."""

    def __init__(self, bag: Bag, topic: Topic):
        self._bag, self._msgtype = bag, topic.msgtype
        self.path, self.topic, self.name = bag.path, topic.name, f'{bag.path.stem}:{topic.name}'
        self.count, self.duration = topic.count, bag.duration
        self.rate = (topic.count - 1) / bag.duration if bag.duration and topic.count > 1 else 0.0
        self.warnings, self.locator = bag.warnings, ('bag', topic.name)

    def frames(self) -> Iterator[RecordedFrame]:
        return self._frames()

    def _frames(self, start: int | None = None, stop: int | None = None) -> Iterator[RecordedFrame]:
        for log_ns, message in self._bag.messages(self.topic, start, stop):
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

    def read(self, index: FrameIndex, positions: np.ndarray) -> Iterator[np.ndarray]:
        logs = index.log_ns
        if (np.diff(logs) < 0).any():  # storage files out of order: only counting finds a frame
            yield from super().read(index, positions)
            return
        first = int(np.searchsorted(logs, logs[positions[0]]))  # the first of those with the same bag time
        wanted, at = positions.tolist(), first - 1
        for frame in self._frames(int(logs[first]), int(logs[wanted[-1]]) + 1):
            at += 1
            if at >= len(logs) or frame.log_ns != logs[at]:
                break  # what was readable when the index was made no longer is
            while wanted and at == wanted[0]:
                yield frame.image()
                wanted.pop(0)
        if wanted:
            raise RecordingError(
                f'{self.path}: expected frame {wanted[0]} of {self.topic}, found it unreadable'
            )

    def messages(self, topic: str) -> Iterator[tuple[int, object]]:
        return self._bag.messages(topic)


class Kind(NamedTuple):
    """One kind of recording.

    :param what: for people: how such recordings are named.
    :param matches: whether the name of a path (which exists) says that it is one; it may still be damaged.
    :param open: takes the path, a camera topic or None, and frames per second or None; returns its
        recordings.
    """

    name: str
    what: str
    matches: Callable[[Path], bool]
    open: Callable[[Path, str | None, float | None], list[Recording]]


def _is_bag(path: Path) -> bool:
    if path.is_dir():
        return (path / 'metadata.yaml').is_file() or _is_bag_of_a_killed_recorder(path)
    return path.suffix in (*STORAGE_SUFFIXES, '.bag')


def _is_bag_of_a_killed_recorder(path: Path) -> bool:
    """
    Whether a folder without metadata holds the parts of one bag, and not several recordings side by side.
    """
    with os.scandir(path) as entries:
        names = {Path(entry.name): entry.is_dir() for entry in entries}
    parts = {re.sub(r'_\d+$', '', name.stem) for name in names if name.suffix in STORAGE_SUFFIXES}
    others = any(
        _is_bag(path / name) if folder else name.suffix.lower() in ('.bag', *VIDEO_SUFFIXES)
        for name, folder in names.items()
    )
    return len(parts) == 1 and not others


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.is_dir()


def _is_shard(path: Path) -> bool:
    return path.suffix == SHARD_SUFFIX and not path.is_dir()


def _is_image_folder(path: Path) -> bool:
    if not path.is_dir():
        return False
    found = False
    with os.scandir(path) as entries:
        for entry in entries:
            if Path(entry.name).suffix.lower() in (*VIDEO_SUFFIXES, *STORAGE_SUFFIXES, SHARD_SUFFIX, '.bag'):
                return False  # pictures beside recordings are their thumbnails
            found = found or is_image(entry.name)
    return found


def cameras_in(bag: Bag) -> list[Topic]:
    """Return the topics of a bag that hold pictures of a camera."""
    return [
        topic
        for topic in bag.topics
        if topic.msgtype in (RAW_TYPE, COMPRESSED_TYPE) and not topic.name.endswith(DEPTH_ENDING)
    ]


def _open_bag(path: Path, topic: str | None, rate: float | None) -> list[Recording]:
    bag = Bag(path)
    cameras = cameras_in(bag)
    listing = ', '.join(f'{camera.name} ({camera.count} frames)' for camera in cameras) or 'none'
    if topic:
        chosen = [camera for camera in cameras if camera.name.strip('/') == topic.strip('/')]
        if not chosen:
            raise RecordingError(f'{path}: expected camera topic {topic}, found {listing}')
    else:
        chosen = [camera for camera in cameras if camera.count]
        if len(chosen) != 1:
            raise RecordingError(f'{path}: expected one camera topic or the name of one, found {listing}')
    return [BagRecording(bag, chosen[0])]


KINDS = {
    kind.name: kind
    for kind in (
        Kind('bag', 'a bag (rosbag2 folder, .mcap, .db3, ROS 1 .bag)', _is_bag, _open_bag),
        Kind('video', f'a video ({", ".join(VIDEO_SUFFIXES)})', _is_video, lambda p, *_: [VideoRecording(p)]),
        Kind('shard', 'a WebDataset shard (.tar)', _is_shard, lambda path, *_: open_shard(path)),
        Kind(
            'images',
            'a folder of images (.jpg, .jpeg, .png)',
            _is_image_folder,
            lambda path, _, rate: [ImageFolder(path, rate)],
        ),
    )
}


def known_kinds() -> str:
    """Return what can be read, as the end of a sentence."""
    return ', '.join(kind.what for kind in KINDS.values())


def kind_of(path: Path) -> Kind | None:
    """Return the kind that the name of a path (which exists) speaks of, or None."""
    return next((kind for kind in KINDS.values() if kind.matches(path)), None)


def is_recording(path: Path) -> bool:
    """Whether the name of a path says that it is a recording (it may still be damaged)."""
    return kind_of(path) is not None


def is_bag(path: Path) -> bool:
    """Whether a path that exists would be opened as a bag."""
    return _is_bag(path)


def camera_topics(path: str | Path) -> list[tuple[str, str, int]]:
    """List the camera topics of a recording as (topic, type, number of frames).

    A video has one, with topic '' and type 'video/CODEC'; so has a folder of images, with type 'images'.
    Topics that end in /compressedDepth hold no pictures and are left out.

    :raises RecordingError: when the recording cannot be read.
    """
    path = _existing(path)
    if is_bag(path):
        return [tuple(topic) for topic in cameras_in(Bag(path))]
    kind = _kind_to_open(path)
    if kind.name == 'video':
        video = Video(path)
        return [('', f'video/{video.codec}', video.count)]
    return [('', kind.name, sum(len(recording) for recording in kind.open(path, None, None)))]


def open_recordings(path: str | Path, topic: str | None = None, rate: float | None = None) -> list[Recording]:
    """Open all recordings of a path: one, except in a shard, where each video is one.

    :param topic: the camera topic of a bag; None takes the only one there is, and is right for all else.
    :param rate: frames per second of the images in a folder, where their names do not tell the time; None
        leaves them independent of each other.
    :raises RecordingError: when the recording cannot be read, lacks the topic, or several cameras are there
        to choose from.
    """
    path = _existing(path)
    kind = _kind_to_open(path)
    if topic and kind.name != 'bag':
        raise RecordingError(
            f'{path}: expected a bag with topic {topic}, found {kind.what.partition(" (")[0]}'
        )
    return kind.open(path, topic, rate)


def open_recording(path: str | Path, topic: str | None = None, rate: float | None = None) -> Recording:
    """Open the one recording of a path; the parameters are those of `open_recordings`.

    :raises RecordingError: also when a shard holds several.
    """
    recordings = open_recordings(path, topic, rate)
    if len(recordings) != 1:
        raise RecordingError(f'{path}: expected one recording, found {len(recordings)}')
    return recordings[0]


@lru_cache(maxsize=64)  # a bag's index is worth keeping
def reopen(path: Path, *locator) -> Recording:
    """Return a recording that can `read` with the index that an earlier opening gave.

    :param locator: that recording's `locator`.
    :raises RecordingError: when it is no longer there.
    """
    kind, *where = locator
    if kind == 'bag':
        return _open_bag(_existing(path), *where, None)[0]
    return {'video': VideoRecording, 'images': ImageFolder, 'shard': ShardImages}[kind].at(path, *where)


def _kind_to_open(path: Path) -> Kind:
    kind = kind_of(path)
    if kind is not None:
        return kind
    if path.is_dir():
        raise RecordingError(f'{path}: expected {known_kinds()}, found a folder without any')
    return KINDS['video']  # FFmpeg knows many more suffixes


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.exists():
        raise RecordingError(f'{path}: expected {known_kinds()}, found no such file')
    return path
