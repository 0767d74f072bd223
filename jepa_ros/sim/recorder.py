# SPDX-License-Identifier: Apache-2.0
"""Recordings of the conveyor: a rosbag2 (MCAP) with camera and labels, or a video."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from jepa_ros.images import encode_jpeg
from jepa_ros.sim.conveyor import ConveyorScene
from jepa_ros.sim.hall import Hall, SimError

IMAGE_TOPIC = '/camera/image_raw/compressed'
INFO_TOPIC = '/camera/camera_info'
HANDLE_TOPIC = '/sim/handle'
FRAME_ID = 'camera_optical_frame'
COMPRESSED, INFO = 'sensor_msgs/msg/CompressedImage', 'sensor_msgs/msg/CameraInfo'
POINT = 'geometry_msgs/msg/PointStamped'
JPEG_QUALITY = 90


class BagWriter:
    """Writes a rosbag2 directory (MCAP), which appears only when it is complete; used in a `with` statement.

    :param path: must not exist.
    :param connections: topics and the names of their types, all that will be written.
    """

    def __init__(self, path: Path, connections: dict[str, str]):
        self._path = path
        # these types are the same in every later distribution
        self._store = get_typestore(Stores.ROS2_HUMBLE)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._unfinished = path.with_name(f'.unfinished-{path.name}')
        shutil.rmtree(self._unfinished, ignore_errors=True)
        self._writer = Writer(self._unfinished, version=8, storage_plugin=StoragePlugin.MCAP)
        self._types = connections

    def __enter__(self) -> BagWriter:
        self._writer.open()
        self._connections = {
            topic: self._writer.add_connection(topic, type_, typestore=self._store)
            for topic, type_ in self._types.items()
        }
        return self

    def __exit__(self, kind, *_) -> None:
        self._writer.close()
        if kind is None:
            self._unfinished.rename(self._path)

    def make(self, type_: str, *values, **named):
        """Return a message of a type such as 'std_msgs/msg/Header'."""
        return self._store.types[type_](*values, **named)

    def header(self, stamp_ns: int, frame_id: str):
        """Return a std_msgs/Header."""
        time = self.make('builtin_interfaces/msg/Time', *divmod(stamp_ns, 10**9))
        return self.make('std_msgs/msg/Header', time, frame_id)

    def write(self, topic: str, stamp_ns: int, message) -> None:
        """Write a message at the time of a stamp."""
        connection = self._connections[topic]
        self._writer.write(connection, stamp_ns, self._store.serialize_cdr(message, connection.msgtype))

    def write_picture(self, stamp_ns: int, image: np.ndarray) -> None:
        """Write RGB uint8 [H, W, 3] as JPEG."""
        jpeg = np.frombuffer(encode_jpeg(image, JPEG_QUALITY), np.uint8)
        header = self.header(stamp_ns, FRAME_ID)
        self.write(IMAGE_TOPIC, stamp_ns, self.make(COMPRESSED, header, 'jpeg', jpeg))

    def write_camera_info(self, stamp_ns: int, size: tuple[int, int], matrix: np.ndarray) -> None:
        """Write the calibration of a pinhole camera: height and width, and K [3, 3], px."""
        height, width = size
        message = self.make(
            INFO,
            header=self.header(stamp_ns, FRAME_ID),
            height=height,
            width=width,
            distortion_model='plumb_bob',
            d=np.zeros(5),
            k=matrix.ravel(),
            r=np.eye(3).ravel(),
            p=np.hstack([matrix, np.zeros((3, 1))]).ravel(),
            binning_x=0,
            binning_y=0,
            roi=self.make('sensor_msgs/msg/RegionOfInterest', 0, 0, 0, 0, False),
        )
        self.write(INFO_TOPIC, stamp_ns, message)

    def write_views(self, scene: Hall, frames: int) -> Iterator[tuple[int, int]]:
        """Step through a scene and write picture and calibration; yields the number and stamp of each frame."""
        for number in range(frames):
            if number:
                scene.step()
            stamp_ns = scene.stamp_ns
            self.write_picture(stamp_ns, scene.render())
            self.write_camera_info(stamp_ns, scene.size, scene.camera_matrix())
            yield number, stamp_ns


def record_bag(scene: ConveyorScene, frames: int, path: Path) -> Iterator[int]:
    """Record a scene into a rosbag2 directory, which appears only when it is complete.

    /camera/image_raw/compressed (JPEG), /camera/camera_info and, while the handle is in the picture,
    /sim/handle (geometry_msgs/PointStamped: x, y in 0..1 of the image; z 1 visible, 0 hidden); all of a
    frame carry its stamp.

    :param frames: how many.
    :param path: must not exist.
    :returns: an iterator that records one frame at each step and yields its number.
    """
    with BagWriter(path, {IMAGE_TOPIC: COMPRESSED, INFO_TOPIC: INFO, HANDLE_TOPIC: POINT}) as bag:
        for number, stamp_ns in bag.write_views(scene, frames):
            handle = scene.handle()
            if handle:
                point = bag.make('geometry_msgs/msg/Point', *map(float, handle.xy), float(handle.visible))
                bag.write(HANDLE_TOPIC, stamp_ns, bag.make(POINT, bag.header(stamp_ns, FRAME_ID), point))
            yield number


def record_video(scene: Hall, frames: int, path: Path, crf: int) -> Iterator[int]:
    """Record a scene into a video (H.264, yuv420p), which appears only when it is complete.

    :param crf: quality of x264, 0 (lossless) to 51.
    :returns: an iterator that records one frame at each step and yields its number.
    :raises SimError: when PyAV is missing.
    """
    try:
        import av
    except ImportError as error:
        raise SimError(f'videos are written with PyAV: pip install av ({error})') from error
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f'.unfinished-{path.name}')
    rate = Fraction(scene.fps).limit_denominator(1001)
    with av.open(str(unfinished), 'w') as container:
        stream = container.add_stream('libx264', rate=rate)
        stream.height, stream.width = scene.size
        stream.pix_fmt = 'yuv420p'
        stream.options = {'crf': str(crf), 'preset': 'slow'}
        for number in range(frames):
            if number:
                scene.step()
            container.mux(stream.encode(av.VideoFrame.from_ndarray(scene.render(), format='rgb24')))
            yield number
        container.mux(stream.encode())
    unfinished.rename(path)
