# SPDX-License-Identifier: Apache-2.0
"""The command line itself: what it says, what it imports, and its exit codes."""
import subprocess
import sys
import types

import pytest

from jepa_ros import __version__, cli
from jepa_ros.errors import JepaError


@pytest.fixture
def command(monkeypatch):
    """Register a command 'probe' whose ``run`` is the returned object's attribute ``run``."""
    module = types.ModuleType('probe_command', 'Probe the command line.')
    module.configure = lambda parser: parser.add_argument('--number', type=int)
    module.run = lambda args: 0
    monkeypatch.setitem(sys.modules, 'probe_command', module)
    monkeypatch.setitem(cli.COMMANDS, 'probe', ('probe_command', 'probe'))
    return module


def raising(error):
    def run(args):
        raise error
    return run


def test_help_names_every_command_and_shows_examples(capsys):
    assert cli.main(['--help']) == 0
    out = capsys.readouterr().out
    assert all(f'\n  {name} ' in out for name in cli.COMMANDS)
    assert 'jepa demo --video' in out


def test_no_argument_is_help(capsys):
    assert cli.main([]) == 0
    assert 'usage: jepa' in capsys.readouterr().out


def test_version(capsys):
    assert cli.main(['--version']) == 0
    assert capsys.readouterr().out == f'jepa_ros {__version__}\n'


@pytest.mark.parametrize('typed, meant', [('dmeo', 'demo'), ('trian', 'train'), ('benhc', 'bench')])
def test_unknown_command_suggests_the_nearest(typed, meant, capsys):
    assert cli.main([typed]) == 2
    assert f"did you mean '{meant}'?" in capsys.readouterr().err


def test_unlike_anything_lists_the_commands(capsys):
    assert cli.main(['zzzz']) == 2
    assert 'there are: demo, info' in capsys.readouterr().err


def test_arguments_reach_the_command_and_its_code_comes_back(command):
    command.run = lambda args: args.number
    assert cli.main(['probe', '--number', '7']) == 7


def test_a_user_error_is_one_sentence_and_exit_code_2(command, capsys):
    command.run = raising(JepaError('expected a bundle, found a folder'))
    assert cli.main(['probe']) == 2
    assert capsys.readouterr().err == 'jepa: error: expected a bundle, found a folder\n'


@pytest.mark.parametrize('module, says', [
    ('torch', "jepa_ros[train]"), ('mujoco', "jepa_ros[sim]"), ('rclpy', 'source a ROS 2 installation'),
    ('sensor_msgs.msg', 'jepa_ros[ros-kilted]')])
def test_a_missing_extra_says_what_to_install(command, capsys, module, says):
    command.run = raising(ModuleNotFoundError(f"No module named '{module}'", name=module))
    assert cli.main(['probe']) == 2
    assert says in capsys.readouterr().err


def test_a_missing_module_of_our_own_is_a_fault_not_an_extra(command):
    command.run = raising(ModuleNotFoundError('x', name='jepa_ros.nowhere'))
    with pytest.raises(ModuleNotFoundError):
        cli.main(['probe'])


def test_interrupt_is_130(command):
    command.run = raising(KeyboardInterrupt())
    assert cli.main(['probe']) == 130


def test_help_imports_nothing_heavy():
    heavy = ['numpy', 'cv2', 'torch', 'rclpy', 'onnxruntime', 'rich', 'rosbags', 'yaml']
    code = f'import sys; from jepa_ros import cli; cli.main(["--help"]); ' \
           f'sys.exit(str([m for m in {heavy} if m in sys.modules] or ""))'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode in (0, 1) and not done.stderr.strip(), done.stderr


@pytest.mark.parametrize('name', cli.COMMANDS)
def test_every_command_explains_itself(name, capsys):
    """Also where its extra is not installed, help must not need it."""
    with pytest.raises(SystemExit) as stop:
        cli.main([name, '--help'])
    assert stop.value.code == 0
    assert f'usage: jepa {name}' in capsys.readouterr().out

