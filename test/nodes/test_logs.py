# SPDX-License-Identifier: Apache-2.0
"""The engine's log in the log of ROS."""

import logging

import pytest

from jepa_ros.nodes.logs import forward_logging


class Recorder:
    """A logger of rclpy."""

    def __init__(self):
        self.said = []
        for severity in ('info', 'warning', 'error'):
            setattr(self, severity, lambda message, severity=severity: self.said.append((severity, message)))


@pytest.fixture(autouse=True)
def restored():
    package = logging.getLogger('jepa_ros')
    before = package.handlers[:], package.level
    yield
    package.handlers[:], package.level = before


def test_records_arrive_with_their_severity():
    ros = Recorder()
    forward_logging(ros)
    log = logging.getLogger('jepa_ros.engine.backends.tensorrt_build')
    for level in ('debug', 'info', 'warning', 'error'):
        getattr(log, level)('%s of %d', level, 3)
    logging.getLogger('another.library').error('not ours')
    assert ros.said == [('info', 'info of 3'), ('warning', 'warning of 3'), ('error', 'error of 3')]


def test_a_later_node_takes_over():
    earlier, later = Recorder(), Recorder()
    forward_logging(earlier)
    forward_logging(later)
    logging.getLogger('jepa_ros').warning('once')
    assert (earlier.said, later.said) == ([], [('warning', 'once')])


@pytest.mark.ros
def test_rclpy_takes_every_severity(capfd):
    """rclpy refuses a line of code that logs with two severities."""
    pytest.importorskip('rclpy')
    from rclpy.logging import get_logger
    forward_logging(get_logger('engine_log'))
    for level in ('info', 'warning', 'error', 'info'):
        getattr(logging.getLogger('jepa_ros.engine'), level)('a heartbeat')
    captured = capfd.readouterr()
    assert (captured.out + captured.err).count('a heartbeat') == 4
