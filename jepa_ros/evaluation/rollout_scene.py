# SPDX-License-Identifier: Apache-2.0
"""Which scene a seed is: the same for every contender, whatever they do."""

from __future__ import annotations

from dataclasses import dataclass, field

from jepa_ros.sim.belt import SPEEDS
from jepa_ros.sim.cell import ConveyorCell

FPS = 20.0  # of the camera, as that of the training data
SIZE = 240, 320  # height and width of its picture, px
COVER_PLACE = 0.02  # m along the belt: with COVER_LAG s of the belt's way, where a bin is about to be grasped
COVER_LAG = 0.65
COVER_TIME = (
    1.5  # s for which the load is on its way until it covers the handle; then it hides it about 0.6 s
)


@dataclass(frozen=True)
class Scene:
    """
    The cell of a seed: its belt speed, and whether a load is sent to hide the handle before the grasp.

    Besides that there is all that the seed draws: pillars, loads, what happens to belt and bin.
    """

    seed: int

    @property
    def speed(self) -> float:
        """m/s: a van der Corput sequence over the seeds, so that any run of them covers the range evenly."""
        return SPEEDS[0] + (SPEEDS[1] - SPEEDS[0]) * van_der_corput(self.seed, 2)

    @property
    def covered(self) -> bool:
        """Whether a load is sent: for two of three seeds, whatever their speed."""
        return self.seed % 3 != 2

    def open(self) -> ConveyorCell:
        """Return the cell, at its beginning."""
        return ConveyorCell(
            self.seed, SIZE, FPS, camera='fixed', speed=self.speed, interventions='seed', passing=True
        )


@dataclass
class Cover:
    """
    Sends a load so that it hides the handle where an arm that does not hesitate is about to grasp it.

    The place is fixed beforehand: COVER_PLACE and what the belt moves in COVER_LAG s downstream of it. The
    load sets off COVER_TIME s before the handle is there, at the speed it has then; no contender is watched.

    Attributes: `sent`, whether it is under way: another one may have been, and then this one is not sent.
    """

    scene: Scene
    sent: bool = field(default=False, init=False)
    _due: bool = field(default=True, init=False)

    def step(self, cell: ConveyorCell) -> None:
        """Look at the current frame, and send the load when it is time."""
        if not (self._due and self.scene.covered):
            return
        speed = float(cell.handle_velocity()[0])
        place = COVER_PLACE + COVER_LAG * self.scene.speed
        if speed > 0.01 and cell.handle_pose().position[0] >= place - COVER_TIME * speed:
            self._due, self.sent = False, cell.intervene('pass', COVER_TIME)


def van_der_corput(number: int, base: int) -> float:
    """Return the digits of a number mirrored at the point, 0..1: evenly spread for any run of numbers."""
    value, unit = 0.0, 1.0
    while number:
        number, digit = divmod(number, base)
        unit /= base
        value += digit * unit
    return value
