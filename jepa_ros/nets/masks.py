# SPDX-License-Identifier: Apache-2.0
"""
Which tokens the encoder sees, and which the predictor must fill: I-JEPA's multi-block masks and V-JEPA's
tubes.

Masks are drawn in cells of one slice's grid and last for the whole clip (V-JEPA's temporal extent is 1.0; an
image has one slice). The sizes of a step's blocks come from the step's generator, as in both official codes,
and everything else about clip i from that clip's own generator: a resumed run and a run on more processes see
the same masks. Only then is the batch cut to equal numbers of tokens (`equalise`).
"""

import math
from dataclasses import dataclass

import numpy as np

from jepa_ros.errors import JepaError

ASPECT = (0.75, 1.5)
TRIES = 20  # placements of a context before its targets are drawn anew


@dataclass(frozen=True)
class ClipMask:
    """
    The mask of one clip, in cells of the grid.

    :param context: int64 [M], the cells that are kept, in random order: a cut takes them from the front.
    :param targets: K arrays int64 [Q], the cells to fill, likewise.
    """

    context: np.ndarray
    targets: tuple[np.ndarray, ...]


def block_size(area, aspect, grid, largest):
    """
    Sides of a block, with the rounding of facebookresearch/ijepa `multiblock.py` and facebookresearch/jepa
    `multiblock3d.py`.

    :param area: share of the grid; `aspect`: height over width; `grid`: (rows, columns).
    :param largest: longest sides (rows, columns); longer ones are cut.
    :returns: (height, width) in cells, at least 1.
    """
    cells = int(grid[0] * grid[1] * area)
    sides = round(math.sqrt(cells * aspect)), round(math.sqrt(cells / aspect))
    return tuple(max(1, min(side, most)) for side, most in zip(sides, largest))


def place(rng, size, grid):
    """A block somewhere in the grid: bool [rows, columns]."""
    top, left = (int(rng.integers(whole - side + 1)) for side, whole in zip(size, grid))
    block = np.zeros(grid, bool)
    block[top : top + size[0], left : left + size[1]] = True
    return block


def _cells(rng, mask):
    return rng.permutation(np.flatnonzero(mask))


@dataclass(frozen=True)
class Tubes:
    """
    V-JEPA: one target, the union of blocks over the whole clip; all the rest is context.

    Bardes et al. 2024, section 3.2, and the configurations of facebookresearch/jepa and
    facebookresearch/vjepa2: short-range masks of 8 blocks of 15 % of the image, long-range ones of 2 blocks
    of 70 %, aspect ratio 0.75 to 1.5. All blocks of a step have one size.

    :param blocks: how many; `scale`: area of each as a share of the image; `aspect`: range of height over
        width.
    """

    blocks: int = 8
    scale: float = 0.15
    aspect: tuple[float, float] = ASPECT

    def sizes(self, rng, grid):
        """The (height, width) of a step's blocks, which `draw` takes."""
        return block_size(self.scale, rng.uniform(*self.aspect), grid, grid)

    def draw(self, rng, grid, sizes):
        """
        One clip's mask.

        :raises JepaError: when the blocks cover the grid whatever their places.
        """
        for _ in range(1000):
            hidden = np.zeros(grid, bool)
            for _ in range(self.blocks):
                hidden |= place(rng, sizes, grid)
            if not hidden.all():
                return ClipMask(_cells(rng, ~hidden), (_cells(rng, hidden),))
        raise JepaError(
            f'expected a mask that leaves some of the image to see, found {self.blocks} blocks '
            f'of {sizes[0]}x{sizes[1]} tokens, which cover the grid of {grid[0]}x{grid[1]}: lower their scale'
        )


@dataclass(frozen=True)
class MultiBlock:
    """
    I-JEPA: K target blocks, and one large context block without what the targets show.

    Assran et al. 2023, section 3 and appendix A, and facebookresearch/ijepa `multiblock.py`: 4 targets of 15
    to 20 % of the image with aspect ratio 0.75 to 1.5 (which may overlap each other), a square context of 85
    to 100 %. As there, one number draws area and aspect ratio together, all targets of a step have one size,
    every side is shorter than the grid's, and more than `min_keep` patches stay in a context. Two things
    differ. The official code never places a block on the last row and column; we do: small grids have no rows
    to spare. Where a context finds too little, that code lets it see one target after the other; we draw new
    targets.
    """

    targets: int = 4
    scale: tuple[float, float] = (0.15, 0.2)
    context: tuple[float, float] = (0.85, 1.0)
    aspect: tuple[float, float] = ASPECT
    min_keep: int = 10

    def sizes(self, rng, grid):
        """((height, width) of a step's targets, of its contexts), which `draw` takes."""
        largest = tuple(max(1, side - 1) for side in grid)
        share = rng.random()
        target = block_size(_between(self.scale, share), _between(self.aspect, share), grid, largest)
        return target, block_size(_between(self.context, rng.random()), 1.0, grid, largest)

    def draw(self, rng, grid, sizes):
        """
        One clip's mask.

        :raises JepaError: when no place of the blocks leaves the context more than `min_keep` patches.
        """
        for _ in range(100):
            targets = [place(rng, sizes[0], grid) for _ in range(self.targets)]
            hidden = np.any(targets, axis=0)
            for _ in range(TRIES):
                seen = place(rng, sizes[1], grid) & ~hidden
                if seen.sum() > self.min_keep:
                    return ClipMask(_cells(rng, seen), tuple(_cells(rng, target) for target in targets))
        raise JepaError(
            f'expected more than {self.min_keep} patches in the context (masks.min_keep), found no '
            f"place on the grid of {grid[0]}x{grid[1]} that leaves so many: lower it or the targets' scale"
        )


def _between(bounds, share):
    return bounds[0] + share * (bounds[1] - bounds[0])


SHORT, LONG = Tubes(8, 0.15), Tubes(2, 0.7)
IMAGE = Tubes(10, 0.15)  # V-JEPA 2.1 on single images (facebookresearch/vjepa2, `img_mask`)


def equalise(masks, grid, slices):
    """
    Cut a batch of masks to equal numbers of tokens, so that they can be stacked, and repeat them over the
    slices.

    The official codes cut the last tokens, which are always those at the bottom (I-JEPA) or of the last
    slices (V-JEPA); we cut cells at random and the same ones of every slice, so that tubes stay tubes. They
    cut on each GPU, we cut the whole batch, so that more processes see the same: of 16 x 16 patches, short-
    and long-range tubes leave the encoder about 24 and 6 % over 24 clips (V-JEPA 2's GPU), 17 and 5 % over a
    thousand.

    :param masks: B `ClipMask` of one recipe.
    :returns: context ids int64 [B, M], target ids int64 [B, K, Q], ascending, indices as in
        `rotary.token_table`.
    """
    kept = min(len(mask.context) for mask in masks)
    asked = min(len(target) for mask in masks for target in mask.targets)
    context = np.stack([np.sort(mask.context[:kept]) for mask in masks])
    targets = np.stack([[np.sort(target[:asked]) for target in mask.targets] for mask in masks])
    return tuple(_over_time(cells, slices, grid[0] * grid[1]) for cells in (context, targets))


def _over_time(cells, slices, tokens):
    clip = np.arange(slices)[:, None] * tokens + cells[..., None, :]
    return clip.reshape(*cells.shape[:-1], -1)


def draw_masks(recipe, step_rng, clip_rngs, grid, slices):
    """
    The masks of a step.

    :param recipe: `Tubes` or `MultiBlock`.
    :param step_rng: numpy Generator of the step, for the blocks' sizes; `clip_rngs`: one for each clip of the
        global batch.
    :param grid: (rows, columns) of a slice; `slices`: T.
    :returns: as `equalise`.
    """
    sizes = recipe.sizes(step_rng, grid)
    return equalise([recipe.draw(rng, grid, sizes) for rng in clip_rngs], grid, slices)
