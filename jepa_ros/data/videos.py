# SPDX-License-Identifier: Apache-2.0
"""Video files as RGB frames with their presentation times, through PyAV."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np

from jepa_ros.data.bags import RecordingError
from jepa_ros.data.frames import VIDEO_START_NS, FrameIndex, Member, RecordedFrame, Recording

VIDEO_SUFFIXES = ('.mp4', '.mkv', '.webm', '.avi', '.mov', '.m4v', '.ts', '.mpg', '.mpeg')


def import_av():
    """:raises RecordingError: naming the package, when PyAV is not installed."""
    try:
        import av
    except ImportError as error:
        raise RecordingError(f'videos are read with PyAV: pip install av ({error})') from error
    return av


class Video:
    """One video file.

    :param path: any file FFmpeg reads.
    :param place: where in the file it is, if it is a member of a shard.
    :param name: for messages; default: the path.
    :raises RecordingError: when it is no video.
    """

    def __init__(self, path: Path, place: Member | None = None, name: str = ''):
        self.path, self._place, self.name = path, place, name or str(path)
        self.warnings: list[str] = []
        with self._open() as container:
            stream = container.streams.video[0]
            self.codec = stream.codec_context.name
            self.rate = float(stream.average_rate or 0)
            self.count = stream.frames
            if stream.duration and stream.time_base:
                self.duration = float(stream.duration * stream.time_base)
            else:
                self.duration = (container.duration or 0) / 1e6
        if not self.count:  # Matroska does not say
            self.count = round(self.duration * self.rate)

    def _open(self, threads: int = 0):
        av = import_av()
        try:
            container = av.open(
                io.BytesIO(self._place.bytes_of(self.path)) if self._place else str(self.path),
                metadata_errors='replace',
            )
        except (av.FFmpegError, OSError) as error:
            raise RecordingError(f'{self.name}: expected a video, found {error.strerror or error}') from error
        if not container.streams.video:
            container.close()
            raise RecordingError(f'{self.name}: expected a video, found a file without a video stream')
        if container.streams.video[0].codec_context is None:
            container.close()
            raise RecordingError(f'{self.name}: expected a codec that FFmpeg knows, found none')
        container.streams.video[0].codec_context.thread_count = threads  # 0: as many as there are cores
        return container

    def frames(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the time since the first frame (ns) and the RGB uint8 [H, W, 3] image of each frame."""
        av = import_av()
        undecodable, count, origin = 0, 0, None
        with self._open() as container:
            stream = container.streams.video[0]
            stream.thread_type = 'AUTO'
            packets = container.demux(stream)
            while True:
                try:
                    images = [(frame, _rgb(frame)) for frame in next(packets).decode()]
                except StopIteration:
                    break
                except (av.FFmpegError, ValueError):
                    undecodable += 1
                    if undecodable > 1000:  # a file of which nothing more is readable
                        break
                    continue
                for frame, image in images:
                    if frame.pts is None:
                        seconds = count / (self.rate or 30.0)
                    else:
                        seconds = frame.pts * frame.time_base
                    origin = seconds if origin is None else origin
                    count += 1
                    yield round((seconds - origin) * 10**9), image
        if undecodable:
            fault = f'is damaged: {undecodable} of its packets do not decode; {count} frames do'
        elif count < max(1, 0.95 * self.count):
            fault = f'is cut off: {count} of {self.count} frames are there'
        else:
            return
        self.warnings[:] = [f'{self.name} {fault}']

    def places(self) -> list[tuple[int, int, int]] | None:
        """Return of each frame its time stamp, that of the key frame to decode it from, and ns since the
        first.

        Read from the packets, without decoding. None when they do not tell: raw streams, some AVI files.
        """
        av = import_av()
        stamps, keys, failed = [], [], 0
        with self._open() as container:
            packets = container.demux(container.streams.video[0])
            time_base = container.streams.video[0].time_base
            while True:
                try:
                    packet = next(packets)
                except StopIteration:
                    break
                except (av.FFmpegError, ValueError):
                    failed += 1
                    if failed > 1000:
                        break
                    continue
                if packet.size == 0 or packet.is_discard:  # the end; what an edit list cuts away
                    continue
                if packet.pts is None:
                    return None
                stamps.append(packet.pts)
                keys += [packet.pts] if packet.is_keyframe else []
        stamps.sort()
        keys.sort()
        if not keys or len(set(stamps)) < len(stamps):
            return None
        # What stands before the first key frame does not decode.
        stamps = np.array([stamp for stamp in stamps if stamp >= keys[0]])
        before = np.array(keys)[np.searchsorted(keys, stamps, 'right') - 1]
        return [
            (stamp, key, round((stamp * time_base - int(stamps[0]) * time_base) * 10**9))
            for stamp, key in zip(stamps.tolist(), before.tolist())
        ]

    def read(self, places: np.ndarray, positions: np.ndarray) -> Iterator[np.ndarray]:
        """Yield frames, RGB uint8 [H, W, 3], the same that `frames` yields.

        :param places: int64 [T, 2]: time stamp and key frame, as `places` returns them.
        :param positions: int [F], ascending.
        :raises RecordingError: when one does not decode.
        """
        keys = np.unique(places[:, 1])
        with ExitStack() as opened:
            stream = opened.enter_context(self._open(threads=1)).streams.video[
                0
            ]  # readers run beside each other
            decoded, frame = None, None
            for stamp, key in places[positions].tolist():
                if frame is None or frame.pts < key:
                    # A container's idea of "before" may be off by a group of pictures: then one more back, at
                    # last all.
                    before = keys[: np.searchsorted(keys, key) + 1][::-1].tolist()
                    for start in (*before[:3], None):
                        if start is None:
                            opened.close()
                            stream = opened.enter_context(self._open(threads=1)).streams.video[0]
                        decoded = _decoded(stream, start)
                        frame = next(decoded, None)
                        if frame is not None and frame.pts <= stamp:
                            break
                while frame is not None and frame.pts < stamp:
                    frame = next(decoded, None)
                if frame is None or frame.pts != stamp:
                    seconds = float((stamp - int(places[0, 0])) * stream.time_base)
                    raise RecordingError(f'{self.name}: the frame at {seconds:.3f} s does not decode')
                yield _rgb(frame)


def _decoded(stream, start: int | None):
    """Yield the decoded frames from a time stamp on (None: from the beginning), as far as they decode."""
    av = import_av()
    try:
        if start is not None:
            stream.container.seek(start, stream=stream)
        for packet in stream.container.demux(stream):
            yield from (frame for frame in packet.decode() if frame.pts is not None)
    except (av.FFmpegError, ValueError):
        return


class VideoRecording(Recording):
    """A video file: its frames are raw rgb8 images.

    :param member: its key, where it lies in a shard.
    :param place: its place there.
    """

    def __init__(self, path: Path, member: str = '', place: Member | None = None):
        self._video = Video(path, place, member and f'{path}#{member}')
        self.path, self.member, self.name = path, member, f'{path.stem}#{member}' if member else path.stem
        self.locator = ('video', self._video.rate, member, *(place or ()))
        self.count, self.duration, self.rate = self._video.count, self._video.duration, self._video.rate
        self.warnings = self._video.warnings

    @classmethod
    def at(cls, path: Path, rate: float, member: str, *place: int) -> VideoRecording:
        """Return one that can only `read`: what an index knows is not looked up again."""
        recording = cls.__new__(cls)
        recording.path, recording._video = path, (video := Video.__new__(Video))
        video.path, video._place, video.rate = path, Member(*place) if place else None, rate
        video.name, video.count, video.warnings = f'{path}#{member}' if member else str(path), 0, []
        return recording

    _what = 'a video'

    def frames(self) -> Iterator[RecordedFrame]:
        for since_start_ns, image in self._video.frames():
            stamp_ns = VIDEO_START_NS + since_start_ns
            height, width, _ = image.shape
            yield RecordedFrame(
                stamp_ns, stamp_ns, 'camera', image.reshape(-1), 'rgb8', height, width, 3 * width
            )

    def index(self) -> FrameIndex:
        places = self._video.places()
        if places is None:
            return super().index()
        stamps = np.array([VIDEO_START_NS + since_start_ns for _, _, since_start_ns in places], np.int64)
        return FrameIndex(stamps, stamps, np.array([place[:2] for place in places], np.int64))

    def read(self, index: FrameIndex, positions: np.ndarray) -> Iterator[np.ndarray]:
        if index.places.ndim == 1:
            return super().read(index, positions)
        return self._video.read(index.places, positions)


def _rgb(frame) -> np.ndarray:
    """Return a decoded frame as RGB uint8 [H, W, 3], turned upright."""
    even = frame.width % 2 == 0 and frame.height % 2 == 0
    if frame.format.name == 'yuv420p' and even:
        # Four times faster than swscale, and the same to within a rounding step for this most usual format.
        image = cv2.cvtColor(frame.to_ndarray(), cv2.COLOR_YUV2RGB_I420)
    else:
        image = frame.to_ndarray(format='rgb24')
    quarter_turns = round(getattr(frame, 'rotation', 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(image, quarter_turns)) if quarter_turns else image
