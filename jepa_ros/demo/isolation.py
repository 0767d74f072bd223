# SPDX-License-Identifier: Apache-2.0
"""A ROS domain, discovery range and transport for a graph that lives on this machine alone."""

import os
import socket

from jepa_ros.errors import JepaError
from jepa_ros.nodes.transport import environment


class IsolationError(JepaError):
    """No ROS domain is left."""


def free_domain() -> int:
    """
    Return a ROS domain that nobody on this machine seems to use.

    The first participant of a domain binds UDP port 7410 + 250 * domain. Domains 1..101 have their ports
    below the ephemeral range of Linux.
    """
    for offset in range(101):
        domain = 1 + (os.getpid() + offset) % 101
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(('', 7410 + 250 * domain))
            except OSError:
                continue
            return domain
    raise IsolationError('expected a free ROS domain among 1..101, found all of them in use')


def isolate() -> None:
    """Give this process and its children a ROS domain and transport of their own, unless the user chose."""
    os.environ.setdefault('ROS_DOMAIN_ID', str(free_domain()))
    os.environ.update(environment())
