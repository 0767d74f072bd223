# SPDX-License-Identifier: Apache-2.0
"""The task of picking, as a node: what it publishes, and that nothing makes it act on what is doubtful."""

from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from bundles import make_bundle
from controlled import S, start
from picking_cell import CAMERA, HORIZONS, LATENCY, TICK, PickingCell
from rclpy.parameter import Parameter
from visualization_msgs.msg import Marker

from jepa_ros.control.picking import PickSettings
from jepa_ros.engine.bundle import Bundle
from jepa_ros.nodes.controller_node import UNSURPRISING
from jepa_ros.nodes.messages import to_ns
from jepa_ros.paths import find_config

pytestmark = pytest.mark.ros
FRAME_PERIOD = 0.05  # s, of the camera in config/conveyor_picking.yaml


@pytest.fixture(scope='module')
def bundle(tmp_path_factory):
    return Bundle.load(make_bundle(tmp_path_factory.mktemp('bundle') / 'tiny', size=(192, 256)))


@pytest.fixture
def make_cell(bundle):
    cells = []

    def make(**options):
        cells.append(PickingCell(bundle, **options))
        return cells[-1]

    yield make
    for cell in cells:
        cell.close()


def moving(twist):
    return np.any(twist)


def still(twist):
    return not np.any(twist)


def test_a_moving_handle_is_met_taken_and_held(make_cell):
    cell = make_cell(handle=(0.0, 0.0, 0.8), speed=0.1, frozen=False)
    cell.enable()
    cell.ticks_until(lambda _: cell.node._task.describe()[0] == 'closing')
    assert np.linalg.norm(cell.tool - cell.handle(cell.ns)) < 0.05
    cell.ticks_until(lambda _: cell.node._task.describe()[0] == 'holding')
    cell.until(lambda: cell.states[-1].data == 'holding')
    states = [m.data for m in cell.states]
    assert states.index('stopped') < states.index('approaching'), 'until futures came'
    assert states[-6:] == ['approaching', 'tracking', 'lowering', 'closing', 'lifting', 'holding']
    assert cell.tool[2] > 0.8 + 0.1, 'lifted'
    assert list(cell.grips[0].data) == [0.045] and list(cell.grips[-1].data) == [0.0]
    # zeros that go out before the tool's pose is known belong to no frame
    assert {m.header.frame_id for m in cell.twists if m.twist.linear.z} == {'base_link'}
    _check_paths(cell)
    _check_intercepts(cell)


def _check_paths(cell):
    paths = [path for path in cell.paths if path.poses]
    assert len(paths) > 50
    for path in paths:
        stamps = [to_ns(pose.header.stamp) for pose in path.poses]
        np.testing.assert_allclose(np.diff(stamps) / 1e9, np.diff(HORIZONS), atol=1e-6)
        assert -100 <= to_ns(path.header.stamp) - (stamps[0] - float(HORIZONS[0]) * 1e9) - LATENCY <= TICK + 100
        assert {path.header.frame_id, *(pose.header.frame_id for pose in path.poses)} == {'base_link'}
    expected = [[pose.pose.position.x, pose.pose.position.y, pose.pose.position.z] for pose in path.poses]
    true = [cell.handle(stamp) for stamp in stamps]
    assert np.linalg.norm(np.subtract(expected, true), axis=1).max() < 0.02


def _check_intercepts(cell):
    assert len(cell.intercepts) > 20
    for message in cell.intercepts[-5:]:
        place = message.pose.pose.position
        error = np.subtract([place.x, place.y, place.z], cell.handle(to_ns(message.header.stamp)))
        covariance = np.reshape(message.pose.covariance, (6, 6))
        assert np.linalg.norm(error) < 0.02
        np.testing.assert_allclose(covariance, covariance.T)
        assert 0 < covariance[0, 0] < 0.04**2


@pytest.fixture(scope='class')
def cell(bundle):
    """One cell for tests that leave it as they found it: moving towards a handle, in vain."""
    cell = PickingCell(bundle)
    yield cell
    cell.close()


def changed(topic, change):
    def spoil(cell):
        cell.change[topic] = change
    return spoil


def silent(*topics):
    return lambda cell: cell.silent.update(topics)


def with_stamp(seconds):
    def change(message):
        message.header.stamp.sec += seconds
        return message
    return change


def another_model(message):
    offset = next(field.offset for field in message.fields if field.name == 'model')
    for point in range(message.height * message.width):
        message.data[point * message.point_step + offset] ^= 1
    return message


def nan_token(message):
    offset = next(field.offset for field in message.fields if field.name == 'descriptor')
    message.data[offset:offset + 4] = type(message.data)('B', np.float32(np.nan).tobytes())
    return message


def distorted(message):
    message.distortion_model, message.d = 'plumb_bob', [-0.2, 0.0, 0.0, 0.0, 0.0]
    return message


def rectified(message):
    """As a driver tells it beside the picture that image_proc rectifies."""
    matrix = np.reshape(message.k, (3, 3))
    message.p = np.column_stack([matrix, np.zeros(3)]).ravel().tolist()
    message.k = (matrix * np.diag([0.9, 0.9, 1.0])).ravel().tolist()
    return distorted(message)


def no_matrix(message):
    message.k[8] = 0.0
    return message


def in_frame(name):
    def change(message):
        message.header.frame_id = name
        return message
    return change


def no_quaternion(message):
    message.pose.orientation.x = 0.5
    return message


def surprising(cell):
    cell.surprise = 1.7


FAULTS = {
    'the camera stops, or perception dies': (silent('futures', 'latents'), 's old, 0.2 s allowed'),
    'no futures': (silent('futures'), 'the newest futures are'),
    'stale latents': (silent('latents'), 'the newest latents are'),
    'old futures': (changed('futures', with_stamp(-1)), 'the newest futures are'),
    'futures from the future': (changed('futures', with_stamp(1)), 'in the future'),
    'another model': (changed('futures', another_model), 'futures were refused: expected futures of model'),
    'latents of another model': (changed('latents', another_model), 'latents are from model'),
    'NaN': (changed('futures', nan_token), 'expected finite numbers in field'),
    'surprise': (surprising, 'surprises the model: 1.70'),
    'no pose of the tool': (silent('tool'), 'the newest poses of the tool are'),
    'no rotation': (changed('tool', no_quaternion), 'expected a quaternion of length one'),
    'distortion': (changed('camera_info', distorted), 'expected the camera_info of a rectified image'),
    'no matrix of a camera': (changed('camera_info', no_matrix), 'expected 0, 0, 1 as the last row'),
    'another frame': (changed('camera_pose', in_frame('map')), "found 'map' and 'base_link'"),
}


class TestSafety:
    @pytest.mark.parametrize('fault', FAULTS)
    def test_it_stops_within_200_ms_with_zeros_and_the_reason_and_resumes(self, cell, fault):
        """Of the robot's time: the first message that is missing, or wrong, is due at the second tick."""
        spoil, reason = FAULTS[fault]
        cell.enable()
        cell.ticks_until(moving)
        cell.tick() if (cell.ns // TICK) % 2 else None  # now what perception says is newest
        spoil(cell)
        ticks = cell.ticks_until(still)
        assert (ticks - 1) * TICK / 1e9 <= 0.2
        assert all(still(cell.tick()) for _ in range(3)), 'explicit zeros, again and again'
        cell.until_said('stopped: ', reason)
        cell.until(lambda: cell.states[-1].data == 'stopped')
        cell.well()
        cell.ticks_until(moving)
        cell.until(lambda: cell.states[-1].data != 'stopped')

    def test_when_time_stands_still_another_clock_stops_it(self, cell):
        cell.enable()
        cell.ticks_until(moving)
        real = cell.node.steady
        count, moment = len(cell.twists), SimpleNamespace(nanoseconds=real.now().nanoseconds + 11 * S)
        cell.node.steady = SimpleNamespace(now=lambda: moment)
        try:
            cell.until(lambda: len(cell.twists) > count)
            assert cell.twists[-1].twist.linear.x == 0
            cell.until_said('no futures have arrived for')
        finally:
            cell.node.steady = real
        cell.ticks_until(moving)

    def test_a_path_that_ends_is_empty_once(self, cell):
        cell.enable()
        cell.ticks_until(moving)
        cell.silent = {'futures'}
        cell.ticks_until(still)
        cell.until(lambda: not cell.paths[-1].poses)
        count = len(cell.paths)
        cell.tick(), cell.tick()
        assert len(cell.paths) == count
        cell.well()

    def test_viewers_get_the_state_as_text_over_the_tool(self, cell):
        markers = cell.listen(Marker, '/controller/marker')
        cell.enable()
        cell.ticks_until(lambda _: markers and not still(_))
        assert markers[-1].text.splitlines()[0] in ('waiting', 'approaching', 'tracking')
        assert markers[-1].header.frame_id == 'base_link' and markers[-1].type == Marker.TEXT_VIEW_FACING
        cell.silent = {'futures'}
        cell.ticks_until(lambda _: markers[-1].text.startswith('stopped\nthe newest futures'))
        cell.well()


def test_the_camera_can_be_where_parameters_say(make_cell):
    cell = make_cell(camera_position=CAMERA.tolist(), camera_rotation=[1.0, 0.0, 0.0, 0.0])
    assert 'camera_pose' not in cell.node.arrived
    cell.enable()
    cell.ticks_until(moving)
    path = next(path for path in reversed(cell.paths) if path.poses)
    assert abs(path.poses[0].pose.position.x - 0.35) < 0.02


def test_a_picture_that_was_rectified_is_that_of_the_projection(make_cell):
    cell = make_cell(rectified=True)
    cell.change['camera_info'] = rectified
    cell.enable()
    cell.ticks_until(moving)
    path = next(path for path in reversed(cell.paths) if path.poses)
    assert abs(path.poses[0].pose.position.x - 0.35) < 0.02


def test_what_is_not_watched_is_said(make_cell):
    cell = make_cell(gripper_joints='left, right')
    cell.surprise = np.nan
    cell.enable()
    cell.ticks_until(moving)
    cell.until_said("no position of the gripper's joints (left, right)")
    for _ in range(2 * UNSURPRISING + 2):
        cell.tick()
    cell.until_said('max_surprise watches nothing')
    cell.well()
    cell.ticks_until(lambda _: (cell.ns // TICK) % 2 == 0)
    cell.until_said('joint_states')
    assert not any('watches nothing' in message for message in cell.messages())


def test_another_rate_waits_for_the_next_configure(make_cell):
    cell = make_cell()
    cell.node.set_parameters([Parameter('rate', value=200.0)])
    cell.node.deactivate()
    cell.node.activate()
    assert {loop.timer_period_ns for loop in cell.node._loops} == {TICK}


def test_without_a_calibration_it_says_so(make_cell):
    cell = make_cell()
    cell.silent = {'camera_pose'}
    cell.enable()
    cell.tick(), cell.tick()
    cell.until_said('stopped: no calibration of the camera has arrived yet')
    cell.well()
    cell.ticks_until(moving)


@pytest.mark.parametrize('parameters, sentence', [
    ({}, "task 'pick' needs the parameters 'gripper_open' and 'gripper_closed'"),
    ({'camera_position': [0.0, 0.0, 1.0]}, 'must be given both or neither'),
    ({'home': [0.5, 0.1]}, "parameter 'home' must have three numbers, got [0.5, 0.1]"),
    ({'place': [0.5, 0.1]}, "parameter 'place' must have none or three numbers, got [0.5, 0.1]"),
    ({'reach': [1.0, 0.4]}, "parameter 'reach' must ascend, got [1.0, 0.4]"),
    ({'camera_position': [0.0, 0.0, 1.0], 'camera_rotation': [0.5, 0.5, 0.0, 0.0], 'gripper_open': [0.04],
      'gripper_closed': [0.0]}, 'expected a quaternion of length one, found 0.5, 0.5, 0, 0'),
])
def test_what_it_cannot_run_with_is_said(bundle, parameters, sentence):
    with start(bundle.path, task='pick', **parameters) as child:
        child.wait_line(sentence)


def test_the_parameter_file_has_the_settings_of_the_law_and_stops_in_time():
    """The benchmark runs the settings' defaults: what it measures is what the launch file starts."""
    own = yaml.safe_load(find_config('conveyor_picking.yaml').read_text())
    written, camera = (own[f'/**/{name}']['ros__parameters'] for name in ('controller', 'conveyor_sim'))
    settings = PickSettings()
    sections = (settings, settings.track, settings.arm, settings.watchdog)
    defaults = {name: getattr(section, name) for section in sections for name in vars(section)}
    for name in set(written) - {'task', 'rate', 'gripper_joints', 'rectified'}:
        value = tuple(written[name]) if isinstance(written[name], list) else written[name]
        assert value == defaults[name], name
    period = 1 / written['rate']
    assert written['max_silence'] + period <= 0.2
    # a frame that is missing was due one period of the camera after the last one
    assert 1 / camera['rate'] == FRAME_PERIOD and written['max_age'] - FRAME_PERIOD + period <= 0.2
