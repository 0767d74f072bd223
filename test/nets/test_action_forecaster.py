# SPDX-License-Identifier: Apache-2.0
"""
The action forecaster: what an answer may depend on, and that a rollout is teacher forcing on its own answers.
"""

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')

from jepa_ros.nets.action_forecaster import ActionForecaster  # noqa: E402
from jepa_ros.nets.vit import EncoderConfig, normalise_output  # noqa: E402

CONFIG = EncoderConfig(image_size=(32, 48), patch=16)
DIM, N, S, K, A, P = 24, 6, 3, 4, 2, 5


@pytest.fixture
def forecaster():
    torch.manual_seed(0)
    forecaster = ActionForecaster(CONFIG, DIM, A, P, S, width=32, depth=2, heads=2).eval()
    for parameter in forecaster.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return forecaster


def inputs(seed=0, batch=2):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(batch, *shape, generator=generator)

    return {
        'context': normalise_output(normal(S, N, DIM)),
        'times': torch.tensor([[-0.21, -0.1, 0.0]]).expand(batch, -1),
        'actions': normal(K, A),
        'states': normal(K, P),
        'dt': torch.tensor([[0.1, 0.18, 0.3, 0.41]]).expand(batch, -1),
    }


@torch.no_grad()
def test_an_untrained_rollout_is_persistence():
    given = inputs()
    futures = ActionForecaster(CONFIG, DIM, A, P, S, width=32, depth=2, heads=2)(**given)
    assert futures.shape == (2, K, N, DIM)
    assert torch.allclose(futures, given['context'][:, -1:].expand(-1, K, -1, -1), atol=1e-4)


@torch.no_grad()
def test_a_rollout_with_cached_keys_equals_teacher_forcing_on_its_own_answers(forecaster):
    given = inputs()
    futures = forecaster(**given)
    assert torch.allclose(forecaster(**given, later=futures[:, :-1]), futures, atol=1e-4)


@torch.no_grad()
def test_an_answer_depends_on_every_earlier_action_state_and_time_and_on_no_later_one(forecaster):
    given = inputs()
    base, later = forecaster(**given), torch.randn(2, K - 1, N, DIM)
    forced = forecaster(**given, later=later)
    for name in ('actions', 'states'):
        changed = {**given, name: given[name].clone()}
        changed[name][:, 2] += 1.0
        for before, after in ((base, forecaster(**changed)), (forced, forecaster(**changed, later=later))):
            assert torch.equal(before[:, :2], after[:, :2])
            assert ((before - after)[:, 2:].abs().amax((0, 2, 3)) > 1e-3).all()
    planted = later.clone()
    planted[:, 1] = 5.0
    after = forecaster(**given, later=planted)
    assert torch.equal(forced[:, :2], after[:, :2]) and (forced - after)[:, 2].abs().max() > 1e-3
    slower = forecaster(**{**given, 'dt': given['dt'] * 2})
    assert (slower - base).abs().max() > 1e-3


@torch.no_grad()
def test_actions_and_states_come_in_their_own_units(forecaster):
    given = inputs()
    base = forecaster(**given)
    scale, shift, sample = 1000.0, 7.0, torch.randn(500, A + P)
    sample = (sample - sample.mean(0)) / sample.std(0, correction=0)
    sample[:, -1] = 1.0  # never changes: only its mean goes
    forecaster.standardise(sample[:, :A] * scale + shift, sample[:, A:])
    other = {**given, 'actions': given['actions'] * scale + shift, 'states': given['states'].clone()}
    other['states'][..., -1] += 1.0
    assert (forecaster(**other) - base).abs().max() < 1e-3
    assert forecaster.state_std[-1] == 1.0
