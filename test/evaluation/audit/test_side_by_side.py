# SPDX-License-Identifier: Apache-2.0
"""Jobs in processes of their own: what comes of them, what they say, and how they end."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from side_jobs import die, refuse, square, wait_for_ever

from jepa_ros.errors import JepaError
from jepa_ros.evaluation.audit.side_by_side import side_by_side

pytest.importorskip('torch', reason='the heads of probes are trained with PyTorch')


def test_each_result_comes_with_the_number_of_its_job_and_all_that_was_said():
    said = []
    found = dict(side_by_side([(square, (3,)), (square, (5,))], lambda *news: said.append(news)))
    assert found == {0: 9, 1: 25}
    assert sorted(said) == [('squaring 3', 1, 1), ('squaring 5', 1, 1)]


def test_an_error_comes_through_and_ends_the_others(tmp_path):
    path = tmp_path / 'pid'
    with pytest.raises(JepaError, match='expected something else, found this'):
        list(side_by_side([(wait_for_ever, (path,)), (refuse, ('this',))], lambda *news: None))
    assert not path.exists() or _gone(int(path.read_text()))


def test_who_does_not_wait_any_more_leaves_no_process(tmp_path):
    """As Ctrl-C does, which is raised where the news are taken."""
    path = tmp_path / 'pid'

    def interrupted(*news):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(side_by_side([(wait_for_ever, (path,))], interrupted))
    assert _gone(int(path.read_text()))


def test_a_process_that_dies_is_named():
    with pytest.raises(JepaError, match='one that ended with 9'):
        list(side_by_side([(die, ())], lambda *news: None))


KILLED = """
import sys
from pathlib import Path
from side_jobs import wait_for_ever
from jepa_ros.evaluation.audit.side_by_side import side_by_side

if __name__ == '__main__':
    list(side_by_side([(wait_for_ever, (Path(sys.argv[1]),))], lambda *news: print('waits', flush=True)))
"""


def test_who_is_killed_leaves_no_process(tmp_path):
    script, path = tmp_path / 'audit.py', tmp_path / 'pid'
    script.write_text(KILLED)
    folders = os.pathsep.join(str(Path(__file__).parents[depth]) for depth in (2, 3))
    parent = subprocess.Popen(
        [sys.executable, script, path], stdout=subprocess.PIPE, env={**os.environ, 'PYTHONPATH': folders}
    )
    assert parent.stdout.readline() == b'waits\n'
    child = psutil.Process(int(path.read_text()))
    parent.kill()
    parent.communicate()
    assert psutil.wait_procs([child], timeout=30)[1] == []


def _gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
