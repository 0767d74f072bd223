# SPDX-License-Identifier: Apache-2.0
"""A tiny bundle for all demos of the session, and the command as a user starts it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bundles import make_bundle
from children import WITHOUT_GPU
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore


@pytest.fixture(scope='session')
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp('bundle') / 'tiny')


class Demo:
    """One demo in a process of its own, in a ROS domain that it chooses itself."""

    def __init__(self, out: Path, *arguments):
        self.out = out
        environment = {**os.environ, **WITHOUT_GPU}
        del environment['ROS_DOMAIN_ID']
        self.process = subprocess.Popen(
            [sys.executable, '-u', '-m', 'jepa_ros.cli', 'demo', '--out', str(out), *map(str, arguments)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.stdout = self.stderr = ''

    def until(self, holds) -> str:
        """Read standard output up to a line for which ``holds``; return that line."""
        for line in self.process.stdout:
            self.stdout += line
            if holds(line):
                return line
        raise AssertionError(f'the demo ended too early:\n{self.stdout}\n{self.process.stderr.read()}')

    def end(self, timeout: float = 120) -> int:
        """Wait for the end and return the exit code."""
        stdout, self.stderr = self.process.communicate(timeout=timeout)
        self.stdout += stdout
        return self.process.returncode

    def figures(self) -> dict:
        return json.loads((self.out / 'figures.json').read_text())

    def recorded(self) -> dict[str, int]:
        """How many messages of each topic the bag has; every one can be read."""
        with AnyReader([self.out / 'bag'], default_typestore=get_typestore(Stores.LATEST)) as reader:
            counts = {connection.topic: 0 for connection in reader.connections}
            for connection, _, data in reader.messages():
                reader.deserialize(data, connection.msgtype)
                counts[connection.topic] += 1
        return counts

    def log(self, name: str) -> str:
        return (self.out / 'logs' / f'{name}.log').read_text()

    def __str__(self) -> str:
        """All it said, for the message of an assertion."""
        logs = ''.join(f'\n--- {log.name}\n{log.read_text()}' for log in sorted(self.out.glob('logs/*.log')))
        return f'{self.stdout}\n{self.stderr}{logs}'


@pytest.fixture
def demo(tmp_path, bundle):
    """Start demos with the tiny bundle: ``demo(*arguments)``."""
    started = []

    def start(*arguments, bundle=bundle) -> Demo:
        started.append(Demo(tmp_path / 'out', '--bundle', bundle, *arguments))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.communicate()
