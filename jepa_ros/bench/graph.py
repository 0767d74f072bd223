# SPDX-License-Identifier: Apache-2.0
"""Starting the processes of a measurement and reading what they print."""

import json
import os
import sys

from jepa_ros.demo.processes import Child, ProcessGroup
from jepa_ros.errors import JepaError
from jepa_ros.nodes.transport import PROFILE_VARIABLES


class BenchError(JepaError):
    """A measurement that could not be made."""


def without_profile() -> dict[str, str]:
    """Return the environment as it is where nobody has set a Fast DDS profile."""
    return {name: value for name, value in os.environ.items() if name not in PROFILE_VARIABLES}


def module(name: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of this package."""
    return [sys.executable, '-u', '-m', f'jepa_ros.{name}', *arguments]


def parameters(values: dict) -> list[str]:
    """Return ROS arguments that set parameters."""
    return ['--ros-args', *(part for name, value in values.items() for part in ('-p', f'{name}:={value}'))]


def report(group: ProcessGroup, child: Child) -> dict:
    """
    Interrupt a child and return the JSON it prints last.

    :raises BenchError: it has ended before, or printed none.
    """
    early = child.code() is not None
    child.interrupt()
    child.wait(group.patience)
    try:
        if early and child.code() != 0:
            raise ValueError
        return json.loads(child.last_lines(1))
    except ValueError:
        raise BenchError(child.obituary()) from None
