# SPDX-License-Identifier: Apache-2.0
"""docs/probes.md says what the code says, and its example runs."""

import re
from pathlib import Path

import numpy as np
import pytest
from recorded import write_bag
from rosbags.typesys import Stores, get_typestore

from jepa_ros.evaluation.probes.catalogue import PROBES

PAGE = (Path(__file__).resolve().parents[3] / 'docs' / 'probes.md').read_text()


def test_the_table_lists_all_probes():
    rows = re.findall(r'^\| `(\w+)` \|.*\| (newest|context|futures) \| (yes|no) \|$', PAGE, re.MULTILINE)
    said = {name: (view, order == 'yes') for name, view, order in rows}
    assert said == {name: (probe.view, probe.temporal) for name, probe in PROBES.items()}


def test_the_example_runs(tmp_path, monkeypatch, capsys, picture_of):
    pytest.importorskip('torch', reason='torch is not installed (the train extra)')
    for split, count in (('train', 3), ('validation', 2), ('held_out', 2)):
        for number in range(count):
            gripper_bag(tmp_path / 'bags' / split / f'{split}{number}', picture_of)
    example = PAGE.split('## A probe for your own recordings')[1].split('```python')[1].split('```')[0]
    brief = example.replace('reach=0.5)', 'reach=0.5, steps=3, rates=(1e-3,), decays=(0.01,))')
    assert brief != example
    monkeypatch.chdir(tmp_path)
    exec(compile(brief, 'docs/probes.md', 'exec'), {'__name__': 'example'})
    first, *controls = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r'\d\.\d\d \(\d\.\d\d to \d\.\d\d\), [a-z ]+', first)
    assert [line.split(':')[0] for line in controls] == ['shuffled', 'last', 'permuted', 'raw', 'random']


def gripper_bag(path, picture_of, count=50):
    """Write a bag whose gripper closes after 1.4 s; until then it is drawn open."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = get_typestore(Stores.ROS2_HUMBLE).types['sensor_msgs/msg/JointState']
    frames, states = [], []
    for number in range(count):
        closed = number >= 28
        picture = np.full((48, 64, 3), 80, np.uint8)
        picture[20:28, 24 + 4 * closed : 40 - 4 * closed] = 240
        stamp, message = picture_of(number, picture)
        frames.append((stamp, message))
        opening = np.array([0.01 if closed else 0.05])
        states.append((stamp, kind(message.header, ['finger'], opening, np.zeros(0), np.zeros(0))))
    return write_bag(path, {'/camera/image_raw/compressed': frames, '/gripper/joint_states': states})
