# SPDX-License-Identifier: Apache-2.0
"""Pairs of clips are the same until one thing happens that cannot."""

import numpy as np
import pytest

from jepa_ros.sim.hall import SimError, import_mujoco
from jepa_ros.sim.violations import VIOLATIONS, StagedCell

try:
    import_mujoco()
except SimError as missing:
    pytest.skip(str(missing), allow_module_level=True)


def pair(seed, kind, seconds=5.0):
    """Return the truths and the bin's x of both clips."""
    clips = []
    for possible in (True, False):
        with StagedCell(seed, (48, 64), 20.0, kind=kind, possible=possible) as cell:
            rows = []
            for _ in range(round(seconds * 20)):
                cell.step()
                rows.append((cell.truth(), cell._data.joint('bin0').qpos.copy()))
            clips.append(rows)
    return clips


@pytest.mark.parametrize('kind', VIOLATIONS)
@pytest.mark.parametrize('seed', [0, 4, 10_001])
def test_both_are_the_same_until_it_happens_and_differ_from_then_on(seed, kind):
    possible, impossible = pair(seed, kind)
    broken = [truth.violation for truth, _ in impossible]
    at = broken.index(kind)
    assert 20 < at < 80 and set(broken[:at]) == {''} and set(broken[at:]) == {kind}
    assert {truth.violation for truth, _ in possible} == {''}
    for (one, here), (other, there) in zip(possible[:at], impossible[:at]):
        np.testing.assert_array_equal(here, there)
        assert one.stamp_ns == other.stamp_ns and len(one.bins) == len(other.bins)
    x, there = (np.array([qpos[0] for _, qpos in clip]) for clip in (possible, impossible))
    x, there = x[x > -1], there[there > -1]  # as long as it is on the belt
    if kind == 'vanish':
        assert not impossible[at - 1][0].visible and not possible[at][0].visible, 'nobody saw it go'
        assert all(truth.bins == () for truth, _ in impossible[at:])
        assert any(truth.visible for truth, _ in possible[at:]), 'the other comes out again'
    elif kind == 'appear':
        assert all(truth.bins == () for truth, _ in possible), 'there is none'
        assert not impossible[at][0].visible, 'nobody saw it come'
        assert any(truth.visible for truth, _ in impossible[at:])
    elif kind == 'jump':
        assert abs(there[at] - there[at - 1]) > 0.12 and np.abs(np.diff(x)).max() < 0.02
        assert impossible[at][0].visible and impossible[at - 1][0].visible, 'it is seen'
    else:
        assert x[-1] - x[at] < 0.12 and there[-1] > x[-1] + 0.1, 'one is held by the gate'
        assert np.abs(np.diff(there[at:])).max() < 0.02


def test_no_other_violations():
    with pytest.raises(SimError, match='expected a violation of vanish, jump, pass, appear'):
        StagedCell(0, kind='melt', possible=True)
