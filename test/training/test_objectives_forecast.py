# SPDX-License-Identifier: Apache-2.0
"""Forecasting objectives: nothing leaks, and actions are of use where they move what is seen."""

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')

from jepa_ros.nets.action_forecaster import ActionForecaster  # noqa: E402
from jepa_ros.nets.forecaster import Forecaster  # noqa: E402
from jepa_ros.nets.vit import Encoder, EncoderConfig, normalise_output  # noqa: E402
from jepa_ros.training import objectives  # noqa: E402

CONFIG = EncoderConfig(depth=2, image_size=(32, 48), window=0)
TIMES = torch.tensor([[0.0, 0.1, 0.21, 0.3, 0.4, 0.52]]).expand(2, -1)
NEWEST, LATER, CONTEXT, WINDOW = 3, [4, 5], 3, 4


def clips():
    """Two clips, and the same with a future planted after slice `NEWEST`."""
    frames = torch.randn(2, 3, 12, 32, 48, generator=torch.Generator().manual_seed(0))
    planted = frames.clone()
    planted[:, :, 2 * (NEWEST + 1) :] = 3.0
    return frames, planted


@torch.no_grad()
@pytest.mark.parametrize('window', [0, 3])
def test_a_planted_future_changes_the_target_and_not_one_bit_of_the_context(window):
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(**{**CONFIG.to_dict(), 'image_size': (32, 48), 'window': window})).eval()
    frames, planted = clips()
    (context, times), (other, _) = (
        objectives.encode_prefix(encoder, v, TIMES, NEWEST, WINDOW) for v in (frames, planted)
    )
    assert context.shape == (2, WINDOW, 6, encoder.width) and torch.equal(context, other)
    assert torch.allclose(times[0], torch.tensor([-0.3, -0.2, -0.09, 0.0]))
    targets, changed = (objectives.encode_newest(encoder, v, TIMES, LATER, WINDOW) for v in (frames, planted))
    assert targets.shape == (2, 2, 6, encoder.width) and (targets - changed).abs().amax((0, 2, 3)).min() > 0.1
    if not window:  # what this guards against: one pass over everything
        leaked, after = (
            objectives.encode_targets(encoder, v, TIMES).unflatten(1, (6, -1)) for v in (frames, planted)
        )
        assert (leaked - after)[:, NEWEST].abs().max() > 1e-2
        assert torch.allclose(
            targets[:, -1], objectives.encode_prefix(encoder, frames, TIMES, 5, WINDOW)[0][:, -1]
        )


def test_the_joint_forecast_teaches_the_encoder_and_reads_no_future():
    torch.manual_seed(0)
    encoder = Encoder(CONFIG).eval()
    forecaster = Forecaster(CONFIG, encoder.width, CONTEXT, width=32, depth=1, heads=2)
    torch.nn.init.normal_(forecaster.proj.weight, std=0.1)
    frames, planted = clips()
    targets = torch.randn(2, 36, encoder.width)
    losses = [
        objectives.joint_forecast(encoder, forecaster, v, TIMES, NEWEST, LATER, targets)
        for v in (frames, planted)
    ]
    assert torch.equal(*losses)
    losses[0].backward()
    assert all(p.grad.abs().max() > 0 for p in (encoder.patch_embed.weight, forecaster.proj.weight))


def steered(count):
    """Latents that the action pushes along its own directions: only it says what comes next."""
    generator = torch.Generator().manual_seed(3)
    push = torch.randn(2, 16, generator=generator)
    actions = torch.randn(count, 4, 2, generator=generator)
    latents = [normalise_output(torch.randn(count, 6, 16, generator=generator))]
    for action in actions.unbind(1):
        latents.append(normalise_output(latents[-1] + 0.5 * (action @ push)[:, None]))
    times = (0.1 * torch.arange(5.0)).expand(count, -1)
    return torch.stack(latents, 1), times, actions, torch.zeros(count, 5, 3)


def test_where_actions_move_the_latents_a_forecaster_that_knows_them_is_much_better():
    latents, times, actions, states = steered(256)
    final = {}
    for knows in (True, False):
        torch.manual_seed(0)
        forecaster = ActionForecaster(CONFIG, 16, 2, 3, context=1, width=32, depth=1, heads=2)
        optimiser = torch.optim.AdamW(forecaster.parameters(), 1e-2)
        given = actions if knows else torch.zeros_like(actions)
        for step in range(60):
            rows = torch.arange(64) + 64 * (step % 3)
            loss, figures = objectives.action_forecast(
                forecaster, latents[rows], times[rows], given[rows], states[rows], 0
            )
            assert torch.allclose(loss.detach(), figures['teacher_forced'] + figures['rollout'])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        held_out = torch.arange(192, 256)
        with torch.no_grad():
            final[knows] = objectives.action_forecast(
                forecaster, latents[held_out], times[held_out], given[held_out], states[held_out], 0
            )[1]
    for term in ('teacher_forced', 'rollout'):
        assert final[True][term] < 0.5 * final[False][term]


def test_the_relative_error_is_one_at_persistence_and_weighs_still_clips_as_much_as_moving_ones():
    generator = torch.Generator().manual_seed(0)
    newest = torch.randn(2, 6, 8, generator=generator)
    change = torch.randn(2, 3, 6, 8, generator=generator) * torch.tensor([1.0, 0.1])[:, None, None, None]
    later = newest[:, None] + change
    persistence = newest[:, None].expand_as(later)
    # All but 1: the floor of a still scene.
    assert objectives.relative_error(persistence, later, newest).item() == pytest.approx(1, abs=0.06)
    assert objectives.relative_error(later, later, newest) == 0
    halved = [
        persistence + 0.5 * change * torch.tensor(of)[:, None, None, None] for of in ([1.0, 0.0], [0.0, 1.0])
    ]
    moving, still = (objectives.relative_error(futures, later, newest).item() for futures in halved)
    assert moving == pytest.approx(still, abs=0.05) and 0.5 < moving < 0.7
    # Nothing moves at all: noise counts, and finitely.
    standing = torch.zeros_like(later[1:]) + newest[1:, None]
    assert 0 < objectives.relative_error(standing + 0.01, standing, newest[1:]) < 1
