# SPDX-License-Identifier: Apache-2.0
"""
Camera messages to RGB images, and the one resize that training, replay and the node share.

The conversion agrees with ROS 2's cv_bridge wherever cv_bridge gives an image, and is right where cv_bridge
is not: rows padded by any number of bytes, big-endian pixels, buffers that are too short, and compressed
images that end early (OpenCV paints what is missing grey and says nothing).
"""

import struct
import sys
from dataclasses import dataclass

import cv2
import numpy as np

from jepa_ros.errors import JepaError


class ImageError(JepaError):
    """An image that cannot be decoded."""


# encoding: (OpenCV conversion to RGB or None, channels). These are linear per channel, so that converting
# after the resize gives the same bytes for a fraction of the cost (test_images pins it, bit for bit).
_CHANNELS = {
    'rgb8': (None, 3),
    'bgr8': (cv2.COLOR_BGR2RGB, 3),
    'rgba8': (cv2.COLOR_RGBA2RGB, 4),
    'bgra8': (cv2.COLOR_BGRA2RGB, 4),
    'mono8': (cv2.COLOR_GRAY2RGB, 1),
}
# OpenCV names a Bayer pattern by its second row, ROS by its first.
_BAYER = {
    'bayer_rggb8': cv2.COLOR_BayerBG2RGB,
    'bayer_bggr8': cv2.COLOR_BayerRG2RGB,
    'bayer_gbrg8': cv2.COLOR_BayerGR2RGB,
    'bayer_grbg8': cv2.COLOR_BayerGB2RGB,
}
# Two bytes per pixel, two pixels share one colour. The short names are those of sensor_msgs since Iron.
_YUV422 = {
    'yuv422': cv2.COLOR_YUV2RGB_UYVY,
    'uyvy': cv2.COLOR_YUV2RGB_UYVY,
    'yuv422_yuy2': cv2.COLOR_YUV2RGB_YUY2,
    'yuyv': cv2.COLOR_YUV2RGB_YUY2,
}
# A plane of luminance, then a plane of half the height with interleaved colour.
_YUV420 = {'nv12': cv2.COLOR_YUV2RGB_NV12, 'nv21': cv2.COLOR_YUV2RGB_NV21}
_GREY = {'mono16': np.dtype(np.uint16), '16UC1': np.dtype(np.uint16), '32FC1': np.dtype(np.float32)}

ENCODINGS = (*_CHANNELS, *_GREY, *_BAYER, *_YUV422, *_YUV420)


@dataclass(frozen=True)
class Geometry:
    """
    Which part of a received image the model saw.

    :param width: width of the received image (px)
    :param height: height of the received image (px)
    :param x: left edge of the crop that was resized (px)
    :param y: top edge of the crop (px)
    :param crop_width: width of the crop (px)
    :param crop_height: height of the crop (px)
    """

    width: int
    height: int
    x: int
    y: int
    crop_width: int
    crop_height: int

    def to_received(self, points) -> np.ndarray:
        """
        Map points of the crop into the received image.

        :param points: [..., 2] x and y, 0..1 of the crop
        :returns: [..., 2] x and y, 0..1 of the received image, in the floating type of ``points``
        """
        points = np.asarray(points)
        return (points * self._extent(points) + self._corner(points)) / self._size(points)

    def from_received(self, points) -> np.ndarray:
        """Map points [..., 2] of the received image (0..1) into the crop; outside of it they leave 0..1."""
        points = np.asarray(points)
        return (points * self._size(points) - self._corner(points)) / self._extent(points)

    def _size(self, like):
        return np.array([self.width, self.height], dtype=_floating(like))

    def _corner(self, like):
        return np.array([self.x, self.y], dtype=_floating(like))

    def _extent(self, like):
        return np.array([self.crop_width, self.crop_height], dtype=_floating(like))


def _floating(array):
    return array.dtype if np.issubdtype(array.dtype, np.floating) else np.float64


def centre_crop(width: int, height: int, size: tuple[int, int]) -> Geometry:
    """
    Return the largest centred crop that has the aspect ratio of ``size``.

    :param width: of the received image (px)
    :param height: of the received image (px)
    :param size: (height, width) that the crop will be resized to (px)
    """
    rows, columns = size
    crop_width, crop_height = width, height
    if width * rows > height * columns:
        crop_width = max(1, round(height * columns / rows))
    else:
        crop_height = max(1, round(width * rows / columns))
    return Geometry(width, height, (width - crop_width) // 2, (height - crop_height) // 2,
                    crop_width, crop_height)


def fit(image, size: tuple[int, int]) -> tuple[np.ndarray, Geometry]:
    """
    Crop an image centrally to the aspect ratio of ``size`` and resize it: INTER_AREA down, INTER_LINEAR up.

    :param image: uint8 [H, W, C] or [H, W]
    :param size: (height, width) wanted (px)
    :returns: the picture, uint8 [height, width, ...] in memory of its own; which part of ``image`` it shows
    """
    rows, columns = size
    geometry = centre_crop(image.shape[1], image.shape[0], size)
    crop = image[geometry.y:geometry.y + geometry.crop_height, geometry.x:geometry.x + geometry.crop_width]
    if crop.shape[:2] == (rows, columns):
        return crop.copy(), geometry
    shrinks = geometry.crop_height >= rows and geometry.crop_width >= columns
    resized = cv2.resize(crop, (columns, rows), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return resized, geometry


def decode_raw(encoding: str, height: int, width: int, step: int, is_bigendian: bool, data) -> np.ndarray:
    """
    Decode the fields of a sensor_msgs/Image.

    16-bit images are scaled by 255/65535 as cv_bridge does for mono16; 16UC1, which cv_bridge refuses to call
    a picture, is treated alike; 32FC1 counts 0..1 as black to white (OpenCV's convention), NaN as black. The
    scale is the same for every frame: one that follows the content would make the latents of a still scene
    flicker.

    :param encoding: one of :data:`ENCODINGS`
    :param height: rows (px)
    :param width: columns (px)
    :param step: bytes from one row to the next; any number that holds a row
    :param is_bigendian: byte order of 16-bit and float pixels
    :param data: the bytes, as anything with the buffer interface
    :returns: RGB uint8 [height, width, 3]; for unpadded rgb8 a view of ``data``
    :raises ImageError: unknown encoding, no pixels, or fewer bytes than the other fields promise
    """
    if encoding in _CHANNELS:
        conversion, _ = _CHANNELS[encoding]
        pixels = _channels(encoding, height, width, step, data)
        return pixels if conversion is None else cv2.cvtColor(pixels, conversion)
    if encoding in _GREY:
        rows = _rows(encoding, height, width * _GREY[encoding].itemsize, step, data)
        return cv2.cvtColor(_grey(rows, _GREY[encoding], is_bigendian), cv2.COLOR_GRAY2RGB)
    if encoding in _BAYER:
        if height < 2 or width < 2:
            raise ImageError(f"expected at least 2x2 pixels in encoding '{encoding}', found {width}x{height}")
        return cv2.cvtColor(_rows(encoding, height, width, step, data), _BAYER[encoding])
    if encoding in _YUV422:
        _check_even(encoding, width, 2)
        pixels = _rows(encoding, height, 2 * width, step, data).reshape(height, width, 2)
        return cv2.cvtColor(pixels, _YUV422[encoding])
    if encoding in _YUV420:
        _check_even(encoding, width, height)
        planes = _rows(encoding, height + height // 2, width, step, data)
        return cv2.cvtColor(planes, _YUV420[encoding])
    raise ImageError(f"expected an encoding of {', '.join(ENCODINGS)}, found '{encoding}'")


def decode_compressed(data, format: str = '') -> np.ndarray:
    """
    Decode the fields of a sensor_msgs/CompressedImage.

    The bytes decide what they are; drivers write all sorts of things into ``format`` ('jpeg', 'jpg',
    'rgb8; jpeg compressed bgr8', nothing). As in cv_bridge, an EXIF orientation is not applied: camera_info
    and every label refer to the image as the sensor read it.

    :param data: the bytes of a JPEG or PNG file, as anything with the buffer interface
    :param format: only quoted when decoding fails
    :returns: RGB uint8 [H, W, 3]
    :raises ImageError: neither JPEG nor PNG, cut short, or damaged
    """
    return cv2.cvtColor(_decode_bgr(data, format), cv2.COLOR_BGR2RGB)


def fit_raw(encoding: str, height: int, width: int, step: int, is_bigendian: bool, data,
            size: tuple[int, int]) -> tuple[np.ndarray, Geometry]:
    """
    Do what :func:`decode_raw` and :func:`fit` do, bit for bit but cheaper: once per raw frame of the node.

    :param size: (height, width) wanted (px); the others as for :func:`decode_raw`
    :returns: RGB uint8 [height, width, 3] in memory of its own, and its geometry
    :raises ImageError: as :func:`decode_raw`
    """
    if encoding not in _CHANNELS:
        return fit(decode_raw(encoding, height, width, step, is_bigendian, data), size)
    conversion, _ = _CHANNELS[encoding]
    image, geometry = fit(_channels(encoding, height, width, step, data), size)
    return (image if conversion is None else cv2.cvtColor(image, conversion)), geometry


def fit_compressed(data, format: str, size: tuple[int, int]) -> tuple[np.ndarray, Geometry]:
    """Do what the node does with every compressed frame: :func:`decode_compressed`, then :func:`fit`."""
    image, geometry = fit(_decode_bgr(data, format), size)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB), geometry


def encode_jpeg(image, quality: int = 90) -> bytes:
    """
    Encode an image as a JPEG file.

    :param image: RGB uint8 [H, W, 3]
    :param quality: 1..100
    """
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ImageError(f"expected an RGB image that JPEG can hold, found one of shape {image.shape}")
    return data.tobytes()


def _rows(encoding: str, height: int, row_bytes: int, step: int, data) -> np.ndarray:
    """Return the bytes of an image without its padding, uint8 [height, row_bytes]; a view if it has none."""
    if height <= 0 or row_bytes <= 0:
        raise ImageError(f"expected an image with pixels in encoding '{encoding}', "
                         f"found {height} rows of {row_bytes} bytes")
    if step < row_bytes:
        raise ImageError(f"expected a step of at least {row_bytes} bytes for a row in encoding '{encoding}', "
                         f"found {step}")
    buffer = np.frombuffer(data, dtype=np.uint8)
    needed = step * (height - 1) + row_bytes  # some drivers leave the padding of the last row out
    if buffer.size < needed:
        raise ImageError(f"expected {step * height} bytes ({height} rows of {step}) in encoding '{encoding}',"
                         f' found {buffer.size}')
    rows = np.lib.stride_tricks.as_strided(buffer, (height, row_bytes), (step, 1), writeable=False)
    return rows if step == row_bytes else np.ascontiguousarray(rows)


def _channels(encoding: str, height: int, width: int, step: int, data) -> np.ndarray:
    """Return an 8-bit image, uint8 [height, width, channels], or [height, width] for one channel."""
    _, channels = _CHANNELS[encoding]
    rows = _rows(encoding, height, width * channels, step, data)
    return rows if channels == 1 else rows.reshape(height, width, channels)


def _grey(rows: np.ndarray, dtype: np.dtype, is_bigendian: bool) -> np.ndarray:
    """Return 16-bit or float rows (uint8 [H, bytes]) as uint8 [H, W]."""
    values = rows.view(dtype.newbyteorder('>' if is_bigendian else '<'))
    if is_bigendian != (sys.byteorder == 'big'):
        values = values.astype(dtype)
    if dtype == np.uint16:
        return cv2.convertScaleAbs(values, alpha=255 / 65535)
    shades = np.clip(np.nan_to_num(values, nan=0.0, posinf=1.0, neginf=0.0), 0, 1)
    return np.rint(shades * 255).astype(np.uint8)


def _check_even(encoding: str, width: int, height: int) -> None:
    if width % 2 or height % 2:
        raise ImageError(f"expected even width and height in encoding '{encoding}', found {width}x{height}")


def _decode_bgr(data, format: str) -> np.ndarray:
    """Return BGR uint8 [H, W, 3] of a complete JPEG or PNG file."""
    data = memoryview(data).cast('B')
    head = bytes(data[:8])
    if head[:2] == b'\xff\xd8':
        kind, complete = 'JPEG', _jpeg_is_complete(data)
    elif head == b'\x89PNG\r\n\x1a\n':
        kind, complete = 'PNG', _png_is_complete(data)
    else:
        raise ImageError(f"expected a JPEG or PNG image, found {len(data)} bytes that begin with "
                         f"'{head.hex(' ')}' and format '{format}'")
    if not complete:
        raise ImageError(f'expected a whole {kind} image, found one cut short after {len(data)} bytes')
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    except cv2.error:
        image = None
    if image is None:
        raise ImageError(f"expected a {kind} image, found {len(data)} damaged bytes (format '{format}')")
    return image


def _jpeg_is_complete(data: memoryview) -> bool:
    """
    Tell whether a JPEG has an end marker after its image data.

    Segments are walked by their lengths up to the scan, because a thumbnail in the header has an end marker
    of its own; within a scan the marker cannot occur (a 0xff there is followed by a zero). What follows the
    end is left alone: some cameras pad their buffers.
    """
    at = 2
    while at + 4 <= len(data):
        marker, length = struct.unpack_from('>HH', data, at)
        if marker == 0xffff:  # fill bytes before a marker
            at += 1
            continue
        at += 2 + length
        if marker == 0xffda:
            return bytes(data[at:]).rfind(b'\xff\xd9') >= 0
    return False


def _png_is_complete(data: memoryview) -> bool:
    """
    Tell whether the chunks of a PNG follow each other up to its end chunk.

    OpenCV believes a damaged chunk length and allocates up to 4 GB for it, which takes seconds.
    """
    at = 8
    while at + 12 <= len(data):
        length, kind = struct.unpack_from('>I4s', data, at)
        at += 12 + length
        if kind == b'IEND':
            return at <= len(data)
    return False
