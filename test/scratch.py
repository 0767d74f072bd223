# SPDX-License-Identifier: Apache-2.0
"""Scratch virtual environments to install the package into."""
import os
import subprocess
import sys
import sysconfig
from pathlib import Path


def clean_environment():
    """
    Return the environment variables, without what leads to this checkout of jepa_ros.

    The tests may themselves run on an installed jepa_ros; what they install must be found by itself.
    """
    environment = dict(os.environ)
    for name, trace in [('PYTHONPATH', 'jepa_ros'), ('AMENT_PREFIX_PATH', 'share/jepa_ros')]:
        entries = environment.pop(name, '').split(os.pathsep)
        kept = [entry for entry in entries if entry and not (Path(entry) / trace).exists()]
        if kept:
            environment[name] = os.pathsep.join(kept)
    return environment


class Scratch:
    """
    A new virtual environment.

    :param folder: where to make it.
    """

    def __init__(self, folder):
        self.folder = folder
        self.python = folder / 'bin' / 'python'
        subprocess.run([sys.executable, '-m', 'venv', folder], check=True)

    def run(self, *command, cwd=None, shell=False):
        """
        Run a command, by default outside any source tree.

        :param command: the command's words; with ``shell`` lines of bash.
        :return: the completed process, with what it printed.
        """
        words = ['bash', '-c', '\n'.join(command)] if shell else [str(word) for word in command]
        return subprocess.run(
            words, cwd=cwd or self.folder, env=clean_environment(), timeout=240, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )

    def pip(self, *arguments, cwd=None):
        """Run pip; fail with pip's own words."""
        done = self.run(self.python, '-m', 'pip', *arguments, cwd=cwd)
        assert done.returncode == 0, done.stderr

    def see_the_rest(self):
        """
        Make the running environment's packages importable behind this one's own, so that they need not be installed.

        To be called after pip, which would take them for installed here.
        """
        site = self.run(self.python, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))').stdout.strip()
        (Path(site) / 'rest.pth').write_text(sysconfig.get_path('purelib') + '\n')
