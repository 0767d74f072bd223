# SPDX-License-Identifier: Apache-2.0
"""
Which tokens the predictor must fill: V-JEPA's short- and long-range tube masks.

Bardes et al. 2024, section 3.2: the union of 8 blocks of 15 % of the image (short range), or of 2 blocks of 70 %
(long range), aspect ratio 0.75 to 1.5, repeated over the whole temporal extent. Drawn with numpy, so that a step's
masks follow from its number alone and a resumed run sees the same ones.
"""

import numpy as np

SHORT = {'blocks': 8, 'scale': 0.15}
LONG = {'blocks': 2, 'scale': 0.7}
ASPECT = (0.75, 1.5)


def block_mask(rng, grid, blocks, scale, aspect=ASPECT):
    """
    The union of rectangles.

    :param rng: numpy Generator.
    :param grid: (rows, columns).
    :param blocks: number of rectangles; `scale`: area of each as a share of the grid.
    :returns: bool [rows, columns], True where the predictor must fill.
    """
    rows, columns = grid
    ratio = rng.uniform(*aspect)  # one size for all blocks of a mask, as in facebookresearch/jepa
    height = int(np.clip(round(np.sqrt(scale * rows * columns * ratio)), 1, rows))
    width = int(np.clip(round(np.sqrt(scale * rows * columns / ratio)), 1, columns))
    mask = np.zeros(grid, bool)
    for _ in range(blocks):
        top, left = rng.integers(rows - height + 1), rng.integers(columns - width + 1)
        mask[top:top + height, left:left + width] = True
    return mask


def tube_masks(rng, batch, grid, slices, blocks, scale):
    """
    Tube masks for a batch, cut to equal numbers of tokens so that they can be stacked.

    :returns: context ids int64 [B, M] and target ids int64 [B, Q], indices as in `rotary.token_table`.
    """
    kept, hidden = [], []
    for _ in range(batch):
        mask = block_mask(rng, grid, blocks, scale)
        while mask.all():  # long-range blocks can cover a small grid: a context of nothing teaches nothing
            mask = block_mask(rng, grid, blocks, scale)
        kept.append(np.flatnonzero(~mask.ravel()))
        hidden.append(np.flatnonzero(mask.ravel()))
    return tuple(_over_time(rng, cells, slices, grid[0] * grid[1]) for cells in (kept, hidden))


def _over_time(rng, cells, slices, tokens):
    shortest = min(map(len, cells))
    chosen = np.stack([np.sort(rng.permutation(c)[:shortest]) for c in cells])
    return (np.arange(slices)[None, :, None] * tokens + chosen[:, None]).reshape(len(cells), -1)
