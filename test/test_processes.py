# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys

LEAVING = """
import atexit, logging, sys
from jepa_ros.processes import leave
logging.basicConfig(level=logging.INFO)
atexit.register(print, 'the interpreter went down')
logging.info('logged')
print('printed')
leave(3)
"""


def test_leaving_says_what_is_left_to_say_and_takes_nothing_down():
    done = subprocess.run([sys.executable, '-c', LEAVING], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (3, 'printed\n') and 'logged' in done.stderr
