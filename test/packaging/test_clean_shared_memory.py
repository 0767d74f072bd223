# SPDX-License-Identifier: Apache-2.0
"""Leftovers of killed ROS processes go; whatever lives, is older or is another program's stays."""
import os
import runpy
import subprocess
import sys
import time
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'clean_shared_memory.py'
HOLD = 'import mmap, sys; f = open(sys.argv[1], "r+b"); m = mmap.mmap(f.fileno(), 0); {close}print("held", flush=True); input()'


@pytest.fixture
def clean():
    return runpy.run_path(str(TOOL))['main']


def make(folder, name):
    path = folder / name
    path.write_bytes(bytes(16))
    return path


def test_leftovers_go(tmp_path, clean):
    left = [make(tmp_path, name) for name in ['fastrtps_6a1', 'fastrtps_6a1_el', 'fastdds_port7400', 'sem.fastrtps_port7_mutex']]
    other = make(tmp_path, 'psm_of_python')
    clean(time.time() - 60, tmp_path)
    assert not any(path.exists() for path in left)
    assert other.exists()


def test_older_files_stay(tmp_path, clean):
    path = make(tmp_path, 'fastrtps_6a1')
    clean(path.stat().st_ctime + 1, tmp_path)
    assert path.exists()


@pytest.mark.skipif(not os.path.exists('/proc/self/maps'), reason='needs /proc')
@pytest.mark.parametrize('close', ['', 'f.close(); '], ids=['open', 'mapped'])
def test_files_in_use_stay_until_their_process_ends(tmp_path, clean, close):
    path = make(tmp_path, 'fastrtps_6a1')
    holder = subprocess.Popen([sys.executable, '-c', HOLD.format(close=close), path], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == 'held\n'
    clean(time.time() - 60, tmp_path)
    assert path.exists()
    holder.communicate('\n')
    clean(time.time() - 60, tmp_path)
    assert not path.exists()
