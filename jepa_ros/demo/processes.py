# SPDX-License-Identifier: Apache-2.0
"""Child processes that are started together, end together, and leave nothing behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

# Asks Linux to interrupt the child should its parent be killed, and hears interrupts where a shell's & had
# them ignored, then becomes the child. A separate program and not preexec_fn, because Python code between
# fork and exec can deadlock in a process that has threads.
_TIED = ('import ctypes,os,signal,sys; '
         'ctypes.CDLL(None).prctl(1, 2, 0, 0, 0); signal.signal(2, signal.SIG_DFL); '
         'os.getppid() == int(sys.argv[1]) and os.execvp(sys.argv[2], sys.argv[2:])')


class Child:
    """
    One running program, whose output goes to a log file.

    :param name: name for people.
    :param command: program and arguments.
    :param log: path of the file for its standard output and error.
    :param env: the whole environment; that of this process if None.
    """

    def __init__(self, name: str, command: list[str], log: Path, env: dict[str, str] | None = None):
        self.name, self.log = name, log
        self._asked = False
        if sys.platform == 'linux':
            command = [sys.executable, '-S', '-E', '-c', _TIED, str(os.getpid()), *command]
        with open(log, 'wb') as file:
            # A session of its own: Ctrl-C in the terminal reaches the parent alone, which then ends all in
            # order.
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                                             env=env, start_new_session=True)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def code(self) -> int | None:
        """Return the exit code (negative: the signal that ended it), or None while it runs."""
        return self._process.poll()

    @property
    def crashed(self) -> bool:
        """Whether it ended unasked with anything but 0."""
        return not self._asked and self.code() not in (None, 0)

    def interrupt(self) -> None:
        """Ask it to end, as Ctrl-C would."""
        if self.code() is None:
            self._asked = True
            self._process.send_signal(signal.SIGINT)

    def wait(self, timeout: float) -> int | None:
        """Wait until it has ended. :param timeout: s. :return: the exit code, or None if it still runs."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """End it and everything it has started, at once."""
        self._asked = True
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()

    def last_lines(self, count: int = 10) -> str:
        """Return the last lines of its log."""
        lines = self.log.read_text(errors='replace').splitlines()
        return '\n'.join(lines[-count:])

    def obituary(self) -> str:
        """Say how it ended, or that it runs, with the last lines of its log."""
        code = self.code()
        if code is None:
            how = 'still runs'
        else:
            how = f'was ended by {signal.Signals(-code).name}' if code < 0 else f'ended with exit code {code}'
        said = self.last_lines() or '(it printed nothing)'
        return f'{self.name} {how}; its last lines ({self.log}):\n{said}'


class ProcessGroup:
    """
    Children that share a fate: leaving the ``with`` block interrupts them all and kills those that do not
    end.

    :param logs: directory of their log files; made if missing.
    :param patience: seconds they are given to end after the interrupt.
    """

    def __init__(self, logs: Path, patience: float = 8.0):
        self.logs, self.patience = Path(logs), patience
        self.children: list[Child] = []

    def start(self, name: str, command: list[str], env: dict[str, str] | None = None) -> Child:
        """Start a program; parameters as of Child."""
        self.logs.mkdir(parents=True, exist_ok=True)
        child = Child(name, command, self.logs / f'{name}.log', env)
        self.children.append(child)
        return child

    def crashed(self) -> Child | None:
        """Return a child that ended unasked with anything but 0, if there is one."""
        return next((child for child in self.children if child.crashed), None)

    def last_words(self) -> str:
        """Return the last lines of every log."""
        return '\n'.join(f'{child.name} ({child.log}):\n{child.last_lines()}' for child in self.children)

    def stop(self) -> None:
        """Interrupt all that run, newest first, and kill those that have not ended after ``patience``."""
        try:
            for child in reversed(self.children):
                child.interrupt()
            end = time.monotonic() + self.patience
            for child in self.children:
                child.wait(max(0.0, end - time.monotonic()))
        finally:  # also when a second Ctrl-C interrupts the wait
            for child in self.children:
                child.kill()

    def __enter__(self) -> 'ProcessGroup':
        return self

    def __exit__(self, *_) -> None:
        self.stop()
