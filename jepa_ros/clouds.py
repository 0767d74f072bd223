# SPDX-License-Identifier: Apache-2.0
"""
The bytes of the clouds: latents and futures as the fields of a sensor_msgs/PointCloud2, and back.

One point is one token: ``x y z t surprise model descriptor``, where the descriptor is one field of float32 x
D, as PCL's descriptor types have it. Latents are one row; futures are organised, one row per horizon. A field
of a thousand numbers is one field here; sensor_msgs_py would make a thousand of it.
"""

import array
from dataclasses import dataclass

import numpy as np

from jepa_ros.errors import JepaError
from jepa_ros.latents import Futures, Latents

# sensor_msgs/PointField constants
UINT32 = 6
FLOAT32 = 7


class CloudError(JepaError):
    """A cloud that holds no latents."""


@dataclass(frozen=True)
class Field:
    """One sensor_msgs/PointField: name, offset in the point (bytes), datatype, count."""

    name: str
    offset: int
    datatype: int
    count: int


@dataclass(frozen=True)
class CloudBytes:
    """The fields of a little-endian, dense sensor_msgs/PointCloud2 beside its header."""

    height: int
    width: int
    fields: tuple[Field, ...]
    point_step: int
    row_step: int
    data: array.array  # 'B': the one type that rclpy takes without copying element by element


def encode_latents(latents: Latents) -> CloudBytes:
    """Return the cloud of ``latents``: one row, one point per token."""
    points = np.zeros((1, len(latents.tokens)), dtype=_point_type(latents.tokens.shape[-1]))
    points['t'] = latents.times
    points['surprise'] = latents.surprise
    return _encode(points, latents)


def encode_futures(futures: Futures) -> CloudBytes:
    """Return the cloud of ``futures``: one row per horizon, one column per token, no surprise."""
    points = np.zeros(futures.tokens.shape[:2], dtype=_point_type(futures.tokens.shape[-1]))
    points['t'] = futures.horizons[:, None]
    points['surprise'] = np.nan
    return _encode(points, futures)


def decode_latents(height: int, width: int, fields, point_step: int, row_step: int, is_bigendian: bool, data,
                   stamp_ns: int) -> Latents:
    """
    Read the cloud of one slice, strictly.

    :param fields: objects with name, offset, datatype and count, such as sensor_msgs/PointField
    :param data: the bytes, as anything with the buffer interface; copied
    :param stamp_ns: header stamp (ns); the others are the cloud's fields of the same names
    :raises CloudError: anything is not exactly as :func:`encode_latents` writes it, a value is not finite
        (surprise may be NaN), a time lies ahead, or the stamp is zero
    """
    points = _decode(height, width, fields, point_step, row_step, is_bigendian, data, stamp_ns)
    if height != 1:
        raise CloudError(f'expected latents in one row, found {height} rows')
    times = points['t'][0].copy()
    if (times > 0).any():
        raise CloudError(f'expected latents at or before their stamp, found {times.max():g} s after it')
    return Latents(stamp_ns, points['descriptor'][0].copy(), _positions(points), times,
                   points['surprise'][0].copy(), int(points['model'][0, 0]))


def decode_futures(height: int, width: int, fields, point_step: int, row_step: int, is_bigendian: bool, data,
                   stamp_ns: int) -> Futures:
    """
    Read the cloud of predicted slices, strictly; parameters as for :func:`decode_latents`.

    :raises CloudError: as :func:`decode_latents`, or horizons that are not positive and ascending
    """
    points = _decode(height, width, fields, point_step, row_step, is_bigendian, data, stamp_ns)
    times = points['t']
    horizons = times[:, 0].copy()
    if (times != horizons[:, None]).any() or horizons[0] <= 0 or (np.diff(horizons) <= 0).any():
        raise CloudError('expected one horizon per row, positive and ascending, found '
                         f"{', '.join(f'{t:g}' for t in horizons)} s in the first column")
    return Futures(stamp_ns, horizons, points['descriptor'].copy(), _positions(points),
                   int(points['model'][0, 0]))


def _point_type(width: int) -> np.dtype:
    """Return the layout of one point with a descriptor of ``width`` numbers."""
    return np.dtype([('x', '<f4'), ('y', '<f4'), ('z', '<f4'), ('t', '<f4'), ('surprise', '<f4'),
                     ('model', '<u4'), ('descriptor', '<f4', (width,))])


def _fields(width: int) -> tuple[Field, ...]:
    layout = _point_type(width)
    return tuple(Field(name, layout.fields[name][1], UINT32 if name == 'model' else FLOAT32,
                       width if name == 'descriptor' else 1) for name in layout.names)


def _encode(points: np.ndarray, values) -> CloudBytes:
    """Fill in what both clouds have in common and return the message's fields."""
    points['x'] = values.positions[:, 0]
    points['y'] = values.positions[:, 1]
    points['model'] = values.model
    points['descriptor'] = values.tokens
    data = array.array('B')
    data.frombytes(points.reshape(-1).view(np.uint8).data)
    step = points.dtype.itemsize
    height, width = points.shape
    return CloudBytes(height, width, _fields(values.tokens.shape[-1]), step, step * width, data)


def _decode(height, width, fields, point_step, row_step, is_bigendian, data, stamp_ns) -> np.ndarray:
    """Return a view of the points [height, width] after checking all that both clouds have in common."""
    if stamp_ns <= 0:
        raise CloudError(f'expected a header stamp, found {stamp_ns} ns')
    if is_bigendian:
        raise CloudError('expected a little-endian cloud, found a big-endian one')
    if height < 1 or width < 1:
        raise CloudError(f'expected at least one point, found {height}x{width}')
    found = tuple(Field(field.name, field.offset, field.datatype, field.count) for field in fields)
    descriptor = found[-1].count if found else 0
    if descriptor < 1 or found != _fields(descriptor):
        expected = _describe(_fields(max(descriptor, 1)))
        raise CloudError(f'expected the fields {expected}, found {_describe(found)}')
    layout = _point_type(descriptor)
    if point_step != layout.itemsize or row_step != point_step * width:
        raise CloudError(f'expected a point step of {layout.itemsize} and a row step of '
                         f'{layout.itemsize * width} bytes, found {point_step} and {row_step}')
    buffer = np.frombuffer(data, dtype=np.uint8)
    if buffer.size != row_step * height:
        raise CloudError(f'expected {row_step * height} bytes, found {buffer.size}')
    points = buffer.view(layout).reshape(height, width)
    for name in ('x', 'y', 'z', 't', 'descriptor'):
        if not np.isfinite(points[name]).all():
            raise CloudError(f"expected finite numbers in field '{name}', found NaN or infinity")
    if np.isinf(points['surprise']).any():
        raise CloudError("expected finite numbers or NaN in field 'surprise', found infinity")
    for name in ('x', 'y', 'z'):
        if (points[name] != points[name][0]).any():
            raise CloudError(f"expected the same positions in every row, found another in field '{name}'")
    if (points['model'] != points['model'][0, 0]).any():
        raise CloudError('expected one model in the whole cloud, found several')
    return points


def _positions(points: np.ndarray) -> np.ndarray:
    return np.stack([points['x'][0], points['y'][0]], axis=1)


def _describe(fields) -> str:
    return ' '.join(f'{f.name}@{f.offset}:{f.datatype}x{f.count}' for f in fields) or 'none'
