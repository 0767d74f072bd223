# SPDX-License-Identifier: Apache-2.0
"""Real processes for tests: their lines of output are awaited, and none of them is left behind."""

import os
import queue
import signal
import subprocess
import sys
import threading
import time

#: For the environment of processes whose backend is 'auto': it then is ONNX Runtime's CPU on every machine.
WITHOUT_GPU = {'CUDA_VISIBLE_DEVICES': ''}
#: s that a test waits for an event before it fails: much, for the machine may be busy with other things.
PATIENCE = 120.0


class Child:
    """
    A Python process whose output lines (stdout and stderr) can be awaited.

    :param arguments: of the interpreter, for example a script's path and its arguments.
    :param environment: variables added to those of the test.
    """

    def __init__(self, *arguments, environment=None):
        self.lines: list[str] = []
        self._queue: queue.Queue = queue.Queue()
        self.process = subprocess.Popen(
            [sys.executable, '-u', *map(str, arguments)],
            env={**os.environ, **WITHOUT_GPU, **(environment or {})},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()

    def wait_line(self, part: str, timeout: float = PATIENCE) -> str:
        """Return the next line that contains ``part``; an AssertionError shows all lines if none comes."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                line = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                line = None
            if line is None:
                raise AssertionError(f'no line with {part!r} within {timeout} s:\n' + '\n'.join(self.lines))
            if part in line:
                return line

    def stop(self, number=signal.SIGINT, timeout: float = PATIENCE) -> int:
        """Send a signal and return the exit code; all lines are there then."""
        self.process.send_signal(number)
        return self.wait(timeout)

    def wait(self, timeout: float = PATIENCE) -> int:
        """Wait for the end and return the exit code; all lines are there then."""
        code = self.process.wait(timeout)
        self._reader.join(timeout)
        return code

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip('\n'))
            self._queue.put(self.lines[-1])
        self._queue.put(None)
