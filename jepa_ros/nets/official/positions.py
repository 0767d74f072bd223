# SPDX-License-Identifier: Apache-2.0
"""
The positions of the published networks, for tokens named by their index in a clip.

A token's index is `slice * rows * columns + row * columns + column`. I-JEPA and V-JEPA add fixed sines and cosines to
the tokens; V-JEPA 2 and 2.1 turn queries and keys. All angles are computed in float64.
"""

import math

import torch
import torch.nn.functional as F

from jepa_ros.nets import rotary as rope

TRAINED_GRID = 16  # V-JEPA 2.1 rescales rows and columns to those of its pretraining at 256 px


def split(ids, grid):
    """
    Where tokens are.

    :param ids: int64 [...]; `grid`: (rows, columns).
    :returns: slice, row and column, each int64 [...].
    """
    rows, columns = grid
    cell = ids % (rows * columns)
    return ids // (rows * columns), cell // columns, cell % columns


def _angles(positions, pairs):
    """Float64 [..., pairs] of positions [...]: theta 10000 for the sines and the rotations alike."""
    steps = torch.arange(pairs, dtype=torch.float64, device=positions.device) / pairs
    return positions.double()[..., None] * rope.THETA ** -steps


def _sincos(positions, width):
    """Sines, then cosines, of one axis: float64 [..., width]."""
    angles = _angles(positions, width // 2)
    return torch.cat((angles.sin(), angles.cos()), -1)


def sincos_2d(ids, grid, width):
    """
    I-JEPA's positions (facebookresearch/ijepa, `get_2d_sincos_pos_embed`): the column's half first, then the row's.

    :param ids: int64 [...]; `grid`: (rows, columns); `width`: features, a multiple of 4.
    :returns: float32 [..., width], to be added to the tokens.
    """
    _, row, column = split(ids, grid)
    return torch.cat((_sincos(column, width // 2), _sincos(row, width // 2)), -1).float()


def sincos_3d(ids, grid, width):
    """
    V-JEPA's positions with `uniform_power` (facebookresearch/jepa, `get_3d_sincos_pos_embed`).

    Time, row and column own `2 * ceil(width / 6)` features each, and what goes beyond the width is cut off.
    Arguments and result are those of `sincos_2d`.
    """
    own = 2 * math.ceil(width / 6)
    return torch.cat([_sincos(axis, own) for axis in split(ids, grid)], -1)[..., :width].float()


def resample(table, grid, new_grid):
    """
    Fixed positions of one size for another, as the authors' code does it: bicubic for images, else trilinear.

    :param table: float [1, T * N, D]; `grid`, `new_grid`: (slices, rows, columns).
    :returns: float [1, T' * N', D]; the table itself where the grids are equal.
    """
    if tuple(grid) == tuple(new_grid):
        return table
    volume = table[0].unflatten(0, grid).permute(3, 0, 1, 2)[None]
    if grid[0] == new_grid[0] == 1:
        volume = F.interpolate(volume[:, :, 0], new_grid[1:], mode='bicubic')
    else:
        volume = F.interpolate(volume, new_grid, mode='trilinear')
    return volume.flatten(2).transpose(1, 2)


def rotary(ids, grid, head_dim, position):
    """
    The tables that `jepa_ros.nets.rotary.rotate` takes, of V-JEPA 2 and 2.1.

    V-JEPA 2 lays the cosines of an axis out as 0 1 2 .. 0 1 2 .. while neighbours 0 1, 2 3, .. are turned together
    (facebookresearch/vjepa2, `src/models/utils/modules.py`: a known slip, kept because the weights know no other).
    V-JEPA 2.1 lays them out pair by pair, and stretches rows and columns so that the last one is at 15
    (`app/vjepa_2_1/models/utils/modules.py`).

    :param ids: int64 [B, M]; slices beyond the clip are allowed.
    :param grid: (rows, columns).
    :param position: `rope_tiled` (V-JEPA 2) or `rope_rescaled` (V-JEPA 2.1); `rope_indexed`: 2.1's layout, not stretched.
    :returns: (cos, sin), float32 [B, 1, M, E], ready to broadcast over heads.
    """
    time, *cells = (axis.double() for axis in split(ids, grid))
    if position == 'rope_rescaled':
        cells = [cell * ((TRAINED_GRID - 1) / max(side - 1, 1)) for cell, side in zip(cells, grid)]
    parts = [(angle.cos(), angle.sin()) for angle in (_angles(axis, head_dim // 3 // 2) for axis in (time, *cells))]
    cos, sin = rope.table(*parts, head_dim, tiled=position == 'rope_tiled')
    return cos.float()[:, None], sin.float()[:, None]
