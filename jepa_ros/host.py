# SPDX-License-Identifier: Apache-2.0
"""Which machine a figure was measured on, and when."""

import os
import platform
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version


def describe() -> dict[str, str | int]:
    """Return what a figure is worth nothing without: processor, usable cores, system, Python, rclpy, date."""
    return {'processor': _processor(), 'cores': cores(), 'system': f'{platform.system()} {platform.machine()}',
            'python': platform.python_version(), 'ros': _ros(),
            'date': datetime.now(timezone.utc).strftime('%Y-%m-%d %H:%M UTC')}


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def sentence(host: dict) -> str:
    """Return the description of a host in one line."""
    return (f"{host['processor']}, {host['cores']} cores, {host['system']}, Python {host['python']}, "
            f"{host['ros']}, {host['date']}")


def _processor() -> str:
    try:
        with open('/proc/cpuinfo', encoding='utf-8') as file:
            names = [line.partition(':')[2].strip() for line in file if line.startswith('model name')]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or 'unknown processor'


def _ros() -> str:
    distro = os.environ.get('ROS_DISTRO')
    if distro:
        return f'ROS 2 {distro}'
    for package in ('ros-rclpy', 'rclpy'):
        try:
            return f'rclpy {version(package)}'
        except PackageNotFoundError:
            continue
    return 'no ROS'
