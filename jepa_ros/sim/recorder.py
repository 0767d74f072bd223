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
from jepa_ros.sim.conveyor import ConveyorScene, SimError

IMAGE_TOPIC = '/camera/image_raw/compressed'
INFO_TOPIC = '/camera/camera_info'
HANDLE_TOPIC = '/sim/handle'
FRAME_ID = 'camera_optical_frame'
JPEG_QUALITY = 90


def record_bag(scene: ConveyorScene, frames: int, path: Path) -> Iterator[int]:
    """Record a scene into a rosbag2 directory, which appears only when it is complete.

    /camera/image_raw/compressed (JPEG), /camera/camera_info and, while the handle is in the picture,
    /sim/handle (geometry_msgs/PointStamped: x, y in 0..1 of the image; z 1 visible, 0 hidden); all of a
    frame carry its stamp.

    :param frames: how many.
    :param path: must not exist.
    :returns: an iterator that records one frame at each step and yields its number.
    """
    types = get_typestore(Stores.ROS2_HUMBLE)  # these types are the same in every later distribution
    header_type, time_type = types.types['std_msgs/msg/Header'], types.types['builtin_interfaces/msg/Time']
    image_type = types.types['sensor_msgs/msg/CompressedImage']
    handle_type, point_type = (types.types[f'geometry_msgs/msg/{name}'] for name in ('PointStamped', 'Point'))
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f'.unfinished-{path.name}')
    shutil.rmtree(unfinished, ignore_errors=True)
    writer = Writer(unfinished, version=8, storage_plugin=StoragePlugin.MCAP)
    with writer:
        image_to = writer.add_connection(IMAGE_TOPIC, image_type.__msgtype__, typestore=types)
        info_to = writer.add_connection(INFO_TOPIC, 'sensor_msgs/msg/CameraInfo', typestore=types)
        handle_to = writer.add_connection(HANDLE_TOPIC, handle_type.__msgtype__, typestore=types)
        for number in range(frames):
            if number:
                scene.step()
            stamp_ns = scene.stamp_ns
            header = header_type(time_type(*divmod(stamp_ns, 10**9)), FRAME_ID)

            def write(connection, message, stamp_ns=stamp_ns):
                writer.write(connection, stamp_ns, types.serialize_cdr(message, connection.msgtype))

            jpeg = np.frombuffer(encode_jpeg(scene.render(), JPEG_QUALITY), np.uint8)
            write(image_to, image_type(header, 'jpeg', jpeg))
            write(info_to, _camera_info(types, header, scene))
            handle = scene.handle()
            if handle:
                point = point_type(*map(float, handle.xy), float(handle.visible))
                write(handle_to, handle_type(header, point))
            yield number
    unfinished.rename(path)


def _camera_info(types, header, scene: ConveyorScene):
    height, width = scene.size
    matrix = scene.camera_matrix()
    return types.types['sensor_msgs/msg/CameraInfo'](
        header=header,
        height=height,
        width=width,
        distortion_model='plumb_bob',
        d=np.zeros(5),
        k=matrix.ravel(),
        r=np.eye(3).ravel(),
        p=np.hstack([matrix, np.zeros((3, 1))]).ravel(),
        binning_x=0,
        binning_y=0,
        roi=types.types['sensor_msgs/msg/RegionOfInterest'](0, 0, 0, 0, False),
    )


def record_video(scene: ConveyorScene, frames: int, path: Path, crf: int) -> Iterator[int]:
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
