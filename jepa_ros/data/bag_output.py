# SPDX-License-Identifier: Apache-2.0
"""A rosbag2 (MCAP) of standard messages that is written."""

from __future__ import annotations

import shutil
from pathlib import Path

from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.errors import WriterError
from rosbags.typesys import Stores, get_typestore

from jepa_ros.errors import JepaError

_FOREVER = QosTime(0, 0)
LATCHED = Qos(
    history=QosHistory.KEEP_LAST,
    depth=1,
    reliability=QosReliability.RELIABLE,
    durability=QosDurability.TRANSIENT_LOCAL,
    deadline=_FOREVER,
    lifespan=_FOREVER,
    liveliness=QosLiveliness.AUTOMATIC,
    liveliness_lease_duration=_FOREVER,
    avoid_ros_namespace_conventions=False,
)


class BagOutputError(JepaError):
    """A bag cannot be written."""


class BagOutput:
    """
    One bag; an earlier bag at the same place is replaced.

    :param path: directory of the bag; its parents are made.
    :ivar types: rosbags' store of the standard types.
    :raises BagOutputError: something else is there, or it cannot be written.
    """

    def __init__(self, path: Path):
        if path.exists():
            if not list(path.glob('*.mcap')):
                raise BagOutputError(f'expected no file or an earlier bag at {path}, found something else')
            shutil.rmtree(path)
        self.types = get_typestore(Stores.LATEST)
        self._writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer.open()
        except (OSError, WriterError) as error:
            raise BagOutputError(f'expected to write a bag at {path}, found: {error}') from error

    def add(self, topic: str, msgtype: str, latched: bool = False):
        """
        Declare a topic; returns its connection.

        :param msgtype: such as 'sensor_msgs/msg/Image'.
        :param latched: whether it is transient local, so that a player latches it too.
        :raises rosbags.typesys.base.TypesysError: the type is none of the standard ones.
        """
        qos = [LATCHED] if latched else []
        return self._writer.add_connection(topic, msgtype, typestore=self.types, offered_qos_profiles=qos)

    def write(self, connection, log_ns: int, cdr: bytes) -> None:
        """Append a message. :param cdr: its bytes, four of header first."""
        self._writer.write(connection, log_ns, cdr)

    def close(self) -> None:
        """Write the index and the metadata."""
        self._writer.close()
