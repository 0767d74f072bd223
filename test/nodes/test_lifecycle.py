# SPDX-License-Identifier: Apache-2.0
import signal
import time
from pathlib import Path

import pytest
import rclpy
from children import PATIENCE, Child
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.parameter import Parameter
from stage import Stage
from std_msgs.msg import String

from jepa_ros.errors import JepaError
from jepa_ros.nodes.lifecycle import ManagedNode

pytestmark = pytest.mark.ros

MANAGED = Path(__file__).parent / 'managed.py'


@pytest.fixture
def tester():
    rclpy.init()
    node = rclpy.create_node('tester')
    yield node
    node.destroy_node()
    rclpy.try_shutdown()


def spin(node, predicate):
    deadline = time.monotonic() + PATIENCE
    while not predicate():
        if time.monotonic() > deadline:
            return False
        rclpy.spin_once(node, timeout_sec=0.1)
    return True


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_signal_stops_the_node_while_it_can_still_publish(tester, number):
    """rclpy's own handlers shut the context down first: a controller's last zeros would never leave."""
    words = []
    tester.create_subscription(String, '/managed/words', words.append, 10)
    with Child(MANAGED, 'talk') as child:
        child.wait_line('matched')
        assert spin(tester, lambda: tester.count_publishers('/managed/words'))
        child.process.send_signal(number)
        assert spin(tester, lambda: words) and words[0].data == 'zeros'
        assert child.wait() == 0
    assert child.lines[-2:] == ['deactivated from active', 'cleaned up']


def test_signal_ignored_by_the_shell_stops_it_all_the_same():
    """A shell starts `command &` with SIGINT ignored."""
    code = ('import signal, os, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); '
            'os.execv(sys.executable, [sys.executable, *sys.argv[1:]])')
    with Child('-c', code, '-u', MANAGED, 'work') as child:
        child.wait_line('activated')
        assert child.stop(signal.SIGINT) == 0


def test_signal_stops_what_a_transition_builds():
    with Child(MANAGED, 'build') as child:
        child.wait_line('building')
        assert child.stop() == 0


def test_finish_from_any_thread_ends_the_process_with_its_code():
    with Child(MANAGED, 'finish') as child:
        assert child.wait() == 3
    assert child.lines[-1] == 'cleaned up'


def test_crash_of_a_callback_still_stops_the_node_in_order():
    with Child(MANAGED, 'crash') as child:
        assert child.wait() == 1
    assert 'deactivated from active' in child.lines
    assert any('ZeroDivisionError' in line for line in child.lines)


def test_node_that_must_start_ends_with_code_2_and_says_why():
    with Child(MANAGED, 'must start') as child:
        assert child.wait() == 2
    assert any('could not configure: expected a belt, found none' in line for line in child.lines)


def test_autostart_can_be_left_to_a_manager(tester):
    with Child(MANAGED, 'work', '--ros-args', '-p', 'autostart:=false') as child:
        client = tester.create_client(ChangeState, '/managed/change_state')
        assert client.wait_for_service(PATIENCE)
        assert child.lines == []
        configure = Transition(id=Transition.TRANSITION_CONFIGURE)
        future = client.call_async(ChangeState.Request(transition=configure))
        assert spin(tester, future.done) and future.result().success
        child.wait_line('configured')
        assert child.stop() == 0


def test_parameters_at_start_up_take_whole_numbers_for_floats():
    with Child(MANAGED, 'work', '--ros-args', '-p', 'speed:=2') as child:
        child.wait_line('configured 2.0')
        child.stop()


class Moody(ManagedNode):
    """Raises in one transition."""

    def __init__(self, **kwargs):
        self.error = {}
        self.calls = []
        super().__init__('moody', **kwargs)

    def _do(self, verb):
        self.calls.append(verb)
        if verb in self.error:
            raise self.error.pop(verb)

    def configure(self):
        self._do('configure')

    def activate(self):
        self._do('activate')

    def deactivate(self):
        self._do('deactivate')

    def cleanup(self):
        self._do('cleanup')


@pytest.fixture
def moody():
    stage = Stage(Moody, diagnostics_period=0.1)
    yield stage
    stage.close()


@pytest.mark.parametrize('verb, error, sentence', [
    ('configure', JepaError('expected 1, found 2'), 'could not configure: expected 1, found 2'),
    ('configure', KeyError('size'), "could not configure: KeyError: 'size'"),
    ('activate', JepaError('no camera'), 'could not activate: no camera')])
def test_failed_transition_is_said_released_and_can_be_tried_again(moody, capfd, verb, error, sentence):
    node = moody.node
    node.error[verb] = error
    assert not node.bring_up()
    assert node.state == 'unconfigured'
    assert node.calls[-2:] == ['deactivate', 'cleanup']
    moody.until_said(sentence)
    assert moody.diagnostics[-1].status[0].level == b'\2'
    assert sentence in capfd.readouterr().err
    assert node.bring_up() and node.state == 'active'
    moody.until_said('ok')


def test_failure_of_deactivation_still_cleans_up(moody):
    node = moody.node
    assert node.bring_up()
    node.error['deactivate'] = RuntimeError('stuck')
    node.trigger_deactivate()
    assert node.calls[-2:] == ['deactivate', 'cleanup'] and node.state == 'unconfigured'


def test_problem_is_logged_when_it_comes_up_and_not_again(moody, capfd):
    from jepa_ros.nodes.diagnostics import Health
    count = iter(range(1000))

    def health():
        health = Health()
        health.warn(f'{next(count)} images are {0.5 * next(count)} s old')
        return health

    moody.node.health = health
    moody.until(lambda: len([m for m in moody.messages() if 'images are' in m]) >= 5)
    moody.node.health = Health
    moody.until_said('ok')
    moody.node.health = health
    moody.until_said('images are')
    assert capfd.readouterr().err.count('images are') == 2


def test_diagnostics_have_name_and_state(moody):
    assert moody.values() == {'state': 'unconfigured'}
    assert moody.diagnostics[0].status[0].name == 'moody'
    moody.node.bring_up()
    assert moody.values() == {'state': 'active'}


def test_diagnostics_period_changes_with_configure(moody):
    moody.node.set_parameters([Parameter('diagnostics_period', value=60.0)])
    moody.node.bring_up()
    assert [timer.timer_period_ns for timer in moody.node.timers] == [60_000_000_000]
