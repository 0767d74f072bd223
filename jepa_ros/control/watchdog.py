# SPDX-License-Identifier: Apache-2.0
"""Whether what was received last may still be acted on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from jepa_ros.errors import JepaError

Content = TypeVar('Content')


class RefusedError(JepaError):
    """A received message must not be acted on."""


@dataclass(frozen=True)
class WatchdogSettings:
    """
    How old what is acted on may be.

    :param max_age: limit in s of the age by header stamp, on the clock that stamps are made with.
    :param max_silence: limit in s of the time since reception, on a steady clock: it also runs out where the
        other clock stands still, jumps, or belongs to a sender that stamps old frames anew.
    :param max_future: how far in s a stamp may lie in the future, for clocks of two machines that differ a
        little.
    """

    max_age: float = 0.3
    max_silence: float = 0.3
    max_future: float = 0.05


class Watchdog(Generic[Content]):
    """
    Holds the newest message of one stream and says whether it may be acted on.

    A message that is wrong in itself (another model, a stamp that is zero or in the future) also takes back
    what was held: then its sender is in doubt, and the next good message ends that doubt. One that is merely
    late changes nothing.

    :param name: what the stream is called in reasons.
    :param settings: its limits.
    :param model: hash of the only model whose messages are accepted.
    """

    def __init__(self, name: str, settings: WatchdogSettings, model: int):
        self.name = name
        self.settings = settings
        self.model = model
        self.clear(f'no {name} have arrived yet')

    def clear(self, reason: str) -> None:
        """Take back what is held. :param reason: why; ``check`` raises it until a message is accepted."""
        self._reason = reason
        self._content: Content | None = None
        self._stamp_ns = self._received_ns = 0

    def offer(self, content: Content, stamp_ns: int, model: int, now_ns: int, steady_ns: int) -> None:
        """
        Hold a message if it is good and newer than the one held.

        :param content: what it says.
        :param stamp_ns: its header stamp in ns.
        :param model: hash of the model it is from.
        :param now_ns: now in ns on the clock that stamps are made with.
        :param steady_ns: now in ns on a steady clock.
        :raises RefusedError: it must not be acted on.
        """
        if model != self.model:
            self._refuse(f'{self.name} are from model {model:08x}, expected {self.model:08x}')
        if stamp_ns <= 0:
            self._refuse(f'the stamp of the {self.name} is zero')
        if stamp_ns - now_ns > self.settings.max_future * 1e9:
            self._refuse(self._future(stamp_ns, now_ns))
        held_from_future = self._stamp_ns - now_ns > self.settings.max_future * 1e9  # the clock jumped back
        if stamp_ns > self._stamp_ns or held_from_future:
            self._content, self._stamp_ns, self._received_ns = content, stamp_ns, steady_ns

    def check(self, now_ns: int, steady_ns: int) -> Content:
        """
        What may be acted on now.

        :param now_ns: now in ns on the clock that stamps are made with.
        :param steady_ns: now in ns on a steady clock.
        :return: the content of the newest good message.
        :raises RefusedError: there is none, or it is too old; the message says why.
        """
        if self._content is None:
            raise RefusedError(self._reason)
        age, silence = self.age(now_ns), (steady_ns - self._received_ns) / 1e9
        if age > self.settings.max_age:
            raise RefusedError(
                f'the newest {self.name} are {age:.2f} s old, {self.settings.max_age:g} s allowed')
        if silence > self.settings.max_silence:
            raise RefusedError(
                f'no {self.name} have arrived for {silence:.2f} s, {self.settings.max_silence:g} s allowed')
        if -age > self.settings.max_future:
            raise RefusedError(self._future(self._stamp_ns, now_ns))
        return self._content

    def age(self, now_ns: int) -> float:
        """:return: age by stamp of what is held, in s."""
        return (now_ns - self._stamp_ns) / 1e9

    def _future(self, stamp_ns: int, now_ns: int) -> str:
        return (f'the stamp of the {self.name} is {(stamp_ns - now_ns) / 1e9:.2f} s in the future, '
                f'{self.settings.max_future:g} s allowed (do all nodes use one clock? see use_sim_time)')

    def _refuse(self, reason: str) -> None:
        self.clear(reason)
        raise RefusedError(reason)
