# SPDX-License-Identifier: Apache-2.0
"""What processes that work for another one share."""

import multiprocessing
import os
import threading
from multiprocessing import connection


def end_with_the_parent() -> None:
    """Have this process, one of multiprocessing's, leave as soon as its parent is gone: killed, say, in long work."""
    threading.Thread(target=_watch, args=(multiprocessing.parent_process().sentinel,), daemon=True).start()


def _watch(parent: int) -> None:
    connection.wait([parent])
    os._exit(1)
