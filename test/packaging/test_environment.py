# SPDX-License-Identifier: Apache-2.0
"""What make's helper does on machines that lack something: it provides it where it may, else says it in a sentence."""
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'environment.py'


@pytest.fixture
def tool():
    """Return the helper's functions, and ``change(name, value)`` to put something else in the place of one."""
    names = runpy.run_path(str(TOOL))
    return SimpleNamespace(**names, change=names['main'].__globals__.__setitem__)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine whose only programs are those the test puts there; ``log`` is what they were called with."""
    log = tmp_path / 'log'
    log.touch()

    def program(name, body='exit 0'):
        path = tmp_path / 'bin' / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {log}\n{body}\n')
        path.chmod(0o755)

    (tmp_path / 'bin').mkdir()
    monkeypatch.setenv('PATH', str(tmp_path / 'bin'))
    return SimpleNamespace(program=program, log=log)


@pytest.mark.parametrize('version, sourced', [((3, 9, 18), False), ((3, 9, 18), True), ((3, 14, 0), False)])
def test_a_python_that_cannot_work_is_refused(tool, monkeypatch, version, sourced):
    monkeypatch.setattr(sys, 'version_info', version)
    with pytest.raises(tool.EnvironmentFailure, match='found .*make PYTHON=') as caught:
        tool.check_interpreter(sourced)
    assert str(caught.value).count('. ') == 0


def test_a_sourced_ros_for_another_python_is_named(tool, monkeypatch, tmp_path):
    """A ROS installation is built for one Python; another one finds an rclpy that it cannot import."""
    (tmp_path / 'rclpy.py').write_text('raise ImportError("for another Python")')
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    monkeypatch.setenv('ROS_DISTRO', 'jazzy')
    with pytest.raises(tool.EnvironmentFailure, match='ROS jazzy is sourced but .* cannot import its rclpy'):
        tool.check_interpreter(sourced=True)


def test_root_installs_system_packages(tool, machine, monkeypatch):
    monkeypatch.setattr('os.geteuid', lambda: 0)
    machine.program('env', 'shift; exec "$@"')
    machine.program('apt-get')
    assert tool.install_system_packages(['libegl1'])
    assert 'apt-get -qq install --yes --no-install-recommends libegl1' in machine.log.read_text()


@pytest.mark.parametrize('password', [False, True])
def test_another_user_installs_through_sudo_only_without_a_password(tool, machine, monkeypatch, password):
    monkeypatch.setattr('os.geteuid', lambda: 1000)
    machine.program('apt-get')
    machine.program('sudo', 'exit 1' if password else 'exit 0')
    assert tool.install_system_packages(['libegl1']) is not password
    assert ('apt-get -qq install' in machine.log.read_text()) is not password


def test_nothing_is_installed_without_apt(tool, machine, monkeypatch):
    monkeypatch.setattr('os.geteuid', lambda: 0)
    assert not tool.install_system_packages(['libegl1'])


def test_missing_venv_is_one_sentence(tool, machine, monkeypatch, tmp_path):
    """Debian's python3 comes without ensurepip."""
    monkeypatch.setitem(sys.modules, 'ensurepip', None)
    with pytest.raises(tool.EnvironmentFailure, match=r'install python3\.\d+-venv'):
        tool.make_virtual_environment(tmp_path / 'venv', system_packages=False)


def test_missing_rendering_is_asked_for_once_and_named(tool, capsys):
    asked = []
    tool.change('can_render', lambda python: False)
    tool.change('install_system_packages', lambda packages: asked.append(packages))
    tool.provide_rendering(Path(sys.executable))
    assert asked == [tool.RENDERING]
    said = capsys.readouterr().err
    assert 'libegl1 libgl1-mesa-dri' in said and said.count('\n') == 1


def test_rendering_that_works_asks_for_nothing(tool, capsys):
    tool.change('can_render', lambda python: True)
    tool.change('install_system_packages', lambda packages: pytest.fail('asked for packages'))
    tool.provide_rendering(Path(sys.executable))
    assert capsys.readouterr().err == ''


def test_an_environment_is_made_once_and_again_when_broken(tool, tmp_path):
    folder = tmp_path / 'venv'
    python = tool.make_virtual_environment(folder, system_packages=False)
    made = (folder / 'pyvenv.cfg').stat().st_ino
    assert tool.make_virtual_environment(folder, system_packages=False) == python
    assert (folder / 'pyvenv.cfg').stat().st_ino == made
    python.unlink()
    assert tool.make_virtual_environment(folder, system_packages=False).exists()
    assert subprocess.run([python, '-c', 'import pip']).returncode == 0


def test_what_a_ros_installation_has_is_left_as_it_is(tool, tmp_path):
    """pip's OpenCV would bring a NumPy that the installed messages and cv_bridge were not built for."""
    python = tool.make_virtual_environment(tmp_path / 'venv', system_packages=True)
    site = next((tmp_path / 'venv').glob('lib/python*/site-packages'))
    (site / 'numpy.py').write_text('__version__ = "1.26.4"')
    (site / 'cv2.py').write_text('__version__ = "4.9.0"')
    (site / 'launch_testing.py').touch()
    constraints = tool.leave_installed(python, tool.REPOSITORY / 'constraints.txt').read_text().splitlines()
    assert {'torch==2.13.0', 'numpy==1.26.4', 'pytest<9'} <= set(constraints)
    found = subprocess.run([python, '-m', 'pip', 'show', 'opencv-python-headless'], capture_output=True, text=True)
    assert 'Version: 4.9.0' in found.stdout
