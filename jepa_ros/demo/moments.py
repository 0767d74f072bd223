# SPDX-License-Identifier: Apache-2.0
"""The moments worth showing, read back from the bag that a run left behind."""

import heapq
from pathlib import Path

import numpy as np

from jepa_ros.clouds import decode_futures, decode_latents
from jepa_ros.data.bags import Bag
from jepa_ros.data.recordings import RecordedFrame, open_recording
from jepa_ros.demo.contact_sheet import Moment
from jepa_ros.demo.topics import Topics
from jepa_ros.engine.manifest import Manifest
from jepa_ros.engine.readout import Readout
from jepa_ros.images import Geometry, ImageError, fit
from jepa_ros.skill import Matched, Matcher

_HEIGHT = 480  # px of the frames, more than the sheet needs


def find_moments(bag: Path, topics: Topics, manifest: Manifest, horizon: float,
                 readout: Readout | None = None, count: int = 6) -> list[Moment]:
    """
    Return the moments of most change, one in each part of the run.

    :param bag: directory of the bag.
    :param topics: their names.
    :param horizon: which of the futures (s).
    :param readout: says where its object is expected, if the futures are published as it needs them.
    :param count: number of parts.
    """
    chosen = _most_change(bag, topics, manifest, horizon, count)
    wanted = {stamp for match in chosen for stamp in (match.now.stamp_ns, match.then.stamp_ns)}
    frames, start = {}, None
    for frame in open_recording(bag, topics.camera).frames():
        start = frame.stamp_ns if start is None else start
        if frame.stamp_ns in wanted:
            try:
                frames[frame.stamp_ns] = cropped(frame, manifest)
            except ImageError:
                continue
    # A frame that perception got and the bag did not cannot be shown.
    seen = [match for match in chosen if {match.now.stamp_ns, match.then.stamp_ns} <= set(frames)]
    return [_moment(match, frames, start, readout) for match in seen]


def cropped(frame: RecordedFrame, manifest: Manifest) -> tuple[np.ndarray, Geometry]:
    """
    Cut a frame to what the model sees of it, larger than the model sees it.

    :return: RGB uint8 [h, w, 3], and where it lies in the frame.
    :raises ImageError: the frame cannot be decoded.
    """
    return fit(frame.image(), (_HEIGHT, _HEIGHT * manifest.grid[1] // manifest.grid[0]))


def _most_change(bag: Path, topics: Topics, manifest: Manifest, horizon: float, count: int) -> list[Matched]:
    source, matcher = Bag(bag), Matcher(0.5 * manifest.slice_period)
    best: dict[int, Matched] = {}  # by part of the run; all of them would fill memory with a large model
    logs = [log_ns for log_ns, _ in source.raw_messages(topics.futures)]
    start, end = logs[0] + round(1e9 * horizon), logs[-1] + 1  # futures of this horizon come true between
    merged = heapq.merge(((log_ns, message, False) for log_ns, message in source.messages(topics.latents)),
                         ((log_ns, message, True) for log_ns, message in source.messages(topics.futures)),
                         key=lambda entry: entry[0])
    for log_ns, message, is_futures in merged:
        cloud = (message.height, message.width, message.fields, message.point_step, message.row_step,
                 message.is_bigendian, message.data, _stamp_ns(message))
        if is_futures:
            matcher.futures(decode_futures(*cloud))
            continue
        part = min(max(count * (log_ns - start) // max(end - start, 1), 0), count - 1)
        for match in matcher.latents(decode_latents(*cloud)):
            if abs(match.horizon - horizon) < 1e-6 and (part not in best or match.change > best[part].change):
                best[part] = match
    return [best[part] for part in sorted(best)]


def _stamp_ns(message) -> int:
    """Return the header stamp of a message in ns."""
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def _moment(match: Matched, frames: dict, start: int, readout: Readout | None) -> Moment:
    (frame, geometry), (later, _) = frames[match.now.stamp_ns], frames[match.then.stamp_ns]
    path = deviation = None
    if readout is not None:
        points, covariances = readout(match.futures)
        path = geometry.from_received(points)
        deviation = np.sqrt(covariances[:, 0, 0]) * geometry.width / geometry.crop_width
    return Moment((match.now.stamp_ns - start) / 1e9, match.horizon, frame, later, match.then.tokens,
                  match.predicted, match.now.tokens, path, deviation)
