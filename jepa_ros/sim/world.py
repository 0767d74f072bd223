# SPDX-License-Identifier: Apache-2.0
"""The MJCF model of the conveyor hall: everything that is fixed once a seed is chosen.

The belt runs along x, its top is at z = BELT_TOP, the camera looks over it along +y. Everything is built
from primitives.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.sax.saxutils import quoteattr

import numpy as np

from jepa_ros.sim import textures

BELT_TOP = 0.60  # m
BELT_HALF_LENGTH = 2.4
BELT_HALF_WIDTH = 0.22
BELT_PERIOD = 0.40  # m of belt after which its picture repeats
GRIP_SAMPLES = 7

BIN_SHAPES = ('tote', 'crate', 'drum', 'case')
PAINTS = {
    'red': (0.78, 0.12, 0.10),
    'orange': (0.92, 0.45, 0.08),
    'yellow': (0.93, 0.78, 0.12),
    'green': (0.12, 0.55, 0.22),
    'teal': (0.05, 0.52, 0.55),
    'blue': (0.10, 0.25, 0.72),
    'violet': (0.45, 0.18, 0.60),
    'white': (0.88, 0.88, 0.86),
    'pink': (0.90, 0.42, 0.58),
    'grey': (0.42, 0.44, 0.46),
    'brown': (0.42, 0.26, 0.14),
    'black': (0.09, 0.09, 0.10),
}
# None that the hall could swallow. (The order is part of what a seed means.)
HANDLE_PAINTS = ('red', 'orange', 'yellow', 'green', 'teal', 'blue', 'white', 'pink')


@dataclass(frozen=True)
class Bin:
    """One bin: its body `name` in the model, its kind, and its grip bar in the body's frame.

    :param radius: m, of a sphere around the bin.
    :param grip: float [GRIP_SAMPLES, 3], points along the axis of the grip bar, m; the middle one is the
        handle point.
    """

    name: str
    shape: str
    colour: str
    radius: float
    grip: np.ndarray


@dataclass(frozen=True)
class World:
    """An MJCF text, the files it names, and the bins in it."""

    xml: str
    assets: dict[str, bytes]
    bins: list[Bin]


@dataclass(frozen=True)
class Fixture:
    """What is put into the hall besides: elements of the MJCF sections of these names."""

    worldbody: list[str] = field(default_factory=list)
    actuator: list[str] = field(default_factory=list)
    equality: list[str] = field(default_factory=list)


def element(tag: str, **attributes) -> str:
    """Return an XML element; numbers and arrays become text, and None is left out."""

    def text(value) -> str:
        return value if isinstance(value, str) else ' '.join(f'{v:.5g}' for v in np.atleast_1d(value))

    given = {name: text(value) for name, value in attributes.items() if value is not None}
    return f'<{tag} ' + ' '.join(f'{name}={quoteattr(value)}' for name, value in given.items()) + '/>'


def geom(type_: str, size, pos, paint=None, solid: bool = True, **more) -> str:
    """Return a geom of a colour (or of a `material`); one that is not solid is only to be seen."""
    if not solid:
        more.update(contype=0, conaffinity=0, mass=0)
    rgba = None if paint is None else (*paint, 1.0)
    return element('geom', type=type_, size=size, pos=pos, rgba=rgba, **more)


def box(half, pos, paint=None, solid: bool = True, **more) -> str:
    return geom('box', half, pos, paint, solid, **more)


def build(seed: int, timestep: float, shadows: bool, fixture: Fixture | None = None) -> World:
    """Build the hall of one seed: bins, belt, pillar, camera, light and background.

    :param timestep: of the physics, s.
    :param shadows: whether lamps cast shadows.
    :param fixture: what is put in besides; the hall is the same with and without.
    """
    fixture = fixture or Fixture()
    rng = np.random.default_rng([seed, 1])
    assets, materials = {}, []

    def material(name: str, image: np.ndarray, repeat: tuple[float, float]) -> None:
        file = f'{name}.png'
        assets[file] = textures.png(image)
        materials.append(element('texture', name=name, type='2d', file=file, content_type='image/png'))
        look = {'texrepeat': repeat, 'specular': 0.2, 'shininess': 0.1}
        materials.append(element('material', name=name, texture=name, **look))

    belt_colour = tuple(rng.uniform(0.16, 0.34) + rng.normal(0, 0.03, 3))
    wall_colour = tuple(np.clip(rng.uniform(0.45, 0.8) + rng.normal(0, 0.10, 3), 0.1, 0.95))
    floor_colour = tuple(np.clip(rng.uniform(0.25, 0.6) + rng.normal(0, 0.05, 3), 0.1, 0.9))
    ribs = int(rng.choice([4, 5, 8]))
    material('belt', textures.belt(rng, belt_colour, ribs), (2 * BELT_HALF_LENGTH / BELT_PERIOD, 1))
    material('wall', textures.wall(rng, wall_colour), rng.uniform(2, 5, 2))
    material('floor', textures.speckled(rng, floor_colour, (256, 256), 0.06), (6, 6))
    material('hazard', textures.hazard(rng), (1, 6))

    newline = '\n    '
    bins = _bins(rng)
    lights = _light(rng, shadows)
    still = [
        geom('plane', (4, 4, 0.1), None, material='floor', name='floor'),
        box((4, 0.05, 2), (0, rng.uniform(1.0, 1.8), 1.6), material='wall', name='wall'),
        *_background(rng),
        *_conveyor_frame(rng),
        *_pillar(rng),
    ]
    parts = [*lights, _camera(rng), *(xml for _, xml in bins), *fixture.worldbody]
    actuators = ['<velocity name="belt" joint="belt" kv="2000"/>', *fixture.actuator]
    equality = ''.join(['\n  <equality>', *(newline + e for e in fixture.equality), '\n  </equality>'])
    xml = f"""<mujoco model="conveyor">
  <compiler angle="radian"/>
  <option timestep="{timestep!r}" integrator="implicitfast" cone="elliptic" impratio="10"
          noslip_iterations="2"/>
  <size memory="32M"/>
  <visual>
    <global offwidth="1920" offheight="1440"/>
    <quality shadowsize="{4096 if shadows else 0}" offsamples="{8 if shadows else 0}"/>
    <map znear="0.05" zfar="10" shadowclip="1.2"/>
  </visual>
  <statistic extent="2" center="0 0 {BELT_TOP}"/>
  <default>
    <geom friction="0.9 0.01 0.001" solref="0.01 1"/>
  </default>
  <asset>
    {newline.join(materials)}
  </asset>
  <worldbody>
    {newline.join(parts)}
    <body name="belt" pos="0 0 {BELT_TOP - 0.01:.3f}">
      <joint name="belt" type="slide" axis="1 0 0"/>
      <geom name="belt" type="box" size="{BELT_HALF_LENGTH} {BELT_HALF_WIDTH} 0.01" mass="20"
            material="belt"/>
    </body>
    <!-- geoms are drawn in this order: what is hidden by then costs a software renderer next to nothing -->
    <body name="hall">
      {newline.join(reversed(still))}
    </body>
  </worldbody>
  <actuator>
    {newline.join(actuators)}
  </actuator>{equality if fixture.equality else ''}
</mujoco>
"""
    return World(xml, assets, [b for b, _ in bins])


def _light(rng: np.random.Generator, shadows: bool) -> list[str]:
    warmth = rng.normal(0, 0.06)
    tint = np.array([1 + warmth, 1.0, 1 - warmth])
    sun = rng.uniform(-0.8, 0.8), rng.uniform(-0.3, 0.9), -1.0
    return [
        element(
            'light',
            type='directional',
            pos=(0, -1, 3),
            dir=sun,
            castshadow='true' if shadows else 'false',
            diffuse=rng.uniform(0.35, 0.65) * tint,
            ambient=rng.uniform(0.12, 0.28) * tint,
            specular=(0.2, 0.2, 0.2),
        ),
        element(
            'light',
            type='spot',
            pos=(rng.uniform(-1.2, 1.2), rng.uniform(-0.8, 0.2), 2.4),
            dir=(0, 0.1, -1),
            castshadow='false',
            cutoff=60,
            exponent=4,
            diffuse=rng.uniform(0.1, 0.4) * tint,
            specular=(0.1, 0.1, 0.1),
        ),
    ]


def _camera(rng: np.random.Generator) -> str:
    """Halfway between beside the belt and above it: from lower down, an error of a height is larger across."""
    position = np.array([0.0, -0.87, BELT_TOP + 0.99]) + rng.uniform(-0.05, 0.05, 3)
    target = np.array([0.0, 0.02, BELT_TOP + 0.10]) + rng.uniform(-0.03, 0.03, 3)
    back = (position - target) / np.linalg.norm(position - target)
    right = np.cross([0, 0, 1], back)
    right /= np.linalg.norm(right)
    return element(
        'camera',
        name='camera',
        pos=position,
        xyaxes=(*right, *np.cross(back, right)),
        fovy=rng.uniform(35, 39),
    )


def _pillar(rng: np.random.Generator) -> list[str]:
    """A column between camera and belt, wide enough to hide the handle for 0.3 s at any belt speed."""
    half = rng.uniform(0.043, 0.065)
    x, y = rng.uniform(-0.21, 0.21), -BELT_HALF_WIDTH - 0.14
    paint = np.clip(rng.uniform(0.3, 0.8) + rng.normal(0, 0.08, 3), 0, 1)
    body = box((half, half, 1.25), (x, y, 1.25), paint, name='pillar')
    band = box((half + 0.002, half + 0.002, 0.22), (x, y, BELT_TOP - 0.18), material='hazard', solid=False)
    return [body, band]


def _conveyor_frame(rng: np.random.Generator) -> list[str]:
    """Rails beside the belt, and legs."""
    paint = list(PAINTS.values())[rng.integers(len(PAINTS))]
    steel = np.full(3, rng.uniform(0.45, 0.75))
    parts = []
    for side in (-1, 1):
        y = side * (BELT_HALF_WIDTH + 0.025)
        parts.append(box((BELT_HALF_LENGTH, 0.022, 0.05), (0, y, BELT_TOP - 0.035), paint))
        parts.append(box((BELT_HALF_LENGTH, 0.006, 0.008), (0, y, BELT_TOP + 0.03), steel))
        for x in np.arange(-2.2, 2.3, 0.4):
            parts.append(box((0.008, 0.006, 0.02), (x, y, BELT_TOP + 0.012), steel, solid=False))
        for x in (-1.6, -0.55, 0.55, 1.6):
            parts.append(box((0.03, 0.02, BELT_TOP / 2 - 0.04), (x, y, BELT_TOP / 2 - 0.04), steel * 0.7))
    return parts


def _background(rng: np.random.Generator) -> list[str]:
    """Shelves, boxes, posters and pipes behind the belt: things that look like objects and never move."""
    parts = []
    shelf = rng.uniform(0.6, 0.9)
    paint = np.clip(rng.uniform(0.2, 0.7) + rng.normal(0, 0.1, 3), 0, 1)
    for z in (0.35, 0.85):
        parts.append(box((1.6, 0.16, 0.015), (0, shelf, z), paint))
        x = -1.5
        while x < 1.4:
            half = rng.uniform((0.04, 0.05, 0.04), (0.13, 0.12, 0.15))
            if rng.random() < 0.65:
                colour = np.clip(rng.uniform(0.15, 0.85, 3) * 0.5 + rng.uniform(0.1, 0.45), 0, 1)
                parts.append(box(half, (x + half[0], shelf, z + 0.015 + half[2]), colour))
            x += 2 * half[0] + rng.uniform(0.01, 0.2)
    for x in (-1.55, 0.0, 1.55):
        parts.append(box((0.02, 0.16, 0.5), (x, shelf + 0.01, 0.5), paint * 0.8))
    for _ in range(rng.integers(0, 3)):
        x, radius = rng.uniform(-1.3, 1.3), rng.uniform(0.02, 0.06)
        parts.append(geom('cylinder', (radius, 1.5), (x, 0.98, 1.5), rng.uniform(0.2, 0.8, 3), solid=False))
    return parts


def _bins(rng: np.random.Generator) -> list[tuple[Bin, str]]:
    """One bin of every shape, in random colours, all different."""
    handles = rng.permutation(HANDLE_PAINTS)[: len(BIN_SHAPES)]
    colours = rng.permutation([paint for paint in PAINTS if paint not in handles])
    return [
        _bin(rng, f'bin{i}', str(shape), str(colours[i]), str(handles[i]))
        for i, shape in enumerate(rng.permutation(BIN_SHAPES))
    ]


def _bin(rng: np.random.Generator, name: str, shape: str, colour: str, accent: str) -> tuple[Bin, str]:
    """Return a bin and its MJCF body, standing on z = 0 of its own frame."""
    paint, second = np.array(PAINTS[colour]), np.array(PAINTS[accent])
    length, width = rng.uniform(0.095, 0.135), rng.uniform(0.075, 0.115)  # half sizes
    height = rng.uniform(0.11, 0.17)
    open_top = shape in ('tote', 'crate')
    if open_top:
        parts = [
            *_walls(length, width, height, paint),
            *(
                _bands(length, width, height, second)
                if shape == 'crate'
                else _rim(length, width, height, paint)
            ),
            *_contents(rng, length, width, height),
        ]
        span = length - 0.035  # of the handle: inside the walls
    elif shape == 'drum':
        length = width = (length + width) / 2
        parts = _drum(length, height, paint, second)
        span = length * 0.75
    else:
        height *= 0.75
        parts = _case(length, width, height, paint, second)
        span = length * 0.7
    top = height + rng.uniform(0.06, 0.09)
    thick = rng.uniform(0.013, 0.017)
    direction = np.array([1.0, 0.0, 0.0])
    if open_top and rng.random() < 0.5:
        span, direction = width - 0.035, np.array([0.0, 1.0, 0.0])
    foot = 0.02 if open_top else height
    ends = np.stack([-span * direction, span * direction]) + (0, 0, top)
    for side, end in zip((-1, 1), ends):
        post = (*end[:2], foot, *end)
        parts.append(geom('capsule', thick * 0.8, None, second * 0.8, fromto=post, name=f'{name}_post{side}'))
    parts.append(geom('capsule', thick, None, second, fromto=ends.ravel(), name=f'{name}_grip'))
    share = np.linspace(0.08, 0.92, GRIP_SAMPLES)[:, None]
    lines = [
        f'<body name="{name}" pos="0 3 0">',
        element('freejoint', name=name),
        element('inertial', pos=(0, 0, 0.35 * height), mass=0.8, diaginertia=(0.006, 0.006, 0.006)),
        *parts,
        '</body>',
    ]
    grip = ends[0] * (1 - share) + ends[1] * share
    return Bin(name, shape, colour, float(np.hypot(length, width)) + 0.01, grip), '\n      '.join(lines)


def _walls(length: float, width: float, height: float, paint: np.ndarray) -> list[str]:
    """A floor and four walls."""
    wall = 0.006
    parts = [box((length - wall, width - wall, wall), (0, 0, wall), paint * 0.8)]
    for side in (-1, 1):
        parts.append(box((length, wall, height / 2), (0, side * (width - wall), height / 2), paint))
        parts.append(box((wall, width, height / 2), (side * (length - wall), 0, height / 2), paint))
    return parts


def _rim(length: float, width: float, height: float, paint: np.ndarray) -> list[str]:
    return [
        box((length + 0.005, 0.010, 0.008), (0, side * width, height), paint * 0.7, solid=False)
        for side in (-1, 1)
    ]


def _bands(length: float, width: float, height: float, paint: np.ndarray) -> list[str]:
    """Two bands around the walls."""
    parts = []
    for side in (-1, 1):
        for z in (0.3 * height, 0.75 * height):
            parts.append(box((length + 0.002, 0.003, 0.018), (0, side * width, z), paint, solid=False))
            parts.append(box((0.003, width + 0.002, 0.018), (side * length, 0, z), paint, solid=False))
    return parts


def _contents(rng: np.random.Generator, length: float, width: float, height: float) -> list[str]:
    parts = []
    for _ in range(rng.integers(2, 6)):
        half = rng.uniform((0.015, 0.015, 0.02), (0.04, 0.035, height / 2))
        x, y = rng.uniform(-1, 1) * (length - 0.06), rng.uniform(-1, 1) * (width - 0.05)
        paint, turn = rng.uniform(0.1, 0.9, 3), (0, 0, rng.uniform(0, np.pi))
        parts.append(box(half, (x, y, 0.012 + half[2]), paint, solid=False, euler=turn))
    return parts


def _drum(radius: float, height: float, paint: np.ndarray, second: np.ndarray) -> list[str]:
    bands = [
        geom('cylinder', (radius + 0.003, 0.012), (0, 0, z * height), second, solid=False)
        for z in (0.25, 0.75)
    ]
    return [geom('cylinder', (radius, height / 2), (0, 0, height / 2), paint), *bands]


def _case(length: float, width: float, height: float, paint: np.ndarray, second: np.ndarray) -> list[str]:
    band = (0.015, width + 0.002, height / 2 + 0.002)
    bands = [box(band, (x * length, 0, height / 2), second, solid=False) for x in (-0.6, 0.6)]
    return [box((length, width, height / 2), (0, 0, height / 2), paint), *bands]
