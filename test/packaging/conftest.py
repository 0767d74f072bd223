# SPDX-License-Identifier: Apache-2.0
"""A copy of the source tree, and an environment that has colcon."""
import shutil
from pathlib import Path

import pytest
from scratch import Scratch

REPOSITORY = Path(__file__).resolve().parents[2]
NOT_SOURCE = shutil.ignore_patterns(
    '.*', 'build', 'install', 'log', 'dist', 'runs', 'jepa_demo', '*.egg-info', '__pycache__', 'test',
)


@pytest.fixture
def source(tmp_path):
    """Return a copy of the source tree, so that builds leave nothing in the real one."""
    copy = tmp_path / 'src' / 'jepa_ros'
    shutil.copytree(REPOSITORY, copy, ignore=NOT_SOURCE)
    return copy


@pytest.fixture(scope='module')
def colcon(tmp_path_factory):
    """Return an environment that has colcon."""
    environment = Scratch(tmp_path_factory.mktemp('colcon') / 'venv')
    environment.pip('install', '-q', 'colcon-core', 'colcon-ros', 'colcon-python-setup-py', 'colcon-recursive-crawl',
                    'colcon-bash', 'colcon-library-path', 'colcon-metadata')
    environment.see_the_rest()
    return environment
