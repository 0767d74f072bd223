# SPDX-License-Identifier: Apache-2.0
"""I-JEPA's and V-JEPA's losses against another way of computing each."""

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')

import tiny_official  # noqa: E402
import torch.nn.functional as F  # noqa: E402

from jepa_ros.errors import JepaError  # noqa: E402
from jepa_ros.nets.masks import SHORT, MultiBlock, draw_masks  # noqa: E402
from jepa_ros.nets.predictor import Predictor  # noqa: E402
from jepa_ros.nets.vit import Encoder, EncoderConfig  # noqa: E402
from jepa_ros.training import objectives  # noqa: E402

IMAGE = EncoderConfig(depth=2, image_size=(96, 96), tubelet=1, window=1)
VIDEO = EncoderConfig(depth=2, image_size=(64, 80), window=3)


def networks(config, **options):
    torch.manual_seed(0)
    encoder, target = Encoder(config).eval(), Encoder(config).eval()
    predictor = Predictor(config, encoder.width, 48, 2, 2, **options).eval()
    for network in (encoder, target, predictor):  # as if trained: attention chooses, and positions count
        for parameter in network.parameters():
            parameter.data.mul_(4.0 if parameter.ndim > 1 else 1.0)
    return encoder, target, predictor


def masks(recipe, config, slices, batch=2, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(map(torch.from_numpy, draw_masks(recipe, rng, rng.spawn(batch), config.grid, slices)))


def clip(config, slices, batch=2):
    frames = torch.randn(
        batch, 3, slices * config.tubelet, *config.image_size, generator=torch.Generator().manual_seed(1)
    )
    return frames, (0.1 * torch.arange(slices)).expand(batch, -1) + 0.01 * torch.arange(batch)[:, None]


@torch.no_grad()
def test_i_jepa_is_the_mean_over_targets_that_do_not_see_each_other():
    """Clip by clip and target by target, in plain loops, against the batched pass."""
    encoder, target, predictor = networks(IMAGE)
    x, times = clip(IMAGE, 1)
    context, blocks = masks(MultiBlock(min_keep=4), IMAGE, 1)
    assert blocks.shape[1] == 4
    wanted = objectives.encode_targets(target, x, times)
    for norm, loss in (('smooth_l1', F.smooth_l1_loss), ('l2', F.mse_loss), ('l1', F.l1_loss)):
        expected = []
        for b in range(2):
            row = slice(b, b + 1)
            z = encoder(x[row], times[row], context[row])
            full = F.layer_norm(target(x[row], times[row]), (encoder.width,))[0]
            expected += [
                loss(predictor(z, context[row], block[None], times[row])[0], full[block])
                for block in blocks[b]
            ]
        found = objectives.i_jepa(encoder, predictor, x, times, context, blocks, wanted, norm=norm)
        assert torch.allclose(found, torch.stack(expected).mean(), rtol=1e-5)


@torch.no_grad()
def test_v_jepa_is_the_mean_over_masks_and_knows_the_time_of_its_targets():
    encoder, target, predictor = networks(VIDEO)
    v, times = clip(VIDEO, 4)
    wanted = objectives.encode_targets(target, v, times)
    several = [masks(SHORT, VIDEO, 4, seed=seed) for seed in (0, 1)]
    each = [objectives.v_jepa(encoder, predictor, v, times, [mask], wanted) for mask in several]
    assert torch.allclose(objectives.v_jepa(encoder, predictor, v, times, several, wanted), sum(each) / 2)
    stretched, shifted = (
        objectives.v_jepa(encoder, predictor, v, at, several, wanted) - sum(each) / 2
        for at in (times * 3, times + 3)
    )
    assert 1e-5 < stretched.abs() and shifted.abs() < 0.1 * stretched.abs()  # Δt_k


@torch.no_grad()
def test_the_context_loss_weighs_a_token_by_its_distance_to_the_nearest_hidden_one():
    """By brute force over all pairs of tokens."""
    encoder, target, predictor = networks(VIDEO, predicts_context=True)
    v, times = clip(VIDEO, 3)
    (context, blocks), (rows, columns) = masks(SHORT, VIDEO, 3), VIDEO.grid
    wanted = objectives.encode_targets(target, v, times)
    weights = objectives.context_weights(context, blocks[:, 0], VIDEO.grid)
    places = np.stack(np.unravel_index(np.arange(3 * rows * columns), (3, rows, columns)), 1)
    for b in range(2):
        for i in range(0, context.shape[1], 5):
            nearest = min(np.linalg.norm(places[context[b, i]] - places[j]) for j in blocks[b, 0])
            assert abs(weights[b, i] - nearest**-0.5) < 1e-5
    filled, again = predictor(encoder(v, times, context), context, blocks[:, 0], times, with_context=True)
    seen = torch.stack([wanted[b, context[b]] for b in range(2)])
    hidden = torch.stack([wanted[b, blocks[b, 0]] for b in range(2)])
    expected = (filled - hidden).abs().mean() + 0.3 * ((again - seen).abs() * weights[..., None]).mean()
    found = objectives.v_jepa(
        encoder, predictor, v, times, [(context, blocks)], wanted, context=0.3, grid=VIDEO.grid
    )
    assert torch.allclose(found, expected, rtol=1e-5)
    assert torch.allclose(predictor(encoder(v, times, context), context, blocks[:, 0], times), filled)


@pytest.mark.parametrize('name', ['vjepa2.1-vitl', 'vjepa2.1-vitg'])
def test_the_context_loss_takes_published_networks(name):
    """Distilled ones, whose targets are wider than their encoder, and those that read four levels."""
    model = tiny_official.tiny(name)
    encoder, predictor = tiny_official.networks(model)
    v = tiny_official.frames_of(model)
    (seen, hidden), grid = tiny_official.sparse_ids(encoder.config), encoder.config.grid
    times = torch.zeros(2, encoder.config.slices)
    targets = torch.randn(2, encoder.config.slices * encoder.config.tokens, predictor.out_width)
    found = objectives.v_jepa(
        encoder, predictor, v, times, [(seen, hidden[:, None])], targets, context=0.5, grid=grid
    )
    filled, again = predictor(encoder(v, times, seen), seen, hidden, with_context=True)
    rows = torch.arange(2)[:, None]
    error = (again - targets[rows, seen]).abs().mean(-1) * objectives.context_weights(seen, hidden, grid)
    expected = (filled - targets[rows, hidden]).abs().mean() + 0.5 * error.mean()
    assert torch.allclose(found, expected) and error.mean() > 0
    found.backward()
    assert predictor.proj_context.weight.grad.any() and encoder.patch_embed.weight.grad.any()


def test_a_predictor_that_was_not_trained_to_say_the_context_says_so():
    predictor = tiny_official.networks(tiny_official.tiny('vjepa2-vitl'))[1]
    with pytest.raises(JepaError, match='predicts no context: expected a model of V-JEPA 2.1'):
        predictor(torch.zeros(1, 1, 48), torch.tensor([[0]]), torch.tensor([[1]]), with_context=True)


def test_the_context_loss_waits_and_rises():
    weights = [objectives.context_weight(step, 0.5, 10, 30) for step in (0, 10, 20, 30, 99)]
    assert weights == [0.0, 0.0, 0.25, 0.5, 0.5]


def test_no_gradient_reaches_the_target_encoder_and_all_of_encoder_and_predictor_learn():
    encoder, target, predictor = networks(VIDEO)
    v, times = clip(VIDEO, 3)
    loss = objectives.v_jepa(
        encoder, predictor, v, times, [masks(SHORT, VIDEO, 3)], objectives.encode_targets(target, v, times)
    )
    loss.backward()
    assert all(parameter.grad is None for parameter in target.parameters())
    assert all(
        parameter.grad.abs().max() > 0
        for network in (encoder, predictor)
        for parameter in network.parameters()
    )
