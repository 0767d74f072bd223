# SPDX-License-Identifier: Apache-2.0
"""What a seed means never changes, and a cell has the hall of its seed."""

import hashlib

import numpy as np
import pytest

from jepa_ros.sim.cell import ConveyorCell
from jepa_ros.sim.conveyor import ConveyorScene
from jepa_ros.sim.hall import SimError, import_mujoco
from jepa_ros.sim.world import Fixture, build

try:
    import_mujoco()
except SimError as missing:
    pytest.skip(str(missing), allow_module_level=True)


def test_the_hall_of_a_seed_is_what_it_was():
    """Bundles were trained, and figures published, on these worlds. The order of parts is that of drawing alone."""
    worlds = (build(seed, 0.002, shadows).xml for shadows in (False, True) for seed in range(4))
    lines = sorted(line.strip() for world in worlds for line in world.splitlines() if line.strip())
    assert hashlib.sha256('\n'.join(lines).encode()).hexdigest() == (
        '0f2b0e9a7685bc8b805e97d42696e2d5f741480ded8fc4a9f33f7a3527b5ab5e'
    )


def test_a_fixture_is_added_and_changes_nothing_else():
    plain = build(7, 0.002, False).xml
    fixture = Fixture(['<geom name="new" size="0.1"/>'], ['<motor joint="belt"/>'], ['<weld body1="bin0"/>'])
    lines = build(7, 0.002, False, fixture).xml.splitlines()
    added = ['new', 'motor', 'weld', 'equality>']
    assert [line for line in lines if not any(word in line for word in added)] == plain.splitlines()


@pytest.mark.parametrize('seed', [0, 10_001, 20_002])
def test_a_cell_has_the_hall_the_bins_and_the_camera_of_the_scene(seed):
    with ConveyorScene(seed, (48, 64)) as scene, ConveyorCell(seed, (48, 64)) as cell:
        here, there = scene._model, cell._model
        bodies = {here.body(i).name for i in range(here.nbody)}
        assert bodies < {there.body(i).name for i in range(there.nbody)}
        world = np.flatnonzero(here.geom_bodyid == 0)
        for name in ('geom_pos', 'geom_size', 'geom_rgba', 'geom_quat', 'geom_type'):
            np.testing.assert_array_equal(
                getattr(here, name)[world], getattr(there, name)[world], err_msg=name
            )
        for bin_ in scene._bins:
            one, other = (np.flatnonzero(m.geom_bodyid == m.body(bin_.name).id) for m in (here, there))
            np.testing.assert_array_equal(here.geom_pos[one], there.geom_pos[other])
            np.testing.assert_array_equal(here.geom_rgba[one], there.geom_rgba[other])
        np.testing.assert_array_equal(here.tex_data[: here.ntexdata], there.tex_data[: here.ntexdata])
        np.testing.assert_array_equal(here.light_diffuse, there.light_diffuse[: here.nlight])
        np.testing.assert_array_equal(scene.camera_matrix(), cell.camera_matrix())
        np.testing.assert_array_equal(here.camera('camera').pos, there.camera('camera').pos)
