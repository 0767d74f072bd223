#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Removes the shared memory that killed ROS processes left behind.

Fast DDS keeps its segments in /dev/shm; a process that is killed, as tests do, leaves them there until the next boot.
Removed are only files of this user, born after the given time, that no process has mapped or open.
"""
import os
import sys
from pathlib import Path

SHARED_MEMORY = Path('/dev/shm')
PATTERNS = ('fastrtps_*', 'fastdds_*', 'sem.fastrtps_*', 'sem.fastdds_*')


def main(since, folder=SHARED_MEMORY):
    """
    Remove what was left.

    :param since: seconds since the epoch; older files are somebody else's.
    :param folder: where shared memory lies.
    """
    left = [path for pattern in PATTERNS for path in folder.glob(pattern) if is_ours(path, since)]
    used = files_in_use() if left else set()
    for path in left:
        if str(path) not in used:
            path.unlink(missing_ok=True)


def is_ours(path, since):
    """Tell whether a file is this user's and was last changed after ``since``."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    return status.st_uid == os.getuid() and status.st_ctime >= since


def files_in_use():
    """List the files that any process of this user has mapped or open."""
    used = set()
    for process in Path('/proc').glob('[0-9]*'):
        try:
            used.update(line.split(None, 5)[-1].strip() for line in (process / 'maps').open())
            used.update(os.readlink(handle) for handle in (process / 'fd').iterdir())
        except OSError:  # it ended meanwhile, or is another user's
            continue
    return used


if __name__ == '__main__':
    main(float(sys.argv[1]))
