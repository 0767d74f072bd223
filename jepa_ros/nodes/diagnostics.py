# SPDX-License-Identifier: Apache-2.0
"""What a node says about itself on /diagnostics."""

from __future__ import annotations

from dataclasses import dataclass, field

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
