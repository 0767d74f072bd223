# SPDX-License-Identifier: Apache-2.0
"""The cache stays whole and within its bounds, whoever fills it and whatever happens to them."""

import errno
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections import namedtuple

import numpy as np
import pytest
from recorded import CAMERA, camera, number_of, write_bag, write_video

from jepa_ros.data import cache, faults, loader
from jepa_ros.data.cache import Cache, CachedImages, CacheError
from jepa_ros.data.recordings import RecordingError
from jepa_ros.data.sequences import load_sequences

SIZE = (24, 32)
BYTES = 24 * 32 * 3  # of a frame


@pytest.fixture(autouse=True)
def no_faults():
    faults.clear()
    yield
    faults.clear()


@pytest.fixture
def forked(monkeypatch):
    """Workers that inherit what a test replaced."""
    monkeypatch.setattr(loader, 'METHOD', 'fork')


def videos(folder, count, frames=10):
    folder.mkdir(exist_ok=True)
    return [write_video(folder / f'{i}.mp4', frames) for i in range(count)]


def load(patterns, folder, **how):
    return load_sequences(patterns, SIZE, folder, progress=False, **how)


def test_workers_fill_it_as_one_process_does(tmp_path):
    paths = [*videos(tmp_path / 'videos', 4), write_bag(tmp_path / 'bag', {CAMERA: camera(8)})]
    alone = load(paths, tmp_path / 'alone')
    together = load(paths, tmp_path / 'together', workers=2)
    for one, other in zip(alone, together, strict=True):
        assert one.name == other.name
        np.testing.assert_array_equal(one.stamps_ns, other.stamps_ns)
        np.testing.assert_array_equal(one.images[:], other.images[:])
    files = [
        sorted(p.relative_to(tmp_path / n) for p in (tmp_path / n).rglob('*')) for n in ('alone', 'together')
    ]
    assert files[0] == files[1]


def deadly(name, how):
    """A stand-in for opening recordings that dies, in mid-read, on one of them."""
    real = cache.open_recordings

    def opened(path, *more):
        if path.name == name:
            how()
        return real(path, *more)

    return opened


def test_a_recording_that_kills_its_reader_is_named_skipped_and_counted(
    tmp_path, monkeypatch, caplog, forked
):
    monkeypatch.setattr(
        cache, 'open_recordings', deadly('1.mp4', lambda: os.kill(os.getpid(), signal.SIGKILL))
    )
    paths = videos(tmp_path / 'videos', 4)
    sequences = load(paths, tmp_path / 'cache', workers=2)  # a kill is forgiven once
    assert [sequence.name for sequence in sequences] == ['0', '2', '3']
    assert '1.mp4: the process that read it ended with signal 9' in caplog.text
    assert '1 of 4 recordings were skipped' in caplog.text
    assert str(paths[1]) in faults.counts()


def test_an_interrupted_call_keeps_what_it_has_and_leaves_nothing_half(tmp_path, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    paths = videos(tmp_path / 'videos', 4)
    with monkeypatch.context() as patch:
        patch.setattr(cache, 'open_recordings', deadly('2.mp4', interrupted))
        with pytest.raises(KeyboardInterrupt):
            load(paths, tmp_path / 'cache')
    assert len(list((tmp_path / 'cache').iterdir())) == 2
    read, real = [], cache.open_recordings

    def recorded(path, *more):
        read.append(path.name)
        return real(path, *more)

    monkeypatch.setattr(cache, 'open_recordings', recorded)
    assert len(load(paths, tmp_path / 'cache')) == 4
    assert read == ['2.mp4', '3.mp4']


STOPPED_WORKER = """
import os, sys, threading
from pathlib import Path
from jepa_ros.data import cache, loader

began, hold = os.pipe()

def wait(*_):
    os.write(hold, b'.')
    threading.Event().wait()

cache._read, loader.GRACE = wait, 60.0  # a busy machine takes its time
folder, wanted = Path(sys.argv[2]), cache.Wanted((int(sys.argv[3]), int(sys.argv[4])))
entries = cache.Cache(folder)
made = loader.ClipLoader(lambda _: entries.make(Path(sys.argv[1]), wanted), 0, 1, 1, method='fork')
os.read(began, 1)
print(len(list(folder.iterdir())))
made.close()
print(len(list(folder.iterdir())))
"""


def test_a_worker_that_is_told_to_stop_leaves_no_workspace(tmp_path):
    """In a process of its own: what is forked beside the threads of a whole test run may never come back."""
    (path,) = videos(tmp_path / 'videos', 1)
    arguments = [path, tmp_path / 'cache', *SIZE]
    run = subprocess.run(
        [sys.executable, '-c', STOPPED_WORKER, *map(str, arguments)], capture_output=True, text=True, timeout=120
    )
    assert run.stdout.split() == ['1', '0'], run.stderr


def test_what_killed_processes_left_is_swept_and_what_others_write_is_not(tmp_path):
    gone = subprocess.Popen([sys.executable, '-c', ''])
    gone.wait()
    host = socket.gethostname()
    names = [
        f'.decoding-{host}-{gone.pid}-a',
        f'.decoding-{host}-{os.getpid()}-b',
        f'.decoding-{host}-2-{gone.pid}-c',  # of a host with a longer name
        '.decoding-elsewhere-1-d',
    ]
    for name in names:
        (tmp_path / name).mkdir()
    Cache(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[1:])


def test_the_limit_holds_and_what_is_unused_gives_way_first(tmp_path):
    paths = videos(tmp_path / 'videos', 4)
    folder = tmp_path / 'cache'
    load(paths[:2], folder)
    each = cache._size(next(folder.iterdir()))
    limit = int(2.5 * each)
    for entry in folder.iterdir():
        os.utime(entry, (1, 1) if entry.name.startswith('0-') else (2, 2))
    load([paths[2]], folder, cache_limit=limit)
    assert sorted(entry.name[0] for entry in folder.iterdir()) == ['1', '2'], 'the longest unused one is gone'
    assert len(load(paths[1:3], folder, cache_limit=limit)) == 2
    with pytest.raises(CacheError, match='expected at most .* of cached frames, found .*: allow more'):
        load(paths, folder, cache_limit=limit)
    assert all((entry / 'about.json').is_file() for entry in folder.iterdir()), 'nothing half'


def test_a_full_disk_is_seen_before_and_while_it_fills(tmp_path, monkeypatch):
    (path,) = videos(tmp_path / 'videos', 1)
    usage = namedtuple('usage', 'total used free')
    with monkeypatch.context() as patch:
        patch.setattr(shutil, 'disk_usage', lambda _: usage(1, 1, 9 * BYTES))
        with pytest.raises(CacheError, match='of free disk for the frames of .*0.mp4, found .*: free some'):
            load([path], tmp_path / 'cache')
    with monkeypatch.context() as patch:
        full = OSError(errno.ENOSPC, 'No space left on device')
        patch.setattr(np, 'savez', lambda *_, **__: (_ for _ in ()).throw(full))
        with pytest.raises(CacheError, match='found a full disk: free some, name another folder'):
            load([path], tmp_path / 'cache')
    assert list((tmp_path / 'cache').iterdir()) == []
    assert len(load([path], tmp_path / 'cache')) == 1


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='needs /dev/full')
def test_a_disk_that_is_full_in_a_worker(tmp_path, monkeypatch, forked):
    (path,) = videos(tmp_path / 'videos', 1)
    monkeypatch.setattr(
        cache,
        '_read',
        lambda *_: open('/dev/full', 'wb', buffering=0).write(b'x'),  # what a full disk answers
    )
    with pytest.raises(CacheError, match='found a full disk'):
        load([path], tmp_path / 'cache', workers=1)


def test_cached_frames_read_as_the_array_they_are(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (9, 4, 5, 3), np.uint8)
    (tmp_path / 'images.u8').write_bytes(array.tobytes())
    images = CachedImages(tmp_path / 'images.u8', 2, (7, 4, 5, 3))
    whole = array[2:]
    for index in (
        0,
        -1,
        slice(1, 6, 2),
        np.array([3, 3, 0]),
        [[1, 2], [5, 6]],
        np.arange(7) > 3,
        np.array([], int),
    ):
        np.testing.assert_array_equal(images[index], whole[index])
    np.testing.assert_array_equal(np.asarray(images), whole)
    assert len(list(images)) == 7
    with pytest.raises(IndexError):
        images[7]
    os.truncate(tmp_path / 'images.u8', 300)
    np.testing.assert_array_equal(images[2], whole[2])
    with pytest.raises(RecordingError, match='found a file cut short'):
        images[3:5]
    (tmp_path / 'images.u8').unlink()
    with pytest.raises(RecordingError, match='expected cached frames, found No such file'):
        images[0]


def test_thousands_of_sequences_hold_no_files_open(tmp_path):
    sequences = load(videos(tmp_path / 'videos', 6, 4), tmp_path / 'cache')
    before = len(os.listdir('/proc/self/fd'))
    kept = [sequence.images[1:3] for sequence in sequences]
    assert len(os.listdir('/proc/self/fd')) == before and number_of(kept[0][1]) == 2


def test_an_entry_that_somebody_damaged_is_named(tmp_path, caplog):
    paths = videos(tmp_path / 'videos', 2)
    load(paths, tmp_path / 'cache')
    victim = next(entry for entry in (tmp_path / 'cache').iterdir() if entry.name.startswith('0-'))
    (victim / 'arrays.npz').write_bytes(b'nothing')
    with caplog.at_level(logging.WARNING):
        assert [sequence.name for sequence in load(paths, tmp_path / 'cache')] == ['1']
    assert '0.mp4: expected a whole cache entry' in caplog.text
