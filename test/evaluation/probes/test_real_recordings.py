# SPDX-License-Identifier: Apache-2.0
"""Labels from recordings that are not ours."""

import numpy as np
import pytest
from conftest import shared_data

from jepa_ros.evaluation.probes.future import EndEffector
from jepa_ros.evaluation.probes.settings import Settings
from jepa_ros.evaluation.probes.tracks import split_by_group, tracks_of


@pytest.mark.shared_data
def test_an_end_effector_is_where_it_will_be_in_three_cameras():
    """The settings are those of docs/probes.md."""
    tracks = tracks_of(shared_data() / 'bags' / 'bridge_dev18_mcap')
    assert len(tracks) == 54 and len({track.group for track in tracks}) == 18
    settings = Settings(span=1.6, reach=0.2, stride=0.2, horizons=(0.2,))
    one = tracks[0]
    at = one.moments(settings.span, settings.stride, settings.reach)
    assert at.tolist() == [7, 8]
    found = EndEffector().labels(one, at, settings).values
    assert found.shape == (2, 1, 3) and np.isfinite(found).all()
    assert (found[:, 0] == one.vectors('/ee_state')[at + 1, :3]).all()
    splits = split_by_group(tracks)
    assert [len(part) for part in (splits.train, splits.validation, splits.held_out)] == [33, 9, 12]
