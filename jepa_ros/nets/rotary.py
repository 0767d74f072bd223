# SPDX-License-Identifier: Apache-2.0
"""
3D rotary positions: time, row and column turn pairs of features of every query and key.

As in V-JEPA 2 (Assran et al. 2025, facebookresearch/vjepa2), each axis owns `2 * ((E // 3) // 2)` of the E
features of a head, theta is 10000, and what is left over is not turned. Two things differ, because a robot's
camera is no video file: time is the true time offset in units of the nominal slice period rather than an
index, so a dropped frame does not shift the clock; and cosines and sines stand beside each other pair by pair
(the published code expands them in another order, a known slip that a checkpoint loader has to reproduce).

Attention depends on differences of angles only, so the origin of time is free.
"""

import torch

THETA = 10000.0


def axis_frequencies(head_dim):
    """
    Angular frequencies of one axis.

    :param head_dim: E, features of one head.
    :returns: float32 [E // 3 // 2], radians per unit of position.
    """
    pairs = head_dim // 3 // 2
    return THETA ** (-torch.arange(pairs, dtype=torch.float32) / pairs)


def angles(positions, head_dim):
    """
    Angles of one axis.

    :param positions: float [...], position along the axis (slice periods, rows or columns).
    :returns: float32 [..., E // 3 // 2], radians. Computed in float64: a session's clock may have run for
        days.
    """
    return (positions.double()[..., None] * axis_frequencies(head_dim).double().to(positions.device)).float()


def table(time_cos_sin, row_cos_sin, column_cos_sin, head_dim, interleave=True):
    """
    Join the axes into the table that `rotate` takes.

    :param time_cos_sin: pair of float [..., M, P], cosine and sine of the angles; likewise rows and columns.
    :param interleave: angles stand pair by pair; False repeats the whole axis, as the weights of V-JEPA 2
        need it.
    :returns: (cos, sin), each float [..., M, E]; features that belong to no axis get cos 1 and sin 0.
    """

    def expand(axes):
        if interleave:
            return torch.cat(axes, dim=-1).repeat_interleave(2, dim=-1)
        return torch.cat([axis for axis in axes for _ in range(2)], dim=-1)

    cos, sin = (expand(axes) for axes in zip(time_cos_sin, row_cos_sin, column_cos_sin))
    rest = (*cos.shape[:-1], head_dim - cos.shape[-1])
    return torch.cat((cos, cos.new_ones(rest)), -1), torch.cat((sin, sin.new_zeros(rest)), -1)


def token_table(times, ids, grid, head_dim):
    """
    Rotary table of tokens named by their index in the clip.

    :param times: float [B, T], time of each slice in slice periods.
    :param ids: int64 [B, M], token index `slice * N + row * columns + column`.
    :param grid: (rows, columns).
    :returns: (cos, sin), float32 [B, 1, M, E], ready to broadcast over heads.
    """
    rows, columns = grid
    slice_ids, cell = ids // (rows * columns), ids % (rows * columns)
    axes = times.gather(1, slice_ids), cell // columns, cell % columns
    parts = [(a.cos(), a.sin()) for a in (angles(axis, head_dim) for axis in axes)]
    cos, sin = table(*parts, head_dim)
    return cos[:, None], sin[:, None]


def rotate(x, rotary):
    """
    Turn adjacent pairs of features.

    :param x: float [..., M, E], queries or keys.
    :param rotary: (cos, sin) as `table` gives them, broadcastable to x; None turns nothing (positions were
        added).
    """
    if rotary is None:
        return x
    cos, sin = rotary
    first, second = x.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((-second, first), dim=-1).flatten(-2)
    return x * cos.to(x.dtype) + turned * sin.to(x.dtype)
