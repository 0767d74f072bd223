# SPDX-License-Identifier: Apache-2.0
"""A tiny bundle, and perception nodes under test that are stopped at the end."""

import os

import pytest
from bundles import make_bundle

from jepa_ros.nodes import transport

# As launch and demo do, so that images arrive whole.
os.environ.update(transport.environment())


@pytest.fixture(scope='session')
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp('bundles') / 'stream')


@pytest.fixture
def perception(bundle):
    """Make a PerceptionStage: ``perception(active=True, **parameters)``."""
    pytest.importorskip('rclpy', reason='no ROS 2 here')
    from stage import PerceptionStage
    stages = []

    def make(active=True, **parameters):
        stages.append(PerceptionStage(**{'bundle': str(bundle), 'diagnostics_period': 0.1, **parameters}))
        if active:
            assert stages[-1].node.bring_up()
        return stages[-1]

    yield make
    for stage in stages:
        stage.close()
