# SPDX-License-Identifier: Apache-2.0
"""Batches come in order, whoever makes them, and whatever happens to who makes them."""

import contextlib
import faulthandler
import functools
import logging
import multiprocessing
import os
import pickle
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import psutil
import pytest
from batches import batch_of_clips, small_picture
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import write_video

from jepa_ros.data import faults, loader
from jepa_ros.data.clips import Augment, ClipSampler
from jepa_ros.data.loader import ClipLoader, LoaderError
from jepa_ros.data.sequences import load_sequences
from jepa_ros.errors import JepaError


def batch_of(step):
    rng = np.random.default_rng(step)
    return {'images': rng.integers(0, 256, (2, 3, 8, 8, 3), np.uint8), 'times': rng.random(3), 'step': step}


def assert_same(batch, step):
    expected = batch_of(step)
    assert batch.keys() == expected.keys() and batch['step'] == step
    for name in ('images', 'times'):
        assert batch[name].dtype == expected[name].dtype
        np.testing.assert_array_equal(batch[name], expected[name])


@given(st.integers(0, 5), st.integers(0, 9), st.integers(1, 6))
def test_a_thread_delivers_every_step_in_order(first, count, ahead):
    with ClipLoader(lambda step: step, first, first + count, ahead=ahead) as loader:
        assert list(loader) == list(range(first, first + count))


@settings(max_examples=8)
@given(st.integers(0, 5), st.integers(0, 7), st.integers(1, 3), st.integers(1, 5))
def test_processes_deliver_every_step_in_order(first, count, workers, ahead):
    with ClipLoader(batch_of, first, first + count, workers, ahead, method='fork') as loader:
        for step, batch in zip(range(first, first + count), loader, strict=True):
            assert_same(batch, step)


@pytest.mark.parametrize('method', ['fork', 'spawn', 'forkserver'])
def test_every_start_method_with_torch_and_a_busy_opencv_in_the_parent(method):
    torch = pytest.importorskip('torch')
    torch.ones(256, 256) @ torch.ones(256, 256)
    cv2.setNumThreads(2)
    cv2.resize(np.zeros((2000, 2000, 3), np.uint8), (1000, 1000))  # its pool of threads exists now
    with ClipLoader(small_picture, 0, 4, 2, method=method) as loader:
        pictures = list(loader)
    assert [int(picture[0, 0, 0]) for picture in pictures] == [0, 1, 2, 3]
    torch.from_numpy(pictures[0]).add_(1)  # arrays can be written: torch takes them without a warning
    assert pictures[0].max() == 1


@pytest.mark.parametrize('stream', [False, True])
def test_clips_are_the_same_whoever_draws_them(tmp_path, stream):
    paths = [write_video(tmp_path / f'{name}.mp4', 40) for name in 'ab']
    sequences = load_sequences(paths, (24, 32), tmp_path / 'cache', progress=False, stream=stream)
    sampler = ClipSampler(
        sequences, (16, 16), 4, 1 / 30, 0.3, 0.1, augment=Augment(aspect=(0.75, 1.35)), balance=0.0
    )
    make = functools.partial(batch_of_clips, sampler, 7, 3)
    with ClipLoader(make, 0, 6) as here, ClipLoader(make, 0, 6, 2) as elsewhere:
        for one, other in zip(here, elsewhere, strict=True):
            np.testing.assert_array_equal(one['images'], other['images'])
            np.testing.assert_array_equal(one['times'], other['times'])
            assert one['images'].shape == (3, 4, 16, 16, 3)


def test_the_data_room_imports_no_torch():
    rooms = 'sequences', 'clips', 'loader', 'shards', 'signals', 'actions'
    code = (
        '; '.join(f'import jepa_ros.data.{room}' for room in rooms)
        + '; import sys; print("torch" in sys.modules)'
    )
    environment = {**os.environ, 'PYTHONPATH': str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, '-c', code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == 'False'


def test_arrays_of_every_kind():
    with ClipLoader(odd_arrays, 0, 1, 1, method='fork') as loader:
        (got,) = loader
    expected = odd_arrays(0)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype and one.shape == other.shape


def odd_arrays(_):
    return [
        np.zeros((0, 3)),
        np.arange(12).reshape(3, 4).T,
        np.arange(20)[::3],
        np.float32(7),
        np.array(['a', None]),
    ]


def test_no_more_is_made_ahead_than_asked():
    made, allowed = [], threading.Semaphore(0)

    def make(step):
        made.append(step)
        allowed.release()
        return step

    with ClipLoader(make, 0, 100, ahead=3) as loader:
        for _ in range(3):
            allowed.acquire()
        assert made == [0, 1, 2]
        assert next(loader) == 0
        allowed.acquire()
        assert made == [0, 1, 2, 3]


def test_the_time_the_consumer_waits_is_measured(monkeypatch):
    waits, clock = threading.Event(), SimpleNamespace(now=100.0)

    def perf_counter():
        waits.set()
        return clock.now

    def make(step):
        waits.wait()
        clock.now += 5.0
        return step

    monkeypatch.setattr(loader, 'time', SimpleNamespace(perf_counter=perf_counter))
    with ClipLoader(make, 0, 1) as made:
        assert next(made) == 0
        assert made.waited == 5.0


class Unpicklable(JepaError):
    def __init__(self, one, two):
        super().__init__(f'{one} and {two}')


def fails_at_two(step, error=JepaError):
    if step == 2:
        raise error('no such thing') if error is JepaError else error('this', 'that')
    return step


@pytest.mark.parametrize('workers', [0, 2])
def test_an_error_is_raised_in_its_turn(workers):
    loader, got = ClipLoader(fails_at_two, 0, 9, workers, method='fork'), []
    with pytest.raises(JepaError, match='^no such thing$') as caught:
        got.extend(iter(loader.__next__, None))
    assert got == [] or got == [0, 1]
    assert next(loader, 'closed') == 'closed'
    if workers:
        assert 'in fails_at_two' in str(caught.value.__cause__), 'where it happened is told'


def test_errors_and_batches_that_do_not_pickle_are_errors_all_the_same():
    with pytest.raises(LoaderError, match='Unpicklable: this and that'):
        list(ClipLoader(functools.partial(fails_at_two, error=Unpicklable), 0, 3, 1, method='fork'))
    with pytest.raises((AttributeError, pickle.PicklingError), match='lambda'):
        list(ClipLoader(makes_a_function, 0, 1, 1, method='fork'))


def makes_a_function(step):
    return lambda: step


def dies_once(marker, step):
    if step == 3 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return batch_of(step)


def test_a_worker_that_dies_is_replaced_and_nothing_is_lost(tmp_path, caplog):
    with ClipLoader(functools.partial(dies_once, tmp_path / 'died'), 0, 8, 2, method='fork') as loader:
        for step, batch in zip(range(8), loader, strict=True):
            assert_same(batch, step)
        assert loader.restarts == 1
    assert 'made step 3 ended with signal 9' in caplog.text


def dies_at_two(step):
    if step == 2:
        os._exit(7)
    return step


@given(st.binary(max_size=300), st.data())
def test_an_answer_that_is_cut_off_is_a_death(body, data):
    """However much of it a worker could write before it was killed."""
    ours, theirs = multiprocessing.Pipe()
    message = struct.pack('!i', len(body) + 1) + body  # as `multiprocessing.connection` frames it
    os.write(theirs.fileno(), message[: data.draw(st.integers(0, len(message)))])
    theirs.close()
    with contextlib.closing(ours), pytest.raises(EOFError):
        loader._receive(ours)


def test_a_step_that_always_kills_its_worker_is_an_error_that_names_it():
    with pytest.raises(
        LoaderError, match='the data of step 2, found that its process ends each time with exit code 7'
    ):
        list(ClipLoader(dies_at_two, 0, 5, 2, method='fork'))
    lost = ClipLoader(
        dies_at_two, 0, 5, 2, method='fork', lost=lambda step, sentence: (step, 'exit code 7' in sentence)
    )
    assert list(lost) == [0, 1, (2, True), 3, 4]


def reads_and_is_killed(marker, step):
    with faults.reading('good'):
        if step == 1 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return faults.is_quarantined('good')


def test_a_file_whose_reader_was_killed_once_is_read_again(tmp_path):
    faults.clear()
    with ClipLoader(
        functools.partial(reads_and_is_killed, tmp_path / 'killed'), 0, 4, 1, method='fork'
    ) as loader:
        assert list(loader) == [False] * 4 and loader.restarts == 1
    assert faults.counts() == {}


def reads_files(names, step):
    """Reads the first file that is not in quarantine; reading 'deadly' is not survived."""
    for name in names[step % len(names) :] + names:
        if name in faults.quarantined():
            continue
        with faults.reading(name):
            if name == 'deadly':
                faulthandler.disable()  # pytest's would print what happens here
                os.kill(os.getpid(), signal.SIGSEGV)
            return name


def test_a_file_that_kills_its_reader_is_named_and_not_read_again(caplog):
    faults.clear()
    with contextlib.closing(
        ClipLoader(functools.partial(reads_files, ['good', 'deadly']), 0, 12, 2, method='fork')
    ) as loader:
        assert list(loader) == ['good'] * 12
        assert 1 <= loader.restarts <= 2, 'at most what both workers had begun'
    assert list(faults.counts()) == ['deadly'] and faults.quarantined() == ('deadly',)
    assert 'deadly: the process that read it ended with signal 11' in caplog.text
    faults.clear()


def reports(step):
    logging.getLogger('jepa_ros.data.test').warning('step %d', step)
    faults.report(f'file {step % 2}', f'file {step % 2} is broken')
    return step


def test_what_workers_log_and_count_comes_home(caplog):
    faults.clear()
    with ClipLoader(reports, 0, 10, 3, method='fork') as loader:
        list(loader)
    assert {f'step {i}' for i in range(10)} <= {record.getMessage() for record in caplog.records}
    assert faults.counts() == {'file 0': 5, 'file 1': 5}
    assert caplog.text.count('is broken') == 2, 'named once, whichever workers met it'
    faults.clear()


def test_closing_early_leaves_no_process(tmp_path):
    before = set(psutil.Process().children(recursive=True))
    loader = ClipLoader(batch_of, 0, 1000, 2, method='fork')
    next(loader)
    assert len(set(psutil.Process().children(recursive=True)) - before) == 2
    loader.close()
    loader.close()
    assert set(psutil.Process().children(recursive=True)) <= before


SCRIPT = """
import os, sys, time
from jepa_ros.data.loader import ClipLoader

def make(step):
    os.write(1, b'%d\\n' % os.getpid())  # in one piece: two processes write
    if step:
        time.sleep(60)  # what a long decode looks like
    return step

if __name__ == '__main__':
    with ClipLoader(make, 0, 100, 2, method=sys.argv[1]) as loader:
        for batch in loader:
            pass
"""


@pytest.mark.parametrize('method', ['fork', 'forkserver'])
@pytest.mark.parametrize('end', [signal.SIGINT, signal.SIGKILL])
def test_ctrl_c_and_kill_leave_no_process(tmp_path, method, end):
    script = tmp_path / 'consumer.py'
    script.write_text(SCRIPT)
    consumer = subprocess.Popen(
        [sys.executable, str(script), method],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, 'PYTHONPATH': str(Path(__file__).parents[2])},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    pids = set()
    while len(pids) < 2:
        line = consumer.stdout.readline()
        assert line, consumer.stderr.read()
        pids.add(int(line))
    workers = [psutil.Process(pid) for pid in pids]
    if end == signal.SIGINT:
        os.killpg(consumer.pid, end)  # as a terminal does
    else:
        consumer.kill()
    errors = consumer.communicate(timeout=30)[1]
    assert errors.count('KeyboardInterrupt') == (end == signal.SIGINT), errors
    assert psutil.wait_procs(workers, timeout=30)[1] == []
