# SPDX-License-Identifier: Apache-2.0
"""One update: schedules, accumulated gradients, what is clipped, bfloat16, compiled blocks."""

import functools
import math
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')

from jepa_ros.errors import JepaError  # noqa: E402
from jepa_ros.training import config as configuration  # noqa: E402
from jepa_ros.training import parallel, schedules  # noqa: E402
from jepa_ros.training.stages.stage import Stage  # noqa: E402
from jepa_ros.training.update import Update  # noqa: E402


class Line(Stage):
    """
    The smallest stage: a linear regression in float64, one feature of the batch being the same for all rows.
    """

    name = 'pretraining'

    def __init__(self, values):
        config = configuration.from_dict({'bf16': False, 'pretraining': values})
        super().__init__(config, None, None, parallel.Place('cpu', 'none'))
        torch.manual_seed(0)
        self.modules = [torch.nn.Linear(3, 1).double(), torch.nn.Linear(3, 1).double()]

    def batch(self, step):
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(8, 3, generator=generator, dtype=torch.float64)
        return x, (x.sum(1, keepdim=True) + step), 2.0

    def loss(self, x, y, scale):
        error = scale * self.modules[0](x) + self.modules[1](x) - y
        return error.square().mean(), {'absolute': error.detach().abs().mean(), 'never': math.nan}


def trained(**values):
    stage = Line({'steps': 10, 'batch': 8, 'rate': 0.1, 'warmup': 2, **values})
    update = Update(stage, stage.place, stage.config)
    return stage, update, [update(step, stage.batch(step)) for step in range(5)]


@pytest.mark.parametrize('parts', [2, 4, 8])
def test_accumulated_parts_give_the_loss_and_the_weights_of_the_whole_batch(parts):
    whole, _, expected = trained()
    stage, _, figures = trained(accumulate=parts)
    for one, other in zip(figures, expected):
        assert one['loss'] == pytest.approx(other['loss'], rel=1e-12)
        assert one['absolute'] == pytest.approx(other['absolute'], rel=1e-12)
        assert one['gradient'] == pytest.approx(other['gradient'], rel=1e-10) and math.isnan(one['never'])
    for one, other in zip(stage.modules[0].parameters(), whole.modules[0].parameters()):
        assert torch.allclose(one, other, rtol=0, atol=1e-12)


def test_a_batch_that_the_parts_do_not_divide_is_refused():
    with pytest.raises(JepaError, match=r'pretraining.accumulate \(1 x 3\), found 8'):
        trained(accumulate=3)


def test_the_state_of_the_optimiser_moves_by_name():
    stage, update, _ = trained()
    state = update.state()
    assert set(state) == {'0.weight', '0.bias', '1.weight', '1.bias'} and state['0.weight'][
        'exp_avg'
    ].shape == (1, 3)
    again = Line({'steps': 10, 'batch': 8, 'rate': 0.1, 'warmup': 2})
    for module, trained_module in zip(again.modules, stage.modules):
        module.load_state_dict(trained_module.state_dict())
    resumed = Update(again, again.place, again.config)
    resumed.load(state)
    assert resumed(5, again.batch(5)) == pytest.approx(update(5, stage.batch(5)), rel=0, nan_ok=True)
    for one, other in zip(again.modules[0].parameters(), stage.modules[0].parameters()):
        assert torch.equal(one, other)


def test_each_modules_gradient_is_clipped_by_itself_and_vectors_do_not_decay():
    stage, update, figures = trained(weight_decay=0.5)
    norms = [math.hypot(*(p.grad.norm().item() for p in module.parameters())) for module in stage.modules]
    assert figures[-1]['gradient'] > 2 and norms == pytest.approx([1, 1], rel=1e-5)
    decays = {
        group['weight_decay']: {p.ndim for p in group['params']} for group in update.optimiser.param_groups
    }
    assert decays == {0.5: {2}, 0.0: {1}}


def saved_for_backward(stage):
    """Elements that a forward pass keeps until the backward pass."""
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: sizes.append(tensor.numel()) or tensor, lambda tensor: tensor
    ):
        stage.loss(*(torch.as_tensor(item) if hasattr(item, 'shape') else item for item in stage.batch(0)))
    return sum(sizes)


@pytest.mark.parametrize('options', [{'bf16': True}, {'compile': True}, {'recompute': True}])
def test_bfloat16_compiled_and_recomputed_blocks_train_as_float32_does(
    values, videos, tmp_path, cache, options, monkeypatch
):
    # Traced as always, but not made into machine code, which takes minutes.
    monkeypatch.setattr(
        torch.nn.Module, 'compile', functools.partialmethod(torch.nn.Module.compile, backend='eager')
    )
    from jepa_ros.training.trainer import Trainer

    values |= {'stages': ['pretraining']}
    found, kept = [], []
    for chosen in ({}, options):
        run = Trainer(configuration.from_dict(values | chosen), tmp_path / str(len(found)), [videos], cache)
        progress = SimpleNamespace()
        update = run.begin(run.stages[0], 0, progress, None)
        found.append([update(step, run.stages[0].batch(step))['loss'] for step in range(2)])
        if chosen.get('compile'):
            assert all(block._compiled_call_impl for block in run.model.encoder.blocks)
        kept.append(saved_for_backward(run.stages[0]))
    assert found[1] == pytest.approx(found[0], rel=1e-2 if options.get('bf16') else 1e-4)
    assert found[1] != found[0] or not options.get('bf16')
    assert kept[1] < 0.5 * kept[0] or not options.get('recompute')


@pytest.mark.parametrize(('wanted', 'has', 'computes'), [
    (None, False, False), (None, True, True), (True, False, True), (False, True, False)
])
def test_bfloat16_is_taken_where_the_cpu_has_instructions_for_it(wanted, has, computes, monkeypatch):
    from jepa_ros.training.parallel import Place

    for name in ('_is_avx512_bf16_supported', '_is_amx_tile_supported'):
        monkeypatch.setattr(torch.cpu, name, lambda: has, raising=False)
    place = Place('cpu', 'none')
    with place.autocast(wanted):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == (torch.bfloat16 if computes else torch.float32)


SCHEDULED = st.builds(
    lambda steps, warmup, rate, end, decay: configuration.Pretraining(
        steps=steps,
        warmup=warmup,
        rate=rate,
        rate_end=end,
        rate_start=rate / 10,
        weight_decay=0.04,
        weight_decay_end=decay,
    ),
    st.integers(1, 60),
    st.integers(0, 30),
    st.floats(1e-5, 1e-2),
    st.none() | st.floats(0, 1e-6),
    st.none() | st.floats(0.04, 0.4),
)


@settings(max_examples=40)
@given(values=SCHEDULED)
def test_schedules_rise_then_fall_and_end_where_they_should(values):
    rates = [schedules.rate(step, values) for step in range(values.steps + 1)]
    peak = min(values.warmup, values.steps + 1)
    assert all(a <= b * (1 + 1e-9) for a, b in zip(rates[:peak], rates[1:peak]))
    assert all(a >= b * (1 - 1e-9) for a, b in zip(rates[peak:], rates[peak + 1 :]))
    if values.steps > values.warmup:
        end = values.rate / 100 if values.rate_end is None else values.rate_end
        assert rates[-1] == pytest.approx(end) and max(rates) == pytest.approx(values.rate)
    decays = [schedules.weight_decay(step, values) for step in (0, values.steps)]
    assert decays[0] == pytest.approx(0.04) and decays[1] == pytest.approx(values.weight_decay_end or 0.04)
    assert schedules.momentum(0, values) == 0.99 and schedules.momentum(
        values.steps, values
    ) == pytest.approx(0.9999)


def test_half_of_the_way_the_cosine_is_at_the_middle():
    values = configuration.Pretraining(steps=210, warmup=10, rate=1.0, rate_end=0.2)
    assert schedules.rate(110, values) == pytest.approx(0.6)
    assert schedules.rate(0, values) == pytest.approx(0.1) and schedules.rate(9, values) == 1.0
