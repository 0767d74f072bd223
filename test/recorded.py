# SPDX-License-Identifier: Apache-2.0
"""Small recordings for tests: bags of both ROS generations and videos, whose frames carry their number."""

import cv2
import numpy as np
from rosbags.rosbag1 import Writer as Rosbag1Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from jepa_ros.images import encode_jpeg

CAMERA = '/camera/image_raw'
START_NS = 1_700_000_000_000_000_000
STEP_NS = 33_333_333


def picture(number, size=(48, 64)):
    """Return an RGB image whose left half is a grey that tells its number (modulo 41)."""
    image = np.full((*size, 3), 90, np.uint8)
    image[:, : size[1] // 2] = 20 + 5 * (number % 41)
    return image


def number_of(image):
    """Return the number in a picture, also after JPEG or H.264."""
    height, width, _ = image.shape
    return round((float(image[height // 4 : -height // 4, width // 8 : 3 * width // 8].mean()) - 20) / 5)


def _store(ros1):
    return get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_HUMBLE)


def _header(types, stamp_ns, number, ros1):
    stamp = types['builtin_interfaces/msg/Time'](*divmod(stamp_ns, 10**9))
    fields = {'seq': number} if ros1 else {}
    return types['std_msgs/msg/Header'](stamp=stamp, frame_id='lens', **fields)


def image_message(number, stamp_ns, compressed, ros1=False, size=(48, 64)):
    """Return a typed rosbags message of one picture."""
    types = _store(ros1).types
    header, image = _header(types, stamp_ns, number, ros1), picture(number, size)
    if compressed:
        data = np.frombuffer(encode_jpeg(image, 95), np.uint8)
        return types['sensor_msgs/msg/CompressedImage'](header=header, format='jpeg', data=data)
    height, width = size
    return types['sensor_msgs/msg/Image'](
        header=header,
        height=height,
        width=width,
        encoding='rgb8',
        is_bigendian=0,
        step=3 * width,
        data=image.reshape(-1),
    )


def point_message(x, y, z, stamp_ns):
    """Return a PointStamped label."""
    types = _store(False).types
    return types['geometry_msgs/msg/PointStamped'](
        header=_header(types, stamp_ns, 0, False), point=types['geometry_msgs/msg/Point'](x, y, z)
    )


def vector_message(values):
    """Return a Float64MultiArray label."""
    types = _store(False).types
    layout = types['std_msgs/msg/MultiArrayLayout']([], 0)
    return types['std_msgs/msg/Float64MultiArray'](layout, np.array(values, np.float64))


def write_bag(path, topics, *, storage='mcap', compression=None, version=8):
    """Write a rosbag2 directory.

    :param topics: topic to list of (log_ns, message), or of (log_ns, message type, definition, bytes) for a
        type that nobody knows.
    :param compression: None, 'file', 'message' or 'storage' (chunks of MCAP).
    """
    types = _store(False)
    writer = Writer(path, version=version, storage_plugin=StoragePlugin[storage.upper()])
    if compression:
        writer.set_compression(CompressionMode[compression.upper()], CompressionFormat.ZSTD)
    with writer:
        entries = []
        for topic, messages in topics.items():
            first = messages[0][1]
            if isinstance(first, str):
                connection = writer.add_connection(
                    topic, first, msgdef=messages[0][2], rihs01='RIHS01_' + 64 * '0'
                )
                entries += [(log_ns, connection, data) for log_ns, _, _, data in messages]
            else:
                connection = writer.add_connection(topic, first.__msgtype__, typestore=types)
                entries += [
                    (log_ns, connection, types.serialize_cdr(message, message.__msgtype__))
                    for log_ns, message in messages
                ]
        for log_ns, connection, data in sorted(entries, key=lambda entry: entry[0]):
            writer.write(connection, log_ns, data)
    return path


def camera(count, *, compressed=True, stamps=None, ros1=False, size=(48, 64)):
    """Return the messages of a camera: (log_ns, message), one each STEP_NS."""
    logs = [START_NS + i * STEP_NS for i in range(count)]
    return [
        (log, image_message(i, stamp, compressed, ros1, size))
        for i, (log, stamp) in enumerate(zip(logs, logs if stamps is None else stamps))
    ]


def write_rosbag1(path, topics, compression=None):
    """Write a ROS 1 bag; `topics` as for `write_bag`, messages made with ros1=True."""
    types = _store(True)
    writer = Rosbag1Writer(path)
    if compression:
        writer.set_compression(writer.CompressionFormat[compression.upper()])
    with writer:
        for topic, messages in topics.items():
            connection = writer.add_connection(topic, messages[0][1].__msgtype__, typestore=types)
            for log_ns, message in messages:
                writer.write(connection, log_ns, types.serialize_ros1(message, message.__msgtype__))
    return path


def write_video(path, count, rate=30, size=(48, 64), codec='libx264'):
    """Write a video of numbered pictures."""
    import av

    with av.open(str(path), 'w') as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt, stream.bit_rate = *size, 'yuv420p', 4_000_000
        for number in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number, size), format='rgb24')))
        container.mux(stream.encode())
    return path


def flip_bytes(data, places, value=0xFF):
    """Return `data` with the bytes at `places` inverted."""
    damaged = np.frombuffer(data, np.uint8).copy()
    damaged[list(places)] ^= value
    return damaged.tobytes()


def resized(image, size):
    """Return an image at (height, width), as `images.fit` resizes one of the same aspect ratio."""
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
