# SPDX-License-Identifier: Apache-2.0
"""What processes that work for another one share."""

import logging
import multiprocessing
import os
import sys
import threading
from multiprocessing import connection


def end_with_the_parent() -> None:
    """Have this process, one of multiprocessing's, leave as soon as its parent is gone: killed, say, in long work."""
    threading.Thread(target=_watch, args=(multiprocessing.parent_process().sentinel,), daemon=True).start()


def leave(status: int) -> None:
    """
    End this process, one of several that trained together, without taking the interpreter down.

    PyTorch's reducers keep Gloo's threads alive beyond `destroy_process_group`, and a thread that still lets go of a
    tensor while the interpreter goes down aborts the process, after all its work was done (pytorch/pytorch#179291).

    :param status: for whoever started it.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _watch(parent: int) -> None:
    connection.wait([parent])
    os._exit(1)
