# SPDX-License-Identifier: Apache-2.0
"""Predictor, forecaster and readout: what each may depend on, and the readout's covariance."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')

from jepa_ros.nets.forecaster import Forecaster  # noqa: E402
from jepa_ros.nets.predictor import Predictor  # noqa: E402
from jepa_ros.nets.readout import CELLS, MIN_STD, WINDOW, AttributeReadout, PointReadout  # noqa: E402
from jepa_ros.nets.vit import EncoderConfig  # noqa: E402

CONFIG = EncoderConfig(image_size=(32, 48), patch=16)
DIM, N = 24, 6


@pytest.fixture
def forecaster():
    torch.manual_seed(0)
    forecaster = Forecaster(CONFIG, DIM, 4, width=32, depth=2, heads=2).eval()
    for weight in (
        forecaster.proj.weight,
        forecaster.trend,
    ):  # they begin at zero: give them something to say
        torch.nn.init.normal_(weight, std=0.2)
    return forecaster


@torch.no_grad()
def test_an_untrained_forecast_is_persistence():
    context, times = torch.randn(1, 4, N, DIM), torch.tensor([[-0.3, -0.2, -0.1, 0.0]])
    untrained = Forecaster(CONFIG, DIM, 4, width=32, depth=2, heads=2)
    futures = untrained(context, times, torch.tensor([[0.1, 0.5]]))
    assert torch.equal(futures, context[:, -1:].expand(-1, 2, -1, -1))


@torch.no_grad()
def test_one_horizon_does_not_depend_on_which_others_were_asked_for(forecaster):
    context, times = torch.randn(2, 4, N, DIM), torch.tensor([[-0.3, -0.2, -0.1, 0.0]]).expand(2, -1)
    dt = torch.tensor([[0.1, 0.25, 0.4]]).expand(2, -1)
    together = forecaster(context, times, dt)
    alone = torch.cat([forecaster(context, times, dt[:, k : k + 1]) for k in range(3)], 1)
    assert together.shape == (2, 3, N, DIM)
    assert torch.allclose(together, alone, atol=1e-5)


@torch.no_grad()
def test_the_forecast_is_continuous_in_dt_and_depends_on_every_context_slice(forecaster):
    context, times = torch.randn(1, 4, N, DIM), torch.tensor([[-0.3, -0.2, -0.1, 0.0]])
    near = forecaster(context, times, torch.tensor([[0.2, 0.2001, 0.5]]))[0]
    assert (near[0] - near[1]).abs().max() < 0.05 * (near[0] - near[2]).abs().max()
    for s in range(4):
        changed = context.clone()
        changed[:, s] += torch.randn(N, DIM)
        assert (forecaster(changed, times, torch.tensor([[0.2]]))[0] - near[0]).abs().max() > 1e-4


@torch.no_grad()
def test_the_forecast_knows_whether_a_slice_came_late_and_begins_alike_where_none_did(forecaster):
    context, dt = torch.randn(1, 4, N, DIM), torch.tensor([[0.2]])
    even, late = torch.tensor([[-0.3, -0.2, -0.1, 0.0]]), torch.tensor([[-0.4, -0.2, -0.1, 0.0]])
    assert (forecaster(context, even, dt) - forecaster(context, late, dt)).abs().max() > 1e-4
    before = forecaster(context, even, dt)
    forecaster.late.weight.mul_(10)
    assert torch.allclose(forecaster(context, even, dt), before, atol=1e-6)


@torch.no_grad()
def test_a_forecast_from_one_slice_alone():
    forecaster = Forecaster(CONFIG, DIM, 1, width=32, depth=1, heads=2)
    assert forecaster(torch.randn(2, 1, N, DIM), torch.zeros(2, 1), torch.full((2, 1), 0.1)).shape == (2, 1, N, DIM)


@torch.no_grad()
def test_the_predictor_tells_target_positions_apart_and_ignores_their_order():
    torch.manual_seed(0)
    predictor = Predictor(CONFIG, DIM, width=24, depth=2, heads=2).eval()
    context, context_ids = torch.randn(1, 3, DIM), torch.tensor([[0, 1, 6]])
    times = torch.tensor([[0.0, 0.1]])
    ahead = predictor(context, context_ids, torch.tensor([[3, 10]]), times)
    swapped = predictor(context, context_ids, torch.tensor([[10, 3]]), times)
    assert torch.allclose(ahead, swapped.flip(1), atol=1e-6)
    assert (ahead[:, 0] - ahead[:, 1]).abs().max() > 1e-4


@torch.no_grad()
def test_the_readout_gives_the_moments_of_the_tokens_mixture():
    """Against samples drawn from the votes themselves."""
    torch.manual_seed(1)
    readout = PointReadout(CONFIG, DIM, width=24, depth=1, heads=2).eval()
    caught = {}
    readout.vote.weight.data.normal_(0, 0.5)
    readout.vote.register_forward_hook(lambda _m, _i, output: caught.update(votes=output.clone()))
    point, covariance = readout(torch.randn(2, N, DIM), torch.tensor([0.1, 0.4]))
    rng = np.random.default_rng(0)
    for k in range(2):
        vote = caught['votes'][k].double().numpy()
        weight = np.exp(vote[:, 0]) / np.exp(vote[:, 0]).sum()
        token = rng.choice(N, 200_000, p=weight)
        centre = np.stack(((token % 3 + 0.5) / 3, (token // 3 + 0.5) / 2), 1) + vote[token, 1:3]
        a, b, c = vote[token, 3:].T
        noise = rng.normal(size=(3, len(token), 2))
        sample = (
            centre
            + np.stack((a * noise[0, :, 0], b * noise[0, :, 0] + c * noise[0, :, 1]), 1)
            + MIN_STD * noise[1]
        )
        assert np.allclose(sample.mean(0), point[k], atol=0.02)
        assert np.allclose(
            np.cov(sample.T), covariance[k], atol=0.05 * float(covariance[k].abs().max()) + 1e-3
        )


@torch.no_grad()
def test_the_readouts_covariance_is_symmetric_and_positive_whatever_it_is_fed():
    torch.manual_seed(2)
    readout = PointReadout(CONFIG, DIM, width=24, depth=1, heads=2).eval()
    for scale in (0.0, 1.0, 1e4):
        _, covariance = readout(scale * torch.randn(3, N, DIM), torch.tensor([0.1, 0.2, 0.3]))
        assert torch.equal(covariance, covariance.mT)
        assert torch.linalg.eigvalsh(covariance.double()).min() > 0.5 * MIN_STD**2


def reader(attributes=2, grid=(5, 10)):
    of = replace(CONFIG, image_size=tuple(CONFIG.patch * side for side in grid))
    made = AttributeReadout(of, DIM, attributes).eval()
    made.log_std.weight.data.normal_(0, 0.2)
    return made


@torch.no_grad()
def test_attributes_are_read_around_the_point_in_the_units_of_the_labels():
    torch.manual_seed(3)
    made, futures, dt = reader(), torch.randn(1, 50, DIM), torch.tensor([0.2])
    point = torch.tensor([[0.15, 0.3]])  # in the middle of row 1, column 1 of 5 rows of 10
    mean, std = made(futures, dt, point)
    far, near = futures.clone(), futures.clone()
    far[0, 14], near[0, 11] = torch.randn(DIM), torch.randn(DIM)  # three tokens to the right, and its own
    moved = [(made(of, dt, point)[0] - mean).abs().max() for of in (far, near)]
    assert moved[0] == 0 < moved[1]
    made.scale_to(np.array([1.0, -2.0]), np.array([0.5, 3.0]))
    scaled = made(futures, dt, point)
    assert torch.allclose(scaled[0], torch.tensor([1.0, -2.0]) + torch.tensor([0.5, 3.0]) * mean, atol=1e-5)
    assert torch.allclose(scaled[1], torch.tensor([0.5, 3.0]) * std)


@torch.no_grad()
def test_the_window_moves_with_the_point_and_is_linear_between_cells():
    """Against torch's own sampling of images, which the graphs of a bundle do without."""
    torch.manual_seed(5)
    made, futures = reader(), torch.randn(3, 50, DIM)
    point = torch.tensor([[0.02, 0.9], [0.5, 0.5], [0.611, 0.333]])
    (rows, columns), (high, wide) = [CELLS * side for side in made.grid], WINDOW
    unfolded = made.unfold(futures).view(3, 5, 10, CELLS, CELLS, -1)
    picture = torch.stack([unfolded[:, r // CELLS, c // CELLS, r % CELLS, c % CELLS]
                           for r in range(rows) for c in range(columns)], -1).unflatten(-1, (rows, columns))  # fmt: skip
    down = point[:, 1, None] * rows + torch.arange(high) - (high - 1) / 2
    across = point[:, 0, None] * columns + torch.arange(wide) - (wide - 1) / 2
    at = torch.stack((
        (across[:, None] / columns * 2 - 1).expand(-1, high, -1), (down[:, :, None] / rows * 2 - 1).expand(-1, -1, wide)
    ), -1)  # fmt: skip
    expected = torch.nn.functional.grid_sample(picture, at, align_corners=False)
    assert torch.allclose(made.window(futures, point), expected, atol=1e-5)


def test_attributes_change_nothing_of_the_point_and_their_deviation_nothing_of_their_mean():
    torch.manual_seed(4)
    readout = PointReadout(CONFIG, DIM, width=24, depth=1, heads=2, attributes=2)
    futures, dt = torch.randn(3, N, DIM), torch.tensor([0.1, 0.2, 0.4])
    votes = readout(futures, dt, votes=True)
    votes.mean.sum().backward(retain_graph=True)
    assert all(p.grad is None for name, p in readout.named_parameters() if not name.startswith('attributes.'))
    readout.zero_grad()
    votes.std.sum().backward()
    learned = {name for name, p in readout.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert learned == {'attributes.log_std.weight', 'attributes.log_std.bias'}
    point, covariance, mean, std = readout(futures, dt)
    assert mean.shape == std.shape == (3, 2) and std.min() > 0
