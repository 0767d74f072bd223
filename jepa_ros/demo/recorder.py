# SPDX-License-Identifier: Apache-2.0
"""A rosbag2 (MCAP) of messages as they came over the wire: nothing is deserialised, nothing is converted."""

import shutil
from pathlib import Path

from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.errors import WriterError
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.base import TypesysError

from jepa_ros.errors import JepaError

_FOREVER = QosTime(0, 0)
LATCHED = Qos(QosHistory.KEEP_LAST, 1, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL,
              _FOREVER, _FOREVER, QosLiveliness.AUTOMATIC, _FOREVER, False)


class RecorderError(JepaError):
    """The bag cannot be written."""


class BagRecorder:
    """
    Writes one bag; an earlier bag at the same place is replaced.

    :param path: directory of the bag; its parents are made.
    :raises RecorderError: something else is there, or it cannot be written.
    """

    def __init__(self, path: Path):
        if path.exists():
            if not list(path.glob('*.mcap')):
                raise RecorderError(f'expected no file or an earlier bag at {path}, found something else')
            shutil.rmtree(path)
        self.path = path
        self.counts: dict[str, int] = {}
        self._types = get_typestore(Stores.LATEST)
        self._connections = {}
        self._writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer.open()
        except (OSError, WriterError) as error:
            raise RecorderError(f'expected to write a bag at {path}, found: {error}') from error

    def add(self, topic: str, msgtype: str, latched: bool = False) -> bool:
        """
        Declare a topic.

        :param msgtype: such as 'sensor_msgs/msg/Image'.
        :param latched: whether it was published transient local, so that a player latches it too.
        :return: False if the type is none of the standard ones, so that the topic is left out.
        """
        try:
            self._connections[topic] = self._writer.add_connection(
                topic, msgtype, typestore=self._types, offered_qos_profiles=[LATCHED] if latched else [])
        except TypesysError:
            return False
        self.counts[topic] = 0
        return True

    def write(self, topic: str, arrived_ns: int, cdr: bytes) -> None:
        """Append a message. :param topic: one that was added. :param cdr: its bytes, four of header first."""
        self._writer.write(self._connections[topic], arrived_ns, cdr)
        self.counts[topic] += 1

    def close(self) -> None:
        """Write the index and the metadata."""
        self._writer.close()
