# SPDX-License-Identifier: Apache-2.0
"""Pairs of clips, the same but for one thing that cannot happen: a network that knows physics is surprised.

The idea is that of IntPhys (Riochet et al., 2018).
"""

from __future__ import annotations

import numpy as np

from jepa_ros.sim.cell import ConveyorCell
from jepa_ros.sim.hall import START_TIME, SimError
from jepa_ros.sim.props import SCREEN_LINE
from jepa_ros.sim.world import BELT_TOP, Bin

VIOLATIONS = ('vanish', 'jump', 'pass', 'appear')
#: By seed. What happens behind the screen goes both ways equally often: whoever takes an empty belt for dull and a
#: full one for surprising is right in one and wrong in the other.
IN_TURN = ('vanish', 'jump', 'pass', 'appear', 'jump', 'pass')
WHERE, SEEN = 0.27, 0.44  # m from the middle of the picture: where it happens at most, and where a bin is whole in it
BEGINNING = 2.0  # s before the bin is where it happens


class StagedCell(ConveyorCell):
    """One bin comes, the arm rests, and what happens is possible or not.

    vanish: the bin goes behind a screen and never comes out. appear: none went behind the screen, and one comes
    out. jump: it is elsewhere on the belt from one frame to the next. pass: it goes through a closed gate, which
    holds it in the possible clip while the belt runs on.
    Until it happens, both clips of a pair are the same.

    :param seed, size, fps, fine: see `ConveyorCell`.
    :param kind: one of VIOLATIONS.
    :param possible: whether to leave out what cannot happen.
    :raises SimError: for another kind.
    """

    def __init__(
        self,
        seed: int,
        size: tuple[int, int] = (240, 320),
        fps: float = 30.0,
        fine: bool = False,
        *,
        kind: str,
        possible: bool,
    ):
        if kind not in VIOLATIONS:
            raise SimError(f'expected a violation of {", ".join(VIOLATIONS)}, found {kind!r}')
        draw = np.random.default_rng([seed, 8])
        super().__init__(seed, size, fps, fine, speed=draw.uniform(0.12, 0.30))
        self._kind, self._possible, self._broken = kind, possible, False
        self._most = 0  # no other bin comes
        eye = self._data.cam(self._camera).xpos
        # in full view: on the side of the pillar's shadow on which there is more of the belt to be seen
        pillar = self._model.geom('pillar').pos
        shadow = eye[0] + (pillar[0] - eye[0]) * -eye[1] / (pillar[1] - eye[1])
        side = -np.sign(shadow)
        self._where = np.clip(shadow + side * draw.uniform(0.24, 0.32), -WHERE, WHERE)
        self._far = np.clip(self._where + side * draw.uniform(0.15, 0.25), -SEEN, SEEN) - self._where
        if kind in ('vanish', 'appear'):
            self._where = draw.uniform(-0.1, 0.1)
            x = eye[0] + (self._where - eye[0]) * (SCREEN_LINE - eye[1]) / -eye[1]
            self._move_prop('screen', (x, SCREEN_LINE, 0.0))
        self._place = draw.uniform(-0.04, 0.04), draw.uniform(-0.5, 0.5)
        if kind == 'appear':
            self._remove()
        else:
            self._put_at(max(self._where - BEGINNING * self._belt.speed - self.bin.radius, self._ends[0]))
        if kind == 'pass':
            self._move_prop('gate', (self._where, 0.0, 0.0))
        self._mujoco.mj_forward(self._model, self._data)

    def _put_at(self, x: float) -> None:
        y, yaw = self._place
        self._put(self.bin, (x, y, BELT_TOP + 0.001), yaw, self._belt.speed)

    def _remove(self) -> None:
        self._park(self.bin)
        self._on_belt.remove(self.bin)

    def _bring(self) -> None:
        self._model.body_gravcomp[self._model.body(self.bin.name).id] = 0
        self._put_at(self._where)
        self._on_belt.append(self.bin)

    def _after_frame(self) -> None:
        if self._broken:
            return
        if self._kind == 'appear':
            if self.time - START_TIME >= BEGINNING:
                self._break(self._bring)
            return
        if self.bin not in self._on_belt:
            return
        x = self._data.joint(self.bin.name).qpos[0]
        if self._kind == 'vanish':
            self._mujoco.mj_forward(self._model, self._data)
            if self._behind_screen(self.bin):
                self._break(self._remove)
        elif self._kind == 'jump' and x > self._where:
            self._break(lambda: self._data.joint(self.bin.name).qpos.__setitem__(0, x + self._far))
        elif self._kind == 'pass' and np.any(self._data.contact.geom == self._model.geom('gate').id):
            self._break(self._open_gate)

    def _break(self, how) -> None:
        self._broken = True
        if not self._possible:
            how()

    def _open_gate(self) -> None:
        # it stays to be seen
        gate = self._model.geom('gate').id
        self._model.geom_contype[gate] = self._model.geom_conaffinity[gate] = 0

    def _violation(self) -> str:
        return self._kind if self._broken and not self._possible else ''

    def _behind_screen(self, bin_: Bin) -> bool:
        """Return whether no corner of the box around a bin can be seen."""
        pose, camera = self.bin_pose(bin_), self.camera()
        hit = np.zeros(1, np.int32)
        for x in (-bin_.radius, 0, bin_.radius):
            for y in (-bin_.radius, 0, bin_.radius):
                for z in (0.02, bin_.grip[0, 2] + 0.02):
                    way = pose.position + pose.rotation @ (x, y, z) - camera.position
                    share = self._mujoco.mj_ray(
                        self._model, self._data, camera.position, way, None, True, -1, hit
                    )
                    if not 0 <= share < 1 or self._contacts.owner(int(hit[0])) is bin_:
                        return False
        return True
