# SPDX-License-Identifier: Apache-2.0
"""Both encoders are timed in turns on what a camera would give them, and in the mode they are run in."""

import pytest

from jepa_ros.engine.bundle import Bundle
from jepa_ros.errors import JepaError
from jepa_ros.evaluation.audit.config import Side, Timing
from jepa_ros.evaluation.audit.costs import Costs, measure

TIMING = Timing(rounds=3, seconds=0.2, threads=1)


def test_every_round_of_both_is_kept_with_what_was_run(pair, recordings):
    bundles, done = [Bundle.load(path) for path in pair], []
    paths = sorted((recordings / 'val').iterdir())
    sides = [Side('x', training_hours=2.5), Side('x')]
    image, video = measure(bundles, sides, paths, '', TIMING, lambda *tick: done.append(tick))
    assert (image.mode, image.new_frames, video.mode, video.new_frames) == ('frame', 1, 'stream', 2)
    for cost in (image, video):
        assert len(cost.encode_ms) == len(cost.forecast_ms) == len(cost.load) == 3
        assert min(cost.encode_ms) > 0 and min(cost.load) > 0 and cost.memory_mb > 0
        assert cost.frame_ms == [a + b for a, b in zip(cost.encode_ms, cost.forecast_ms)]
        assert Costs(**cost.to_dict()) == cost
    assert (image.training_hours, video.training_hours) == (2.5, None)
    assert done[-1] == (3, 3), 'the first round warms up and is told, not counted'


def test_recordings_that_give_no_step_are_named(pair, tmp_path):
    from recorded import CAMERA, camera, write_bag

    short = write_bag(tmp_path / 'short', {CAMERA: camera(1)})
    with pytest.raises(JepaError, match='expected recordings that encoders can be timed on, found none of 1'):
        measure([Bundle.load(pair[1])] * 2, [Side('x')] * 2, [short], '', TIMING)
