# SPDX-License-Identifier: Apache-2.0
"""Changes of pose as V-JEPA 2-AC takes them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jepa_ros.data.actions import angles, differences, pose_differences, rotation

rolls_pitches_yaws = arrays(np.float64, (5, 3), elements=st.floats(-3.1, 3.1)).map(lambda a: a * [1, 0.49, 1])


@given(rolls_pitches_yaws)
def test_angles_are_the_inverse_of_rotation(rpy):
    matrices = rotation(rpy)
    np.testing.assert_allclose(
        matrices @ np.swapaxes(matrices, -1, -2), np.broadcast_to(np.eye(3), (5, 3, 3)), atol=1e-9
    )
    np.testing.assert_allclose(np.linalg.det(matrices), 1, atol=1e-9)
    np.testing.assert_allclose(angles(matrices), rpy, atol=1e-6)


def test_the_axes():
    turn = np.pi / 2
    np.testing.assert_allclose(rotation([turn, 0, 0]) @ [0, 1, 0], [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(rotation([0, turn, 0]) @ [0, 0, 1], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(rotation([0, 0, turn]) @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    # First about x, then about y, then about z, all of them fixed: scipy's Rotation.from_euler('xyz').
    np.testing.assert_allclose(
        rotation([0.1, 0.2, 0.3]),
        rotation([0, 0, 0.3]) @ rotation([0, 0.2, 0]) @ rotation([0.1, 0, 0]),
        atol=1e-12,
    )


@given(st.floats(-3, 3), st.floats(-3, 3), st.sampled_from([-1, 1]))
def test_a_right_angle_of_pitch_is_still_the_same_rotation(roll, yaw, sign):
    matrix = rotation(np.array([roll, sign * np.pi / 2, yaw]))
    np.testing.assert_allclose(rotation(angles(matrix)), matrix, atol=1e-6)


@given(arrays(np.float64, (4, 3), elements=st.floats(-2, 2)), rolls_pitches_yaws)
def test_an_action_leads_from_a_state_to_the_next(places, rpy):
    states = np.concatenate([places, rpy[:4], places[:, :1]], 1)
    actions = pose_differences(states)
    assert actions.shape == (3, 7) and actions.dtype == np.float32
    np.testing.assert_allclose(states[:-1, :3] + actions[:, :3], states[1:, :3], atol=1e-5)
    np.testing.assert_allclose(rotation(actions[:, 3:6]) @ rotation(rpy[:3]), rotation(rpy[1:4]), atol=1e-5)
    np.testing.assert_allclose(states[:-1, 6] + actions[:, 6], states[1:, 6], atol=1e-5)


def test_small_turns_across_the_wrap_are_small():
    states = np.zeros((2, 7))
    states[:, 5] = [np.pi - 0.01, -np.pi + 0.01]
    np.testing.assert_allclose(pose_differences(states)[0, 3:6], [0, 0, 0.02], atol=1e-6)


def test_what_is_unknown_stays_unknown_and_batches_are_taken():
    states = np.zeros((2, 5, 7), np.float32)
    states[1, 2] = np.nan
    actions = pose_differences(states)
    unknown = np.isnan(actions).all(-1)
    assert actions.shape == (2, 4, 7) and unknown.tolist() == [[False] * 4, [False, True, True, False]]
    assert not np.isnan(actions[~unknown]).any()
    np.testing.assert_array_equal(differences(np.array([[1.0, 5], [2, 3]])), [[1, -2]])
