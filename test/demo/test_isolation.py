# SPDX-License-Identifier: Apache-2.0
"""A graph of its own gets a domain that nobody uses, unless the user chose one."""

import os
import socket

import pytest

from jepa_ros.demo.isolation import free_domain, isolate


@pytest.fixture
def environment(monkeypatch):
    for name in ('ROS_DOMAIN_ID', 'ROS_AUTOMATIC_DISCOVERY_RANGE', 'FASTDDS_DEFAULT_PROFILES_FILE',
                 'FASTRTPS_DEFAULT_PROFILES_FILE'):
        monkeypatch.setenv(name, '')  # so that what isolate sets is taken back
        monkeypatch.delenv(name)


def test_a_domain_in_use_is_passed_over():
    first = free_domain()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(('', 7410 + 250 * first))
        second = free_domain()
    assert first != second and 1 <= second <= 101


def test_domain_range_and_profile_are_set(environment):
    isolate()
    assert 1 <= int(os.environ['ROS_DOMAIN_ID']) <= 101
    assert os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'LOCALHOST'
    profiles = [os.environ.get(f'{name}_DEFAULT_PROFILES_FILE') for name in ('FASTDDS', 'FASTRTPS')]
    assert any(profile and profile.endswith('fastdds.xml') for profile in profiles)


def test_what_the_user_set_stays(environment, monkeypatch):
    monkeypatch.setenv('ROS_DOMAIN_ID', '77')
    isolate()
    assert os.environ['ROS_DOMAIN_ID'] == '77'
