# SPDX-License-Identifier: Apache-2.0
"""
Files of every published size, and folders that transformers wrote, through the loader.

The names and shapes below are written from the authors' code (facebookresearch/ijepa, jepa and vjepa2) and
share nothing with our networks. The tensors have no memory: a file of the meta device holds shapes alone.
"""

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')

import tiny_official as tiny  # noqa: E402

from jepa_ros.errors import JepaError  # noqa: E402
from jepa_ros.nets.official import keys, loading  # noqa: E402

LARGE, HUGE, GIANT = (1024, 24, 4096), (1280, 32, 5120), (1408, 40, 6144)  # width, blocks, feed-forward
BASE, GIGANTIC = (768, 12, 3072), (1664, 48, 8192)
# name: which encoder, its size, kernel of its patches, how many fixed positions, blocks of the predictor
PUBLISHED = {
    'ijepa-vith14': ('target_encoder', HUGE, (14, 14), 16 * 16, 12),
    'ijepa-vith16_448': ('target_encoder', HUGE, (16, 16), 28 * 28, 12),
    'ijepa-vitg16': ('target_encoder', GIANT, (16, 16), 14 * 14, 16),
    'vjepa-vitl16': ('target_encoder', LARGE, (2, 16, 16), 8 * 14 * 14, 12),
    'vjepa-vith16': ('target_encoder', HUGE, (2, 16, 16), 8 * 14 * 14, 12),
    'vjepa-vith16_384': ('target_encoder', HUGE, (2, 16, 16), 8 * 24 * 24, 12),
    'vjepa2-vitl': ('target_encoder', LARGE, (2, 16, 16), 0, 12),
    'vjepa2-vith': ('target_encoder', HUGE, (2, 16, 16), 0, 12),
    'vjepa2-vitg': ('target_encoder', GIANT, (2, 16, 16), 0, 12),
    'vjepa2-vitg_384': ('target_encoder', GIANT, (2, 16, 16), 0, 12),
    'vjepa2-vitg_ac': ('encoder', GIANT, (2, 16, 16), 0, 24),
    'vjepa2.1-vitb': ('ema_encoder', BASE, (2, 16, 16), 0, 12),
    'vjepa2.1-vitl': ('ema_encoder', LARGE, (2, 16, 16), 0, 12),
    'vjepa2.1-vitg': ('target_encoder', GIANT, (2, 16, 16), 0, 24),
    'vjepa2.1-vitG': ('target_encoder', GIGANTIC, (2, 16, 16), 0, 24),
}


def linear(name, inputs, outputs):
    return {f'{name}.weight': (outputs, inputs), f'{name}.bias': (outputs,)}


def norm(name, width):
    return {f'{name}.weight': (width,), f'{name}.bias': (width,)}


def blocks(name, width, count, hidden):
    shapes = {}
    for number in range(count):
        block = f'{name}.{number}'
        shapes |= norm(f'{block}.norm1', width) | norm(f'{block}.norm2', width)
        shapes |= linear(f'{block}.attn.qkv', width, 3 * width) | linear(f'{block}.attn.proj', width, width)
        shapes |= linear(f'{block}.mlp.fc1', width, hidden) | linear(f'{block}.mlp.fc2', hidden, width)
    return shapes


def encoder_shapes(family, size, kernel, positions):
    width, count, hidden = size
    shapes = {'patch_embed.proj.weight': (width, 3, *kernel), 'patch_embed.proj.bias': (width,)}
    shapes |= blocks('blocks', width, count, hidden)
    if family == 'vjepa2.1':
        shapes |= {'patch_embed_img.proj.weight': (width, 3, 1, 16, 16),
                   'patch_embed_img.proj.bias': (width,),
                   'img_mod_embed': (1, 1, width), 'video_mod_embed': (1, 1, width)}
        for level in range(4):
            shapes |= norm(f'norms_block.{level}', width)
    else:
        shapes |= norm('norm', width)
    return shapes | ({'pos_embed': (1, positions, width)} if positions else {})


def predictor_shapes(name, family, width, positions, count):
    narrow = 1024 if name == 'vjepa2-vitg_ac' else 384
    shapes = blocks('predictor_blocks', narrow, count, 4 * narrow) | norm('predictor_norm', narrow)
    if family == 'vjepa2.1':
        levels, outputs = (1, 1664) if count == 12 else (4, 4 * width)  # 12 blocks: distilled from the ViT-G
        shapes |= linear('predictor_proj', narrow, outputs)
        shapes |= linear('predictor_proj_context', narrow, outputs)
        shapes |= {'img_mod_embed': (1, 1, narrow), 'video_mod_embed': (1, 1, narrow)}
        if levels == 4:
            shapes |= linear('predictor_embed.0', 4 * width, width)
            shapes |= linear('predictor_embed.2', width, narrow)
        else:
            shapes |= linear('predictor_embed', width, narrow)
    else:
        shapes |= linear('predictor_embed', width, narrow) | linear('predictor_proj', narrow, width)
    if name == 'vjepa2-vitg_ac':
        for part, inputs in (('action', 7), ('state', 7), ('extrinsics', 6)):
            shapes |= linear(f'{part}_encoder', inputs, narrow)
        return shapes
    tokens = {'ijepa': 0, 'vjepa': 2, 'vjepa2': 10, 'vjepa2.1': 8}[family]
    names = [f'mask_tokens.{number}' for number in range(tokens)] or ['mask_token']
    shapes |= {token: (1, 1, narrow) for token in names}
    return shapes | ({'predictor_pos_embed': (1, positions, narrow)} if positions else {})


def published_file(path, name):
    """A file with the names, prefixes and shapes of a published one."""
    encoder, size, kernel, positions, count = PUBLISHED[name]
    family = name.partition('-')[0]
    prefix = 'module.' if family == 'ijepa' else 'module.backbone.'
    parts = {encoder: encoder_shapes(family, size, kernel, positions),
             'predictor': predictor_shapes(name, family, size[0], positions, count)}
    content = {part: {prefix + key: torch.empty(shape, device='meta') for key, shape in shapes.items()}
               for part, shapes in parts.items()}
    torch.save({**content, 'epoch': 300, 'opt': {'state': {}}, 'scaler': None}, path)
    return parts


@pytest.mark.parametrize('name', PUBLISHED)
def test_every_published_size(name, tmp_path):
    parts = published_file(tmp_path / 'weights.pt', name)
    loaded = loading.load_official(tmp_path / 'weights.pt', name)
    assert (loaded.model.name, loaded.weights, loaded.layout) == (name, PUBLISHED[name][0], 'official')
    for part, network in (('encoder', loaded.encoder), ('predictor', loaded.predictor)):
        state = keys.to_official(network.state_dict(), loaded.model, part)
        shapes = parts[loaded.weights if part == 'encoder' else part]
        assert {key: tuple(value.shape) for key, value in state.items()} == shapes


def test_a_neighbouring_size_is_refused_and_recognised(tmp_path):
    """L for H of V-JEPA 2; and V-JEPA 2's L for 2.1's, of which all blocks have the same names and shapes."""
    published_file(tmp_path / 'vitl.pt', 'vjepa2-vitl')
    for asked in ('vjepa2-vith', 'vjepa2.1-vitl'):
        with pytest.raises(JepaError, match='vitl.pt must hold .*') as caught:
            loading.load_official(tmp_path / 'vitl.pt', asked, weights='target_encoder')
        assert str(caught.value).endswith('these are the weights of vjepa2-vitl')


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('layout', ['one file', 'shards'])
@pytest.mark.parametrize('name', ['ijepa-vitg16', 'vjepa2-vitl'])
def test_folders_that_transformers_wrote(name, layout, tmp_path):
    transformers = pytest.importorskip('transformers', reason='transformers is missing (the test extra)')
    model = tiny.tiny(name)
    size, narrow = model.size, model.predictor.size
    if model.family == 'ijepa':
        theirs = transformers.IJepaModel(transformers.IJepaConfig(
            image_size=model.image_size, patch_size=model.patch, hidden_size=size.width, layer_norm_eps=1e-6,
            num_attention_heads=size.heads, num_hidden_layers=size.depth, intermediate_size=size.mlp_width))
    else:
        theirs = transformers.VJEPA2Model(transformers.VJEPA2Config(
            crop_size=model.image_size, patch_size=model.patch, frames_per_clip=model.frames, mlp_ratio=4,
            hidden_size=size.width, num_attention_heads=size.heads, num_hidden_layers=size.depth,
            pred_hidden_size=narrow.width, pred_num_attention_heads=narrow.heads,
            pred_num_hidden_layers=narrow.depth, pred_num_mask_tokens=model.predictor.mask_tokens))
    theirs.eval().save_pretrained(tmp_path, max_shard_size='5GB' if layout == 'one file' else '100KB')
    loaded = loading.load_official(tmp_path, model)
    assert (len(loaded.files) > 1) == (layout == 'shards') and loaded.layout == 'huggingface'
    frames = tiny.frames_of(model)
    with torch.no_grad():
        expected = (theirs(frames[:, :, 0]) if model.family == 'ijepa' else
                    theirs(frames.transpose(1, 2), skip_predictor=True)).last_hidden_state
        assert expected.std() > 0.1 and (loaded.encoder(frames) - expected).abs().max() < 1e-4
    if model.family == 'vjepa2':  # the older format of the same state
        old = tmp_path / 'old'
        old.mkdir()
        torch.save(theirs.state_dict(), old / 'pytorch_model.bin')
        again = loading.load_official(old, model)
        assert torch.equal(again.predictor.proj.weight, loaded.predictor.proj.weight)
