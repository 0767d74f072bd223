# SPDX-License-Identifier: Apache-2.0
"""Things that come into the camera's way: hanging loads that pass, and the stage of the impossible clips.

They wait below the floor and are moved as a whole; nothing but the gate is solid.
"""

from __future__ import annotations

import numpy as np

from jepa_ros.sim.world import BELT_HALF_WIDTH, BELT_TOP, Fixture, box, element, geom

AWAY = np.array([0.0, 0.0, -5.0])  # m, where they wait
LOAD_HALF = 0.06  # m, half the width of a hanging load
LOAD_LINE = -0.60  # m, the y of the rail that they hang from
SCREEN_LINE = -0.45
SCREEN_HALF = 0.155
SCREEN_TOP = 1.34  # m, above the line of sight to the highest handle
GATE_HALF = 0.012


def props(rng: np.random.Generator) -> Fixture:
    """Return a hanging load of a random kind, a screen and a gate, all out of sight."""
    paint = np.clip(rng.uniform(0.15, 0.85, 3), 0, 1)
    second = np.clip(rng.uniform(0.15, 0.85, 3), 0, 1)
    steel = np.full(3, 0.35)
    kind = rng.choice(['sack', 'crate', 'sign', 'reel'])
    load = {
        'sack': [
            geom('ellipsoid', (LOAD_HALF, 0.05, 0.13), (0, 0, 0), paint, solid=False),
            geom('ellipsoid', (0.03, 0.03, 0.04), (0, 0, 0.13), second, solid=False),
        ],
        'crate': [
            box((LOAD_HALF, 0.05, 0.12), (0, 0, 0), paint, solid=False),
            *(
                box((LOAD_HALF + 0.002, 0.052, 0.012), (0, 0, z), second, solid=False)
                for z in (-0.08, 0.0, 0.08)
            ),
        ],
        'sign': [
            box((LOAD_HALF, 0.008, 0.13), (0, 0, 0), paint, solid=False),
            box((LOAD_HALF * 0.8, 0.010, 0.11), (0, 0, 0), second, solid=False),
        ],
        'reel': [
            geom('cylinder', (0.11, 0.045), (0, 0, 0), paint, solid=False, euler=(0, np.pi / 2, 0)),
            *(
                geom('cylinder', (0.13, 0.008), (x, 0, 0), second, solid=False, euler=(0, np.pi / 2, 0))
                for x in (-0.052, 0.052)
            ),
        ],
    }[str(kind)]
    cable = geom('capsule', 0.006, None, steel, solid=False, fromto=(0, 0, 0.11, 0, 0, 1.2))
    middle = (BELT_TOP + SCREEN_TOP) / 2
    half = (SCREEN_TOP - BELT_TOP) / 2 + 0.02
    screen = [
        box((SCREEN_HALF, 0.012, half), (0, 0, middle), paint * 0.8, solid=False),
        box((SCREEN_HALF + 0.01, 0.016, 0.012), (0, 0, middle + half), second, solid=False),
        *(box((0.015, 0.014, middle / 2), (x, 0, middle / 2), steel, solid=False) for x in (-0.13, 0.13)),
    ]
    gate = [
        geom(
            'box',
            (GATE_HALF, BELT_HALF_WIDTH, 0.10),
            (0, 0, BELT_TOP + 0.11),
            paint,
            name='gate',
            friction=(0.1, 0.005, 0.0001),
        ),
        box((GATE_HALF + 0.003, 0.02, 0.18), (0, BELT_HALF_WIDTH, BELT_TOP + 0.10), steel, solid=False),
        box((GATE_HALF + 0.003, 0.02, 0.18), (0, -BELT_HALF_WIDTH, BELT_TOP + 0.10), steel, solid=False),
    ]
    bodies = [
        _mocap(name, parts) for name, parts in (('load', [*load, cable]), ('screen', screen), ('gate', gate))
    ]
    return Fixture(bodies)


def _mocap(name: str, parts: list[str]) -> str:
    head = element('body', name=name, mocap='true', pos=AWAY).replace('/>', '>')
    return '\n      '.join([head, *parts, '</body>'])
