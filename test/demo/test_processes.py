# SPDX-License-Identifier: Apache-2.0
"""Children end with their parent, whatever ends it, and a crash is told with what was last said."""

import os
import select
import signal
import subprocess
import sys
import textwrap

import pytest
from children import PATIENCE

from jepa_ros.demo.processes import ProcessGroup


def python(code: str) -> list[str]:
    return [sys.executable, '-c', textwrap.dedent(code)]


SLEEPER = python('import time; print("up", flush=True); time.sleep(600)')
DEAF = python('''
    import signal, time
    signal.signal(signal.SIGINT, signal.SIG_IGN); print("up", flush=True); time.sleep(600)''')
POLITE = python('''
    import signal, sys
    signal.signal(signal.SIGINT, lambda *_: (print("zeros sent"), sys.exit(0)))
    print("up", flush=True); signal.pause()''')


def gone(pid: int) -> bool:
    """Wait until a process that need not be a child of ours has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], PATIENCE)[0])
    finally:
        os.close(fd)


def up(child) -> bool:
    """Wait for the child's first line."""
    for _ in range(int(PATIENCE / 0.01)):
        if 'up' in child.last_lines():
            return True
        if child.wait(0.01) is not None:
            return False
    return False


def test_leaving_the_block_interrupts(tmp_path):
    with ProcessGroup(tmp_path) as group:
        child = group.start('polite', POLITE)
        assert up(child)
    assert child.code() == 0
    assert child.last_lines() == 'up\nzeros sent'
    assert not child.crashed


def test_one_that_is_deaf_is_killed(tmp_path):
    with ProcessGroup(tmp_path, patience=0.3) as group:
        child = group.start('deaf', DEAF)
        assert up(child)
    assert child.code() == -signal.SIGKILL
    assert not child.crashed, 'what we ended ourselves is no crash'


def test_grandchildren_end_too(tmp_path):
    with ProcessGroup(tmp_path, patience=0.3) as group:
        child = group.start('parent', python(f'''
            import signal, subprocess
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            print("up", subprocess.Popen({DEAF!r}).pid, flush=True); signal.pause()'''))
        assert up(child)
        grandchild = int(child.last_lines().split()[1])
    assert gone(grandchild)


def test_a_crash_is_told_with_its_last_lines(tmp_path):
    with ProcessGroup(tmp_path) as group:
        child = group.start('perception', python('print("loading"); raise SystemExit("no such bundle")'))
        assert child.wait(PATIENCE) == 1
        assert group.crashed() is child
        assert 'perception ended with exit code 1' in child.obituary()
        assert child.obituary().endswith('loading\nno such bundle')


def test_a_signal_is_named(tmp_path):
    with ProcessGroup(tmp_path) as group:
        child = group.start('perception', python('import os; os.abort()'))
        child.wait(PATIENCE)
        assert 'perception was ended by SIGABRT' in child.obituary()
        assert '(it printed nothing)' in child.obituary()


def test_the_end_of_a_child_that_is_done_is_no_crash(tmp_path):
    with ProcessGroup(tmp_path) as group:
        assert group.start('camera', python('pass')).wait(PATIENCE) == 0
        assert group.crashed() is None


def test_interrupt_is_heard_though_the_parent_ignores_it(tmp_path):
    """
    A shell's ``&`` has SIGINT ignored, and children inherit that; those of a group hear it all the same.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with ProcessGroup(tmp_path) as group:
            child = group.start('sleeper', SLEEPER)
            assert up(child)
            assert 'sleeper still runs' in child.obituary()
        assert child.code() not in (0, -signal.SIGKILL)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(sys.platform != 'linux', reason='only Linux tells a child that its parent was killed')
def test_children_end_though_the_parent_is_killed(tmp_path):
    parent = subprocess.Popen(python(f'''
        import signal
        from jepa_ros.demo.processes import ProcessGroup
        child = ProcessGroup({str(tmp_path)!r}).start("sleeper", {SLEEPER!r})
        while "up" not in child.last_lines(): child.wait(0.01)
        print(child.pid, flush=True); signal.pause()'''), stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert gone(child)
