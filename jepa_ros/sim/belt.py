# SPDX-License-Identifier: Apache-2.0
"""What the belt is told to do: run, change speed, stop, start again, reverse."""

from __future__ import annotations

import numpy as np

SPEEDS = (0.05, 0.30)  # m/s


class BeltProgram:
    """A random sequence of belt speeds; the belt accelerates towards each.

    :param rng: decides everything.
    :attr event: what the belt is doing: 'run', 'stop' or 'reverse'.
    """

    def __init__(self, rng: np.random.Generator):
        self._rng = rng
        self._acceleration = 0.6  # m/s^2
        self._do('run', rng.uniform(0.10, SPEEDS[1]), rng.uniform(3.0, 8.0))
        self._speed = self._wanted

    def step(self, dt: float) -> float:
        """Advance by dt (s) and return the speed for this step, m/s, positive downstream."""
        self._left -= dt
        if self._left <= 0:
            self._next()
        change = self._acceleration * dt
        self._speed += float(np.clip(self._wanted - self._speed, -change, change))
        return self._speed

    def _next(self) -> None:
        rng = self._rng
        self._acceleration = float(rng.uniform(0.3, 1.2))
        choice = rng.random()
        if self.event == 'run' and choice < 0.3:
            self._do('stop', 0.0, rng.uniform(0.8, 2.2))
        elif self.event == 'run' and choice < 0.45:
            self._do('reverse', -rng.uniform(0.05, 0.15), rng.uniform(0.6, 1.4))
        else:
            self._do('run', rng.uniform(*SPEEDS), rng.uniform(3.0, 8.0))

    def _do(self, event: str, speed: float, seconds: float) -> None:
        self.event, self._wanted, self._left = event, float(speed), float(seconds)
