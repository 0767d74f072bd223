# SPDX-License-Identifier: Apache-2.0
"""The arm does what a twist says, within its limits, whatever it is told."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jepa_ros.sim.arm import LIMITS, MAX_ACCELERATION, MAX_VELOCITY, OPEN, Station, station
from jepa_ros.sim.cell import COMMAND_TIMEOUT, FRAMES, ConveyorCell
from jepa_ros.sim.hall import SimError, import_mujoco

try:
    import_mujoco()
except SimError as missing:
    pytest.skip(str(missing), allow_module_level=True)


@pytest.fixture(scope='module')
def cell():
    """A cell whose arm is put back by `home`."""
    with ConveyorCell(0, speed=0.05) as made:
        yield made


@pytest.fixture
def home(cell):
    place_home(cell)
    return cell


def place_home(cell):
    cell._servo.place(cell.station.joints(cell.home))
    cell._data.qvel[cell._servo._dof] = 0
    cell.command(np.zeros(6))
    cell._mujoco.mj_forward(cell._model, cell._data)


def moved(cell, twist, frame, seconds=0.5):
    """Return the velocity and turn rate of the tool over some time, in the frame's axes at its start."""
    for _ in range(round(0.4 / cell._tick)):  # past the acceleration
        cell.command(twist, frame)
        cell.tick()
    before = cell.tool
    axes = {
        'world': np.eye(3),
        'tool0': before.rotation,
        'base_link': cell._data.site('base_link').xmat.reshape(3, 3).copy(),
        'camera_optical_frame': cell.camera().rotation,
    }[frame]
    for _ in range(round(seconds / cell._tick)):
        cell.command(twist, frame)
        cell.tick()
    turned = cell.tool.rotation @ before.rotation.T
    vector = (
        np.array([turned[2, 1] - turned[1, 2], turned[0, 2] - turned[2, 0], turned[1, 0] - turned[0, 1]]) / 2
    )
    angle = np.arcsin(np.clip(np.linalg.norm(vector), 0, 1))
    turn = vector * (angle / max(np.linalg.norm(vector), 1e-9))
    return axes.T @ (cell.tool.position - before.position) / seconds, axes.T @ turn / seconds


@pytest.mark.parametrize('frame', FRAMES)
@pytest.mark.parametrize('axis', range(3))
def test_it_moves_as_told_in_every_frame(home, frame, axis):
    twist = np.zeros(6)
    twist[axis] = -0.10 if axis == 2 else 0.10
    velocity, turn = moved(home, twist, frame)
    np.testing.assert_allclose(velocity, twist[:3], atol=0.004)
    np.testing.assert_allclose(turn, 0, atol=0.01)


@pytest.mark.parametrize('frame', FRAMES)
@pytest.mark.parametrize('axis', range(3))
def test_it_turns_as_told_about_the_tool(home, frame, axis):
    twist = np.zeros(6)
    twist[3 + axis] = 0.3
    velocity, turn = moved(home, twist, frame, 0.4)
    np.testing.assert_allclose(turn, twist[3:], atol=0.01)
    np.testing.assert_allclose(velocity, 0, atol=0.008)


def test_the_station_knows_the_joints_of_a_place(cell):
    rng = np.random.default_rng(1)
    for _ in range(20):
        place = np.array([cell.station.x, cell.station.y, 0]) + (
            *(rng.uniform(0.45, 0.95) * np.array([np.cos(a := rng.uniform(0.8, 2.6)), np.sin(a)])),
            rng.uniform(0.75, 1.05),
        )
        cell._servo.place(cell.station.joints(place))
        cell._mujoco.mj_forward(cell._model, cell._data)
        np.testing.assert_allclose(cell.tool.position, place, atol=1e-3)
        np.testing.assert_allclose(cell.tool.rotation[:, 2], (0, 0, -1), atol=1e-4)
    with pytest.raises(ValueError, match='within reach'):
        Station(0.8, -0.5, 1.6).joints(np.array([-1.0, 0.0, 1.0]))


def test_it_stops_when_it_hears_nothing_more(home):
    home.command([0.2, 0, 0, 0, 0, 0], 'world')
    speeds = []
    for _ in range(round(0.6 / home._tick)):
        before = home.tool.position
        home.tick()
        speeds.append(np.linalg.norm(home.tool.position - before) / home._tick)
    at = round(COMMAND_TIMEOUT / home._tick)
    assert speeds[at] > 0.15 and max(speeds[at + round(0.15 / home._tick) :]) < 0.005
    np.testing.assert_array_equal(home.twist, 0)


@settings(deadline=None, max_examples=12)
@given(
    st.lists(
        st.tuples(*[st.floats(-3, 3)] * 6, st.sampled_from(FRAMES), st.floats(0, 0.06)),
        min_size=1,
        max_size=6,
    )
)
def test_limits_hold_whatever_it_is_told(cell, commands):
    place_home(cell)
    before = np.zeros(6)
    for *twist, frame, travel in commands:
        for _ in range(25):
            cell.command(twist, frame)
            cell.grip(travel)
            cell.tick()
            velocity = cell._servo._velocity
            assert np.all(np.abs(velocity) <= MAX_VELOCITY + 1e-9)
            faster = np.abs(velocity) > np.abs(before)
            assert np.all(np.abs(velocity - before)[faster] <= MAX_ACCELERATION[faster] * cell._tick + 1e-9)
            before = velocity.copy()
            joints = cell.joint_positions
            assert np.all(joints[:6] > LIMITS[:, 0] - 0.05) and np.all(joints[:6] < LIMITS[:, 1] + 0.05)
            assert np.isfinite(cell._data.qpos).all()
    assert not any(warning.number for warning in cell._data.warning)


def test_pressed_on_the_belt_it_yields_and_comes_off_again():
    with ConveyorCell(0, speed=0.05) as cell:
        for vertical, frames in ((-0.3, 120), (0.3, 45)):
            lowest = cell.tool.position[2]
            for _ in range(frames):
                cell.command([0, 0, vertical, 0, 0, 0], 'world')
                cell.step()
        assert 0.58 < lowest < 0.66, 'on the belt, not through it'
        assert cell.tool.position[2] > 0.8


@pytest.mark.parametrize('travel, there', [(0.0, 0.0), (0.02, 0.02), (1.0, OPEN), (-1.0, 0.0)])
def test_the_fingers_go_where_they_are_told(home, travel, there):
    home.grip(travel)
    for _ in range(20):
        home.step()
    np.testing.assert_allclose(home.joint_positions[6:], there, atol=1e-3)


@pytest.mark.parametrize(
    'twist, frame', [([0] * 5, 'world'), ([np.nan] + [0] * 5, 'world'), ([0] * 6, 'map')]
)
def test_what_is_no_command_is_refused(home, twist, frame):
    with pytest.raises(SimError, match='expected six finite numbers in world, base_link'):
        home.command(twist, frame)
    with pytest.raises(SimError, match='expected a finite travel'):
        home.grip(np.inf)


def test_every_station_stands_clear_of_the_belt_and_the_pillars():
    for seed in range(50):
        at = station(np.random.default_rng([seed, 5]))
        assert at.x - 0.34 > 0.24 + 0.075 and at.y + 0.26 < -0.22, 'of the widest pillar, and of the rails'
