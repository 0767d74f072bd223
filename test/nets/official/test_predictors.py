# SPDX-License-Identifier: Apache-2.0
"""The mask-token predictors against `official_reference`, which has them from the papers' equations."""

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')

import numpy as np  # noqa: E402
import official_reference as reference  # noqa: E402
import tiny_official as tiny  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from jepa_ros.errors import JepaError  # noqa: E402
from jepa_ros.nets.official import families, keys  # noqa: E402
from jepa_ros.nets.official.predictor import OfficialPredictor  # noqa: E402

# 48 / 3 features of a head leave some that do not turn, 36 / 3 none; 45 cuts V-JEPA's three shares of 16.
CASES = {
    'ijepa': ('ijepa-vith14', dict(image_size=56)),
    'ijepa, oblong': ('ijepa-vitg16', dict(narrow=48, image_size=(32, 80))),
    'vjepa': ('vjepa-vitl16', dict(image_size=48)),
    'vjepa, cut': ('vjepa-vith16', dict(narrow=45, image_size=(32, 64), frames=4)),
    'vjepa2': ('vjepa2-vitl', dict(image_size=48)),
    'vjepa2, oblong': ('vjepa2-vitg', dict(narrow=48, image_size=(48, 32), frames=12)),
    'vjepa2.1, distilled': ('vjepa2.1-vitb', dict(narrow=48, image_size=48)),
    'vjepa2.1, four levels': ('vjepa2.1-vitg', dict(image_size=(32, 64), frames=4)),
}


def built(case):
    """A predictor with random weights, and these under the authors' names."""
    name, sizes = CASES[case]
    sides, sizes = sizes.get('image_size'), {k: v for k, v in sizes.items() if k != 'image_size'}
    model = tiny.tiny(name, **sizes)
    predictor = tiny.random_weights(OfficialPredictor(model, sides), seed=7)
    state = keys.to_official(predictor.state_dict(), model, 'predictor')
    return predictor, {name: value.double().numpy() for name, value in state.items()}


def context_of(predictor, ids, seed=4):
    width = predictor.model.size.width * predictor.model.predictor.levels
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(*ids.shape, width))).to(
        torch.get_default_dtype()
    )


def expected(predictor, state, context, context_ids, target_ids, mask_index=None):
    model = predictor.model
    mask_index = model.predictor.mask_index if mask_index is None else mask_index
    clips = [
        reference.predict(
            model.family,
            state,
            *(of.double().numpy() for of in clip[:1]),
            *clip[1:],
            predictor.config.grid,
            model.predictor.size.heads,
            mask_index,
        )
        for clip in zip(context, context_ids, target_ids)
    ]
    return [None if of[0] is None else torch.from_numpy(np.stack(of)) for of in zip(*clips)]


def close(ours, theirs, dtype=torch.float64):
    assert ours.shape == theirs.shape
    assert theirs.std() > 0.1  # weights for which everything is nearly zero would agree with anything
    return (ours.double() - theirs).abs().max() < tiny.BOUND[dtype]


@torch.no_grad()
@pytest.mark.parametrize('case', CASES)
def test_predictions_are_those_of_the_equations(case, dtype):
    predictor, state = built(case)
    context_ids, target_ids = tiny.sparse_ids(predictor.config)
    context = context_of(predictor, context_ids)
    filled, of_context = expected(predictor, state, context, context_ids, target_ids)
    assert close(predictor(context, context_ids, target_ids), filled, dtype)
    if predictor.model.modalities:
        ours = predictor(context, context_ids, target_ids, with_context=True)
        assert close(ours[0], filled, dtype) and close(ours[1], of_context, dtype)


@torch.no_grad()
@pytest.mark.parametrize('case', ['vjepa', 'vjepa2', 'vjepa2.1, distilled'])
def test_every_mask_token_can_be_asked_with(case):
    predictor, state = built(case)
    ids = torch.tensor([[0, 5]]), torch.tensor([[7, 1]])
    context = context_of(predictor, ids[0])
    answers = []
    for index in range(predictor.model.predictor.mask_tokens):
        answers.append(predictor(context, *ids, mask_index=index))
        assert close(answers[-1], expected(predictor, state, context, *ids, index)[0], torch.float32)
    assert not torch.allclose(answers[0], answers[1])
    default = predictor(context, *ids)
    assert torch.equal(default, answers[predictor.model.predictor.mask_index])


@torch.no_grad()
def test_context_of_an_image_has_its_own_embedding():
    predictor, state = built('vjepa2.1, distilled')
    ids = torch.tensor([[0, 5, 8]]), torch.tensor([[7, 1]])
    context = context_of(predictor, ids[0])
    state['video_mod_embed'] = state['img_mod_embed']
    filled = expected(predictor, state, context, *ids)[0]
    assert close(predictor(context, *ids, image=True), filled, torch.float32)
    assert not close(predictor(context, *ids), filled, torch.float32)


@settings(max_examples=15, deadline=None)
@given(st.data())
@torch.no_grad()
def test_order_says_nothing(data):
    """
    The published code sorts tokens by position; attention does not see it, which is why nothing here sorts.
    """
    case = data.draw(st.sampled_from(['ijepa', 'vjepa', 'vjepa2', 'vjepa2.1, distilled']))
    predictor, _ = built(case)
    total = predictor.config.slices * predictor.config.tokens
    ids = torch.tensor([data.draw(st.permutations(range(total)))])
    seen = data.draw(st.integers(1, total - 1))
    context_ids, target_ids = ids[:, :seen], ids[:, seen:]
    context = context_of(predictor, context_ids)
    by_place = context_ids.argsort(-1), target_ids.argsort(-1)
    ours = predictor(context, context_ids, target_ids)[:, by_place[1][0]]
    ordered = predictor(
        context[:, by_place[0][0]], context_ids.gather(1, by_place[0]), target_ids.gather(1, by_place[1])
    )
    assert torch.allclose(ours, ordered, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize('case, free', [('vjepa2.1, distilled', True), ('vjepa2', False)])
def test_where_time_begins(case, free):
    """
    2.1's positions are relative; those of V-JEPA 2 turn the two features of a pair by two angles, which is no
    rotation. Its windows must therefore begin at slice 0, as the clips of training did.
    """
    predictor, state = built(case)
    context_ids, target_ids = tiny.sparse_ids(predictor.config)
    context, later = context_of(predictor, context_ids), 9 * predictor.config.tokens
    moved = predictor(context, context_ids + later, target_ids + later)
    assert close(
        moved, expected(predictor, state, context, context_ids + later, target_ids + later)[0], torch.float32
    )
    assert close(predictor(context, context_ids, target_ids), moved.double(), torch.float32) == free


def test_published_predictors_that_take_actions_are_another_class():
    with pytest.raises(JepaError, match='conditioned on actions'):
        OfficialPredictor(families.MODELS['vjepa2-vitg_ac'])
