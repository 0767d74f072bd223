# SPDX-License-Identifier: Apache-2.0
"""Actions as changes of state between frames, for the action-conditioned forecaster."""

from __future__ import annotations

import numpy as np


def differences(states: np.ndarray) -> np.ndarray:
    """Return the change of each state to the next, [..., F - 1, P] of states [..., F, P]."""
    return states[..., 1:, :] - states[..., :-1, :]


def pose_differences(states: np.ndarray) -> np.ndarray:
    """Return the actions that V-JEPA 2-AC is conditioned on.

    Position and gripper are subtracted. A rotation is what the hand turns by, seen from the base: R_{t+1}
    R_tᵀ, and not the difference of angles, which jumps where they wrap. Source: `poses_to_diffs` in
    `app/vjepa_droid/droid.py` of facebookresearch/vjepa2.

    :param states: [..., F, 7]: x, y, z (m), roll, pitch, yaw (rad, about the fixed axes x, y, z in this
        order), gripper; NaN where unknown.
    :returns: float32 [..., F - 1, 7] in the same order; NaN where either state is unknown.
    """
    states = np.asarray(states, np.float64)
    rotations = rotation(states[..., 3:6])
    turned = rotations[..., 1:, :, :] @ np.swapaxes(rotations[..., :-1, :, :], -1, -2)
    actions = differences(states)
    actions[..., 3:6] = angles(turned)
    return actions.astype(np.float32)


def rotation(rpy: np.ndarray) -> np.ndarray:
    """Return the matrices Rz(yaw) Ry(pitch) Rx(roll), [..., 3, 3], of roll, pitch, yaw [..., 3] (rad)."""
    (a, b, c), (i, j, k) = np.moveaxis(np.cos(rpy), -1, 0), np.moveaxis(np.sin(rpy), -1, 0)
    rows = [
        [c * b, c * j * i - k * a, c * j * a + k * i],
        [k * b, k * j * i + c * a, k * j * a - c * i],
        [-j, b * i, b * a],
    ]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def angles(matrices: np.ndarray) -> np.ndarray:
    """Return roll, pitch, yaw [..., 3] (rad) of rotation matrices [..., 3, 3]; the inverse of `rotation`.

    Where the pitch is a right angle, only the sum of roll and yaw is defined: yaw is 0 there.
    """
    m = matrices
    cosine = np.hypot(m[..., 0, 0], m[..., 1, 0])
    pitch = np.arctan2(-m[..., 2, 0], cosine)
    locked = cosine < 1e-7
    roll = np.where(locked, np.arctan2(-m[..., 1, 2], m[..., 1, 1]), np.arctan2(m[..., 2, 1], m[..., 2, 2]))
    yaw = np.where(locked, 0.0, np.arctan2(m[..., 1, 0], m[..., 0, 0]))
    return np.stack([roll, np.where(np.isnan(cosine), np.nan, pitch), yaw], -1)
