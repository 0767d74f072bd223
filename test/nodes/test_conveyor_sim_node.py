# SPDX-License-Identifier: Apache-2.0
import json
import os

import numpy as np
import pytest
import yaml
from children import Child
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PointStamped, PoseStamped, TwistStamped
from lifecycle_msgs.srv import ChangeState
from peer import Peer
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_msgs.msg import Float64MultiArray, Int32, String
from std_srvs.srv import Trigger

from jepa_ros.angles import wrapped
from jepa_ros.images import decode_compressed, decode_raw
from jepa_ros.nodes import transport
from jepa_ros.nodes.conveyor_sim_node import PARAMETERS
from jepa_ros.nodes.lifecycle import COMMON
from jepa_ros.nodes.messages import to_ns, to_stamp
from jepa_ros.paths import find_config
from jepa_ros.sim.cell import ConveyorCell
from jepa_ros.sim.hall import SimError, import_mujoco

try:
    import_mujoco()
except SimError as missing:
    pytest.skip(str(missing), allow_module_level=True)

pytestmark = pytest.mark.ros
ALL = QoSProfile(depth=1000)
SMALL = {'width': 80, 'height': 60, 'rate': 20.0, 'interventions': False, 'passing': False, 'seed': 20001,
         'belt_speed': 0.2, 'diagnostics_period': 0.1}
SIM = '/conveyor_sim'


def start(environment=None, **parameters):
    """Start conveyor_sim_node with a small picture."""
    options = [word for name, value in {**SMALL, **parameters}.items()
               for word in ('-p', f'{name}:={json.dumps(value)}')]
    return Child('-m', 'jepa_ros.nodes.conveyor_sim_node', '--ros-args', *options,
                 environment={**transport.environment(), **(environment or {})})


@pytest.fixture
def peer():
    with Peer() as peer:
        yield peer


@pytest.fixture(scope='class')
def running():
    """A node and a peer that the tests of a class share: each waits for what it has caused."""
    with Peer() as peer, start() as child:
        peer.listen(Clock, '/clock').wait()
        yield peer
        assert child.stop() == 0, child.lines


def twist(peer, clock, velocity, frame='world', age=0.0):
    message = TwistStamped()
    message.header.frame_id = frame
    now_ns = to_ns(clock.messages[-1].clock)
    message.header.stamp = to_stamp(now_ns - round(age * 1e9))
    message.twist.linear.x, message.twist.linear.y, message.twist.linear.z = velocity
    return message


def problem(words):
    return lambda message: words in message.status[0].message


def test_the_parameter_file_has_every_parameter_with_its_default():
    file = yaml.safe_load(find_config('conveyor_sim.yaml').read_text())
    defaults = {spec.name: spec.default for spec in (*PARAMETERS, *COMMON)}
    assert file['/**/conveyor_sim']['ros__parameters'] == defaults


def test_pictures_come_with_calibration_clock_and_truth_as_the_cell_has_them(peer):
    images, infos = peer.listen(Image, '/camera/image_raw'), peer.listen(CameraInfo, '/camera/camera_info')
    clocks, handles = peer.listen(Clock, '/clock', ALL), peer.listen(PointStamped, f'{SIM}/handle', ALL)
    poses = peer.listen(PoseStamped, f'{SIM}/handle_pose', ALL)
    joints = peer.listen(JointState, '/joint_states', ALL)
    states = peer.listen(String, f'{SIM}/state', ALL)
    with start() as child:
        handles.wait(count=5)
        images.wait(count=20)
        states.wait(lambda m: m.data == 'riding')
        assert child.stop() == 0
    times = [to_ns(message.clock) for message in clocks.messages]
    assert min(times) >= 10**9 and times == sorted(times), 'zero would mean that there is no time'
    stamps = [to_ns(m.header.stamp) for m in images.messages]
    steps = np.diff(stamps)
    assert np.all(steps % 50_000_000 == 0) and steps.min() == 50_000_000
    assert {stamp for stamp in stamps if stamp >= times[0]} <= set(times)
    wanted = {to_ns(m.header.stamp): m for m in handles.messages}
    with ConveyorCell(20001, (60, 80), 20.0, speed=0.2) as cell:
        pictures = {to_ns(m.header.stamp): m for m in images.messages}
        at_pose = {to_ns(m.header.stamp): m.pose for m in poses.messages}
        compared = 0
        while cell.stamp_ns <= max(wanted):
            truth = cell.truth()
            if cell.stamp_ns in at_pose:
                position = at_pose[cell.stamp_ns].position
                np.testing.assert_array_equal((position.x, position.y, position.z), truth.handle.position)
            if cell.stamp_ns in wanted:
                point = wanted[cell.stamp_ns].point
                assert (point.x, point.y, point.z) == (*truth.xy, float(truth.visible))
            if cell.stamp_ns in pictures and compared < 3:
                message = pictures[cell.stamp_ns]
                np.testing.assert_array_equal(
                    decode_raw(message.encoding, 60, 80, message.step, False, message.data), cell.render())
                compared += 1
            cell.step()
        assert compared
        camera = cell.camera()
    info = infos.messages[-1]
    np.testing.assert_allclose(info.k, camera.k.ravel())
    assert (info.height, info.width, info.header.frame_id) == (60, 80, 'camera_optical_frame')
    assert list(joints.messages[0].name) == list(cell.joint_names) and len(joints.messages[0].position) == 8


class TestRunning:
    def test_the_arm_does_as_it_is_told_and_stops_when_it_hears_nothing(self, running):
        clock, tool = running.listen(Clock, '/clock', ALL), running.listen(PoseStamped, f'{SIM}/tool', ALL)
        twists = running.publisher(TwistStamped, '/twist')
        clock.wait()
        before = tool.wait().pose.position.z
        for _ in range(20):  # where the way takes longer than 0.2 s, a command is rightly refused
            twists.publish(twist(running, clock, (0.0, 0.0, -0.2)))
            sent = to_ns(clock.messages[-1].clock)
            tool.wait(lambda m: to_ns(m.header.stamp) > sent + 600_000_000)
            if tool.messages[-1].pose.position.z < before - 0.01:
                break
        heights = {to_ns(m.header.stamp): m.pose.position.z for m in tool.messages}
        late = [z for stamp, z in heights.items() if stamp > sent + 450_000_000]
        assert max(late) - min(late) < 2e-3, 'it stands still'
        assert before - 0.08 < late[0] < before - 0.02, 'after 0.2 s of movement'

    @pytest.mark.parametrize('velocity, frame, age, reason', [
        ((0.1, 0.0, 0.0), 'world', 0.5, 'stamps were more than 0.2 s old'),
        ((0.1, 0.0, 0.0), 'world', -3600.0, 'its sender needs use_sim_time'),
        ((float('nan'), 0.0, 0.0), 'world', 0.0, 'velocities were not finite'),
        ((0.1, 0.0, 0.0), 'map', 0.0, 'the frame of a velocity is one of world, base_link, tool0'),
    ])
    def test_commands_not_to_be_followed_are_refused_and_said(self, running, velocity, frame, age, reason):
        clock, said = running.listen(Clock, '/clock'), running.listen(DiagnosticArray, '/diagnostics')
        twists = running.publisher(TwistStamped, '/twist')
        clock.wait()
        for _ in range(50):  # again where its way was so long that it became too old
            count = len(said.messages)
            twists.publish(twist(running, clock, velocity, frame, age))
            said.wait(count=count + 1)
            if any(map(problem(reason), said.messages)):
                break
        else:
            pytest.fail(f'it says {said.messages[-1].status[0].message}')

    def test_the_gripper_takes_the_travel_of_its_fingers(self, running):
        joints = running.listen(JointState, '/joint_states', ALL)
        said = running.listen(DiagnosticArray, '/diagnostics')
        gripper = running.publisher(Float64MultiArray, '/gripper')
        joints.wait()
        for data, travel in (([0.01], 0.01), ([0.02, 0.03], 0.025)):
            gripper.publish(Float64MultiArray(data=data))
            joints.wait(lambda m: all(abs(p - travel) < 1e-3 for p in m.position[6:]))
        gripper.publish(Float64MultiArray(data=[0.0, 0.0, 0.0]))
        said.wait(problem('the gripper takes one finite number'))

    def test_interventions_come_on_call(self, running):
        belt, said = running.listen(String, f'{SIM}/belt'), running.listen(DiagnosticArray, '/diagnostics')
        calls = running.publisher(String, f'{SIM}/intervene')
        for words, state in (('stop', 'stopped'), ('reverse 0.15', 'reversed'), ('start', 'running')):
            belt.clear()
            calls.publish(String(data=words))
            belt.wait(lambda m: m.data == state)
        for count, words in enumerate(('dance', 'nudge hard', 'dance 7'), 1):
            calls.publish(String(data=words))
            said.wait(problem(f'{count} commands were refused: an intervention is one of stop, start'))

    def test_reset_begins_anew_with_the_next_seed_and_the_clock_goes_back(self, running):
        clock, images = running.listen(Clock, '/clock', ALL), running.listen(Image, '/camera/image_raw')
        said, taken = running.listen(DiagnosticArray, '/diagnostics'), running.listen(Int32, f'{SIM}/taken')
        clock.wait(lambda m: to_ns(m.clock) > 1_500_000_000)
        answer = running.call(Trigger, f'{SIM}/reset', Trigger.Request())
        assert answer.success and answer.message == 'seed 20002'
        clock.wait(lambda m: to_ns(m.clock) == 10**9)
        said.wait(lambda m: {v.key: v.value for v in m.status[0].values}.get('seed') == '20002')
        images.clear()
        message = images.wait(lambda m: to_ns(m.header.stamp) > 10**9)
        with ConveyorCell(20002, (60, 80), 20.0, speed=0.2) as cell:
            while cell.stamp_ns < to_ns(message.header.stamp):
                cell.step()
            np.testing.assert_array_equal(
                decode_raw(message.encoding, 60, 80, message.step, False, message.data), cell.render())
        assert taken.wait().data == 0


def test_time_runs_as_fast_as_asked_and_pictures_may_be_compressed(peer):
    clock = peer.listen(Clock, '/clock', ALL)
    images = peer.listen(CompressedImage, '/camera/image_raw')
    with start(real_time_factor=0.4, image_transport='compressed', camera='arm'):
        clock.wait(lambda m: to_ns(m.clock) > 2_000_000_000)
        simulated = (to_ns(clock.messages[-1].clock) - to_ns(clock.messages[0].clock)) / 1e9
        assert simulated / (clock.times[-1] - clock.times[0]) < 0.6, 'a busy machine may only be slower'
        assert decode_compressed(images.wait().data, 'jpeg').shape == (60, 80, 3)


def test_a_lifecycle_manager_can_hold_it_and_let_it_go_on(peer):
    clock = peer.listen(Clock, '/clock', ALL)

    def change(transition):
        request = ChangeState.Request()
        request.transition.id = transition
        assert peer.call(ChangeState, f'{SIM}/change_state', request).success

    with start(autostart=False) as child:
        change(1)
        change(3)
        clock.wait(lambda m: to_ns(m.clock) > 1_200_000_000)
        change(4)
        held = to_ns(clock.messages[-1].clock)
        answer = peer.call(Trigger, f'{SIM}/reset', Trigger.Request())
        assert answer.message == 'seed 20002'
        clock.clear()
        change(3)
        clock.wait(lambda m: to_ns(m.clock) == 10**9)
        clock.clear()
        clock.wait(lambda m: to_ns(m.clock) >= held)
        assert child.stop() == 0


def test_without_a_screen_the_window_is_refused_in_one_sentence():
    screens = {'DISPLAY': '', 'WAYLAND_DISPLAY': ''}
    with start(screens, viewer=True) as child:
        assert child.wait() == 2
        assert any('the window needs a screen: expected DISPLAY' in line for line in child.lines), child.lines


@pytest.mark.skipif(not (os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY')),
                    reason='no screen here')
def test_the_window_opens_where_there_is_a_screen(peer):
    clock = peer.listen(Clock, '/clock')
    with start(viewer=True) as child:
        clock.wait(lambda m: to_ns(m.clock) > 1_500_000_000)
        assert child.stop() == 0


def test_without_opengl_it_says_what_to_install():
    with start({'MUJOCO_GL': 'nonsense'}) as child:
        assert child.wait() == 2
        assert any('libegl1 and libgl1-mesa-dri' in line for line in child.lines), child.lines


class Picker:
    """
    Takes a bin over topics alone: follows the true handle, goes down, closes, lifts.

    :param peer: to listen and speak with.
    :param speed: of the belt, m/s.
    """

    def __init__(self, peer, speed):
        self._speed, self._phase, self._since, self._handle = speed, 'follow', 0, None
        self._twists = peer.publisher(TwistStamped, '/twist')
        self._gripper = peer.publisher(Float64MultiArray, '/gripper')
        peer.node.create_subscription(PoseStamped, f'{SIM}/handle_pose', self._on_handle, ALL)
        peer.node.create_subscription(PoseStamped, f'{SIM}/tool', self._on_tool, ALL)

    def _on_handle(self, message):
        self._handle = message.pose

    def _on_tool(self, message):
        if self._handle is None:
            return
        place = np.array([getattr(self._handle.position, axis) for axis in 'xyz'])
        error = place - [getattr(message.pose.position, axis) for axis in 'xyz']
        turn = wrapped(yaw(self._handle) - yaw(message.pose), np.pi)  # the bar has no sign
        if place[0] < 0.05 and self._phase == 'follow':
            error[0] = 0.0
        twist = TwistStamped()
        twist.header.stamp, twist.header.frame_id = message.header.stamp, 'world'
        self._since += 1
        moving = self._speed + 5.0 * error[0] if place[0] > 0.05 else 0.0
        velocity = [moving, 5.0 * error[1], 5.0 * (error[2] + (0.12 if self._phase == 'follow' else 0.0))]
        if self._phase == 'follow' and place[0] > 0.1 and np.hypot(*error[:2]) < 0.012 and abs(turn) < 0.08:
            self._go('lower')
        elif self._phase == 'lower' and np.linalg.norm(error) < 0.014:
            self._go('close')
        elif self._phase == 'close':
            self._gripper.publish(Float64MultiArray(data=[0.0]))
            if self._since > 15:
                self._go('lift')
        elif self._phase == 'lift':
            velocity = [0.0, 0.0, 0.25 if self._since < 16 else 0.0]
        linear = twist.twist.linear
        linear.x, linear.y, linear.z = map(float, np.clip(velocity, -0.5, 0.5))
        twist.twist.angular.z = float(4.0 * turn)
        self._twists.publish(twist)

    def _go(self, phase):
        self._phase, self._since = phase, 0


def yaw(pose):
    q = pose.orientation
    return np.arctan2(2 * (q.w * q.z + q.x * q.y), 1 - 2 * (q.y**2 + q.z**2))


def test_a_bin_is_taken_over_topics_alone(peer):
    with start(rate=30.0, belt_speed=0.25):
        taken = peer.listen(Int32, f'{SIM}/taken', ALL)
        Picker(peer, 0.25)
        taken.wait(lambda m: m.data == 1, timeout=200)  # bins come until one is taken
