# SPDX-License-Identifier: Apache-2.0
"""What happens to belt and bins from outside: by schedule or on call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from jepa_ros.sim.belt import SPEEDS
from jepa_ros.sim.hall import SimError

KINDS = {
    'stop': 'the belt stops',
    'start': 'it runs again, at value m/s (0: as fast as before)',
    'reverse': 'it runs backwards, at value m/s (0: 0.1)',
    'speed': 'it changes to value m/s, negative backwards',
    'nudge': 'the bin is pushed upstream (negative) or downstream, value m/s in the first instant',
    'turn': 'the bin is turned about the vertical, value rad/s in the first instant',
    'pass': 'a hanging load passes in front of the camera and covers the handle value s from now (0: 1)',
}


@dataclass(frozen=True)
class Intervention:
    """One thing that happens.

    :param after: s after the first frame.
    :param kind: one of KINDS.
    :param value: see KINDS.
    :raises SimError: for another kind.
    """

    after: float
    kind: str
    value: float = 0.0

    def __post_init__(self):
        if self.kind not in KINDS or not np.isfinite([self.after, self.value]).all():
            raise SimError(
                f'expected an intervention of {", ".join(KINDS)} with finite numbers, found {self}'
            )


def drawn(rng: np.random.Generator) -> Iterator[Intervention]:
    """Draw what happens to one bin after another, for ever: something every 5 to 14 s."""
    after = 0.0
    while True:
        after += rng.uniform(5.0, 14.0)
        kind = str(rng.choice(['stop', 'reverse', 'speed', 'nudge', 'turn'], p=[0.25, 0.15, 0.2, 0.2, 0.2]))
        sign = rng.choice([-1, 1])
        if kind == 'speed':
            yield Intervention(after, kind, rng.uniform(*SPEEDS))
        elif kind == 'nudge':
            yield Intervention(after, kind, sign * rng.uniform(0.5, 0.9))
        elif kind == 'turn':
            yield Intervention(after, kind, sign * rng.uniform(5.0, 9.0))
        else:
            yield Intervention(after, kind, 0.0 if kind == 'stop' else rng.uniform(0.05, 0.15))
            after += rng.uniform(0.8, 2.2)
            yield Intervention(after, 'start')


def passing(rng: np.random.Generator) -> Iterator[Intervention]:
    """Draw when hanging loads pass: one every 6 to 15 s."""
    after = rng.uniform(0.0, 6.0)
    while True:
        yield Intervention(after, 'pass', rng.uniform(0.8, 2.0))
        after += rng.uniform(6.0, 15.0)


class Schedule:
    """Hands out interventions when their time has come.

    :param sources: each in the order of time; one may be endless.
    """

    def __init__(self, *sources: Iterable[Intervention]):
        self._sources = [iter(source) for source in sources]
        self._next = [next(source, None) for source in self._sources]

    def due(self, elapsed: float) -> Iterator[Intervention]:
        """Yield what is to happen up to `elapsed` s after the first frame."""
        for i, source in enumerate(self._sources):
            while self._next[i] is not None and self._next[i].after <= elapsed:
                yield self._next[i]
                self._next[i] = next(source, None)


class BeltDrive:
    """Accelerates the belt towards the speed that is wanted.

    :param speed: m/s, which it has from the beginning.
    """

    def __init__(self, speed: float):
        self.cruise = self.wanted = self.speed = speed
        self.acceleration = 0.6  # m/s^2

    def step(self, dt: float) -> float:
        """Advance by dt (s) and return the speed for this step, m/s."""
        change = self.acceleration * dt
        self.speed += float(np.clip(self.wanted - self.speed, -change, change))
        return self.speed

    @property
    def state(self) -> str:
        """'running', 'stopped' or 'reversed', by the speed that it has."""
        if abs(self.speed) < 0.005:
            return 'stopped'
        return 'running' if self.speed > 0 else 'reversed'
