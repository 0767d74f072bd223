# SPDX-License-Identifier: Apache-2.0
"""Batches made ahead of the consumer, in order, by a thread or by processes.

Arrays come from a process through anonymous shared memory (memfd), not through a pipe: nothing has a name
that could be left behind in /dev/shm, and the small /dev/shm of a container is not filled.
"""

from __future__ import annotations

import logging
import mmap
import multiprocessing
import os
import pickle
import queue
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing import connection, reduction
from typing import Any

from jepa_ros import processes
from jepa_ros.data import faults
from jepa_ros.errors import JepaError

logger = logging.getLogger(__name__)

ALIGNMENT = 64  # bytes; of each array in shared memory
SHARED_FROM = 1 << 16  # bytes; smaller arrays go through the pipe
METHOD = 'forkserver'
CRASHES = [-signal.SIGSEGV, -signal.SIGBUS, -signal.SIGABRT, -signal.SIGFPE, -signal.SIGILL]
GRACE = 5.0  # s a worker gets to leave its work tidily before it is killed


class LoaderError(JepaError):
    """A worker that cannot make its batch."""


class ClipLoader:
    """Iterates over `make(first)`, `make(first + 1)`, ... `make(end - 1)`, in this order, made ahead.

    A batch depends on its step alone, so the number of workers never changes what is trained on. An error in
    `make` is raised here, in its turn, after the batches before it. A worker that dies (a decoder that
    crashes on a corrupt file, the kernel short of memory) is started again and its step is made once more;
    the file that it was reading, where `faults.reading` knows it, is not read again in this run once it has
    crashed one worker or outlived two. A step that kills its worker each time is an error.

    :param make: takes the step; returns anything that pickles, best NumPy arrays. With workers it must itself
        pickle (unless `method` is 'fork'), runs in other processes, and should not use torch there: hand
        over arrays, and make tensors of them where they are consumed.
    :param first: first step.
    :param end: the step behind the last.
    :param workers: processes; 0 for one thread of this process.
    :param ahead: batches that are ready or in the making, at most (never fewer than `workers`).
    :param method: how processes start: 'forkserver' (default), 'spawn' or 'fork'. Forking a process that runs
        threads (torch, a progress bar) is a risk that only the caller can judge.
    :param lost: for a step that kills its worker each time: takes step and sentence, returns what stands in
        for the batch. Default: raise LoaderError.
    :param queued: steps a worker is given at once. Default: as many as keep it busy while the consumer is; 1
        where steps take very different times and the consumer only waits.

    Attributes: `waited`, seconds the consumer waited for batches so far; `restarts`, workers that were
    replaced.
    """

    def __init__(
        self,
        make: Callable[[int], Any],
        first: int,
        end: int,
        workers: int = 0,
        ahead: int = 3,
        method: str | None = None,
        lost: Callable[[int, str], Any] | None = None,
        queued: int | None = None,
    ):
        self.waited, self.restarts = 0.0, 0
        self._next, self._end = first, end
        if workers:
            ahead = max(ahead, workers)
            queued = queued or -(-ahead // workers)
            self._source = _Workers(self, make, first, end, workers, ahead, method, lost, queued)
        else:
            self._source = _Thread(make, first, end, max(ahead, 1))

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._next >= self._end or self._source is None:
            self.close()
            raise StopIteration
        began = time.perf_counter()
        try:
            batch = self._source.take(self._next)
        except BaseException:
            self.close()
            raise
        finally:
            self.waited += time.perf_counter() - began
        self._next += 1
        return batch

    def __enter__(self) -> ClipLoader:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Stop the workers; may be called more than once, and from a `finally`."""
        source, self._source = self._source, None
        if source is not None:
            source.close()


class _Thread:
    """Makes batches in a thread of this process."""

    def __init__(self, make, first, end, ahead):
        self._made, self._free, self._closed = queue.SimpleQueue(), threading.Semaphore(ahead), False
        self._thread = threading.Thread(target=self._work, args=(make, first, end), daemon=True)
        self._thread.start()

    def _work(self, make, first, end):
        for step in range(first, end):
            self._free.acquire()
            if self._closed:
                return
            try:
                self._made.put((make(step), None))
            except BaseException as error:
                self._made.put((None, error))
                return

    def take(self, step):
        batch, error = self._made.get()
        if error is not None:
            raise error
        self._free.release()
        return batch

    def close(self):
        self._closed = True
        self._free.release()
        self._thread.join()


class _Worker:
    """One process: its pipe, and the steps it was given and has not answered, oldest first."""

    def __init__(self, context, make):
        self.steps: deque[int] = deque()
        self.note = context.RawArray('c', faults.NOTE_BYTES)
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=_serve, args=(theirs, make, self.note, faults.quarantined()), daemon=True
        )
        # Ctrl-C reaches the whole process group, also a child that has not yet said that it ignores it: it is
        # born with the signal blocked, and this process receives what came meanwhile.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()

    def give(self, step):
        self.steps.append(step)
        try:
            self.pipe.send((step, faults.quarantined()))
        except OSError:
            pass  # it died; that is seen where its answer is awaited

    def end(self):
        """Return the exit code of a worker whose pipe is closed."""
        self.pipe.close()
        self.process.join(GRACE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        return self.process.exitcode


class _Workers:
    """Makes batches in processes."""

    def __init__(self, loader, make, first, end, count, ahead, method, lost, queued):
        self._loader, self._make, self._lost = loader, make, lost
        self._context = multiprocessing.get_context(method or METHOD)
        self._unissued, self._delivered = iter(range(first, end)), 0
        self._ahead, self._queued, self._issued = ahead, queued, 0
        self._ready: dict[int, tuple] = {}
        self._deaths: dict[int, int] = {}
        self._suspects: set[str] = set()
        self._workers: list[_Worker] = []
        try:
            for _ in range(min(count, end - first)):
                self._workers.append(_Worker(self._context, make))
            self._issue()
        except BaseException:
            self.close()
            raise

    def take(self, step):
        while step not in self._ready:
            pipes = {worker.pipe: worker for worker in self._workers}
            for pipe in connection.wait(list(pipes)):
                self._receive(pipes[pipe])
            self._issue()
        batch, error = self._ready.pop(step)
        self._delivered += 1
        self._issue()
        if error is not None:
            raise error
        return batch

    def _issue(self):
        """Give out the next steps, each to the worker with the least to do."""
        while self._issued - self._delivered < self._ahead:
            worker = min(self._workers, key=lambda worker: len(worker.steps), default=None)
            if worker is None or len(worker.steps) >= self._queued:
                return
            step = next(self._unissued, None)
            if step is None:
                return
            self._issued += 1
            worker.give(step)

    def _receive(self, worker):
        try:
            batch, error, counts, records = _receive(worker.pipe)
        except (EOFError, ConnectionError):  # the latter where a handle is awaited
            self._replace(worker)
            return
        for record in filter(faults.is_news, records):
            logging.getLogger(record.name).handle(record)
        faults.merge(counts)
        self._ready[worker.steps.popleft()] = (batch, error)

    def _replace(self, worker):
        """Start another worker for one that died, and give it what that one still had to do."""
        code = worker.end()
        self._loader.restarts += 1
        another = _Worker(self._context, self._make)
        self._workers[self._workers.index(worker)] = another
        if not worker.steps:
            return
        step = worker.steps[0]
        self._deaths[step] = self._deaths.get(step, 0) + 1
        reason = f'signal {-code}' if code is not None and code < 0 else f'exit code {code}'
        path = faults.noted(worker.note)
        # A crash is the file's doing; a kill may be the kernel's, short of memory: it gets another chance.
        if path and (code in CRASHES or path in self._suspects):
            faults.report(path, f'{path}: the process that read it ended with {reason}')
            faults.quarantine(path)
        self._suspects.add(path)
        logger.warning('the data worker that made step %d ended with %s; another one goes on', step, reason)
        steps = list(worker.steps)
        # A file in quarantine is not read again: such a step may take as many attempts as it has bad files.
        if self._deaths[step] > (20 if path else 1):
            sentence = (
                f'expected the data of step {step}, found that its process ends each time with {reason}'
            )
            if self._lost is None:
                raise LoaderError(sentence)
            self._ready[step] = (self._lost(step, f'{path or "step"}: {sentence}'), None)
            steps = steps[1:]
        for remaining in steps:
            another.give(remaining)

    def close(self):
        for worker in self._workers:
            worker.pipe.close()
            worker.process.terminate()
        for worker in self._workers:
            worker.end()
        self._workers = []


def _serve(pipe, make, note, quarantined):
    """Answer steps until the pipe closes: the whole life of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the consumer decides when it is over
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # through the `finally`s
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    processes.end_with_the_parent()
    import cv2

    cv2.setNumThreads(0)  # a process per core; 1 would join the parent's threads, which a fork does not have
    faults.begin(note, quarantined)
    records = _Records()
    ours = logging.getLogger('jepa_ros')
    ours.handlers, ours.propagate = [records], False  # a fork has inherited the consumer's

    def drained():
        return faults.drain(), records.drain()

    try:
        while True:
            step, quarantined = pipe.recv()
            faults.quarantine(*quarantined)
            try:
                packed = _pack((make(step), None, *drained()))
            except Exception as error:  # of `make`, or a batch that does not pickle
                packed = _pack((None, _portable(error), *drained()))
            _send(pipe, *packed)
    except (EOFError, ConnectionError):
        pass  # the consumer is gone


class _Records(logging.Handler):
    """Keeps log records until they travel to the consumer's process with the next batch."""

    def __init__(self):
        super().__init__()
        self._records = []

    def emit(self, record):
        record.msg, record.args, record.exc_info = record.getMessage(), None, None
        self._records.append(record)

    def drain(self):
        records, self._records = self._records, []
        return records


class _InWorker(Exception):
    """The traceback of an error, as text from the process in which it was raised."""

    def __str__(self):
        return f'\n{self.args[0]}'


def _last(text):
    return text.strip().splitlines()[-1]


def _portable(error: Exception) -> tuple[bytes | None, str]:
    """Return an error as it can travel (pickled, or None where it does not pickle), and its traceback."""
    text = ''.join(traceback.format_exception(type(error), error, error.__traceback__))
    try:
        data = pickle.dumps(error)
        pickle.loads(data)
    except Exception:
        data = None
    return data, text


def _pack(answer) -> tuple[bytes, list[memoryview]]:
    """Pickle an answer with its arrays beside it."""
    buffers: list[pickle.PickleBuffer] = []

    def beside(buffer):
        shared = buffer.raw().nbytes >= SHARED_FROM and hasattr(os, 'memfd_create')
        if shared:
            buffers.append(buffer)
        return not shared

    return pickle.dumps(answer, protocol=5, buffer_callback=beside), [buffer.raw() for buffer in buffers]


def _send(pipe, data, views):
    """Send an answer: its arrays in shared memory, the rest through the pipe."""
    places, size = [], 0
    for view in views:
        places.append((size, view.nbytes))
        size += -(-view.nbytes // ALIGNMENT) * ALIGNMENT
    pipe.send((data, places, size))
    if not size:
        return
    descriptor = os.memfd_create('jepa_ros')
    try:
        os.posix_fallocate(descriptor, 0, size)  # raises where a write to the mapping would be a SIGBUS
        with mmap.mmap(descriptor, size) as memory:
            for (start, length), view in zip(places, views):
                memory[start : start + length] = view
        reduction.send_handle(pipe, descriptor, None)
    finally:
        os.close(descriptor)


def _receive(pipe):
    try:
        data, places, size = pipe.recv()
    except OSError as error:  # of a sender that died in the middle of its answer
        raise EOFError from error
    buffers = []
    if size:
        try:
            descriptor = reduction.recv_handle(pipe)
        except RuntimeError as error:  # what it raises for a sender that died
            raise EOFError from error
        try:
            memory = memoryview(mmap.mmap(descriptor, size))  # unmapped when the last array on it is gone
        finally:
            os.close(descriptor)
        buffers = [memory[start : start + length] for start, length in places]
    batch, error, counts, records = pickle.loads(data, buffers=buffers)
    if error is not None:
        pickled, text = error
        error = pickle.loads(pickled) if pickled else LoaderError(f'a data worker failed: {_last(text)}')
        error.__cause__ = _InWorker(text)
    return batch, error, counts, records
