# SPDX-License-Identifier: Apache-2.0
"""The controller in a process of its own; the test is the perception it follows and the arm it commands."""

import signal
from dataclasses import replace

import numpy as np
import pytest
from bundles import make_bundle
from controlled import Arm, Perception, S, speed, start
from lifecycle_msgs.srv import ChangeState
from peer import Peer
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import PointCloud2

from jepa_ros.engine.bundle import Bundle
from jepa_ros.engine.readout import Readout

pytestmark = pytest.mark.ros


@pytest.fixture(scope='module')
def bundle(tmp_path_factory):
    return Bundle.load(make_bundle(tmp_path_factory.mktemp('bundle') / 'tiny'))


@pytest.fixture
def peer():
    with Peer() as peer:
        yield peer


def changed(**values):
    """Publish futures with other values, each computed from the right futures."""
    return lambda perception: setattr(perception, 'change', lambda futures: replace(
        futures, **{name: value(futures) for name, value in values.items()}))


def changed_message(change):
    return lambda perception: setattr(perception, 'change_message', change)


def nan_token(futures):
    tokens = futures.tokens.copy()
    tokens[2, 3, 4] = np.nan
    return tokens


def cut(message):
    message.data = message.data[:-4]
    return message


FAULTS = {
    'silence': (lambda perception: setattr(perception, 'silent', True), 's old, 0.3 s allowed'),
    'old stamps': (changed(stamp_ns=lambda f: f.stamp_ns - S), 's old, 0.3 s allowed'),
    'future stamps': (changed(stamp_ns=lambda f: f.stamp_ns + 10 * S), 'in the future'),
    'zero stamps': (changed(stamp_ns=lambda f: 0), 'expected a header stamp, found 0 ns'),
    'another model': (changed(model=lambda f: f.model ^ 1), 'model'),
    'surprise': (lambda perception: setattr(perception, 'surprise', 1.7), 'surprises the model: 1.70'),
    'not finite': (changed(tokens=nan_token), 'expected finite numbers'),
    'a token too few': (changed_message(cut), 'expected'),
    'no cloud': (changed_message(lambda m: PointCloud2(header=m.header)), 'expected at least one point'),
    'other horizons': (changed(horizons=lambda f: f.horizons / 10), 'futures cover 0.01..0.05 s'),
    'uncertain': (changed(tokens=lambda f: f.tokens * 0), 'uncertain: its standard deviation'),
}


def transition(peer, number):
    request = ChangeState.Request()
    request.transition.id = number
    assert peer.call(ChangeState, '/controller/change_state', request).success


@pytest.fixture(scope='class')
def running(bundle):
    """One controller for the tests that leave it as they found it; it ends before others start theirs."""
    with Peer('arm_and_perception') as peer:
        arm = Arm(peer)
        with start(bundle.path, gripper_open=[0.04], gripper_closed=[0.0]) as child, \
                Perception(peer, bundle) as perception:
            yield arm, perception, child
            assert child.stop() == 0


class TestFollowing:
    @pytest.fixture
    def arm(self, running):
        arm, perception, _ = running
        perception.well()
        assert arm.enable().success
        arm.wait_moving()
        return arm

    @pytest.fixture
    def perception(self, running):
        return running[1]

    def test_it_follows_the_readout_in_the_optical_frame(self, arm, perception, bundle):
        points, covariances = Readout.open(bundle)(perception.futures())
        twist = arm.wait_moving()
        assert twist.header.frame_id == 'camera_optical'
        assert twist.twist.linear.x > 0 and twist.twist.linear.z == 0
        arm.targets.clear()
        # aimed at 0.2 s from now; where a busy machine makes the futures older, later ones tell
        target = arm.targets.wait(
            lambda m: covariances[1, 0, 0] < m.pose.covariance[0] < covariances[3, 0, 0])
        position = target.pose.pose.position
        np.testing.assert_allclose([position.x, position.y], points[2], atol=1e-5)
        assert not np.reshape(target.pose.covariance, (6, 6))[2:].any()
        arm.grips.clear()
        assert list(arm.grips.wait().data) == [0.04]

    def test_speed_and_slew_are_limited(self, arm):
        assert arm.set(max_speed=0.1, max_acceleration=0.2).successful
        try:
            arm.enable(False)
            arm.enable()
            arm.twists.clear()
            arm.twists.wait(lambda m: speed(m) >= 0.0999)
            commands = np.array([(m.twist.linear.x, m.twist.linear.y) for m in arm.twists.messages])
            assert np.hypot(*commands.T).max() <= 0.1 + 1e-9
            changes = np.hypot(*np.diff(commands, axis=0).T)[np.any(commands[1:], axis=1)]
            assert changes.max() <= 0.2 / 20 + 1e-9  # zeros come at once, where a busy machine made it doubt
        finally:
            arm.set(max_speed=0.2, max_acceleration=0.5)

    @pytest.mark.parametrize('fault', FAULTS)
    def test_doubt_stops_it_with_zeros_and_the_reason_and_it_resumes(self, arm, perception, fault):
        spoil, reason = FAULTS[fault]
        spoil(perception)
        arm.wait_stopped(reason)  # how soon is the watchdog's matter, and tested with its clocks
        arm.grips.clear()
        perception.well()
        arm.wait_moving()
        assert arm.grips.wait()

    def test_disabling_ends_with_zeros_and_silence(self, arm):
        arm.twists.clear()
        assert arm.enable(False).success
        arm.wait_silence()

    def test_a_parameter_out_of_range_is_refused_at_start_and_on_change(self, arm, bundle):
        with start(bundle.path, gain=-1.0) as child:
            child.wait_line("parameter 'gain'")
            assert child.wait() == 2
        result = arm.set(max_speed=11.0)
        assert not result.successful and 'max_speed' in result.reason
        result = arm.set(target=[0.1, 0.2, 0.3])
        assert not result.successful and 'two numbers' in result.reason
        arm.wait_moving()


def test_it_starts_disabled_and_commands_nothing_until_it_is_enabled(peer, bundle):
    arm = Arm(peer)
    with start(bundle.path) as child, Perception(peer, bundle):
        arm.targets.wait(count=10)
        assert arm.twists.messages == [] and arm.grips.messages == []
        assert arm.enable().success
        arm.wait_moving()
        assert child.stop() == 0


def test_deactivation_ends_with_zeros_and_leaves_it_disabled(peer, bundle):
    arm = Arm(peer)
    with start(bundle.path) as child, Perception(peer, bundle):
        arm.enable()
        arm.wait_moving()
        transition(peer, 4)
        arm.twists.wait_last(lambda m: speed(m) == 0)
        refused = arm.enable()
        assert not refused.success and 'found it inactive' in refused.message
        transition(peer, 3)
        arm.twists.clear()
        arm.targets.clear()
        arm.targets.wait(count=5)
        assert arm.twists.messages == []
        assert child.stop() == 0


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_shutdown_ends_with_zeros(peer, bundle, number):
    arm = Arm(peer)
    with start(bundle.path) as child, Perception(peer, bundle):
        arm.enable()
        arm.wait_moving()
        assert child.stop(number) == 0
        arm.twists.wait_last(lambda m: speed(m) == 0)


def test_simulated_time_that_stands_still_stops_it(peer, bundle):
    arm = Arm(peer)
    with start(bundle.path, use_sim_time=True) as child, Perception(peer, bundle) as perception:
        clock = peer.publisher(Clock, '/clock')
        moment = {'ns': 100 * S}

        def stamped(futures):
            if not moment.get('stands'):
                moment['ns'] += S // 20
            message = Clock()
            message.clock.sec, message.clock.nanosec = divmod(moment['ns'], S)
            clock.publish(message)
            return replace(futures, stamp_ns=moment['ns'])

        perception.change = stamped
        arm.enable()
        arm.wait_moving()
        moment['stands'] = True
        arm.wait_stopped('no futures have arrived for')
        moment['stands'] = False
        arm.wait_moving()
        assert child.stop() == 0


@pytest.mark.parametrize('parameters, good, sentence', [
    ({'bundle_path': '/no/bundle'}, {}, 'expected an engine bundle'),
    ({'readout': 'nose'}, {'readout': 'handle'},
     "expected readout 'nose' in bundle 'tiny_stream', found 'handle'"),
    ({'target': [0.5]}, {'target': [0.5, 0.4]}, "parameter 'target' must have two numbers, got [0.5]"),
    ({'gripper_open': [0.1]}, {'gripper_closed': [0.0]},
     "parameters 'gripper_open' and 'gripper_closed' must be of one length"),
])
def test_what_it_cannot_run_with_is_said_and_can_be_set_right(peer, bundle, parameters, good, sentence):
    arm = Arm(peer)
    with start(**{'bundle_path': bundle.path, **parameters}) as child:
        child.wait_line(sentence)
        arm.health.wait(lambda m: sentence in m.status[0].message)
        assert child.process.poll() is None
        assert arm.set(**(good or {'bundle': str(bundle.path)})).successful
        transition(peer, 1)
        assert child.stop() == 0


def test_a_bundle_without_a_readout_is_refused(tmp_path):
    with start(make_bundle(tmp_path / 'blind', readout=False)) as child:
        child.wait_line('expected a bundle with a readout')
