# SPDX-License-Identifier: Apache-2.0
"""A rosbag2 (MCAP) of messages as they came over the wire: nothing is deserialised, nothing is converted."""

from pathlib import Path

from rosbags.typesys.base import TypesysError

from jepa_ros.data.bag_output import BagOutput


class BagRecorder:
    """
    Writes one bag and counts its messages.

    :param path: directory of the bag, as :class:`~jepa_ros.data.bag_output.BagOutput` takes it.
    :ivar counts: messages by topic.
    :raises BagOutputError: something else is there, or it cannot be written.
    """

    def __init__(self, path: Path):
        self.path = path
        self.counts: dict[str, int] = {}
        self._connections = {}
        self._bag = BagOutput(path)

    def add(self, topic: str, msgtype: str, latched: bool = False) -> bool:
        """
        Declare a topic.

        :param msgtype: such as 'sensor_msgs/msg/Image'.
        :param latched: whether it was published transient local, so that a player latches it too.
        :return: False if the type is none of the standard ones, so that the topic is left out.
        """
        try:
            self._connections[topic] = self._bag.add(topic, msgtype, latched)
        except TypesysError:
            return False
        self.counts[topic] = 0
        return True

    def write(self, topic: str, arrived_ns: int, cdr: bytes) -> None:
        """Append a message. :param topic: one that was added. :param cdr: its bytes, four of header first."""
        self._bag.write(self._connections[topic], arrived_ns, cdr)
        self.counts[topic] += 1

    def close(self) -> None:
        """Write the index and the metadata."""
        self._bag.close()
