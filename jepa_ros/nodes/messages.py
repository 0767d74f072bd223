# SPDX-License-Identifier: Apache-2.0
"""Between ROS messages and the arrays of the rooms below."""

from __future__ import annotations

import array
import importlib

import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import CompressedImage, Image, PointCloud2, PointField
from std_msgs.msg import Header

from jepa_ros import clouds
from jepa_ros.images import Geometry, fit, fit_compressed, fit_raw
from jepa_ros.latents import Futures, Latents


def to_ns(stamp: Time) -> int:
    """:return: a stamp in ns."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def to_stamp(stamp_ns: int) -> Time:
    """:return: a stamp from ns."""
    return Time(sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000)


def latents_message(latents: Latents, frame_id: str) -> PointCloud2:
    """:return: the cloud of ~/latents; ``frame_id`` is the camera's."""
    return _cloud_message(clouds.encode_latents(latents), latents.stamp_ns, frame_id)


def futures_message(futures: Futures, frame_id: str) -> PointCloud2:
    """:return: the organised cloud of ~/futures."""
    return _cloud_message(clouds.encode_futures(futures), futures.stamp_ns, frame_id)


def read_latents(message: PointCloud2) -> Latents:
    """:raises CloudError: it is not a cloud of ~/latents."""
    return clouds.decode_latents(*_cloud_parts(message))


def read_futures(message: PointCloud2) -> Futures:
    """:raises CloudError: it is not a cloud of ~/futures."""
    return clouds.decode_futures(*_cloud_parts(message))


def image_message(image: np.ndarray, stamp_ns: int, frame_id: str) -> Image:
    """
    :param image: RGB uint8 [H, W, 3].
    :return: the message, encoding rgb8.
    """
    height, width, _ = image.shape
    return Image(header=Header(stamp=to_stamp(stamp_ns), frame_id=frame_id), encoding='rgb8', height=height,
                 width=width, step=3 * width, data=byte_array(image))


def byte_array(data) -> array.array:
    """
    :param data: anything with the buffer interface, contiguous.
    :return: a copy as the one type that a message's ``uint8[]`` takes fast; bytes cost tens of times more, an
        ndarray thousands.
    """
    filled = array.array('B')
    filled.frombytes(memoryview(data).cast('B'))
    return filled


class ImageReader:
    """
    Camera messages to images of the model's size, through the cv_bridge of a ROS 2 installation where there
    is one.

    cv_bridge is asked for raw images whose rows are not padded. Padded rows it may get wrong, of a JPEG that
    is cut short it makes a grey one, and what it cannot read it says with a KeyError, a cv2.error or None:
    all of that is done, or refused in one sentence, by ``jepa_ros.images``, which agrees with it bit for bit
    elsewhere.

    :param bridge: a ROS 2 CvBridge, or None to do without.
    """

    def __init__(self, bridge=None):
        self._bridge = bridge

    def __call__(self, message: Image | CompressedImage,
                 size: tuple[int, int]) -> tuple[np.ndarray, Geometry]:
        """
        :param message: as the camera sent it.
        :param size: (height, width) of the result in px.
        :return: RGB uint8 [height, width, 3] and where it lies in the received image.
        :raises ImageError: it cannot be decoded; the message says what was expected and what was found.
        """
        if isinstance(message, CompressedImage):
            return fit_compressed(message.data, message.format, size)
        image = None if self._bridge is None else self._ask_bridge(message)
        if image is not None:
            return fit(image, size)
        return fit_raw(message.encoding, message.height, message.width, message.step,
                       bool(message.is_bigendian), message.data, size)

    def _ask_bridge(self, message: Image) -> np.ndarray | None:
        try:
            dtype, channels = self._bridge.encoding_to_dtype_with_channels(message.encoding)
            if message.step != message.width * channels * np.dtype(dtype).itemsize:
                return None
            image = self._bridge.imgmsg_to_cv2(message, 'rgb8')
        except Exception:  # KeyError, cv2.error, TypeError, CvBridgeError: there is no telling
            return None
        if image is None or image.shape != (message.height, message.width, 3) or image.dtype != np.uint8:
            return None
        return image


def find_cv_bridge():
    """
    :return: a CvBridge if the environment has that of ROS 2, else None. PyPI's ``cv_bridge`` is ROS 1's,
        silently wrong on some encodings and told by its lack of ``cv2_to_imgmsg``; one built for another
        NumPy fails on import.
    """
    try:
        bridge = importlib.import_module('cv_bridge').CvBridge
    except Exception:  # a broken installation may raise anything
        return None
    return bridge() if hasattr(bridge, 'cv2_to_imgmsg') else None


def _cloud_message(cloud: clouds.CloudBytes, stamp_ns: int, frame_id: str) -> PointCloud2:
    fields = [PointField(name=f.name, offset=f.offset, datatype=f.datatype, count=f.count)
              for f in cloud.fields]
    return PointCloud2(header=Header(stamp=to_stamp(stamp_ns), frame_id=frame_id), height=cloud.height,
                       width=cloud.width, fields=fields, is_bigendian=False, point_step=cloud.point_step,
                       row_step=cloud.row_step, data=cloud.data, is_dense=True)


def _cloud_parts(message: PointCloud2) -> tuple:
    return (message.height, message.width, message.fields, message.point_step, message.row_step,
            message.is_bigendian, message.data, to_ns(message.header.stamp))
