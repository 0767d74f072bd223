# SPDX-License-Identifier: Apache-2.0
"""Differences and bounds: a bad graph fails, and NaN is never near anything."""

import numpy as np
import pytest

pytest.importorskip('torch', reason='torch is not installed (the train extra)')

from jepa_ros.errors import JepaError  # noqa: E402
from jepa_ros.export.fidelity import Fidelity  # noqa: E402


def compared(expected, found):
    fidelity = Fidelity()
    fidelity.add('encoder.tokens', np.array(expected, np.float32), np.array(found, np.float32))
    return fidelity


def test_the_largest_difference_and_the_mean_cosine_over_vectors_and_runs():
    fidelity = compared([[1, 0], [0, 2]], [[1, 0], [0.25, 2]])
    fidelity.add('encoder.tokens', np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))
    assert fidelity.parity == {'encoder.tokens': 1.0}
    first = (1 + 4 / (2 * np.hypot(0.25, 2))) / 2
    assert fidelity.cosine['encoder.tokens'] == pytest.approx(first / 2)


def test_cosines_do_not_see_length_and_differences_do():
    fidelity = compared([[1, 2, 3]], [[2, 4, 6]])
    assert fidelity.cosine['encoder.tokens'] == pytest.approx(1) and fidelity.parity['encoder.tokens'] == 3


@pytest.mark.parametrize('precision', ['fp32', 'fp16', 'bf16', 'int8'])
@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_numbers_that_are_not_finite_fail_every_bound(precision, bad):
    with np.errstate(invalid='ignore'), pytest.raises(JepaError, match='at encoder.tokens'):
        compared([[1, 2]], [[1, bad]]).check(precision)


@pytest.mark.parametrize('precision, angle', [('fp16', 0.05), ('bf16', 0.11), ('int8', 0.21)])
def test_each_precision_has_its_bound_on_the_angle(precision, angle):
    compared([[1, 0]], [[np.cos(angle / 2), np.sin(angle / 2)]]).check(precision)
    with pytest.raises(
        JepaError, match=rf'the {precision} graph has a cosine similarity of 0.9\d+ to torch at'
    ):
        compared([[1, 0]], [[np.cos(angle), np.sin(angle)]]).check(precision)


def test_float32_is_bound_by_the_difference():
    compared([[100, 0]], [[100.0005, 0]]).check('fp32')
    with pytest.raises(JepaError, match=r'differs from torch by 1.00e\+00 at encoder.tokens, at most 1e-03'):
        compared([[100, 0]], [[101, 0]]).check('fp32')
