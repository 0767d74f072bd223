# SPDX-License-Identifier: Apache-2.0
"""Losses of heads and of distillation, against what they must give by another way of computing it."""

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')

from jepa_ros.training import objectives  # noqa: E402


@pytest.mark.parametrize('length', [1, 2, 4])
def test_the_likelihood_of_a_vector_is_that_of_a_gaussian(length):
    rng = np.random.default_rng(length)
    root = rng.normal(size=(5, length, length))
    covariance, label = root @ root.transpose(0, 2, 1) + 0.5 * np.eye(length), rng.normal(size=(5, length))
    mean, spread, truth = (torch.from_numpy(of).float() for of in (np.zeros((5, length)), covariance, label))
    expected = [0.5 * (d @ np.linalg.inv(c) @ d + np.linalg.slogdet(c)[1]) for c, d in zip(covariance, label)]
    assert np.allclose(objectives.gaussian_likelihood(mean, spread, truth), expected, rtol=1e-4)
    if length == 2:
        assert torch.allclose(
            objectives.point_likelihood(mean, spread, truth), torch.tensor(expected).float(), rtol=1e-4
        )


def test_clips_without_a_class_do_not_count():
    logits = torch.randn(4, 3, requires_grad=True)
    label = torch.tensor([2, -1, 0, -1])
    expected = torch.nn.functional.cross_entropy(logits[[0, 2]], label[[0, 2]])
    assert torch.allclose(objectives.classification(logits, label), expected)
    nothing = objectives.classification(logits, torch.full((4,), -1))
    nothing.backward()
    assert nothing == 0 and logits.grad.abs().max() == 0


def test_a_teachers_latents_come_to_the_students_grid():
    """A plane stays a plane away from the borders; the mean stays the mean; the same grid is left alone."""
    rows, columns = torch.meshgrid(torch.arange(12.0), torch.arange(16.0), indexing='ij')
    plane = torch.stack(((rows + 0.5) / 12, (columns + 0.5) / 16, torch.ones_like(rows)), -1).flatten(0, 1)[
        None, None
    ]
    for wanted in ((6, 8), (24, 32)):
        moved = objectives.on_grid(plane.expand(2, 3, -1, -1), (12, 16), wanted)
        assert moved.shape == (2, 3, wanted[0] * wanted[1], 3)
        r, c = torch.meshgrid(*((torch.arange(float(side)) + 0.5) / side for side in wanted), indexing='ij')
        inner = moved[0, 0].unflatten(0, wanted)[2:-2, 2:-2]
        assert torch.allclose(inner, torch.stack((r, c, torch.ones_like(r)), -1)[2:-2, 2:-2], atol=1e-5)
    assert objectives.on_grid(plane, (12, 16), [12, 16]) is plane


def test_distillation_is_smooth_l1_with_its_bend_at_two():
    targets = torch.tensor([[[0.0, 1.0, -5.0]]])
    loss = objectives.distillation(
        lambda frames, times: frames, torch.nn.Identity(), torch.zeros(1, 1, 3), None, targets
    )
    assert abs(loss.item() - (0.0 + 0.25 + (5.0 - 1.0)) / 3) < 1e-6
