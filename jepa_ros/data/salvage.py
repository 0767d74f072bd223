# SPDX-License-Identifier: Apache-2.0
"""Reading what is left of a damaged MCAP file or ROS 1 bag, record by record, without its index.

A recorder that was killed leaves a file without index and footer, and a copy that was cut off ends in the
middle of a record. Both formats are sequences of self-describing records, so everything before the damage
can be read.
"""

from __future__ import annotations

import bz2
import struct
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

import lz4.frame

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MCAP_MAGIC = b'\x89MCAP0\r\n'
ROSBAG1_MAGIC = b'#ROSBAG V2.0\n'


class SalvagedMessage(NamedTuple):
    """One message as it was written."""

    topic: str
    msgtype: str
    definition: str
    log_ns: int
    data: bytes


class Damage(Exception):
    """Raised at the place where a file cannot be read further."""


def _at_most(stream: BinaryIO, size: int) -> bytes:
    """Read up to `size` bytes; a damaged size may be larger than any memory."""
    here = stream.tell()
    left = stream.seek(0, 2) - here
    stream.seek(here)
    return stream.read(min(size, left))


def _exactly(stream: BinaryIO, size: int) -> bytes:
    """Read `size` bytes or raise Damage."""
    data = _at_most(stream, size)
    if len(data) != size:
        raise _cut_off(size - len(data))
    return data


def _cut_off(missing: int) -> Damage:
    return Damage(f'ends {missing} bytes short of a whole record')


def scan_mcap(path: Path) -> Iterator[SalvagedMessage]:
    """Yield the messages of an MCAP file in file order (https://mcap.dev/spec).

    :param path: the file.
    :raises Damage: where the file cannot be read further, after everything before it was yielded.
    """
    schemas: dict[int, tuple[str, str]] = {}
    channels: dict[int, tuple[str, str, str]] = {}

    def text(body: BytesIO) -> str:
        return _exactly(body, struct.unpack('<I', _exactly(body, 4))[0]).decode()

    def records(stream: BinaryIO) -> Iterator[SalvagedMessage]:
        while opcode := stream.read(1):
            if stream is file and opcode == MCAP_MAGIC[:1]:
                return
            (size,) = struct.unpack('<Q', _exactly(stream, 8))
            data = _at_most(stream, size)
            missing = size - len(data)
            if missing and opcode != b'\x06':  # of a chunk, what is there may hold whole messages
                raise _cut_off(missing)
            body = BytesIO(data)
            if opcode == b'\x03':
                (key,) = struct.unpack('<H', _exactly(body, 2))
                name, _encoding, definition = text(body), text(body), text(body)
                schemas[key] = (name, definition)
            elif opcode == b'\x04':
                key, schema = struct.unpack('<HH', _exactly(body, 4))
                channels[key] = (text(body), *schemas.get(schema, ('', '')))
            elif opcode == b'\x05':
                key, _sequence, log_ns, _publish_ns = struct.unpack('<HIQQ', _exactly(body, 22))
                if key in channels:
                    yield SalvagedMessage(*channels[key], log_ns, body.read())
            elif opcode == b'\x06':
                body.seek(28)
                compression = text(body)
                body.seek(8, 1)
                yield from records(BytesIO(_decompress(body.read(), compression)))
                if missing:
                    raise _cut_off(missing)
            elif opcode in (b'\x02', b'\x0f'):  # footer, end of data: only the index follows
                return

    with path.open('rb') as file:
        if file.read(len(MCAP_MAGIC)) != MCAP_MAGIC:
            raise Damage('does not begin as an MCAP file does')
        try:
            yield from records(file)
        except (struct.error, UnicodeDecodeError) as error:
            raise Damage(f'holds an unreadable record before byte {file.tell()}: {error}') from error


def scan_rosbag1(path: Path) -> Iterator[SalvagedMessage]:
    """Yield the messages of a ROS 1 bag, version 2.0, in file order (https://wiki.ros.org/Bags/Format/2.0).

    :param path: the file.
    :raises Damage: where the file cannot be read further, after everything before it was yielded.
    """
    connections: dict[int, tuple[str, str, str]] = {}

    def header(data: bytes) -> dict[bytes, bytes]:
        fields, position = {}, 0
        while position < len(data):
            (size,) = struct.unpack_from('<I', data, position)
            name, _, value = data[position + 4 : position + 4 + size].partition(b'=')
            fields[name] = value
            position += 4 + size
        return fields

    def records(stream: BinaryIO) -> Iterator[SalvagedMessage]:
        while start := stream.read(4):
            (size,) = struct.unpack('<I', start.ljust(4, b'\0'))
            fields = header(_exactly(stream, size))
            (size,) = struct.unpack('<I', _exactly(stream, 4))
            data = _at_most(stream, size)
            missing = size - len(data)
            op = fields.get(b'op')
            if missing and op != b'\x05':
                raise _cut_off(missing)
            if op == b'\x07':
                about = header(data)
                name = about[b'type'].decode()
                msgtype = name if '/msg/' in name else name.replace('/', '/msg/')
                (key,) = struct.unpack('<I', fields[b'conn'])
                connections[key] = (fields[b'topic'].decode(), msgtype, about[b'message_definition'].decode())
            elif op == b'\x02':
                (key,) = struct.unpack('<I', fields[b'conn'])
                seconds, nanoseconds = struct.unpack('<II', fields[b'time'])
                if key in connections:
                    yield SalvagedMessage(*connections[key], seconds * 10**9 + nanoseconds, data)
            elif op == b'\x05':
                yield from records(BytesIO(_decompress(data, fields[b'compression'].decode())))
                if missing:
                    raise _cut_off(missing)

    with path.open('rb') as file:
        if file.readline() != ROSBAG1_MAGIC:
            raise Damage('does not begin as a ROS 1 bag of version 2.0 does')
        try:
            yield from records(file)
        except (struct.error, KeyError, UnicodeDecodeError) as error:
            raise Damage(f'holds an unreadable record before byte {file.tell()}: {error!r}') from error


def _decompress(data: bytes, compression: str) -> bytes:
    """Decompress a chunk, or as much as there is of one that is cut off.

    :raises Damage: when the data is corrupt or the compression unknown.
    """
    if compression in ('', 'none'):
        return data
    decompressors = {
        'lz4': lz4.frame.LZ4FrameDecompressor,
        'zstd': zstd.ZstdDecompressor,
        'bz2': bz2.BZ2Decompressor,
    }
    if compression not in decompressors:
        raise Damage(f'holds a chunk compressed with {compression!r}; known are {", ".join(decompressors)}')
    try:
        return decompressors[compression]().decompress(data)
    except (RuntimeError, ValueError, OSError, EOFError, zstd.ZstdError) as error:
        raise Damage(f'holds a chunk that does not decompress: {error}') from error
