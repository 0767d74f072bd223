# SPDX-License-Identifier: Apache-2.0
"""The picking cell: deterministic, its ground truth true, its bins taken by contact alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jepa_ros.sim.cell import HELD, LIFTED, ConveyorCell
from jepa_ros.sim.hall import SimError, import_mujoco
from jepa_ros.sim.interventions import KINDS, Intervention, Schedule, drawn, passing
from jepa_ros.sim.labels import foot_in_camera
from jepa_ros.sim.oracle import ACTIONS, OraclePolicy
from jepa_ros.sim.truth import BELT_STATES, BIN_STATES, CONTACTS, EVENTS, Pose
from jepa_ros.sim.world import BELT_TOP

try:
    import_mujoco()
except SimError as missing:
    pytest.skip(str(missing), allow_module_level=True)


def put(cell, x, yaw=0.0):
    """Put the bin on the belt."""
    cell._put(cell.bin, (x, 0.0, BELT_TOP + 0.001), yaw, cell.belt_speed)
    cell._mujoco.mj_forward(cell._model, cell._data)


def run(cell, seconds):
    """Advance and return all that happened."""
    happened = []
    for _ in range(round(seconds * cell.fps)):
        cell.step()
        happened += cell.truth().events
    return happened


def test_the_same_seed_and_commands_give_the_same_states_drawn_or_not():
    def states(draw):
        with ConveyorCell(5, (48, 64), 20.0, interventions='seed', passing=True, bins=2) as cell:
            cell.policy = OraclePolicy(cell)
            rows = []
            for _ in range(160):
                cell.step()
                if draw:
                    cell.render(), cell.depth()
                rows.append(np.concatenate([cell._data.qpos, cell._data.qvel, cell._data.mocap_pos.ravel()]))
            return np.array(rows)

    np.testing.assert_array_equal(states(False), states(True))


def test_another_cell_of_the_seed_shows_a_frame_again():
    with ConveyorCell(6, (48, 64), 20.0, bins=2, passing=True) as cell:
        run(cell, 2.0)
        cell.command(np.array([0.1, 0.1, -0.1, 0, 0, 0.3]))
        cell.step()
        picture, snapshot = cell.render(), cell.snapshot()
    with ConveyorCell(6, (48, 64), 20.0, bins=2) as again:
        before = again.render()
        again.show(snapshot)
        np.testing.assert_array_equal(again.render(), picture)
        assert (before != picture).any()
        with pytest.raises(SimError, match='expected a snapshot of'):
            again.show(snapshot[:-1])


@pytest.mark.parametrize('fps', [20.0, 29.97, 100.0, 240.0])
def test_frames_are_stamped_evenly_and_the_servo_runs_between_them(fps):
    with ConveyorCell(0, fps=fps) as cell:
        stamps = []
        for _ in range(4):
            stamps.append(cell.stamp_ns)
            cell.step()
            assert cell.now == pytest.approx(cell.time)
        np.testing.assert_allclose(stamps, 1e9 + np.arange(4) * 1e9 / fps, atol=1)
        assert cell._data.time == pytest.approx(4 / fps, abs=1e-9)
        assert cell._tick <= 1 / 120 + 1e-12 and cell._model.opt.timestep <= 0.002


# What is true.


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_quaternions_say_the_same_as_rotations(values):
    x, y, z, w = np.array(values) / np.linalg.norm(values)
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    found = Pose(np.zeros(3), rotation).quaternion
    assert abs(found @ (x, y, z, w)) == pytest.approx(1)


@pytest.mark.parametrize('camera', ['fixed', 'arm'])
def test_handle_camera_and_depth_agree(camera):
    with ConveyorCell(20_000, (240, 320), camera=camera) as cell:
        cell.policy = OraclePolicy(cell)
        compared = 0
        for _ in range(320):
            cell.step()
            if cell.ticks % 10 or cell.policy.phase not in ('wait', 'follow'):
                continue
            truth, model = cell.truth(), cell.camera()
            if truth.xy is None:
                assert truth.visibility == 0 and not truth.visible and cell.handle() is None
                continue
            np.testing.assert_allclose(truth.xy, cell.handle().xy, atol=1e-9)
            at = truth.handle.position
            ray = model.ray(truth.xy)
            np.testing.assert_allclose(np.cross(ray, at - model.position), 0, atol=1e-9)
            np.testing.assert_allclose(model.to_camera(at), truth.handle_in_camera.position)
            below = foot_in_camera(truth, model)
            np.testing.assert_allclose(model.to_camera(np.array([*at[:2], BELT_TOP])), below.position)
            height = np.linalg.norm(below.position - truth.handle_in_camera.position)
            assert height == pytest.approx(at[2] - BELT_TOP)
            if truth.visibility == 1:
                column, row = (truth.xy * (320, 240)).astype(int)
                distance = cell.depth()[row, column]
                assert distance == pytest.approx(truth.handle_in_camera.position[2], abs=0.03)
                compared += 1
        assert compared > 3
        info = cell.camera()
        assert info.k.shape == (3, 3) and info.p.shape == (3, 4) and info.d.shape == (5,)
        np.testing.assert_allclose(info.rotation.T @ info.rotation, np.eye(3), atol=1e-9)
        assert np.linalg.det(info.rotation) == pytest.approx(1)


def test_handle_axes_and_velocity_are_those_of_the_bar():
    with ConveyorCell(3, speed=0.2) as cell:
        put(cell, -0.2, yaw=0.4)
        run(cell, 0.2)
        before = cell.handle_pose()
        run(cell, 0.5)
        after = cell.handle_pose()
        np.testing.assert_allclose(
            (after.position - before.position) / 0.5, cell.handle_velocity(), atol=0.003
        )
        ends = cell._grip_points()[[0, -1]]
        bar = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
        np.testing.assert_allclose(after.rotation[:, 0], bar, atol=1e-6)
        np.testing.assert_allclose(after.rotation[:, 2], (0, 0, 1), atol=1e-3)


def test_bins_in_the_picture_are_counted_and_named():
    with ConveyorCell(1, bins=2, speed=0.2) as cell:
        counts = set()
        for _ in range(300):
            cell.step()
            bins = cell.truth().bins
            counts.add(len(bins))
            for shape, colour in bins:
                assert any((b.shape, b.colour) == (shape, colour) for b in cell._on_belt)
        assert counts == {0, 1, 2}


# Interventions.


def test_the_belt_stops_starts_reverses_and_changes_speed_and_says_so():
    with ConveyorCell(2, speed=0.2) as cell:
        put(cell, 0.0)
        for kind, value, speed, belt, event in (
            ('stop', 0, 0.0, 'stopped', 'stopped'),
            ('start', 0, 0.2, 'running', 'started'),
            ('reverse', 0, -0.1, 'reversed', 'reversed'),
            ('speed', 0.3, 0.3, 'running', 'started'),
        ):
            cell.intervene(kind, value)
            happened = run(cell, 1.0)
            assert cell.belt_speed == pytest.approx(speed, abs=0.01) and cell.truth().belt == belt
            assert event in happened
            assert cell.handle_velocity()[0] == pytest.approx(speed, abs=0.01), 'the bin rides along'


@pytest.mark.parametrize('kind, value', [('nudge', 0.8), ('nudge', -0.8), ('turn', 7.0), ('turn', -7.0)])
def test_a_bin_is_nudged_or_turned_and_stays_upright(kind, value):
    with ConveyorCell(4, speed=0.1) as pushed, ConveyorCell(4, speed=0.1) as left:
        for cell in (pushed, left):
            put(cell, -0.1)
        pushed.intervene(kind, value)
        assert {'nudge': 'nudged', 'turn': 'turned'}[kind] in run(pushed, 1.0)
        run(left, 1.0)
        here, there = pushed.bin_pose(), left.bin_pose()
        if kind == 'nudge':
            assert 0.01 < np.sign(value) * (here.position - there.position)[0] < 0.1
        else:
            turned = there.rotation.T @ here.rotation
            assert 0.05 < np.sign(value) * np.arctan2(turned[1, 0], turned[0, 0]) < 1.0
        assert here.rotation[2, 2] > 0.99 and pushed.truth().state == 'riding'


def test_a_tipped_bin_is_called_so():
    with ConveyorCell(4, speed=0.1) as cell:
        put(cell, -0.1)
        cell._data.joint(cell.bin.name).qpos[2:7] = (BELT_TOP + 0.15, np.sqrt(0.5), np.sqrt(0.5), 0, 0)
        assert 'tipped' in run(cell, 1.0) and cell.truth().state == 'tipped'


@pytest.mark.parametrize('seed', [0, 1, 10_000])
def test_a_passing_load_hides_the_handle_when_it_was_said_to(seed):
    with ConveyorCell(seed, speed=0.1) as cell:
        pillar = cell._model.geom('pillar').pos[0]
        put(cell, -0.25 if pillar > 0 else 0.15)
        cell.step()
        assert cell.truth().visible
        assert cell.intervene('pass', 1.2) and not cell.intervene('pass', 1.0), 'one at a time'
        hidden = []
        for _ in range(120):
            cell.step()
            hidden.append(not cell.truth().visible)
        assert hidden[35] and not hidden[5] and 4 < sum(hidden[:70]) < 60
        assert cell._data.mocap_pos[cell._model.body('load').mocapid[0]][2] < 0, 'gone again'


def test_schedules_come_in_order_of_time_and_from_the_seed():
    for draw in (drawn, passing):
        first, again = (draw(np.random.default_rng(3)) for _ in range(2))
        some = [next(first) for _ in range(60)]
        assert some == [next(again) for _ in range(60)]
        assert all(a.after <= b.after for a, b in zip(some, some[1:])) and {i.kind for i in some} <= set(
            KINDS
        )
    schedule = Schedule([Intervention(1, 'stop'), Intervention(2, 'start')], [Intervention(1.5, 'pass')])
    assert [i.kind for i in schedule.due(1.6)] == ['stop', 'pass']
    assert [i.kind for i in schedule.due(9)] == ['start'] and not list(schedule.due(99))
    with ConveyorCell(0, interventions=[Intervention(0.2, 'stop')]) as cell:
        assert 'stopped' in run(cell, 1.0)


@pytest.mark.parametrize('kind, value', [('explode', 0), ('stop', float('nan'))])
def test_no_other_interventions(kind, value):
    with ConveyorCell(0) as cell, pytest.raises(SimError, match='expected an intervention of stop, start'):
        cell.intervene(kind, value)


@pytest.mark.parametrize('wrong', [{'camera': 'drone'}, {'bins': 0}, {'bins': 4}, {'interventions': 'all'}])
def test_no_other_cells(wrong):
    name = 'interventions' if 'interventions' in wrong else 'camera fixed, arm, overview and 1 to 3 bins'
    with pytest.raises(SimError, match=f'expected {name}'):
        ConveyorCell(0, **wrong)


# Taking.


@pytest.mark.parametrize('seed, speed', [(20_000, 0.12), (20_001, 0.20), (20_003, 0.30)])
def test_the_oracle_takes_the_first_bin(seed, speed):
    with ConveyorCell(seed, speed=speed) as cell:
        cell.policy, first, actions = OraclePolicy(cell), cell.bin, set()
        while not cell.taken and cell.bin is first and cell.time < 40:
            cell.step()
            actions.add(cell.policy.action)
        assert cell.was_taken(first) and cell.taken == 1 and actions <= set(ACTIONS)


def test_a_bin_is_taken_when_it_was_lifted_and_held_for_a_second_and_is_then_carried_off():
    with ConveyorCell(20_002, speed=0.25) as cell:
        cell.policy = OraclePolicy(cell)
        first, held, seen = cell.bin, 0.0, []
        while not cell.taken:
            cell.step()
            truth = cell.truth()
            seen.append((truth.state, truth.contact))
            if cell.bin_pose(first).position[2] > BELT_TOP + LIFTED:
                held += 1 / cell.fps
            assert cell.time < 20
        assert HELD - 0.05 < held < HELD + 0.3
        states = [state for i, (state, _) in enumerate(seen) if i == 0 or state != seen[i - 1][0]]
        assert states[0] == 'absent' and states[-3:] == ['touched', 'held', 'taken'] and 'riding' in states
        contacts = [contact for _, contact in seen]
        assert contacts.count('onset') == 1 and contacts.index('contact') == contacts.index('onset') + 1
        assert cell.was_taken(first) and first not in cell._on_belt
        for _ in range(400):
            cell.step()
        assert not cell.was_taken(first) and cell.bin_pose(first).position[1] > 2, (
            'put on the rack and carried off'
        )
        assert cell.bin is not first


def test_an_open_hand_or_one_beside_the_handle_takes_nothing():
    with ConveyorCell(20_001, speed=0.2) as cell:
        policy = cell.policy = OraclePolicy(cell)
        while policy.phase != 'lower':
            cell.step()
        cell.policy = None
        for _ in range(90):
            cell.command([0.2, 0, 0.1, 0, 0, 0], 'world')
            cell.step()
        assert cell.taken == 0 and cell.truth().state in ('riding', 'absent')


def test_more_than_twenty_actions_are_named_and_labels_are_of_their_sets():
    assert len(ACTIONS) == len(set(ACTIONS)) >= 20
    seen = set()
    with ConveyorCell(20_007, fps=20.0, speed=0.25, interventions='seed', passing=True, bins=2) as cell:
        cell.policy = OraclePolicy(cell)
        for _ in range(700):
            cell.step()
            seen.add(cell.policy.action)
            truth = cell.truth()
            assert truth.state in BIN_STATES and truth.belt in BELT_STATES and truth.contact in CONTACTS
            assert set(truth.events) <= set(EVENTS) and truth.violation == ''
        assert seen <= set(ACTIONS) and len(seen) >= 15 and cell.taken >= 2
