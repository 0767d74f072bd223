# SPDX-License-Identifier: Apache-2.0
"""Weights to start from: another run's, inflated where an image encoder starts a video encoder."""

import copy
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import yaml

torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')
pytest.importorskip('tensorboard', reason='tensorboard is not installed (the train extra)')

from tiny_official import networks, tiny  # noqa: E402

from jepa_ros.clip import Frames  # noqa: E402
from jepa_ros.engine.bundle import Bundle  # noqa: E402
from jepa_ros.engine.session import open_session  # noqa: E402
from jepa_ros.errors import JepaError  # noqa: E402
from jepa_ros.images import fit  # noqa: E402
from jepa_ros.nets.official import families  # noqa: E402
from jepa_ros.nets.vit import normalise_output  # noqa: E402
from jepa_ros.training import command, start  # noqa: E402
from jepa_ros.training import config as configuration  # noqa: E402
from jepa_ros.training import model as models  # noqa: E402
from jepa_ros.training.trainer import Trainer  # noqa: E402


def as_image(values):
    """The same values with an image encoder."""
    values = copy.deepcopy(values)
    values['encoder'] |= {'tubelet': 1, 'window': 1}
    values['data']['frame_period'] = 0.1
    values['pretraining']['objective'] = 'ijepa'
    return values


def checkpoint(values, path):
    """A checkpoint of untrained weights, but not those that this seed begins with."""
    config = configuration.from_dict({**values, 'seed': 7})
    models.save(
        path,
        {
            'config': configuration.to_dict(config),
            'model': models.Model(config).state_dict(),
            'step': 0,
            'history': [],
        },
    )
    return str(path)


def test_a_run_starts_from_another_ones_weights_and_resumes_from_its_own(values, videos, tmp_path, cache):
    values['init_from'] = checkpoint(values, tmp_path / 'other.pt')
    config = configuration.from_dict(values)
    run = Trainer(config, tmp_path / 'run', [videos], cache)
    run.resume()
    other = models.load(tmp_path / 'other.pt')[1].state_dict()
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, other[name]), name
    run.step = 1
    run.model.encoder.norm.weight.data.fill_(3)
    run.save('last.pt')
    (tmp_path / 'other.pt').unlink()  # it is needed once only
    again = Trainer(config, tmp_path / 'run', [videos], cache)
    again.resume()
    assert (again.model.encoder.norm.weight == 3).all()


def test_image_weights_start_a_video_encoder(values, tmp_path):
    """A still picture gives the tokens that the image encoder's patch embedding gave."""
    values['init_from'] = checkpoint(as_image(values), tmp_path / 'image.pt')
    config = configuration.from_dict(values)
    model, image = models.Model(config), models.load(tmp_path / 'image.pt')[1]
    assert start.start_from(model, config)[0] == 'encoder'
    picture = torch.randn(1, 3, 1, 32, 48)
    assert torch.allclose(
        model.encoder.embed(picture.expand(-1, -1, 2, -1, -1)), image.target.embed(picture), atol=1e-5
    )
    for name, value in model.target.state_dict().items():
        assert torch.equal(value, model.encoder.state_dict()[name]), name


def test_a_readout_that_is_to_tell_more_goes_on_finding_the_point(values, tmp_path):
    values['data'] |= {'labels': {'handle': '/handle'}, 'vectors': {'grasp': '/grasp'}, 'flip': False}
    values['readout'] = {'name': 'handle', 'width': 32, 'depth': 1, 'heads': 2, 'attributes': {'grasp': 2}}
    values['init_from'] = checkpoint(values, tmp_path / 'other.pt')
    other = models.load(tmp_path / 'other.pt')[1].readout.state_dict()
    values['readout']['attributes'] = {'grasp': 3}
    config = configuration.from_dict(values)
    model = models.Model(config)
    assert 'readout' in start.start_from(model, config)
    for name, value in model.readout.state_dict().items():
        same = value.shape == other[name].shape and torch.equal(value, other[name])
        assert same != name.startswith(tuple(f'attributes.{part}' for part in ('mean', 'log_std', 'middle', 'unit'))), name
    values['readout']['width'] = 16
    config = configuration.from_dict(values)
    assert 'readout' not in start.start_from(models.Model(config), config)


def test_a_hierarchical_stem_starts_a_convolutional_one(values, tmp_path):
    values['encoder']['stem'] = 'hierarchical'
    values['init_from'] = checkpoint(values, tmp_path / 'other.pt')
    other = models.load(tmp_path / 'other.pt')[1].target
    values['encoder']['stem'] = 'convolutional'
    config = configuration.from_dict(values)
    model = models.Model(config)
    assert start.start_from(model, config)[0] == 'encoder'
    frames = torch.randn(1, 3, 2, 32, 48)
    assert torch.allclose(model.encoder.patch_embed.hierarchical(frames), other.patch_embed(frames))
    for name, value in model.target.state_dict().items():
        assert torch.equal(value, model.encoder.state_dict()[name]), name


def test_another_encoder_is_refused_by_the_first_weight_that_differs(values, tmp_path):
    values['init_from'] = checkpoint(values, tmp_path / 'other.pt')
    values['encoder']['depth'] = 3
    config = configuration.from_dict(values)
    with pytest.raises(JepaError, match=r'expected blocks.2.* \(.*\), found absent; set encoder.size'):
        start.start_from(models.Model(config), config)
    values['init_from'] = 'nowhere.pt'
    config = configuration.from_dict(values)
    with pytest.raises(JepaError, match='found no file and no bundle nowhere.pt'):
        start.start_from(models.Model(config), config)


@pytest.mark.parametrize(('bundle', 'run'), [('vjepa', 'vjepa'), ('ijepa', 'ijepa'), ('ijepa', 'vjepa')])
def test_a_bundle_that_ships_starts_a_run(bundle, run):
    """Also an image encoder a video encoder; what was read from its graphs computes what they compute."""
    whole = Bundle.load(f'conveyor_{bundle}')
    values = yaml.safe_load(command.find(f'conveyor_{run}').read_text()) | {'init_from': f'conveyor_{bundle}'}
    values['encoder']['stem'] = whole.manifest.architecture.stem  # or its convolutions would begin anew
    config = configuration.from_dict(values)
    model = models.Model(config)
    assert start.start_from(model, config) == ['encoder', 'forecaster', 'readout']
    session = open_session(whole, threads=1, surprise=False)
    size, tubelet = config.encoder.image_size, config.encoder.tubelet
    still = np.random.default_rng(0).integers(0, 256, (1, *size, 3), dtype=np.uint8)
    stamps = np.arange(1, 1 + whole.manifest.tubelet) * 50_000_000
    geometry = fit(still[0], tuple(size))[1]
    theirs = session.step(Frames(still.repeat(len(stamps), 0), stamps, geometry, None)).tokens
    frames = models.normalise(torch.from_numpy(still.repeat(tubelet, 0))[None])
    context, futures, dt = torch.randn(6, 50, 192), torch.randn(2, 50, 192), torch.tensor([0.1, 0.4])
    times = torch.arange(-5, 1) * 0.1
    with torch.no_grad():
        ours = normalise_output(model.target(frames, torch.zeros(1, 1)))[0]
        point = model.readout(futures, dt)[0]
        foretold = model.forecaster(context[None], times[None], dt[None])[0]
    assert np.abs(point.numpy() - answer(whole.readout, futures=futures, dt=dt)).max() < 1e-5
    assert np.abs(foretold.numpy() - answer(whole.forecaster, context=context, times=times, dt=dt)).max() < 1e-4
    assert np.abs(ours.numpy() - theirs).max() < 1e-4
    for name, value in model.target.state_dict().items():
        assert torch.equal(value, model.encoder.state_dict()[name]), name


def answer(graph, **inputs):
    """The first output of an ONNX graph."""
    session = onnxruntime.InferenceSession(str(graph))
    return session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})[0]


def published(name, tmp_path, **changes):
    """
    A small relative of a published model, its weights in Meta's layout, and the model's entry in the table.
    """
    from jepa_ros.nets.official import keys

    model = tiny(name, width=192, depth=2, heads=3, **changes)
    encoder, _ = networks(model)
    state = keys.to_official(encoder.state_dict(), model, 'encoder')
    torch.save(
        {model.weights: {f'module.backbone.{key}': value for key, value in state.items()}},
        tmp_path / 'published.pt',
    )
    return model, encoder


@pytest.mark.parametrize('name', ['vjepa2-vitl', 'vjepa2.1-vitl'])
def test_published_weights_start_an_encoder(name, values, tmp_path, monkeypatch):
    model, encoder = published(name, tmp_path)
    monkeypatch.setitem(families.MODELS, name, model)
    values |= {'init_from': str(tmp_path / 'published.pt'), 'init_model': name}
    values['encoder']['depth'] = model.size.depth
    config = configuration.from_dict(values)
    ours = models.Model(config)
    assert start.start_from(ours, config) == ['encoder']
    for theirs, own in zip(encoder.blocks, ours.target.blocks):
        assert torch.equal(theirs.attn.qkv.weight, own.attn.qkv.weight)
    assert torch.equal(ours.encoder.norm.weight, encoder.norms[-1].weight)
    assert torch.equal(ours.encoder.patch_embed.weight, encoder.patch_embed.weight)


def test_a_published_image_encoder_is_inflated_and_its_licence_is_kept(values, tmp_path, monkeypatch):
    model, encoder = published('ijepa-vith14', tmp_path, patch=16, image_size=64)
    monkeypatch.setitem(families.MODELS, 'ijepa-vith14', model)
    values |= {'init_from': str(tmp_path / 'published.pt'), 'init_model': 'ijepa-vith14'}
    config = configuration.from_dict(values)
    with pytest.raises(JepaError, match='expected licence CC-BY-NC-4.0, found Apache-2.0'):
        start.start_from(models.Model(config), config)
    config = configuration.from_dict({**values, 'licence': 'CC-BY-NC-4.0'})
    ours = models.Model(config)
    start.start_from(ours, config)
    assert torch.allclose(
        ours.encoder.patch_embed.weight.sum(2), encoder.patch_embed.weight[:, :, 0], atol=1e-6
    )


@pytest.mark.parametrize(('which', 'name'), [('encoder', 'encoder'), ('target_encoder', 'target')])
def test_a_run_starts_from_the_target_encoder_or_from_the_encoder(which, name, values, tmp_path):
    config = configuration.from_dict({**values, 'init_from': str(tmp_path / 'last.pt'), 'init_which': which})
    first = models.Model(config)
    for parameter in first.target.parameters():
        parameter.data += 1.0
    models.save(
        tmp_path / 'last.pt', {'config': configuration.to_dict(config), 'model': first.state_dict(), 'step': 1}
    )
    ours = models.Model(config)
    assert 'encoder' in start.start_from(ours, config)
    for key, value in getattr(first, name).state_dict().items():
        assert torch.equal(ours.encoder.state_dict()[key], value)
        assert torch.equal(ours.target.state_dict()[key], value)


def test_another_number_of_heads_is_refused_though_the_shapes_fit(values, tmp_path, monkeypatch):
    model, _ = published('vjepa2-vitl', tmp_path)
    monkeypatch.setitem(families.MODELS, 'vjepa2-vitl', replace(model, size=replace(model.size, heads=4)))
    config = configuration.from_dict(
        {**values, 'init_from': str(tmp_path / 'published.pt'), 'init_model': 'vjepa2-vitl'}
    )
    with pytest.raises(JepaError, match='has 4 attention heads, expected the 3 of encoder.size tiny'):
        start.start_from(models.Model(config), config)
    config.init_model = 'vjepa3'
    with pytest.raises(JepaError, match="must be one of .*vjepa2-vitl.*, found 'vjepa3'"):
        start.start_from(models.Model(config), config)
