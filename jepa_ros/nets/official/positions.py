# SPDX-License-Identifier: Apache-2.0
"""
The positions of the published networks, for tokens named by their index in a clip.

A token's index is `slice * rows * columns + row * columns + column`. I-JEPA and V-JEPA add fixed sines and
cosines to the tokens; V-JEPA 2 and 2.1 turn queries and keys. Angles are computed in float64, tables given in
the default dtype.
"""

import math

import torch
import torch.nn.functional as F

from jepa_ros.nets import rotary as rope
from jepa_ros.nets.official.families import ROPE_RESCALED, ROPE_TILED, SINCOS_2D

TRAINED_GRID = 16  # V-JEPA 2.1 stretches rows and columns to those of its pretraining at 256 px


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
    """Float64 [..., pairs] of positions [...]: theta is 10000 for the sines and the rotations alike."""
    steps = torch.arange(pairs, dtype=torch.float64, device=positions.device) / pairs
    return positions.double()[..., None] * rope.THETA**-steps


def _sincos(positions, width):
    """Sines, then cosines, of one axis: float64 [..., width]."""
    angles = _angles(positions, width // 2)
    return torch.cat((angles.sin(), angles.cos()), -1)


def added(kind, ids, grid, width):
    """
    Positions that are added to tokens.

    `sincos2d` is I-JEPA's (facebookresearch/ijepa, `get_2d_sincos_pos_embed`): half of the features for the
    column, then half for the row. `sincos3d` is V-JEPA's with `uniform_power` (facebookresearch/jepa,
    `get_3d_sincos_pos_embed`): time, row and column own `2 * ceil(width / 6)` each, and what goes beyond the
    width is cut off.

    :param ids: int64 [...]; `grid`: (rows, columns); `width`: features.
    :returns: [..., width].
    """
    time, row, column = split(ids, grid)
    if kind == SINCOS_2D:
        table = torch.cat((_sincos(column, width // 2), _sincos(row, width // 2)), -1)
    else:
        own = 2 * math.ceil(width / 6)
        table = torch.cat([_sincos(axis, own) for axis in (time, row, column)], -1)[..., :width]
    return table.to(torch.get_default_dtype())


def added_table(kind, slices, grid, width):
    """
    `added` of every token of a clip.

    :returns: [1, T * N, width], on the CPU even where modules are made on the meta device.
    """
    return added(kind, torch.arange(slices * grid[0] * grid[1], device='cpu'), grid, width)[None]


def resize_added(table, slices, grid, new_slices, new_grid):
    """
    Added positions of one size for another, as the authors' code and transformers do it: bicubic for images,
    trilinear for clips.

    :param table: float [1, T * N, D] of `slices` and `grid` (rows, columns).
    :returns: float [1, T' * N', D]; the table itself where nothing changes.
    """
    if (slices, *grid) == (new_slices, *new_grid):
        return table
    volume = table[0].unflatten(0, (slices, *grid)).permute(3, 0, 1, 2)[None]
    if slices == new_slices == 1:
        volume = F.interpolate(volume[:, :, 0], tuple(new_grid), mode='bicubic')
    else:
        volume = F.interpolate(volume, (new_slices, *new_grid), mode='trilinear')
    return volume.flatten(2).transpose(1, 2)


def turning_table(kind, time, row, column, grid, head_dim):
    """
    The table that `jepa_ros.nets.rotary.rotate` takes, of tokens at given places.

    V-JEPA 2 (`rope_tiled`) lays the cosines of an axis out as 0 1 2 .. 0 1 2 .. while neighbours 0 1, 2 3, ..
    are turned together (facebookresearch/vjepa2, `src/models/utils/modules.py`: a known slip, kept because
    the weights know no other). V-JEPA 2.1 (`rope_rescaled`) lays them out pair by pair, and stretches rows
    and columns so that the last one is at 15 (`app/vjepa_2_1/models/utils/modules.py`); a grid of one row,
    where that code divides by zero, stays at 0.

    :param time: [B, M], in slices; `row`, `column`: likewise, in tokens; `grid`: (rows, columns).
    :returns: (cos, sin), each [B, 1, M, E], ready to broadcast over heads.
    """
    if kind == ROPE_RESCALED:
        row, column = (
            axis.double() * ((TRAINED_GRID - 1) / max(side - 1, 1)) for axis, side in zip((row, column), grid)
        )
    angles = [_angles(axis, head_dim // 3 // 2) for axis in (time, row, column)]
    parts = [(angle.cos(), angle.sin()) for angle in angles]
    table = rope.table(*parts, head_dim, interleave=kind != ROPE_TILED)
    return tuple(part.to(torch.get_default_dtype())[:, None] for part in table)


def rotary_of(model, ids, grid, head_dim):
    """
    `turning_table` of tokens named by index.

    :param ids: int64 [B, M]; slices beyond the clip are allowed. `grid`: (rows, columns).
    :returns: (cos, sin), each [B, 1, M, E]; None for a model whose positions are added.
    """
    return turning_table(model.positions, *split(ids, grid), grid, head_dim) if model.rotary else None
