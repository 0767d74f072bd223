# SPDX-License-Identifier: Apache-2.0
"""The launch files under the real ``ros2 launch`` and launch_testing, where ROS is installed."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import recorded
from bundles import make_bundle
from children import WITHOUT_GPU
from geometry_msgs.msg import PoseStamped
from peer import Peer
from rcl_interfaces.srv import GetParameters
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, PointCloud2
from std_msgs.msg import Int32, String

HERE = Path(__file__).parent
pytestmark = pytest.mark.ros


def _missing():
    try:
        import launch_ros  # noqa: F401
        import launch_testing  # noqa: F401
        from ament_index_python.packages import get_package_prefix
    except ImportError as error:
        return f'{error.name} is not installed: it comes with a ROS installation, not from PyPI'
    if shutil.which('ros2') is None:
        return 'ros2 is not on the PATH'
    try:
        get_package_prefix('jepa_ros')
    except LookupError:
        return 'jepa_ros is not in the ament index: install it'
    return None


if _missing():
    pytest.skip(_missing(), allow_module_level=True)


class Launched:
    """A ``ros2 launch`` process; if left running it is interrupted, and takes its nodes with it."""

    def __init__(self, file, **arguments):
        command = ['ros2', 'launch', 'jepa_ros', file]
        command += [f'{name}:={value}' for name, value in arguments.items()]
        # Where a shell's `&` had made SIGINT ignored, launch could not be stopped without orphans.
        self.process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        env={**os.environ, **WITHOUT_GPU},
                                        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.communicate(timeout=60)

    def end(self, *, interrupt=False):
        """Wait for its end; return the exit code and what it printed."""
        if interrupt:
            self.process.send_signal(signal.SIGINT)
        output, _ = self.process.communicate(timeout=60)
        return self.process.returncode, output


@pytest.fixture(scope='module')
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp('bundle') / 'tiny')


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    return recorded.write_video(tmp_path_factory.mktemp('video') / 'v.mp4', 45, rate=15)


def assert_ended_well(output, count):
    assert len(re.findall('process has finished cleanly', output)) == count, output


@pytest.mark.parametrize('stamps', ['now', 'recorded'])
def test_replay_runs_to_the_end_of_the_recording_and_then_all_is_shut_down(video, bundle, stamps):
    with Peer() as peer, Launched('replay.launch.py', path=video, bundle=bundle, stamps=stamps) as launched:
        futures = peer.listen(PointCloud2, '/perception/futures')
        assert futures.wait().height == 5
        code, output = launched.end()
    assert code == 0
    assert '45 frames of v published' in output
    assert_ended_well(output, 3)


def test_a_recording_that_cannot_be_played_ends_the_launch_with_its_reason(bundle):
    with Launched('replay.launch.py', path='/no/such/file', bundle=bundle) as launched:
        code, output = launched.end()
    assert code == 1
    assert "found '/no/such/file'" in output
    assert 'the recording could not be played: camera_replay_node-1 ended with 2' in output
    assert_ended_well(output, 2)  # the others


def test_perception_is_stopped_with_ctrl_c(bundle, tmp_path):
    extra = tmp_path / 'mine.yaml'
    extra.write_text('/**/perception:\n  ros__parameters:\n    view_rate: 3.0\n')
    arguments = {'namespace': 'robot', 'image_topic': '/eye', 'params_file': extra, 'log_level': 'warn'}
    with Peer() as peer, Launched('perception.launch.py', bundle=bundle, **arguments) as launched:
        peer.publisher(PointCloud2, '/robot/perception/futures')  # the controller listens
        asked = GetParameters.Request(names=['view_rate', 'image_topic'])
        view_rate, image_topic = peer.call(GetParameters, '/robot/perception/get_parameters', asked).values
        assert (view_rate.double_value, image_topic.string_value) == (3.0, '/eye')
        code, output = launched.end(interrupt=True)
    assert code == 0 or code == 1  # the number of an interrupted launch differs between distributions
    assert '[INFO] [perception]' not in output
    assert_ended_well(output, 2)


def test_the_controller_can_be_left_out(bundle):
    with Launched('perception.launch.py', bundle=bundle, controller='false', log_level='info') as launched:
        for line in launched.process.stdout:
            if 'bundle' in line and 'perception' in line:
                break
        code, output = launched.end(interrupt=True)
    assert_ended_well(output, 1)


@pytest.fixture
def mujoco():
    """Skip where the simulated cell cannot run."""
    from jepa_ros.sim.hall import SimError, import_mujoco
    try:
        import_mujoco()
    except SimError as missing:
        pytest.skip(str(missing))


def test_conveyor_picking_runs_the_cell_and_is_stopped_with_ctrl_c(mujoco, bundle):
    with Peer() as peer, Launched('conveyor_picking.launch.py', bundle=bundle, seed=20003) as launched:
        states = peer.listen(String, '/controller/state', QoSProfile(depth=10))
        assert peer.listen(PointCloud2, '/perception/futures').wait().height == 5
        states.wait(lambda m: m.data != 'disabled')
        taken = peer.listen(Int32, '/conveyor_sim/taken', QoSProfile(depth=10))
        taken.wait()
        code, output = launched.end(interrupt=True)
    assert code == 0 or code == 1
    assert_ended_well(output, 4)  # one of them enabled the controller, and had nothing more to do


def test_conveyor_picking_takes_a_bin(mujoco):
    """With the bundle that ships, at half the pace: a machine that runs tests may be busy."""
    with Peer() as peer, Launched('conveyor_picking.launch.py', seed=20003, speed=0.5) as launched:
        peer.listen(Int32, '/conveyor_sim/taken', QoSProfile(depth=10)).wait(lambda m: m.data, timeout=240)
        code, output = launched.end(interrupt=True)
    assert code == 0 or code == 1
    assert_ended_well(output, 4)


def test_conveyor_picking_on_a_robot_in_a_namespace(bundle):
    arguments = {'sim': 'false', 'namespace': 'robot', 'image_topic': 'eye/image', 'tool_topic': '/arm/tool'}
    with Peer() as peer, Launched('conveyor_picking.launch.py', bundle=bundle, **arguments) as launched:
        peer.publisher(PoseStamped, '/arm/tool')
        peer.publisher(PoseStamped, '/robot/camera/pose')
        peer.publisher(CameraInfo, '/robot/eye/camera_info')
        asked = GetParameters.Request(names=['task', 'use_sim_time'])
        task, simulated = peer.call(GetParameters, '/robot/controller/get_parameters', asked).values
        assert task.string_value == 'pick' and not simulated.bool_value
        code, output = launched.end(interrupt=True)
    assert code == 0 or code == 1
    assert_ended_well(output, 2)


def test_a_cell_that_cannot_run_ends_the_launch_with_its_reason(mujoco, bundle):
    with Launched('conveyor_picking.launch.py', bundle=bundle, seed=-1) as launched:
        code, output = launched.end()
    assert code == 1
    assert "parameter 'seed' must be a whole number" in output
    assert 'the simulator conveyor_sim_node-1 ended with 2' in output


@pytest.mark.parametrize('file, arguments', [
    ('conveyor_picking.launch.py', 'sim image_topic bundle backend namespace use_sim_time speed seed rviz log_level '
     'params_file enable twist_topic gripper_topic tool_topic camera_pose_topic'),
    ('perception.launch.py',
     'image_topic image_transport bundle backend namespace use_sim_time log_level params_file controller'),
    ('replay.launch.py', 'path topic rate stamps loop'),
])
def test_show_args_teaches(file, arguments):
    shown = subprocess.run(['ros2', 'launch', 'jepa_ros', file, '--show-args'], check=True, text=True,
                           capture_output=True, timeout=60).stdout
    for name in arguments.split():
        assert re.search(rf"'{name}':\n +[A-Z].+\.", shown), f'{name} is not described'


def test_a_value_that_is_not_a_choice_is_refused(bundle):
    with Launched('perception.launch.py', controller='maybe', bundle=bundle) as launched:
        code, output = launched.end()
    assert code == 1 and "['true', 'false']" in output


def test_replay_under_launch_testing(video, bundle):
    python_path = os.pathsep.join([str(HERE.parent), os.environ.get('PYTHONPATH', '')])
    command = [sys.executable, '-m', 'launch_testing.launch_test', HERE / 'replay_check.py', f'path:={video}',
               f'bundle:={bundle}', 'namespace:=robot']
    done = subprocess.run(command, env={**os.environ, 'PYTHONPATH': python_path}, text=True, timeout=120,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
