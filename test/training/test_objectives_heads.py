# SPDX-License-Identifier: Apache-2.0
"""Losses of heads and of distillation, against what they must give by another way of computing it."""

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')

from jepa_ros.nets.readout import PointReadout, Votes  # noqa: E402
from jepa_ros.nets.vit import EncoderConfig  # noqa: E402
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


def test_the_likelihood_of_votes_is_that_of_a_mixture_of_gaussians():
    """Against the sum over tokens written out."""
    rng = np.random.default_rng(5)
    m, n = 4, 6
    root = rng.normal(size=(m, n, 2, 2))
    covariance = root @ root.transpose(0, 1, 3, 2) + 0.1 * np.eye(2)
    logits, point, label = rng.normal(size=(m, n, 1)), rng.normal(size=(m, n, 2)), rng.normal(size=(m, 2))
    triangle = np.stack((covariance[..., 0, 0], covariance[..., 0, 1], covariance[..., 1, 1]), -1)
    votes = Votes(*(torch.from_numpy(of) for of in (logits, point, triangle)))
    expected = []
    for row in range(m):
        weight = np.exp(logits[row, :, 0]) / np.exp(logits[row, :, 0]).sum()
        off = label[row] - point[row]
        density = [np.exp(-0.5 * d @ np.linalg.inv(c) @ d) / np.sqrt(np.linalg.det(c)) for d, c in zip(off, covariance[row])]
        expected.append(-np.log(weight @ density))
    assert np.allclose(objectives.votes_likelihood(votes, torch.from_numpy(label)), expected)


def test_an_attributes_mean_learns_from_its_error_alone_and_its_deviation_from_the_likelihood():
    """A large error counts as such and a small one squared, an unknown number not at all."""
    mean = torch.tensor([[0.3, 1.0], [0.48, 1.0]], requires_grad=True)
    std = torch.tensor([[0.1, 0.5], [0.2, 0.5]], requires_grad=True)
    unit, label = torch.tensor([0.2, 2.0]), torch.tensor([[0.5, torch.nan]] * 2)
    loss = objectives.attributes(mean, std, label, unit)
    weight = 0.1 / 0.2  # of the deviation in units of the labels' spread, in which no gradient is
    likelihood = 0.5 * (0.2 / 0.1) ** 2 + np.log(0.1 / 0.2)
    assert loss[0].item() == pytest.approx(0.2 / 0.2 - 0.3 / 2 + weight * likelihood, rel=1e-5)
    assert loss[1].item() == pytest.approx((0.02 / 0.2) ** 2 / (2 * 0.3) + 0.5 * (0.02 / 0.2) ** 2, rel=1e-4)
    loss.sum().backward()
    assert torch.allclose(mean.grad, torch.tensor([[-1 / 0.2, 0.0], [-0.02 / 0.2**2 / 0.3, 0.0]]), rtol=1e-4)
    assert torch.allclose(std.grad[0], weight * torch.tensor([1 / 0.1 - 0.2**2 / 0.1**3, 0.0]))


def test_a_point_lies_in_the_cell_of_one_token_and_beyond_the_border_in_the_nearest():
    point = torch.tensor([[0.1, 0.1], [0.9, 0.6], [0.26, 0.49], [-0.3, 2.0], [1.0, 1.0]])
    assert objectives.whose_cell(point, (2, 4)).tolist() == [0, 7, 1, 4, 7]


def test_a_readout_learns_where_to_look_and_what_is_told_of_the_point():
    """A point and an attribute that one token knows; where the attribute is unknown the point is learned all the same."""
    torch.manual_seed(0)
    head = PointReadout(EncoderConfig(image_size=(32, 64), patch=16), 16, width=32, depth=1, heads=2, attributes=1)
    optimiser, dt = torch.optim.AdamW(head.parameters(), 1e-3), torch.zeros(64)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 300)

    def draw(generator):
        token = torch.randint(8, (64,), generator=generator)
        turned = torch.rand(64, generator=generator)
        futures = 0.1 * torch.randn(64, 8, 16, generator=generator)
        futures[torch.arange(64), token, 0] += 3.0
        futures[torch.arange(64), token, 1] += 4 * turned
        label = torch.stack(((token % 4 + 0.5) / 4, (token // 4 + 0.5) / 2, turned), -1)
        return futures, label

    generator = torch.Generator().manual_seed(1)
    for step in range(300):
        futures, label = draw(generator)
        if step % 2:
            label[:, 2] = torch.nan
        loss = objectives.readout(head, futures, dt, label).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)  # as the trainer does
        optimiser.step()
        rate.step()
    futures, label = draw(generator)
    point, _, mean, _ = head(futures, dt)
    assert (point - label[:, :2]).norm(dim=-1).median() < 0.05
    assert (mean - label[:, 2:]).abs().median() < 0.15
