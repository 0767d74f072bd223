# SPDX-License-Identifier: Apache-2.0
"""Files of weights, in every published layout and broken in the ways files break."""

import copy
import json
import os
import pickle
from collections import OrderedDict
from dataclasses import replace

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')
safetensors_torch = pytest.importorskip(
    'safetensors.torch', reason='safetensors is not installed (the train extra)'
)

import tiny_official as tiny  # noqa: E402

from jepa_ros.errors import JepaError  # noqa: E402
from jepa_ros.nets.official import families, files, keys, loading  # noqa: E402

PREFIX = {
    'ijepa': 'module.',
    'vjepa': 'module.backbone.',
    'vjepa2': 'module.backbone.',
    'vjepa2.1': 'module.backbone.',
}
ONE_OF_EACH = (
    'ijepa-vith14',
    'vjepa-vitl16',
    'vjepa2-vitl',
    'vjepa2-vitg_ac',
    'vjepa2.1-vitl',
    'vjepa2.1-vitg',
)


def official_file(path, model, encoder, predictor, **more):
    """
    A checkpoint as the training writes it: encoders that differ, a predictor, and the rest of the training.
    """
    prefix = PREFIX[model.family]

    def part(module, name):
        return OrderedDict(
            (prefix + key, value) for key, value in keys.to_official(module.state_dict(), model, name).items()
        )

    other = {key: value + 1 for key, value in part(encoder, 'encoder').items()}
    content = {
        'encoder': other,
        'target_encoder': other,
        'predictor': part(predictor, 'predictor'),
        'epoch': 3,
        'opt': {'state': {0: {'step': torch.tensor(1.0)}}, 'param_groups': [{'lr': 1e-3}]},
        'scaler': None,
    }
    torch.save(content | {model.weights: part(encoder, 'encoder')} | more, path)
    return path


def hf_folder(folder, model, encoder, predictor, **config):
    """A folder as the Hugging Face hub has it, in one file."""
    state = keys.to_hf(encoder.state_dict(), predictor and predictor.state_dict(), model)
    safetensors_torch.save_file(
        {name: value.contiguous() for name, value in state.items()}, folder / 'model.safetensors'
    )
    size, image = model.size, 'image_size' if model.family == 'ijepa' else 'crop_size'
    (folder / 'config.json').write_text(
        json.dumps(
            {
                'model_type': model.family,
                'hidden_size': size.width,
                'num_hidden_layers': size.depth,
                'layer_norm_eps': 1e-6,
                'num_attention_heads': size.heads,
                'patch_size': model.patch,
                image: model.image_size,
                **config,
            }
        )
    )
    return folder


def same(ours, loaded):
    assert list(ours.state_dict()) == list(loaded.state_dict())
    return all(torch.equal(value, loaded.state_dict()[name]) for name, value in ours.state_dict().items())


@pytest.fixture
def vjepa2():
    model = tiny.tiny('vjepa2-vitl')
    return (model, *tiny.networks(model))


@pytest.mark.parametrize('name', ONE_OF_EACH)
def test_the_original_layout_of_every_family(name, tmp_path):
    model = tiny.tiny(name)
    encoder, predictor = tiny.networks(model)
    path = official_file(tmp_path / 'weights.pth.tar', model, encoder, predictor)
    loaded = loading.load_official(path, model, hierarchical=encoder.hierarchical)
    assert same(encoder, loaded.encoder) and same(predictor, loaded.predictor)
    assert (loaded.weights, loaded.layout, loaded.files) == (model.weights, 'official', ('weights.pth.tar',))
    assert loaded.sha256 == files.sha256([path]) and loaded.to_dict()['licence'] == model.licence
    frames = tiny.frames_of(model)
    with torch.no_grad():
        assert torch.equal(loaded.encoder(frames), encoder(frames))
    assert not loaded.encoder.training and not any(value.is_meta for value in loaded.encoder.buffers())


def test_another_encoder_of_the_file_on_request(vjepa2, tmp_path):
    model, encoder, predictor = vjepa2
    path = official_file(tmp_path / 'vitl.pt', model, encoder, predictor)
    loaded = loading.load_official(path, model, weights='encoder', with_predictor=False)
    assert loaded.weights == 'encoder' and loaded.predictor is None
    assert torch.equal(loaded.encoder.norms[0].bias, encoder.norms[0].bias + 1)
    with pytest.raises(JepaError, match='must hold ema_encoder.*found target_encoder, encoder, predictor'):
        loading.load_official(path, model, weights='ema_encoder')


def test_the_parts_of_one_flat_safetensors_file(vjepa2, tmp_path):
    model, *networks = vjepa2
    flat = {
        f'{part}.{name}': value.contiguous()
        for part, label, module in zip(('target_encoder', 'predictor'), ('encoder', 'predictor'), networks)
        for name, value in keys.to_official(module.state_dict(), model, label).items()
    }
    safetensors_torch.save_file(flat, tmp_path / 'vitl.safetensors')
    loaded = loading.load_official(tmp_path / 'vitl.safetensors', model)
    assert same(networks[0], loaded.encoder) and same(networks[1], loaded.predictor)


def test_tables_that_rotary_models_do_not_use_are_dropped(vjepa2, tmp_path):
    model, encoder, predictor = vjepa2
    path = official_file(tmp_path / 'vitl.pt', model, encoder, predictor)
    content = torch.load(path, weights_only=True)
    content['target_encoder']['module.backbone.pos_embed'] = torch.zeros(1, 64, 48)
    content['predictor']['module.backbone.predictor_pos_embed'] = torch.zeros(1, 64, 36)
    torch.save(content, path)
    assert same(encoder, loading.load_official(path, model).encoder)


@pytest.mark.parametrize('name', ['ijepa-vith14', 'vjepa2-vitl'])
def test_the_layout_of_hugging_face(name, tmp_path):
    model = tiny.tiny(name)
    encoder, predictor = tiny.networks(model)
    loaded = loading.load_official(
        hf_folder(tmp_path, model, encoder, None if 'ijepa' in name else predictor), model
    )
    assert same(encoder, loaded.encoder) and (loaded.weights, loaded.layout) == ('encoder', 'huggingface')
    assert loaded.predictor is None if 'ijepa' in name else same(predictor, loaded.predictor)


def test_shards_with_their_index_and_by_name(vjepa2, tmp_path):
    model, encoder, predictor = vjepa2
    state = keys.to_hf(encoder.state_dict(), predictor.state_dict(), model)
    shards = [tmp_path / f'model-0000{i}-of-00002.safetensors' for i in (1, 2)]
    where = {name: shards[i % 2] for i, name in enumerate(state)}
    for shard in shards:
        safetensors_torch.save_file(
            {name: state[name].contiguous() for name in state if where[name] == shard}, shard
        )
    index = tmp_path / 'model.safetensors.index.json'
    index.write_text(json.dumps({'weight_map': {name: shard.name for name, shard in where.items()}}))
    for paths in (tmp_path, index, shards[::-1]):
        loaded = loading.load_official(paths, model)
        assert same(encoder, loaded.encoder) and same(predictor, loaded.predictor)
        assert loaded.files == tuple(shard.name for shard in shards)
    assert len(loaded.sha256) == 64 and loaded.sha256 != files.sha256(shards[:1])
    with pytest.raises(JepaError, match=r'missing \('):
        loading.load_official(shards[:1], model)
    index.write_text(json.dumps({'weight_map': {'a': '../elsewhere.safetensors'}}))
    with pytest.raises(JepaError, match='must name files beside it'):
        loading.load_official(tmp_path, model)


def test_half_precision_becomes_float32(vjepa2, tmp_path):
    model, encoder, predictor = vjepa2
    loaded = loading.load_official(
        official_file(tmp_path / 'vitl.pt', model, encoder.half(), predictor.half()), model
    )
    assert {value.dtype for value in loaded.encoder.parameters()} == {torch.float32}
    assert torch.equal(loaded.encoder.norms[0].weight, encoder.norms[0].weight.float())


@pytest.mark.parametrize('name', ['ijepa-vitg16', 'vjepa-vitl16'])
def test_added_positions_are_stretched_to_the_wished_clip(name, tmp_path):
    model = tiny.tiny(name)
    encoder, predictor = tiny.networks(model)
    frames = 1 if model.tubelet == 1 else 4
    loaded = loading.load_official(
        official_file(tmp_path / 'w.pt', model, encoder, predictor), model, (96, 48), frames
    )
    tokens = loaded.encoder(tiny.frames_of(model, image_size=(96, 48), frames=frames)).shape[1]
    assert tokens == loaded.encoder.config.slices * 18
    corner = loaded.encoder.pos_embed[0, 0] - encoder.pos_embed[0, 0]
    assert 0 < corner.abs().max() < 1  # near the old corner, but not it


def test_a_mask_token_that_training_reached_asks(vjepa2, tmp_path):
    """The usual one of V-JEPA 2 is the second, and all zeros where only the first was trained."""
    model, encoder, predictor = vjepa2
    count, usual = len(predictor.mask_tokens), model.predictor.mask_index
    for trained, chosen in (((0,), 0), (range(count), usual), ((2, usual), usual), ((), usual)):
        some = copy.deepcopy(predictor)
        with torch.no_grad():
            some.mask_tokens[[i for i in range(count) if i not in trained]] = 0
        path = official_file(tmp_path / 'vitl.pt', model, encoder, some)
        found = loading.load_official(path, model).to_dict()
        assert found['trained_mask_tokens'] == sorted(trained) and found['mask_index'] == chosen
    without = loading.load_official(path, model, with_predictor=False).to_dict()
    assert without['trained_mask_tokens'] == [] and without['mask_index'] is None


def test_faults_are_listed_with_counts_and_the_model_is_recognised(vjepa2, tmp_path, monkeypatch):
    model, encoder, predictor = vjepa2
    path = official_file(tmp_path / 'vitl.pt', model, encoder, predictor)
    monkeypatch.setitem(families.MODELS, 'tiny', replace(model, name='tiny'))
    with pytest.raises(JepaError) as caught:
        loading.load_official(path, tiny.tiny('vjepa2.1-vitl'))
    assert 'must hold ema_encoder' in str(caught.value)
    with pytest.raises(JepaError) as caught:
        loading.load_official(path, tiny.tiny('vjepa2.1-vitl'), weights='target_encoder')
    message = str(caught.value)
    assert 'missing (blocks.3.attn.proj.bias, ' in message and ', ...' in message
    assert '2 left over (norm.bias, norm.weight)' in message
    assert message.endswith('these are the weights of tiny')
    with pytest.raises(JepaError, match=r'of another shape \(blocks.0.attn.proj.bias \[48\] for \[66\]'):
        loading.load_official(path, tiny.tiny('vjepa2-vitl', width=66))


def test_a_missing_and_a_strange_name_are_named(vjepa2, tmp_path):
    model, encoder, predictor = vjepa2
    path = official_file(tmp_path / 'vitl.pt', model, encoder, predictor)
    content = torch.load(path, weights_only=True)
    state = content['target_encoder']
    state['module.backbone.blocks.1.gamma'] = state.pop('module.backbone.blocks.1.norm1.bias')
    torch.save(content, path)
    with pytest.raises(
        JepaError,
        match=r'target_encoder: 1 missing \(blocks.1.norm1.bias\); target_encoder: 1 left over '
        r'\(blocks.1.gamma\)',
    ):
        loading.load_official(path, model)


@pytest.mark.parametrize(
    'change, named',
    [
        ({'model_type': 'ijepa'}, 'model_type vjepa2, found ijepa'),
        ({'num_attention_heads': 4}, 'num_attention_heads 3, found 4'),
        ({'layer_norm_eps': 1e-12}, 'layer_norm_eps 1e-06, found 1e-12'),
        ({'crop_size': 384}, 'crop_size 64, found 384'),
    ],
)
def test_a_config_that_contradicts_the_model(vjepa2, tmp_path, change, named):
    model, encoder, predictor = vjepa2
    with pytest.raises(JepaError, match=named):
        loading.load_official(hf_folder(tmp_path, model, encoder, predictor, **change), model)


class Evil:
    """Pickles to a call that leaves a mark."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return os.mkdir, (self.mark,)


@pytest.mark.filterwarnings('ignore:Detected pickle protocol')
@pytest.mark.parametrize('zipped', [True, False])
def test_a_pickle_with_code_is_refused_unexecuted(tmp_path, zipped):
    mark, path = tmp_path / 'executed', tmp_path / 'evil.pt'
    torch.save(
        {'encoder': {'a': torch.zeros(2)}, 'epoch': Evil(mark)}, path, _use_new_zipfile_serialization=zipped
    )
    with pytest.raises(JepaError, match='evil.pt must hold tensors alone, found a pickle that asks for more'):
        loading.load_official(path, 'vjepa2-vitl')
    plain = tmp_path / 'pytorch_model.bin'
    plain.write_bytes(pickle.dumps(Evil(mark)))
    with pytest.raises(JepaError, match='pytorch_model.bin must'):
        loading.load_official(tmp_path, 'vjepa2-vitl')
    assert not mark.exists()


@pytest.mark.parametrize('share', [0.02, 0.5, 0.999])
@pytest.mark.parametrize('layout', ['official', 'huggingface'])
def test_truncated_files_are_named(vjepa2, tmp_path, share, layout):
    model, encoder, predictor = vjepa2
    if layout == 'official':
        path = official_file(tmp_path / 'vitl.pt', model, encoder, predictor)
    else:
        path = hf_folder(tmp_path, model, encoder, predictor) / 'model.safetensors'
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(JepaError, match=path.name):
        loading.load_official(path, model)


@pytest.mark.parametrize('name', ['empty.pt', 'empty.safetensors'])
def test_empty_files_and_absent_ones(tmp_path, name):
    with pytest.raises(JepaError, match='found none of that name'):
        loading.load_official(tmp_path / name, 'vjepa2-vitl')
    (tmp_path / name).touch()
    with pytest.raises(JepaError, match='found an empty file'):
        loading.load_official(tmp_path / name, 'vjepa2-vitl')


@pytest.mark.parametrize(
    'content, named',
    [
        ({'state_dict': {}}, 'found state_dict'),
        ({}, 'found nothing'),
        ([1, 2], 'found list'),
        ({'encoder': {'a': 'b'}}, 'found str at a'),
    ],
)
def test_other_things_that_torch_saves(tmp_path, content, named):
    torch.save(content, tmp_path / 'other.pt')
    with pytest.raises(JepaError, match=named):
        loading.load_official(tmp_path / 'other.pt', 'vjepa2-vitl')


def test_a_folder_without_weights_and_an_unknown_model(tmp_path):
    (tmp_path / 'README.md').touch()
    with pytest.raises(JepaError, match='found README.md'):
        loading.load_official(tmp_path, 'vjepa2-vitl')
    with pytest.raises(JepaError, match="found 'vjepa3'"):
        loading.load_official(tmp_path, 'vjepa3')
