# SPDX-License-Identifier: Apache-2.0
"""One tree, installed by pip and by colcon, plain and linked: the same things are found in the same places."""
import filecmp
from pathlib import Path

import pytest
from scratch import Scratch

pytest.importorskip('ament_index_python', reason='the ament index comes with ROS: an installation or the wheels')

FIND = 'from ament_index_python.packages import get_package_share_directory as find; print(find("jepa_ros"))'
WHERE = 'import jepa_ros; print(jepa_ros.__file__)'
EXECUTABLES = {'perception_node', 'controller_node', 'camera_replay_node'}
DATA = ['launch', 'config', 'models', 'recordings']


def files(folder):
    """List the data files of a share directory or source tree, relative to it."""
    found = (path for name in DATA for path in (folder / name).rglob('*'))
    return sorted(str(path.relative_to(folder)) for path in found if path.is_file() and '__pycache__' not in path.parts)


def check(run, source, prefix):
    """
    Check what a user of an installation relies on.

    :param run: runs one line of shell in the installation's environment, returns the completed process.
    :param source: the source tree that was installed.
    :param prefix: where it was installed to.
    """
    share = Path(run(f"python -c '{FIND}'").stdout.strip())
    assert share == prefix / 'share' / 'jepa_ros'
    expected = files(source)
    assert set(DATA) == {name.split('/')[0] for name in expected}
    assert files(share) == expected
    same, different, unreadable = filecmp.cmpfiles(source, share, [*expected, 'package.xml'], shallow=False)
    assert not different and not unreadable

    assert run('jepa --version').stdout.startswith('jepa_ros ')
    # what ros2 run offers: the executable files of lib/<package>
    executables = prefix / 'lib' / 'jepa_ros'
    assert {path.name for path in executables.iterdir() if path.stat().st_mode & 0o111} >= EXECUTABLES
    started = run(f'{executables}/camera_replay_node --ros-args -p path:=/no/such/recording')
    assert started.returncode == 2, started.stderr
    assert '/no/such/recording' in started.stderr


@pytest.mark.ros
@pytest.mark.slow
@pytest.mark.parametrize('options', [[], ['--editable']], ids=['plain', 'editable'])
def test_pip(tmp_path, source, options):
    environment = Scratch(tmp_path / 'venv')
    environment.pip('install', '-q', '--no-deps', *options, '.', cwd=source)
    environment.see_the_rest()

    def run(line):
        return environment.run(f'. {environment.folder}/bin/activate', line, shell=True)

    check(run, source, environment.folder)
    assert Path(run(f"python -c '{WHERE}'").stdout.strip()).is_relative_to(source) == bool(options)
    # the executables find their Python also where no environment is active, as when ros2 run starts them
    version = environment.run(environment.folder / 'bin' / 'jepa', '--version')
    assert version.returncode == 0, version.stderr

    # the prefix comes behind what a user has sourced, once
    for sourced in ['/opt/ros/other', f'/opt/ros/other:{environment.folder}']:
        path = run(f"AMENT_PREFIX_PATH={sourced} python -c 'import os; print(os.environ[\"AMENT_PREFIX_PATH\"])'").stdout
        assert path.strip() == f'/opt/ros/other:{environment.folder}'

    environment.pip('uninstall', '-q', '-y', 'jepa_ros')
    left = [path for path in environment.folder.rglob('*jepa_ros*') if path.is_file()]
    assert left == []


@pytest.mark.ros
@pytest.mark.slow
@pytest.mark.parametrize('options', ['', '--symlink-install'], ids=['plain', 'symlink'])
def test_colcon(tmp_path, source, colcon, options):
    before = sorted(source.rglob('*'))
    activate = f'. {colcon.folder}/bin/activate'
    built = colcon.run(activate, f'colcon build {options}', cwd=tmp_path, shell=True)
    assert built.returncode == 0, built.stderr + built.stdout

    def run(line):
        return colcon.run(activate, '. install/setup.bash', line, cwd=tmp_path, shell=True)

    check(run, source, tmp_path / 'install' / 'jepa_ros')
    module = Path(run(f"python -c '{WHERE}'").stdout.strip())
    assert module.resolve().is_relative_to(source) == bool(options)
    assert [path for path in sorted(source.rglob('*')) if '__pycache__' not in path.parts] == before
