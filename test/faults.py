# SPDX-License-Identifier: Apache-2.0
"""What goes wrong with recordings of real robots, done to small ones."""

import dataclasses


def shifted(messages, *, stamp_ns=0, log_ns=0, frame_id=None):
    """Return messages of `recorded.camera` with other stamps, times of arrival and frame_id."""
    found = []
    for log, message in messages:
        stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec + stamp_ns
        at = dataclasses.replace(message.header.stamp, sec=stamp // 10**9, nanosec=stamp % 10**9)
        name = message.header.frame_id if frame_id is None else frame_id
        header = dataclasses.replace(message.header, stamp=at, frame_id=name)
        found.append((log + log_ns, dataclasses.replace(message, header=header)))
    return found


def kinds(faults):
    """Return the kinds of faults as they are in a report."""
    return [fault['kind'] for fault in faults]
