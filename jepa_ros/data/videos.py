# SPDX-License-Identifier: Apache-2.0
"""Video files as RGB frames with their presentation times, through PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from jepa_ros.data.bags import RecordingError

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
    :raises RecordingError: when it is no video.
    """

    def __init__(self, path: Path):
        self.path = path
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

    def _open(self):
        av = import_av()
        try:
            container = av.open(str(self.path), metadata_errors='replace')
        except (av.FFmpegError, OSError) as error:
            raise RecordingError(f'{self.path}: expected a video, found {error.strerror or error}') from error
        if not container.streams.video:
            container.close()
            raise RecordingError(f'{self.path}: expected a video, found a file without a video stream')
        if container.streams.video[0].codec_context is None:
            container.close()
            raise RecordingError(f'{self.path}: expected a codec that FFmpeg knows, found none')
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
        self.warnings[:] = [f'{self.path} {fault}']


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
