# SPDX-License-Identifier: Apache-2.0
"""What processes of `side_by_side` are given to do: of a module, so that it travels to them."""

import os
import time

from jepa_ros.errors import JepaError


def square(number, tick):
    tick(f'squaring {number}', 1, 1)
    return number * number


def refuse(what, tick):
    raise JepaError(f'expected something else, found {what}')


def wait_for_ever(path, tick):
    path.write_text(str(os.getpid()))
    tick('waiting', 0, 1)
    while True:
        time.sleep(60)


def die(tick):
    os._exit(9)
