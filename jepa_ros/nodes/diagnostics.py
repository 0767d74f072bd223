# SPDX-License-Identifier: Apache-2.0
"""What a node says about itself on /diagnostics, and the meters that its figures come from."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


@dataclass
class Health:
    """
    The state of a node at one moment.

    :param values: figures by name, shown as they are (floats with four digits).
    :param problems: (level, sentence) of everything that is wrong: what it is and what to do about it.
    """

    values: dict[str, object] = field(default_factory=dict)
    problems: list[tuple[bytes, str]] = field(default_factory=list)

    def warn(self, sentence: str) -> None:
        """Add something that is wrong while the node still works."""
        self.problems.append((WARN, sentence))

    def error(self, sentence: str) -> None:
        """Add something that keeps the node from its work."""
        self.problems.append((ERROR, sentence))

    @property
    def level(self) -> bytes:
        """The worst level among the problems."""
        return max((level for level, _ in self.problems), default=OK)

    def message(self, stamp, name: str, hardware: str = '') -> DiagnosticArray:
        """
        Make the message.

        :param stamp: builtin_interfaces/Time of now.
        :param name: full name of the node, without the leading slash.
        :param hardware: what it runs on or with.
        """
        status = DiagnosticStatus(level=self.level, name=name, hardware_id=hardware)
        status.message = '; '.join(sentence for _, sentence in self.problems) or 'ok'
        status.values = [KeyValue(key=key, value=_text(value)) for key, value in self.values.items()]
        array = DiagnosticArray(status=[status])
        array.header.stamp = stamp
        return array


def _text(value) -> str:
    return f'{value:.4g}' if isinstance(value, float) else str(value)


class Rate:
    """
    Events per second over the newest seconds; any thread may count and read.

    :param span: how far back it looks, in s.
    """

    def __init__(self, span: float = 5.0):
        self._span = span
        self._times: deque[float] = deque()
        self._lock = threading.Lock()
        self._since = time.monotonic()

    def tick(self) -> None:
        """Count one event."""
        now = time.monotonic()
        with self._lock:
            self._times.append(now)
            self._forget(now)

    def hz(self) -> float:
        """:return: events per second since ``span`` ago, or since the beginning if that is later."""
        now = time.monotonic()
        with self._lock:
            self._forget(now)
            return len(self._times) / max(1e-3, min(self._span, now - self._since))

    def _forget(self, now: float) -> None:
        while self._times and self._times[0] < now - self._span:
            self._times.popleft()


class Durations:
    """
    Percentiles of the newest durations; any thread may add and read.

    :param size: how many are kept.
    """

    def __init__(self, size: int = 300):
        self._newest: deque[float] = deque(maxlen=size)
        self._lock = threading.Lock()

    def add(self, seconds: float) -> None:
        """Add one duration in s."""
        with self._lock:
            self._newest.append(seconds)

    def percentile(self, percent: float) -> float:
        """:return: a percentile in s; NaN before the first duration."""
        with self._lock:
            newest = list(self._newest)
        return float(np.percentile(newest, percent)) if newest else float('nan')

    def values(self, name: str) -> dict[str, float]:
        """:return: p50, p90 and p99 as ``<name>_p50_ms`` and so on; nothing before the first duration."""
        if not self._newest:
            return {}
        return {f'{name}_p{percent}_ms': 1e3 * self.percentile(percent) for percent in (50, 90, 99)}
