# SPDX-License-Identifier: Apache-2.0
"""The scene: deterministic, its physics plausible, its ground truth true."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jepa_ros.errors import JepaError
from jepa_ros.sim import seeds
from jepa_ros.sim.conveyor import ConveyorScene
from jepa_ros.sim.hall import SimError, import_mujoco
from jepa_ros.sim.world import BELT_TOP, BIN_SHAPES, GRIP_SAMPLES, build

try:
    import_mujoco()
except SimError as missing:
    pytest.skip(str(missing), allow_module_level=True)

SIZE = (60, 80)


def trace(scene, frames):
    """Return [frames, 4]: handle x, y and visibility (NaN without one), and belt speed."""
    rows = []
    for _ in range(frames):
        scene.step()
        handle = scene.handle()
        rows.append(
            [
                *(handle.xy if handle else (np.nan, np.nan)),
                handle.visible if handle else np.nan,
                scene.belt_speed,
            ]
        )
    return np.array(rows)


def test_a_seed_decides_everything():
    with ConveyorScene(3, SIZE) as a, ConveyorScene(3, SIZE) as b, ConveyorScene(4, SIZE) as other:
        np.testing.assert_array_equal(trace(a, 30), trace(b, 30))
        np.testing.assert_array_equal(a.render(), b.render())
        trace(other, 30)
        assert np.mean(a.render() != other.render()) > 0.5


def test_the_motion_does_not_depend_on_the_picture():
    with ConveyorScene(5, SIZE) as small, ConveyorScene(5, (96, 128), fine=True) as fine:
        small_trace = trace(small, 45)
        for frame in range(45):
            fine.render()
            fine.step()
        handle = fine.handle()
        np.testing.assert_allclose([*handle.xy, handle.visible], small_trace[-1, :3], atol=1e-9)


@pytest.mark.parametrize('fps', [15.0, 30.0, 29.97])
def test_frames_are_stamped_evenly_from_one_second_on(fps):
    with ConveyorScene(0, SIZE, fps) as scene:
        stamps = []
        for _ in range(5):
            stamps.append(scene.stamp_ns)
            scene.step()
        np.testing.assert_allclose(stamps, 1e9 + np.arange(5) * 1e9 / fps, atol=1)
        assert scene._data.time == pytest.approx(5 / fps, abs=1e-9)


@pytest.mark.parametrize('seed', range(4))
def test_bins_ride_upright_with_the_belt_one_after_the_other(seed):
    with ConveyorScene(seed, SIZE) as scene:
        shapes, before, same = set(), None, 0
        for _ in range(1500):
            scene.step()
            body = scene._data.body(scene.bin.name)
            shapes.add(scene.bin.shape)
            assert abs(body.xpos[2] - BELT_TOP) < 0.01 and body.xmat[8] > 0.99, 'it stands on the belt'
            assert abs(scene._data.joint('belt').qpos[0]) <= 0.2, 'the belt has not run away'
            if before and before[0] == scene.bin.name:
                moved = (body.xpos[0] - before[1]) * scene.fps
                same += abs(moved - scene.belt_speed) < 0.03
            before = (scene.bin.name, body.xpos[0])
        assert same > 1400, 'it moves as the belt does'
        assert len(shapes) >= 2 and shapes <= set(BIN_SHAPES)


@pytest.mark.parametrize('seed', range(4))
def test_the_handle_is_where_the_picture_shows_it(seed):
    with ConveyorScene(seed, (240, 320)) as scene:
        scene._renderer.enable_segmentation_rendering()
        looked = found = 0
        for _ in range(40):
            for _ in range(12):
                scene.step()
            handle = scene.handle()
            picture = scene.render()[:, :, 0]
            grip = scene._model.geom(f'{scene.bin.name}_grip').id
            if handle and handle.visible:
                if not scene._seen(scene._grip_points()[GRIP_SAMPLES // 2][None]):
                    continue  # the rest of it is seen, but not the middle, which is the label
                looked += 1
                x, y = (handle.xy * (320, 240)).astype(int)
                found += grip in picture[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3]
            elif handle:
                assert np.sum(picture == grip) < 250, 'called hidden, yet most of it is in the picture'
        assert looked > 5 and found >= 0.95 * looked


@pytest.mark.parametrize('seed', [*range(5), 10_000, 20_000])
def test_the_pillar_hides_the_handle_for_at_least_0_3_s_at_any_speed(seed):
    with ConveyorScene(seed, SIZE) as scene:
        hidden = []
        for x in np.arange(-0.6, 0.6, 0.01):
            scene._put(scene.bin, (x, 0.0, BELT_TOP + 0.001), 0.2, 0.0)
            scene._mujoco.mj_forward(scene._model, scene._data)
            handle = scene.handle()
            hidden.append(handle is not None and not handle.visible)
        spells = ''.join('x' if h else ' ' for h in hidden).split()
        assert len(spells) == 1 and len(spells[0]) * 0.01 >= 0.3 * 0.3


def test_a_bin_comes_and_goes_outside_the_picture():
    with ConveyorScene(20, (120, 160)) as scene:
        scene._renderer.enable_segmentation_rendering()
        changes, name = 0, scene.bin.name
        for _ in range(1800):
            scene.step()
            if scene.bin.name != name:
                changes, name = changes + 1, scene.bin.name
                body = scene._model.body(scene.bin.name).id
                of_bin = np.flatnonzero(scene._model.geom_bodyid == body)
                assert not np.isin(scene.render()[:, :, 0], of_bin).any()
        assert changes >= 3


def test_camera_matrix_agrees_with_the_field_of_view():
    with ConveyorScene(1, (240, 320)) as scene:
        matrix = scene.camera_matrix()
        half = np.degrees(np.arctan(120 / matrix[1, 1]))
        assert 35 <= 2 * half <= 39 and matrix[0, 2] == 160 and matrix[1, 2] == 120
        np.testing.assert_allclose(
            scene._project(np.array(scene._data.cam(0).xpos - scene._data.cam(0).xmat[2::3])), [0.5, 0.5]
        )


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 30_000))
def test_every_seed_gives_a_world(seed):
    world = build(seed, 0.002, shadows=False)
    assert sorted(bin_.shape for bin_ in world.bins) == sorted(BIN_SHAPES)
    assert len({bin_.colour for bin_ in world.bins}) == len(BIN_SHAPES)
    assert world.xml == build(seed, 0.002, shadows=False).xml


def test_seed_ranges_never_overlap():
    assert not set(seeds.TRAIN) & set(seeds.VALIDATION) and not set(seeds.VALIDATION) & set(seeds.HELD_OUT)
    assert seeds.parse('7') == range(7, 8) and seeds.parse('10:20') == range(10, 20)
    for wrong in ('', 'x', '5:5', '9:3', '-1', '1:2:3', '0.5'):
        with pytest.raises(JepaError, match='seeds: expected'):
            seeds.parse(wrong)


def test_without_mujoco_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mujoco', None)
    with pytest.raises(SimError, match=r"pip install 'jepa_ros\[sim\]'"):
        ConveyorScene(0)


def test_without_opengl_the_packages_are_named(monkeypatch):
    monkeypatch.setenv('MUJOCO_GL', 'nonsense')
    done = subprocess.run(
        [sys.executable, '-c', 'from jepa_ros.sim.conveyor import ConveyorScene; ConveyorScene(0)'],
        text=True,
        capture_output=True,
    )
    assert 'SimError' in done.stderr and 'libegl1 and libgl1-mesa-dri' in done.stderr
