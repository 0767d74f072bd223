# SPDX-License-Identifier: Apache-2.0
"""Tube masks: every token is either kept or asked for, over the whole temporal extent."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jepa_ros.nets.masks import ASPECT, LONG, SHORT, block_mask, tube_masks


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(3, 14), columns=st.integers(3, 14), slices=st.integers(1, 4),
       kind=st.sampled_from([SHORT, LONG]))
def test_context_and_targets_never_overlap_and_are_tubes(seed, rows, columns, slices, kind):
    context, target = tube_masks(np.random.default_rng(seed), 4, (rows, columns), slices, **kind)
    n = rows * columns
    assert context.shape[1] >= slices and target.shape[1] >= slices
    for kept, asked in zip(context, target):
        assert not set(kept) & set(asked)
        for ids in (kept, asked):
            cells = ids.reshape(slices, -1) % n
            assert (cells == cells[0]).all() and len(set(ids)) == len(ids)
            assert (ids.reshape(slices, -1) // n == np.arange(slices)[:, None]).all()


def test_blocks_have_the_papers_scale_and_aspect():
    rng, grid = np.random.default_rng(0), (14, 14)
    areas, ratios = [], []
    for _ in range(2000):
        mask = block_mask(rng, grid, blocks=1, scale=SHORT['scale'])
        height, width = mask.any(1).sum(), mask.any(0).sum()
        assert mask.sum() == height * width
        areas.append(mask.mean())
        ratios.append(height / width)
    assert abs(np.mean(areas) - SHORT['scale']) < 0.01
    assert ASPECT[0] * 0.75 < min(ratios) and max(ratios) < ASPECT[1] * 1.34   # sides are rounded to whole tokens


def test_a_steps_masks_follow_from_its_number_alone():
    first, second = (tube_masks(np.random.default_rng([3, 17]), 2, (6, 8), 2, **SHORT) for _ in range(2))
    assert all((a == b).all() for a, b in zip(first, second))
