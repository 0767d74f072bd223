# SPDX-License-Identifier: Apache-2.0
"""Starting the processes of a measurement and reading what they print."""

import json
import os
import sys
import time

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


def await_line(child: Child, line: str, timeout: float = 30.0) -> None:
    """
    Wait until a child has printed a line.

    :raises BenchError: it does not within ``timeout`` (s), or has ended.
    """
    end = time.monotonic() + timeout
    while line not in child.log.read_text(errors='replace').splitlines():
        if child.wait(0.05) is not None or time.monotonic() > end:
            raise BenchError(f"expected '{line}' within {timeout:g} s; {child.obituary()}")


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
