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
        self.event = 'run'
        self._wanted = self._speed = float(rng.uniform(0.10, SPEEDS[1]))
        self._acceleration = 0.6  # m/s^2
        self._left = float(rng.uniform(3.0, 8.0))

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
            self.event, self._wanted, self._left = 'stop', 0.0, float(rng.uniform(0.8, 2.2))
        elif self.event == 'run' and choice < 0.45:
            self.event, self._wanted, self._left = 'reverse', -float(rng.uniform(0.05, 0.15)), float(rng.uniform(0.6, 1.4))
        else:
            self.event, self._wanted, self._left = 'run', float(rng.uniform(*SPEEDS)), float(rng.uniform(3.0, 8.0))
