# SPDX-License-Identifier: Apache-2.0
"""Bags of ROS 2 (sqlite3, MCAP, compressed) and ROS 1 as topics and messages, through the `rosbags` library.

Whatever a bag was damaged by, what can be read is read, and the fault is named in `Bag.warnings`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from rosbags.rosbag1 import Reader as Rosbag1Reader
from rosbags.rosbag2 import Reader as Rosbag2Reader
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from jepa_ros.data.salvage import Damage, scan_mcap, scan_rosbag1
from jepa_ros.errors import JepaError

STORAGE_SUFFIXES = ('.mcap', '.db3')


class RecordingError(JepaError):
    """A recording, or a topic in it, that cannot be read."""


class Topic(NamedTuple):
    """One topic of a bag."""

    name: str
    msgtype: str
    count: int


class _Storage:
    """One file of a bag, or a whole rosbag2 directory, read through its index by `rosbags`."""

    def __init__(self, path: Path):
        self.path = path
        self._reader = Rosbag1Reader if path.suffix == '.bag' else Rosbag2Reader
        with self._reader(path) as reader:
            self.topics = [(c.topic, c.msgtype, c.msgcount) for c in reader.connections]
            self.definitions = {c.msgtype: c.msgdef.data for c in reader.connections}
            self.span = (reader.start_time, reader.end_time) if reader.message_count else None

    def messages(self, topic: str, start: int | None, stop: int | None) -> Iterator[tuple[int, bytes]]:
        with self._reader(self.path) as reader:
            connections = [c for c in reader.connections if c.topic == topic]
            if not connections:
                return  # none would be taken for all
            for _, log_ns, data in reader.messages(connections, start, stop):
                yield log_ns, data


class _DamagedStorage:
    """One file without a usable index, read record by record. The first pass finds topics and the fault."""

    def __init__(self, path: Path):
        self.path = path
        self._scan = scan_rosbag1 if path.suffix == '.bag' else scan_mcap
        self.definitions: dict[str, str] = {}
        self.span: tuple[int, int] | None = None
        self.fault = 'has no index'
        counts: dict[tuple[str, str], int] = {}
        try:
            for message in self._scan(path):
                key = (message.topic, message.msgtype)
                counts[key] = counts.get(key, 0) + 1
                self.definitions[message.msgtype] = message.definition
                first, last = self.span or (message.log_ns, message.log_ns)
                self.span = (min(first, message.log_ns), max(last, message.log_ns))
        except Damage as damage:
            self.fault = str(damage)
        self.topics = [(*key, count) for key, count in counts.items()]

    def messages(self, topic: str, start: int | None, stop: int | None) -> Iterator[tuple[int, bytes]]:
        first, end = start or 0, sys.maxsize if stop is None else stop
        try:
            for message in self._scan(self.path):
                if message.topic == topic and first <= message.log_ns < end:
                    yield message.log_ns, message.data
        except Damage:
            return  # named in `fault` since the first pass


class Bag:
    """The topics and messages of one bag.

    :param path: a rosbag2 directory, one of its storage files (`.mcap`, `.db3`), or a ROS 1 `.bag`.
    :raises RecordingError: when nothing in it can be read.
    """

    def __init__(self, path: Path):
        self.path = path
        self.warnings: list[str] = []
        self._storages = self._open()
        if not self._storages:
            raise RecordingError('; '.join(self.warnings) or f'{path}: expected a bag, found nothing to read')
        counts: dict[tuple[str, str], int] = {}
        for storage in self._storages:
            for name, msgtype, count in storage.topics:
                counts[name, msgtype] = counts.get((name, msgtype), 0) + count
        self.topics = [Topic(*key, count) for key, count in sorted(counts.items())]
        spans = [storage.span for storage in self._storages if storage.span]
        self.duration = (max(s[1] for s in spans) - min(s[0] for s in spans)) / 1e9 if spans else 0.0

    def _open(self) -> list[_Storage | _DamagedStorage]:
        # rosbags raises whatever its parsers run into (struct.error, KeyError, AssertionError, apsw's
        # errors, ...) on damaged files: every one of them means "not readable this way".
        if not self.path.is_dir():
            return self._open_file(self.path)
        files = sorted(file for file in self.path.iterdir() if file.suffix in STORAGE_SUFFIXES)
        try:
            return [_Storage(self.path)]
        except FileNotFoundError:
            if files:
                self.warnings.append(
                    f'{self.path} has no metadata.yaml; its storage files are read one by one'
                )
        except Exception as error:
            self.warnings.append(
                f'{self.path} is damaged ({_sentence(error)}); its storage files are read one by one'
            )
        return [storage for file in files for storage in self._open_file(file)]

    def _open_file(self, path: Path) -> list[_Storage | _DamagedStorage]:
        try:
            return [_Storage(path)]
        except Exception as error:
            reason = _sentence(error)
        if path.suffix in ('.mcap', '.bag'):
            storage = _DamagedStorage(path)
            if storage.topics:
                self.warnings.append(
                    f'{path} was not closed or is cut off ({reason}): it {storage.fault}; '
                    f'{sum(t[2] for t in storage.topics)} messages were found'
                )
                return [storage]
            reason = f'{reason}; the file {storage.fault}'
        self.warnings.append(f'{path} cannot be read as a bag: {reason}')
        return []

    def raw_messages(
        self, topic: str, start: int | None = None, stop: int | None = None
    ) -> Iterator[tuple[int, bytes]]:
        """Yield the bag time (ns) and the serialised bytes of each message of a topic, in log order.

        :param start: only messages at or after this bag time (ns).
        :param stop: only messages before this bag time (ns).
        """
        for storage in self._storages:
            count = 0
            try:
                for message in storage.messages(topic, start, stop):
                    yield message
                    count += 1
            except Exception as error:  # see _open
                self._warn(
                    f'{storage.path} is damaged: {topic} ends after {count} messages ({_sentence(error)})'
                )

    def messages(
        self, topic: str, start: int | None = None, stop: int | None = None
    ) -> Iterator[tuple[int, object]]:
        """Yield the bag time (ns) and the deserialised message of each message of a topic, in log order.

        :param start: only messages at or after this bag time (ns).
        :param stop: only messages before this bag time (ns).
        :raises RecordingError: when the bag lacks the topic or its type is not known here.
        """
        msgtype = next((t.msgtype for t in self.topics if t.name == topic), None)
        if msgtype is None:
            names = ', '.join(t.name for t in self.topics) or 'no topics'
            raise RecordingError(f'{self.path}: expected topic {topic}, found {names}')
        deserialise = self._deserialiser(msgtype)
        faults: list[str] = []
        for log_ns, data in self.raw_messages(topic, start, stop):
            try:
                message = deserialise(data, msgtype)
            except Exception as error:  # a corrupt message fails anywhere in the generated code
                faults.append(_sentence(error))
                continue
            yield log_ns, message
        if faults:
            self._warn(
                f'{self.path}: {len(faults)} message(s) of {topic} are not readable as {msgtype} '
                f'({faults[0]})'
            )

    def _deserialiser(self, msgtype: str):
        ros1 = self.path.suffix == '.bag'
        store = _common_types(ros1)
        if msgtype not in store.types:
            definition = next(
                (s.definitions[msgtype] for s in self._storages if s.definitions.get(msgtype)), None
            )
            if definition is None:
                raise RecordingError(
                    f'{self.path}: the bag holds no definition of {msgtype}, '
                    'and it is none of the common types'
                )
            try:
                store = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.LATEST)
                new = get_types_from_msg(definition, msgtype)
                store.register({name: fields for name, fields in new.items() if name not in store.types})
            except Exception as error:
                raise RecordingError(
                    f'{self.path}: the definition of {msgtype} is not readable: {_sentence(error)}'
                ) from error
        return store.deserialize_ros1 if ros1 else store.deserialize_cdr

    def _warn(self, warning: str) -> None:
        if warning not in self.warnings:
            self.warnings.append(warning)


@lru_cache
def _common_types(ros1: bool):
    """Return the store of the common interfaces, whose image types are the same in every distribution."""
    return get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.LATEST)


def _sentence(error: BaseException) -> str:
    return str(error).rstrip('.') or type(error).__name__
