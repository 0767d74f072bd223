# SPDX-License-Identifier: Apache-2.0
"""The table of published models: what it says, and what it refuses."""

from dataclasses import replace

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')

from jepa_ros.engine.manifest import FAMILIES, WEIGHTS  # noqa: E402
from jepa_ros.errors import JepaError  # noqa: E402
from jepa_ros.nets.official.encoder import OfficialEncoder  # noqa: E402
from jepa_ros.nets.official.families import MODELS, POSITIONS, ClipShape, find  # noqa: E402
from jepa_ros.nets.official.predictor import ActionPredictor, OfficialPredictor  # noqa: E402


def test_all_published_models_are_there():
    assert list(MODELS) == [
        'ijepa-vith14', 'ijepa-vith16_448', 'ijepa-vitg16',
        'vjepa-vitl16', 'vjepa-vith16', 'vjepa-vith16_384',
        'vjepa2-vitl', 'vjepa2-vith', 'vjepa2-vitg', 'vjepa2-vitg_384', 'vjepa2-vitg_ac',
        'vjepa2.1-vitb', 'vjepa2.1-vitl', 'vjepa2.1-vitg', 'vjepa2.1-vitG']


@pytest.mark.parametrize('model', MODELS.values(), ids=lambda model: model.name)
def test_rows_agree_with_the_manifest_and_with_themselves(model):
    assert model.name.startswith(f'{model.family}-') and model.family in FAMILIES and model.weights in WEIGHTS
    assert model.positions in POSITIONS and model.licence == ('MIT' if model.family.startswith('vjepa2')
                                                              else 'CC-BY-NC-4.0')
    assert model.taps[-1] == model.size.depth - 1 and list(model.taps) == sorted(set(model.taps))
    for size in (model.size, model.predictor.size):
        assert size.width % size.heads == 0
    assert model.size.mlp_width == {1408: 48, 1664: 64}.get(model.size.width, 4) * model.size.width // {
        1408: 11, 1664: 13}.get(model.size.width, 1)
    clip = ClipShape.of(model)
    assert clip.slices * clip.tokens == (model.image_size // model.patch) ** 2 * model.frames // model.tubelet


def test_millions_of_parameters_are_those_of_the_papers():
    """ViT-L 300 M, ViT-H 600 M, ViT-g 1 B (V-JEPA 2's README), ViT-B 80 M and ViT-G 2 B (V-JEPA 2.1)."""
    millions = {name: model.encoder_parameters / 1e6 for name, model in MODELS.items()}
    for name, expected in (('vjepa-vitl16', 300), ('vjepa2-vith', 630), ('vjepa2-vitg', 1010),
                           ('vjepa2.1-vitb', 86), ('vjepa2.1-vitG', 1845), ('ijepa-vith14', 630)):
        assert millions[name] == pytest.approx(expected, rel=0.02)
    assert MODELS['vjepa2-vitl'].predictor_parameters / 1e6 == pytest.approx(22, rel=0.02)
    assert MODELS['vjepa2-vitg_ac'].predictor_parameters / 1e6 == pytest.approx(305, rel=0.02)


@pytest.mark.parametrize('name', ['ijepa-vitg16', 'vjepa-vitl16', 'vjepa2-vitl', 'vjepa2-vitg_ac',
                                  'vjepa2.1-vitb', 'vjepa2.1-vitg'])
def test_parameters_are_counted_as_the_networks_have_them(name):
    model = replace(MODELS[name], frames=2 if MODELS[name].rotary else MODELS[name].frames)
    kind = ActionPredictor if model.predictor.action_conditioned else OfficialPredictor
    with torch.device('meta'):
        encoder, predictor = OfficialEncoder(model), kind(model)
    assert sum(weight.numel() for weight in encoder.parameters()) == model.encoder_parameters
    assert sum(weight.numel() for weight in predictor.parameters()) == model.predictor_parameters


def test_models_are_found_by_name_and_by_family():
    assert find('vjepa2.1', 'vitG') is find('vjepa2.1-vitG') is MODELS['vjepa2.1-vitG']
    for arguments, message in ((('dino',), "one of ijepa-vith14, .*found 'dino'"),
                               (('dino', 'vitl'), "one of ijepa, vjepa, vjepa2, vjepa2.1, found 'dino'"),
                               (('vjepa', 'vitg'), "one of vitl16, vith16, vith16_384, found 'vitg'")):
        with pytest.raises(JepaError, match=message):
            find(*arguments)


def test_clips():
    model = MODELS['vjepa2-vitl']
    clip = ClipShape.of(model, (96, 160), 6)
    assert (clip.grid, clip.tokens, clip.slices, clip.slice_period) == ((6, 10), 60, 3, 0.5)
    assert ClipShape.of(model, frames=1).slices == 1 and ClipShape.of(model).image_size == (256, 256)
    image = ClipShape.of(MODELS['ijepa-vith14'])
    assert image.grid == (16, 16) and image.slice_period is None


@pytest.mark.parametrize(('name', 'image_size', 'frames', 'message'), [
    ('vjepa2-vitl', 250, None, r'multiples of its patch \(16\), found 250x250'),
    ('ijepa-vith14', (224, 256), None, r'multiples of its patch \(14\), found 224x256'),
    ('vjepa2-vitl', None, 7, 'a multiple of 2, or 1, found 7'),
    ('vjepa2-vitl', None, 0, 'a multiple of 2, or 1, found 0'),
    ('ijepa-vith14', None, 2, 'must be 1, found 2'),
])
def test_clips_that_no_model_takes(name, image_size, frames, message):
    with pytest.raises(JepaError, match=message):
        ClipShape.of(MODELS[name], image_size, frames)
