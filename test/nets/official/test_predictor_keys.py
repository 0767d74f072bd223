# SPDX-License-Identifier: Apache-2.0
"""Names and shapes of the published predictors, written down here once more, at every published size."""

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')

import tiny_official as tiny  # noqa: E402

from jepa_ros.errors import JepaError  # noqa: E402
from jepa_ros.nets.official import keys  # noqa: E402
from jepa_ros.nets.official.families import MODELS  # noqa: E402
from jepa_ros.nets.official.predictor import ActionPredictor, OfficialPredictor  # noqa: E402

# Rows: encoder width, blocks, width of the predictor, width of its output, tokens of added positions.
PUBLISHED = {
    'ijepa-vith14': (1280, 12, 384, 1280, 256),
    'ijepa-vith16_448': (1280, 12, 384, 1280, 784),
    'ijepa-vitg16': (1408, 16, 384, 1408, 196),
    'vjepa-vitl16': (1024, 12, 384, 1024, 1568),
    'vjepa-vith16': (1280, 12, 384, 1280, 1568),
    'vjepa-vith16_384': (1280, 12, 384, 1280, 4608),
    'vjepa2-vitl': (1024, 12, 384, 1024, 0),
    'vjepa2-vith': (1280, 12, 384, 1280, 0),
    'vjepa2-vitg': (1408, 12, 384, 1408, 0),
    'vjepa2-vitg_384': (1408, 12, 384, 1408, 0),
    'vjepa2-vitg_ac': (1408, 24, 1024, 1408, 0),
    'vjepa2.1-vitb': (768, 12, 384, 1664, 0),
    'vjepa2.1-vitl': (1024, 12, 384, 1664, 0),
    'vjepa2.1-vitg': (1408, 24, 384, 5632, 0),
    'vjepa2.1-vitG': (1664, 24, 384, 6656, 0),
}
MASK_TOKENS = {'vjepa': 2, 'vjepa2': 10, 'vjepa2.1': 8}


def layer(name, inputs, outputs):
    return {f'{name}.weight': (outputs, inputs), f'{name}.bias': (outputs,)}


def norm(name, width):
    return {f'{name}.weight': (width,), f'{name}.bias': (width,)}


def published(name):
    """Names and shapes of the `predictor` of a file, prefixes stripped."""
    encoder, depth, width, out, positions = PUBLISHED[name]
    family, action = name.split('-')[0], name.endswith('_ac')
    result = layer('predictor_embed', encoder, width)
    for index in range(depth):
        block = f'predictor_blocks.{index}'
        result |= norm(f'{block}.norm1', width) | norm(f'{block}.norm2', width)
        result |= layer(f'{block}.attn.qkv', width, 3 * width) | layer(f'{block}.attn.proj', width, width)
        result |= layer(f'{block}.mlp.fc1', width, 4 * width) | layer(f'{block}.mlp.fc2', 4 * width, width)
    result |= norm('predictor_norm', width) | layer('predictor_proj', width, out)
    if positions:
        result['predictor_pos_embed'] = (1, positions, width)
    if family == 'ijepa':
        result['mask_token'] = (1, 1, width)
    elif action:
        for part, numbers in (('action', 7), ('state', 7), ('extrinsics', 6)):
            result |= layer(f'{part}_encoder', numbers, width)
    else:
        result |= {f'mask_tokens.{index}': (1, 1, width) for index in range(MASK_TOKENS[family])}
    if family == 'vjepa2.1':
        result |= layer('predictor_proj_context', width, out)
        result |= {'img_mod_embed': (1, 1, width), 'video_mod_embed': (1, 1, width)}
        if out == 4 * encoder:  # four levels go in side by side, through two layers
            del result['predictor_embed.weight'], result['predictor_embed.bias']
            result |= layer('predictor_embed.0', 4 * encoder, encoder) | layer(
                'predictor_embed.2', encoder, width
            )
    return result


def network(model):
    return (ActionPredictor if model.predictor.action_conditioned else OfficialPredictor)(model)


def test_no_published_model_is_forgotten():
    assert set(PUBLISHED) == set(MODELS)


@pytest.mark.parametrize('name', PUBLISHED)
def test_names_and_shapes_at_every_published_size(name):
    model = MODELS[name]
    with torch.device('meta'):
        state = network(model).state_dict()
        theirs = keys.to_official(state, model, 'predictor')
        assert {name: tuple(value.shape) for name, value in theirs.items()} == published(name)
        ours = keys.from_official(
            {name: torch.empty(shape) for name, shape in published(name).items()}, model, 'predictor'
        )
    assert {name: value.shape for name, value in ours.items()} == {
        name: value.shape for name, value in state.items()
    }


@pytest.mark.parametrize('name', PUBLISHED)
def test_published_sizes_count_their_parameters(name):
    trained = sum(
        torch.Size(shape).numel() for name, shape in published(name).items() if name != 'predictor_pos_embed'
    )
    assert MODELS[name].predictor_parameters == trained


@pytest.mark.parametrize(
    'name',
    ['ijepa-vitg16', 'vjepa-vitl16', 'vjepa2-vitl', 'vjepa2-vitg_ac', 'vjepa2.1-vitb', 'vjepa2.1-vitg'],
)
def test_there_and_back_is_nothing_changed(name):
    model = tiny.tiny(name)
    ours = tiny.networks(model)[1].state_dict()
    again = keys.from_official(keys.to_official(ours, model, 'predictor'), model, 'predictor')
    assert set(again) == set(ours) and all(torch.equal(again[name], ours[name]) for name in ours)


def test_more_than_nine_mask_tokens_keep_their_order():
    model = tiny.tiny('vjepa2-vitl')
    tokens = {
        f'mask_tokens.{index}': torch.full((1, 1, 36), float(index))
        for index in (9, 0, 10, 2, 1, 8, 3, 7, 4, 6, 5)
    }
    assert keys.from_official(tokens, model, 'predictor')['mask_tokens'][:, 0].tolist() == list(range(11))


def test_the_predictor_in_the_layout_of_hugging_face():
    model = tiny.tiny('vjepa2-vitl')
    encoder, predictor = (module.state_dict() for module in tiny.networks(model))
    theirs = {
        name: value
        for name, value in keys.to_hf(encoder, predictor, model).items()
        if name.startswith('predictor.')
    }
    assert theirs['predictor.embeddings.mask_tokens'].shape == (10, 1, 1, 36)
    qkv = torch.cat(
        [theirs[f'predictor.layer.1.attention.{part}.weight'] for part in ('query', 'key', 'value')]
    )
    assert torch.equal(qkv, predictor['blocks.1.attn.qkv.weight'])
    nothing, ours = keys.from_hf(theirs, model)
    assert not nothing and set(ours) == set(predictor)
    assert all(torch.equal(ours[name], predictor[name]) for name in ours)


@pytest.mark.parametrize('name', ['vjepa2-vitg_ac', 'vjepa2.1-vitb', 'vjepa-vitl16'])
def test_hugging_face_has_no_such_predictor(name):
    model = tiny.tiny(name)
    with pytest.raises(JepaError, match=f'found {model.name}'):
        keys.to_hf({}, {}, model)


def test_names_of_nothing_are_left_for_the_check_to_find():
    model = tiny.tiny('vjepa2-vitl')
    stray = {'predictor_blocks_extra.weight': torch.zeros(1), 'mask_tokens': torch.zeros(1)}
    assert keys.from_official(stray, model, 'predictor') == stray
