# SPDX-License-Identifier: Apache-2.0
"""What all tests share: ROS kept to this process tree, and the recordings beside the repository."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Before anything imports rclpy: a domain of this process's own, so that runs beside each other (and a robot
# on the network) never meet. 1..101 are the domains whose ports lie below Linux's ephemeral range.
os.environ['ROS_DOMAIN_ID'] = str(1 + os.getpid() % 101)
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
os.environ.pop('ROS_STATIC_PEERS', None)

# Time limits per example fail on a busy machine and say nothing about the code.
settings.register_profile('jepa_ros', deadline=None)
settings.load_profile('jepa_ros')


def shared_data() -> Path:
    """Return the directory of the real recordings; skip the calling test where they are absent."""
    beside = Path(__file__).resolve().parents[2] / 'shared' / 'data'
    path = Path(os.environ.get('JEPA_SHARED_DATA', beside))
    if not path.is_dir():
        pytest.skip(f'no recordings at {path} (set JEPA_SHARED_DATA)')
    return path
