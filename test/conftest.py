# SPDX-License-Identifier: Apache-2.0
"""
What all tests share: ROS kept to this process tree, one backend, and the recordings beside the repository.
"""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from jepa_ros.engine import backends

# Before anything imports rclpy: a domain of this process's own, so that runs beside each other (and a robot
# on the network) never meet. 1..101 are the domains whose ports lie below Linux's ephemeral range.
os.environ['ROS_DOMAIN_ID'] = str(1 + os.getpid() % 101)
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
os.environ.pop('ROS_STATIC_PEERS', None)

# Time limits fail on a busy machine and say nothing about the code; what passes once shall pass again, so the
# examples are the same in every run.
settings.register_profile('jepa_ros', deadline=None, derandomize=True,
                          suppress_health_check=[HealthCheck.too_slow])
settings.load_profile('jepa_ros')

REAL_AUTO = backends.AUTO


@pytest.fixture(scope='session', autouse=True)
def auto_is_the_cpu():
    """'auto' gives the same numbers on every machine, and builds no TensorRT plans where there is a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backends, 'AUTO', ('onnxruntime-cpu',))
        yield


@pytest.fixture
def real_auto(monkeypatch):
    """'auto' chooses as it does for users."""
    monkeypatch.setattr(backends, 'AUTO', REAL_AUTO)


def shared_data() -> Path:
    """Return the directory of the real recordings; skip the calling test where they are absent."""
    beside = Path(__file__).resolve().parents[2] / 'shared' / 'data'
    path = Path(os.environ.get('JEPA_SHARED_DATA', beside))
    if not path.is_dir():
        pytest.skip(f'no recordings at {path} (set JEPA_SHARED_DATA)')
    return path
