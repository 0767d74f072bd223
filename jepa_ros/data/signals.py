# SPDX-License-Identifier: Apache-2.0
"""What else was recorded, at the times of the frames: image points, vectors (states, commands), classes.

Messages with a header count by its stamp, others by the time at which the bag received them, as the frames
do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from jepa_ros.camera_topics import info_topic
from jepa_ros.data.augment import HIDDEN, OUTSIDE, VISIBLE
from jepa_ros.data.bags import RecordingError
from jepa_ros.data.frames import Recording
from jepa_ros.images import Geometry

FOLDER = 'folder'  # the source of a class that is the name of the folder
LONGEST_STEP = 2.5  # usual intervals between messages; across a longer gap nothing is interpolated
QUATERNION = ('qx', 'qy', 'qz', 'qw')
ANGLES = ('roll', 'pitch', 'yaw')


class FrameTimes:
    """When the frames of a recording are.

    :param stamps_ns: int64 [T], header stamps.
    :param log_ns: int64 [T], when the bag received them.

    Attribute `ns`: the one that counts for frames: the header stamps, unless they are all the same.
    """

    def __init__(self, stamps_ns: np.ndarray, log_ns: np.ndarray):
        self.stamped = len(stamps_ns) < 2 or bool((stamps_ns != stamps_ns[0]).any())
        self.stamps_ns, self.log_ns = stamps_ns, log_ns
        self.ns = stamps_ns if self.stamped else log_ns


def points(recording: Recording, topic: str) -> Iterator[tuple[int, np.ndarray, bool]]:
    """Read the messages of a label, as they were recorded.

    :param topic: of geometry_msgs/PointStamped (x and y in 0..1 of the received image, z 1 visible, 0 hidden), or of
        PoseStamped in the camera's optical frame, as a marker or motion capture gives it: its place is projected with
        the `camera_info` beside the image topic, and counts as visible.
    :returns: of each the stamp (ns), the point float64 [2] in 0..1 of the received image, beyond where it is outside,
        and whether it is visible. Places behind the camera are left out.
    :raises RecordingError: when the topic or the camera's calibration is not there, or holds something else.
    """
    camera = None
    for _, message in recording.messages(topic):
        if message.__msgtype__ == 'geometry_msgs/msg/PoseStamped':
            camera = camera or _Camera.read(recording)
            point, visible = camera.project(message.pose.position), True
        elif message.__msgtype__ == 'geometry_msgs/msg/PointStamped':
            point, visible = np.array([message.point.x, message.point.y]), message.point.z > 0.5
        else:
            raise RecordingError(
                f'{recording.path}: expected PointStamped or PoseStamped on {topic}, found {message.__msgtype__}'
            )
        if point is not None:
            yield _stamp(message), point, visible


def read_points(
    recording: Recording, topic: str, times: FrameTimes, geometries: list[Geometry]
) -> tuple[np.ndarray, np.ndarray]:
    """Read the image points of a label at the frames.

    A point belongs to the frame with the nearest stamp, if that is nearer than half the usual frame interval.

    :param topic: as for `points`.
    :param geometries: of each frame.
    :returns: float32 [T, 2] places in 0..1 of the cached image and uint8 [T] states.
    :raises RecordingError: as `points`.
    """
    stamps_ns = times.ns
    xy = np.zeros((len(stamps_ns), 2), np.float32)
    state = np.zeros(len(stamps_ns), np.uint8)
    order = np.argsort(stamps_ns, kind='stable')
    ascending = stamps_ns[order]
    reach = np.median(np.diff(ascending)) / 2 if len(ascending) > 1 else 10**9
    for stamp, point, visible in points(recording, topic):
        after = int(np.searchsorted(ascending, stamp))
        nearest = min(
            (i for i in (after - 1, after) if 0 <= i < len(ascending)),
            key=lambda i: abs(ascending[i] - stamp),
        )
        if abs(ascending[nearest] - stamp) > reach:
            continue
        frame = order[nearest]
        xy[frame] = geometries[frame].from_received(point)
        inside = bool(np.all((xy[frame] >= 0) & (xy[frame] <= 1)))
        state[frame] = (VISIBLE if visible else HIDDEN) if inside else OUTSIDE
    return xy, state


@dataclass(frozen=True)
class _Camera:
    """What projects: the pinhole matrix [3, 3], the distortion, and the size (px) of the image that they are for."""

    matrix: np.ndarray
    distortion: np.ndarray
    size: tuple[int, int]

    @classmethod
    def read(cls, recording: Recording) -> _Camera:
        image = recording.topic.removesuffix('/compressed')
        topic = info_topic(image)
        for _, info in recording.messages(topic):
            # ROS 1 has capitals
            matrix, distortion, projection = (getattr(info, name, getattr(info, name.upper(), None)) for name in 'kdp')
            matrix, distortion = np.reshape(matrix, (3, 3)).astype(float), np.array(distortion, float)
            if image.rpartition('/')[2].startswith('image_rect'):  # by image_proc, beside the driver's camera_info
                matrix, distortion = np.reshape(projection, (3, 4))[:, :3].astype(float), np.zeros(0)
            if matrix[0, 0] <= 0 or info.distortion_model not in ('', 'plumb_bob', 'rational_polynomial'):
                raise RecordingError(
                    f'{recording.path}: expected on {topic} a calibrated camera of model plumb_bob or '
                    f'rational_polynomial, found model {info.distortion_model!r}, focal length {matrix[0, 0]:g} px'
                )
            return cls(matrix, distortion, (info.width, info.height))
        raise RecordingError(f'{recording.path}: expected a message on {topic}, found none')

    def project(self, place) -> np.ndarray | None:
        """Return the image point, float64 [2] in 0..1, of a place (x, y, z in m); None of one behind the camera."""
        if place.z <= 0:
            return None
        none = np.zeros(3)
        points, _ = cv2.projectPoints(
            np.array([[place.x, place.y, place.z]]), none, none, self.matrix, self.distortion
        )
        return points[0, 0] / self.size


def read_vectors(recording: Recording, source: str, times: FrameTimes) -> np.ndarray:
    """Read a vector at the time of each frame.

    :param source: a topic; 'TOPIC@nearest' takes the nearest message within an interval, as it is, for what
        jumps. What it may hold: see `Vectors.read`.
    :returns: float32 [T, P], NaN where unknown.
    :raises RecordingError: when the topic is not there, or holds another type.
    """
    topic, _, how = source.partition('@')
    if how not in ('', 'linear', 'nearest'):
        raise RecordingError(f'expected TOPIC, TOPIC@linear or TOPIC@nearest, found {source}')
    return Vectors.read(recording, topic).at(times, how or 'linear')


@dataclass(frozen=True)
class Vectors:
    """A vector that was recorded over time.

    :param names: of its elements; empty: they have none.
    :param stamps_ns: int64 [M], header stamps, None where they say nothing; `log_ns`: int64 [M], bag times.
    :param table: float64 [M, P], NaN where a message lacks an element.
    """

    names: list[str]
    stamps_ns: np.ndarray | None
    log_ns: np.ndarray
    table: np.ndarray

    @classmethod
    def read(cls, recording: Recording, topic: str) -> Vectors:
        """Read a topic.

        JointState gives positions (else velocities, else efforts) in the order of the first message's names;
        Float64MultiArray its data; Twist and TwistStamped linear x, y, z and angular x, y, z; PoseStamped x, y, z
        and the quaternion x, y, z, w; PointStamped x, y, z.

        :raises RecordingError: when it is not there, or holds another type.
        """
        names: list[str] = []
        stamps, logs, rows = [], [], []
        for log_ns, message in recording.messages(topic):
            names, values = _vector(message, topic, names)
            stamps.append(_stamp(message) if hasattr(message, 'header') else 0)
            logs.append(log_ns)
            rows.append(values)
        table = np.full((len(rows), max(map(len, rows), default=0)), np.nan)
        for row, values in zip(table, rows):
            row[: len(values)] = values
        tell = all(stamps) and (len(stamps) < 2 or len(set(stamps)) > 1)
        return cls(names, np.array(stamps, np.int64) if tell else None, np.array(logs, np.int64), table)

    def at(self, times: FrameTimes, how: str = 'linear') -> np.ndarray:
        """Return the vector at some times, float32 [T, P], NaN where it is unknown.

        Between two messages a vector is interpolated: quaternions and joints that are called roll, pitch or yaw
        on the shortest way. Across a gap of more than 2.5 usual intervals, and further than half an interval from
        all messages, it is unknown.

        :param how: 'linear', or 'nearest'.
        """
        by_header = times.stamped and self.stamps_ns is not None
        at, wanted = (self.stamps_ns, times.stamps_ns) if by_header else (self.log_ns, times.log_ns)
        return _at(wanted, at, self.table, how, self.names).astype(np.float32)


def read_classes(recording: Recording, source: str, times: FrameTimes) -> list[str]:
    """Read the class of each frame, '' where it is unknown.

    :param source: 'folder' (its name), the extension of a file beside each sample of a shard ('cls'), or a
        topic of std_msgs/String or an integer type ('/task'), whose messages hold until the next one.
    :returns: [T].
    :raises RecordingError: when the topic is not there, or holds another type.
    """
    count = len(times.ns)
    if source == FOLDER:
        return [recording.folder] * count
    texts = recording.texts(source)
    if texts is not None:
        return texts * count if len(texts) == 1 else texts
    if not recording.topic or not source.startswith('/'):
        return [''] * count
    logs, values = [], ['']
    for log_ns, message in recording.messages(source):
        value = getattr(message, 'data', None)
        if not isinstance(value, str) and not np.issubdtype(type(value), np.integer):
            raise RecordingError(
                f'{recording.path}: expected {source} to be a String or an integer, found '
                f'{message.__msgtype__}'
            )
        logs.append(log_ns)
        values.append(str(value))
    return [values[i] for i in np.searchsorted(np.array(logs, np.int64), times.log_ns, 'right')]


def _stamp(message) -> int:
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def _vector(message, topic: str, names: list[str]) -> tuple[list[str], np.ndarray]:
    """Return the names of the elements, as the first message had them, and the values of a message."""
    kind = message.__msgtype__
    if kind == 'sensor_msgs/msg/JointState':
        values = next((v for v in (message.position, message.velocity, message.effort) if len(v)), [])
        if len(values) != len(message.name):
            values = [np.nan] * len(message.name)
        names = names or list(message.name)
        known = dict(zip(message.name, values))
        return names, np.array([known.get(name, np.nan) for name in names])
    if kind in ('std_msgs/msg/Float64MultiArray', 'std_msgs/msg/Float32MultiArray'):
        return [], np.asarray(message.data, np.float64)
    if kind in ('geometry_msgs/msg/Twist', 'geometry_msgs/msg/TwistStamped'):
        twist = getattr(message, 'twist', message)
        return [], np.array([getattr(v, axis) for v in (twist.linear, twist.angular) for axis in 'xyz'])
    if kind in ('geometry_msgs/msg/Pose', 'geometry_msgs/msg/PoseStamped'):
        pose = getattr(message, 'pose', message)
        place = [getattr(pose.position, axis) for axis in 'xyz']
        return ['x', 'y', 'z', *QUATERNION], np.array(
            place + [getattr(pose.orientation, axis) for axis in 'xyzw']
        )
    if kind == 'geometry_msgs/msg/PointStamped':
        return ['x', 'y', 'z'], np.array([getattr(message.point, axis) for axis in 'xyz'])
    raise RecordingError(
        f'expected {topic} to be a JointState, Float64MultiArray, Twist(Stamped), PoseStamped or PointStamped, '
        f'found {kind}'
    )


def _at(wanted, at, table, how, names) -> np.ndarray:
    """Return the rows of a table at wanted times, float64 [T, P].

    :param wanted: int64 [T], ns.
    :param at: int64 [M], ns, of the rows.
    """
    out = np.full((len(wanted), table.shape[1]), np.nan)
    if not len(at):
        return out
    order = np.argsort(at, kind='stable')
    order = order[np.append(np.diff(at[order]) > 0, True)]  # of several at one time the last
    at, table = at[order], table[order]
    usual = float(np.median(np.diff(at))) if len(at) > 1 else 0.0
    after = np.searchsorted(at, wanted)
    right, left = np.minimum(after, len(at) - 1), np.maximum(after - 1, 0)
    nearest = np.where(np.abs(at[right] - wanted) <= np.abs(wanted - at[left]), right, left)
    distance = np.abs(at[nearest] - wanted)
    if how == 'nearest':
        near = distance <= usual
        out[near] = table[nearest[near]]
        return out
    gap = (at[right] - at[left]).astype(float)
    between = (at[left] < wanted) & (wanted < at[right]) & (gap <= LONGEST_STEP * usual)
    one, other = table[left[between]], table[right[between]]
    share = ((wanted - at[left])[between] / gap[between])[:, None]
    out[between] = _blend(one, other, share, names)
    beside = ~between & (distance <= usual / 2)
    out[beside] = table[nearest[beside]]
    return out


def _blend(one, other, share, names) -> np.ndarray:
    other = other.copy()
    turning = [i for i, name in enumerate(names) if name.lower().endswith(ANGLES)]
    step = np.zeros_like(one)
    step[:, turning] = other[:, turning] - one[:, turning]
    wraps = np.abs(step) > np.pi
    other[wraps] -= np.sign(step[wraps]) * 2 * np.pi
    rotation = slice(-4, None) if tuple(names[-4:]) == QUATERNION else slice(0, 0)
    # A quaternion and its negative are the same rotation: the way between two must not lead over zero.
    opposite = (one[:, rotation] * other[:, rotation]).sum(1) < 0
    other[opposite, rotation] *= -1
    mixed = one + share * (other - one)
    mixed[wraps] = (mixed[wraps] + np.pi) % (2 * np.pi) - np.pi
    if rotation.start:
        mixed[:, rotation] /= np.linalg.norm(mixed[:, rotation], axis=1, keepdims=True)
    return mixed
