# SPDX-License-Identifier: Apache-2.0
"""V-JEPA 2-AC's predictor against `official_reference`, which has it from the paper's equations."""

from dataclasses import replace

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')

import numpy as np  # noqa: E402
import official_reference as reference  # noqa: E402
import tiny_official as tiny  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from jepa_ros.errors import JepaError  # noqa: E402
from jepa_ros.nets.official import families, keys  # noqa: E402
from jepa_ros.nets.official.predictor import ActionPredictor  # noqa: E402
from jepa_ros.nets.sizes import Size  # noqa: E402

STEPS = 3


def built(image_size=(32, 48), narrow=48, heads=3):
    model = tiny.tiny('vjepa2-vitg_ac')
    model = replace(model, predictor=replace(model.predictor, size=Size(narrow, 2, heads, 4 * narrow)))
    return tiny.random_weights(ActionPredictor(model, image_size, STEPS), seed=7)


def inputs_of(predictor, steps, batch=2, seed=4):
    rng, n, width = np.random.default_rng(seed), predictor.config.tokens, predictor.model.size.width
    shapes = (batch, steps * n, width), (batch, steps, 7), (batch, steps, 7)
    return [torch.from_numpy(rng.normal(size=shape)).to(torch.get_default_dtype()) for shape in shapes]


@torch.no_grad()
@pytest.mark.parametrize(
    'shape', [dict(), dict(image_size=(48, 48), narrow=36), dict(image_size=(64, 16), narrow=32, heads=2)]
)
def test_predictions_are_those_of_the_equations(shape, dtype):
    predictor = built(**shape)
    state = {
        name: value.double().numpy()
        for name, value in keys.to_official(predictor.state_dict(), predictor.model, 'predictor').items()
    }
    heads = predictor.model.predictor.size.heads
    for steps in range(1, STEPS + 1):
        inputs = inputs_of(predictor, steps)
        expected = np.stack(
            [
                reference.predict_next(state, *clip, predictor.config.grid, heads)
                for clip in zip(*(of.double().numpy() for of in inputs))
            ]
        )
        ours = predictor(*inputs)
        assert ours.shape == expected.shape and expected.std() > 0.1
        assert np.abs(ours.double().numpy() - expected).max() < tiny.BOUND[dtype]


@settings(max_examples=15, deadline=None)
@given(step=st.integers(0, STEPS - 1), which=st.integers(0, 2))
@torch.no_grad()
def test_a_step_changes_itself_and_what_follows(step, which):
    predictor = built()
    n, inputs = predictor.config.tokens, inputs_of(predictor, STEPS)
    before = predictor(*inputs).unflatten(1, (STEPS, n))
    inputs[which] = inputs[which].clone()
    inputs[which].unflatten(1, (STEPS, -1))[:, step] += 1
    after = predictor(*inputs).unflatten(1, (STEPS, n))
    assert torch.equal(before[:, :step], after[:, :step])
    for later in range(step, STEPS):
        assert not torch.allclose(before[:, later], after[:, later], atol=1e-3)


@torch.no_grad()
def test_a_shorter_sequence_is_the_beginning_of_a_longer_one():
    predictor = built()
    n, (context, actions, states) = predictor.config.tokens, inputs_of(predictor, STEPS)
    whole = predictor(context, actions, states)
    for steps in range(1, STEPS):
        short = predictor(context[:, : steps * n], actions[:, :steps], states[:, :steps])
        assert torch.allclose(short, whole[:, : steps * n], atol=1e-5)


def test_more_frames_than_it_was_built_for_are_refused():
    predictor = built()
    with pytest.raises(JepaError, match=f'at most {STEPS} frames, found {STEPS + 1}'):
        predictor(*inputs_of(predictor, STEPS + 1))


def test_other_predictors_are_another_class():
    with pytest.raises(JepaError, match='takes no actions'):
        ActionPredictor(families.MODELS['vjepa2-vitl'])
