# SPDX-License-Identifier: Apache-2.0
"""The conveyor scene: physics, camera picture and ground truth, one camera frame at a time."""

from __future__ import annotations

import numpy as np

from jepa_ros.sim.belt import BeltProgram
from jepa_ros.sim.hall import MAX_TIMESTEP, Hall
from jepa_ros.sim.world import build


class ConveyorScene(Hall):
    """A belt carries one bin after another past the camera and behind a pillar.

    Everything follows from the seed: the same seed, size and fps give the same frames on the same machine,
    and the same motion whatever the size.

    :param seed: see `seeds` for which range is for what.
    :param size: height and width of the picture, px.
    :param fps: camera frames per second.
    :param fine: shadows and antialiasing, about seven times slower to render.
    :raises SimError: when MuJoCo or its renderer is missing.
    """

    def __init__(self, seed: int, size: tuple[int, int] = (240, 320), fps: float = 30.0, fine: bool = False):
        self._substeps = int(np.ceil(1 / fps / MAX_TIMESTEP))
        super().__init__(seed, size, fps, build(seed, 1 / fps / self._substeps, shadows=fine))
        self._renderer  # made now, so that a missing one is known now
        self._rng = np.random.default_rng([seed, 2])
        self._program = BeltProgram(np.random.default_rng([seed, 3]))
        self._enter(self.bin, self._rng.uniform(self._ends[0], 0.0), self._rng)
        self._mujoco.mj_forward(self._model, self._data)

    def step(self) -> None:
        """Advance the physics to the next camera frame."""
        model, data = self._model, self._data
        for _ in range(self._substeps):
            data.ctrl[0] = self._program.step(model.opt.timestep)
            self._mujoco.mj_step(model, data)
        self._wrap_belt()
        x = data.body(self.bin.name).xpos[0]
        if not self._ends[0] - 0.05 < x < self._ends[1] + 0.05:
            self._park(self.bin)
            self.bin = self._bins[(self._bins.index(self.bin) + 1) % len(self._bins)]
            self._enter(self.bin, self._ends[0], self._rng)
        self._mujoco.mj_forward(model, data)
        self._frame += 1
