#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Makes the virtual environment that a make target needs, with nothing but Python's standard library.

Two kinds: with ROS wheels from PyPI (an extra names them), or, with ``--sourced``, on top of a sourced ROS installation,
whose rclpy, NumPy and OpenCV are then used and left as they are. Running it again brings the environment up to date.
"""
import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
OLDEST, NEWEST_WITH_WHEELS = (3, 10), (3, 13)
RENDERING = ['libegl1', 'libgl1-mesa-dri']

# Run by the environment's Python: what the ROS installation and the system have that pip must leave as it is. Its
# messages and cv_bridge are built for one NumPy; launch_testing's plugin does not load in pytest 9.
INSTALLED = """
import importlib.util, json, numpy
versions = {'numpy': numpy.__version__}
if importlib.util.find_spec('cv2'):
    import cv2
    versions['opencv-python-headless'] = cv2.__version__
print(json.dumps([versions, bool(importlib.util.find_spec('launch_testing'))]))
"""


class EnvironmentFailure(Exception):
    """What the machine lacks, in one sentence."""


def main(arguments=None):
    """Make the environment; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('folder', type=Path, help='the virtual environment')
    parser.add_argument('--extras', nargs='*', default=[], help='extras of setup.py')
    parser.add_argument('--with', dest='others', nargs='*', default=[], help='further requirements')
    parser.add_argument('--sourced', action='store_true', help='use the sourced ROS installation')
    options = parser.parse_args(arguments)
    try:
        check_interpreter(options.sourced)
        python = make_virtual_environment(options.folder, options.sourced)
        install(python, options.extras, options.others, options.sourced)
        if 'sim' in options.extras:
            provide_rendering(python)
    except EnvironmentFailure as failure:
        print(f'environment: error: {failure}', file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as failure:
        print(f'environment: error: this command failed: {" ".join(map(str, failure.cmd))}', file=sys.stderr)
        return 1
    return 0


def check_interpreter(sourced):
    """Refuse a Python that cannot work, naming one that can."""
    version, name = sys.version_info[:2], f'{sys.executable} (Python {platform.python_version()})'
    if version < OLDEST:
        raise EnvironmentFailure(f'Python 3.10 or later is needed, found {name}: choose one with make PYTHON=...')
    if sourced:
        if subprocess.run([sys.executable, '-c', 'import rclpy'], stderr=subprocess.DEVNULL).returncode:
            raise EnvironmentFailure(
                f'ROS {os.environ.get("ROS_DISTRO", "")} is sourced but {name} cannot import its rclpy: choose the Python '
                'it was built for with make PYTHON=/usr/bin/python3, or use a shell without ROS'
            )
    elif version > NEWEST_WITH_WHEELS or platform.machine() != 'x86_64' or sys.platform != 'linux':
        raise EnvironmentFailure(
            'the ROS wheels on PyPI need Python 3.10 to 3.13 on x86-64 Linux, found '
            f'{name} on {platform.machine()} {sys.platform}: choose one with make PYTHON=..., or source a ROS installation'
        )


def make_virtual_environment(folder, system_packages):
    """Make the environment unless it is there and whole; return its Python."""
    python = folder / 'bin' / 'python'
    probe = (
        'import os, pip, sys; '
        'sys.exit(sys.argv[1:] != [os.path.realpath(sys.prefix), "%d.%d" % sys.version_info[:2]])'
    )
    expected = [str(folder.resolve()), '%d.%d' % sys.version_info[:2]]
    if python.exists() and not subprocess.run([python, '-c', probe, *expected], stderr=subprocess.DEVNULL).returncode:
        return python
    try:
        import ensurepip  # noqa: F401  Debian and Ubuntu leave it out of python3
    except ImportError:
        package = 'python%d.%d-venv' % sys.version_info[:2]
        if not install_system_packages([package]):
            raise EnvironmentFailure(
                f'{sys.executable} cannot make virtual environments: install {package} (apt install {package}), or '
                'choose another Python with make PYTHON=...'
            ) from None
    print(f'environment: making {folder}', flush=True)
    site = ['--system-site-packages'] if system_packages else []
    subprocess.run([sys.executable, '-m', 'venv', '--clear', *site, folder], check=True)
    return python


def install(python, extras, others, sourced):
    """Install the package, editable, with what it needs."""
    constraints = REPOSITORY / 'constraints.txt'
    if sourced:
        constraints = leave_installed(python, constraints)
    package = f'{REPOSITORY}[{",".join(extras)}]' if extras else str(REPOSITORY)
    pip(python, '--constraint', constraints, '--editable', package, *others)


def leave_installed(python, constraints):
    """
    Make pip build on what a ROS installation has.

    :param python: the environment's Python.
    :param constraints: the project's constraints file.
    :return: a constraints file that holds the installed versions too.
    """
    output = subprocess.run([python, '-c', INSTALLED], check=True, stdout=subprocess.PIPE, text=True).stdout
    versions, launch_testing = json.loads(output)
    if 'opencv-python-headless' in versions:
        record(python, 'opencv-python-headless', versions.pop('opencv-python-headless'))
    lines = [f'{name}=={version}' for name, version in versions.items()] + ['pytest<9'] * launch_testing
    extended = python.parent.parent / 'constraints.txt'
    extended.write_text('\n'.join([constraints.read_text(), *lines, '']))
    return extended


def record(python, name, version):
    """Tell pip of a module that the system has without metadata, as Debian's OpenCV."""
    code = 'import sysconfig; print(sysconfig.get_path("purelib"))'
    site = subprocess.run([python, '-c', code], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    folder = Path(site) / f'{name.replace("-", "_")}-{version}.dist-info'
    folder.mkdir(exist_ok=True)
    (folder / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n')


def pip(python, *arguments):
    """Run pip install quietly: what it says on standard error is shown."""
    print(f'environment: pip install {" ".join(str(a) for a in arguments)}', flush=True)
    command = [python, '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check']
    # older ones build packages in deprecated ways and say so at length
    subprocess.run([*command, 'pip>=23.1'], check=True)
    subprocess.run([*command, *arguments], check=True)


def provide_rendering(python):
    """Make MuJoCo able to render without a screen, or say what is missing."""
    if can_render(python):
        return
    if not (install_system_packages(RENDERING) and can_render(python)):
        print(
            'environment: warning: the simulator cannot render, its tests are skipped: offscreen OpenGL is missing '
            f'(Debian, Ubuntu: sudo apt install {" ".join(RENDERING)})', file=sys.stderr,
        )


def can_render(python):
    """Tell whether MuJoCo can make an offscreen picture here."""
    code = 'import mujoco; mujoco.Renderer(mujoco.MjModel.from_xml_string("<mujoco/>"), 8, 8).close()'
    environment = {'MUJOCO_GL': 'egl', **os.environ}
    return subprocess.run([python, '-c', code], env=environment, capture_output=True).returncode == 0


def install_system_packages(names):
    """Install Debian packages if this user may do so without being asked; return whether it was done."""
    if not shutil.which('apt-get'):
        return False
    if os.geteuid() == 0:
        sudo = []
    elif shutil.which('sudo') and subprocess.run(['sudo', '-n', 'true'], capture_output=True).returncode == 0:
        sudo = ['sudo', '-n']
    else:
        return False
    print(f'environment: installing {" ".join(names)}', flush=True)
    apt = [*sudo, 'env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', '-qq']
    subprocess.run([*apt, 'update'], stdout=subprocess.DEVNULL)
    command = [*apt, 'install', '--yes', '--no-install-recommends', *names]
    return subprocess.run(command, stdout=subprocess.DEVNULL).returncode == 0


if __name__ == '__main__':
    sys.exit(main())
