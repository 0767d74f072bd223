# SPDX-License-Identifier: Apache-2.0
"""The probes of several encoders at the same time, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import queue
import signal
from collections.abc import Callable, Iterator, Sequence

from jepa_ros import host
from jepa_ros.errors import JepaError
from jepa_ros.processes import end_with_the_parent

LISTEN = 0.2  # s between two looks at whether the processes live


def side_by_side(jobs: Sequence[tuple[Callable, tuple]], tick: Callable[[str, int, int], None]) -> Iterator[tuple]:
    """
    Call functions, each in its own process with its share of the cores.

    Most of a probe is the training of small heads, which a second thread hardly makes faster: a second process does.

    :param jobs: functions of modules, which take their arguments, then a `tick`; all of it must pickle.
    :param tick: called with what they say.
    :returns: an iterator over the number of a job and what it returned, as soon as it did; closing it ends the others.
    :raises JepaError: as one of them raises it, or when a process dies; the others are ended then.
    """
    # spawned, because a backend's threads do not outlive a fork
    context = multiprocessing.get_context('spawn')
    said, left = context.Queue(), set(range(len(jobs)))
    threads = max(1, host.cores() // max(1, len(jobs)))
    processes = [
        context.Process(target=_run, args=(number, function, arguments, threads, said), daemon=True)
        for number, (function, arguments) in enumerate(jobs)
    ]
    try:
        for process in processes:
            process.start()
        while left:
            try:
                number, kind, value = said.get(timeout=LISTEN)
            except queue.Empty:
                dead = [p for number, p in enumerate(processes) if number in left and p.exitcode is not None]
                if dead and said.empty():
                    raise JepaError(
                        f'expected every process to live, found one that ended with {dead[0].exitcode}: is there '
                        'enough memory?'
                    ) from None
                continue
            if kind == 'failed':
                raise value
            if kind == 'done':
                left.remove(number)
                yield number, value
            else:
                tick(*value)
    finally:
        for process in processes:
            if process.pid is not None:
                process.terminate()
                process.join()


def _run(number: int, function: Callable, arguments: tuple, threads: int, said) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asked, which ends this one
    end_with_the_parent()
    try:
        import torch

        torch.set_num_threads(threads)
        said.put((number, 'done', function(*arguments, lambda *news: said.put((number, 'tick', news)))))
    except JepaError as error:
        said.put((number, 'failed', error))
