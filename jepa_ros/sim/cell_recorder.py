# SPDX-License-Identifier: Apache-2.0
"""Recordings of the picking cell: a rosbag2 (MCAP) with camera, depth and all labels of every frame."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from jepa_ros.sim.cell import ConveyorCell
from jepa_ros.sim.labels import HANDLE_TOPIC, KINDS, Label, labels
from jepa_ros.sim.recorder import COMPRESSED, FRAME_ID, IMAGE_TOPIC, INFO, INFO_TOPIC, BagWriter
from jepa_ros.sim.truth import Pose

DEPTH_TOPIC = '/camera/depth/image_raw/compressedDepth'
FARTHEST = 65.535  # m, what 16 bits of millimetres hold
# compressed_depth_image_transport puts 12 bytes before the PNG, which say nothing for whole millimetres
_DEPTH_HEAD = struct.pack('<iff', 0, 0.0, 0.0)


def record_cell(cell: ConveyorCell, frames: int, path: Path, depth: bool = False) -> Iterator[int]:
    """Record a cell into a rosbag2 directory, which appears only when it is complete.

    /camera/image_raw/compressed (JPEG), /camera/camera_info, all of `labels.labels` and, if asked for,
    /camera/depth/image_raw/compressedDepth (16UC1, mm, 0 too far); all of a frame carry its stamp.

    :param frames: how many.
    :param path: must not exist.
    :param depth: whether to record depth.
    :returns: an iterator that records one frame at each step and yields its number.
    """
    topics = {IMAGE_TOPIC: COMPRESSED, INFO_TOPIC: INFO, HANDLE_TOPIC: KINDS['PointStamped']}
    topics.update({label.topic: KINDS[label.kind] for label in labels(cell)})
    if depth:
        topics[DEPTH_TOPIC] = COMPRESSED
    with BagWriter(path, topics) as bag:
        for number, stamp_ns in bag.write_views(cell, frames):
            for label in labels(cell):
                bag.write(label.topic, stamp_ns, _message(bag, label, stamp_ns))
            if depth:
                header = bag.header(stamp_ns, FRAME_ID)
                data = np.frombuffer(_DEPTH_HEAD + _millimetres(cell.depth()), np.uint8)
                message = bag.make(COMPRESSED, header, '16UC1; compressedDepth png', data)
                bag.write(DEPTH_TOPIC, stamp_ns, message)
            yield number


def _millimetres(depth: np.ndarray) -> bytes:
    whole = np.where(depth <= FARTHEST, np.rint(depth * 1000), 0).astype(np.uint16)
    return cv2.imencode('.png', whole)[1].tobytes()


def _message(bag: BagWriter, label: Label, stamp_ns: int):
    type_, value = KINDS[label.kind], label.value
    if label.kind in ('String', 'Int32', 'Float32'):
        return bag.make(type_, value)
    if label.kind == 'Float64MultiArray':
        return bag.make(type_, bag.make('std_msgs/msg/MultiArrayLayout', [], 0), np.array(value))
    header = bag.header(stamp_ns, label.frame_id)
    if label.kind == 'JointState':
        names, positions, velocities = value
        return bag.make(type_, header, list(names), positions, velocities, np.zeros(0))
    if label.kind == 'PointStamped':
        return bag.make(type_, header, bag.make('geometry_msgs/msg/Point', *value))
    if label.kind == 'TwistStamped':
        linear, angular = (bag.make('geometry_msgs/msg/Vector3', *part) for part in (value[:3], value[3:]))
        return bag.make(type_, header, bag.make('geometry_msgs/msg/Twist', linear, angular))
    return bag.make(type_, header, _pose(bag, value))


def _pose(bag: BagWriter, pose: Pose):
    position = bag.make('geometry_msgs/msg/Point', *map(float, pose.position))
    orientation = bag.make('geometry_msgs/msg/Quaternion', *map(float, pose.quaternion))
    return bag.make('geometry_msgs/msg/Pose', position, orientation)
