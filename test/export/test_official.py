# SPDX-License-Identifier: Apache-2.0
"""
Published weights through `jepa export`: what comes out computes what went in, says where it is from, or is
refused.
"""

import dataclasses
import importlib.util
import os
from pathlib import Path

import numpy as np
import onnx
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')
pytest.importorskip('onnxscript', reason='onnxscript is not installed (the train extra)')

import tiny_official  # noqa: E402
from recorded import write_video  # noqa: E402

from jepa_ros import cli  # noqa: E402
from jepa_ros.engine.bundle import Bundle, file_sha256  # noqa: E402
from jepa_ros.engine.session import open_session  # noqa: E402
from jepa_ros.errors import JepaError  # noqa: E402
from jepa_ros.export.clips import Clips  # noqa: E402
from jepa_ros.export.official import export_official  # noqa: E402
from jepa_ros.nets.official import families, keys  # noqa: E402
from jepa_ros.nets.official.futures import OfficialForecaster  # noqa: E402
from jepa_ros.nets.official.loading import load_official  # noqa: E402
from jepa_ros.training.model import normalise  # noqa: E402

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'random_official_weights.py'
TINY = {
    'ijepa-vith14': 'ijepa-tiny',
    'vjepa-vitl16': 'vjepa-tiny',
    'vjepa2-vitl': 'vjepa2-tiny',
    'vjepa2.1-vitl': 'vjepa2.1-tiny',
}


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('random_official_weights', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def tiny_models(monkeypatch):
    """Small models of every family beside the published ones."""
    for name, small in TINY.items():
        patch = families.find(name).patch
        model = dataclasses.replace(tiny_official.tiny(name, image_size=4 * patch, frames=8), name=small)
        monkeypatch.setitem(families.MODELS, small, model)


@pytest.fixture
def weights(tool, tmp_path):
    """Return a function of a model's name that writes its random weights."""

    def write(name):
        path = tmp_path / f'{name}.pt'
        tool.write(families.find(name), path)
        return path

    return write


def quiet(line):
    pass


def test_v_jepa_2_becomes_a_clip_bundle_with_discrete_futures(weights, tmp_path):
    path = weights('vjepa2-tiny')
    video = write_video(tmp_path / 'numbers.mp4', 36, rate=4, size=(64, 64))
    bundle = export_official(
        path, 'vjepa2', 'tiny', tmp_path / 'bundle', frames=8, clips=Clips((str(video),), 4), progress=quiet
    )
    manifest = bundle.manifest
    assert (manifest.name, manifest.family, manifest.mode, manifest.frames) == (
        'vjepa2-tiny',
        'vjepa2',
        'clip',
        8,
    )
    assert (manifest.frame_period, manifest.slice_period, manifest.grid) == (0.25, 0.5, (4, 4))
    assert manifest.forecaster.horizons.values == (0.5, 1.0) and manifest.forecaster.context == 4
    assert (
        manifest.future_space == 'LayerNorm of the latents of its target encoder'
        and manifest.output_norm == 'none'
    )
    assert (manifest.weights.which, manifest.weights.licence) == ('target_encoder', 'MIT')
    assert (
        manifest.weights.sha256 == file_sha256(path) and 'facebookresearch/vjepa2' in manifest.weights.source
    )
    assert manifest.training['mask_index'] == 1
    assert manifest.parity_inputs == '2 windows of numbers' and max(manifest.parity.values()) < 1e-4
    assert 'in the space of LayerNorm of the latents' in (bundle.path / 'README.md').read_text()


@torch.no_grad()
@pytest.mark.parametrize('period', [0.25, 0.1])
def test_the_session_computes_what_the_loaded_networks_do(weights, tmp_path, period):
    """Also with a frame period of the user's own: the positions are slices, whatever a slice lasts."""
    path = weights('vjepa2-tiny')
    bundle = export_official(
        path, 'vjepa2', 'tiny', tmp_path / 'bundle', frames=8, frame_period=period, progress=quiet
    )
    loaded, session = load_official(path, 'vjepa2-tiny', frames=8), open_session(bundle, threads=1)
    images = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
    latents = session.step(frames_of(images, period))
    whole = loaded.encoder(normalise(torch.from_numpy(images)[None]))[0].unflatten(0, (4, 16))
    assert np.abs(latents.tokens - whole[-1].numpy()).max() < 1e-4
    expected = OfficialForecaster(loaded.predictor, 4, 2).fill(whole)
    assert np.abs(session.forecast().tokens - expected.numpy()).max() < 1e-4
    later = session.forecast([4 * period])
    assert np.abs(later.tokens[0] - expected[1].numpy()).max() < 1e-4
    assert np.isnan(
        session.step(frames_of(images, period, 2)).surprise
    ).all()  # futures live in another space


def frames_of(images, period, after=0):
    from jepa_ros.clip import Frames
    from jepa_ros.images import fit

    stamps = 10**9 + ((np.arange(len(images)) + after) * period * 1e9).astype(np.int64)
    return Frames(images, stamps, fit(images[0], images.shape[1:3])[1], None)


def test_futures_of_a_distilled_model_live_in_its_teachers_space(weights, tmp_path):
    bundle = export_official(
        weights('vjepa2.1-tiny'),
        'vjepa2.1',
        'tiny',
        tmp_path / 'bundle',
        frames=4,
        horizons=1,
        progress=quiet,
    )
    manifest = bundle.manifest
    assert manifest.future_space == 'LayerNorm of the latents of its ViT-G teacher'
    assert manifest.weights.which == 'ema_encoder' and manifest.forecaster.dim != manifest.latent_dim


@pytest.mark.parametrize('family, why', [('ijepa', 'knows no time'), ('vjepa', 'positions it knows end')])
def test_families_without_a_usable_predictor_say_so(weights, tmp_path, family, why):
    lines = []
    bundle = export_official(
        weights(f'{family}-tiny'), family, 'tiny', tmp_path / 'bundle', progress=lines.append
    )
    assert bundle.manifest.forecaster is None and bundle.manifest.mode == (
        'frame' if family == 'ijepa' else 'clip'
    )
    assert why in lines[0] and 'jepa train can fit a forecaster' in lines[0]
    assert max(bundle.manifest.parity.values()) < 1e-4


@pytest.mark.parametrize('name', ['vjepa2-tiny', 'vjepa2.1-tiny'])
def test_positions_and_masks_are_constants_of_the_graph(weights, tmp_path, name):
    family, _, model = name.partition('-')
    bundle = export_official(weights(name), family, model, tmp_path / 'bundle', frames=4, progress=quiet)
    for path in (bundle.encoder, bundle.forecaster):
        kinds = {node.op_type for node in onnx.load(path).graph.node}
        assert 'LayerNormalization' in kinds
        assert not kinds & {
            'Sin',
            'Cos',
            'Range',
            'TopK',
            'ScatterND',
            'GatherElements',
            'Where',
            'ConstantOfShape',
        }


def test_the_layout_of_hugging_face_is_exported_too(weights, tmp_path):
    from safetensors.torch import save_file

    original = weights('vjepa2-tiny')
    loaded = load_official(original, 'vjepa2-tiny')
    state = keys.to_hf(loaded.encoder.state_dict(), loaded.predictor.state_dict(), loaded.model)
    save_file(
        {name: value.detach().clone().contiguous() for name, value in state.items()},
        tmp_path / 'model.safetensors',
    )
    theirs = export_official(
        tmp_path / 'model.safetensors', 'vjepa2', 'tiny', tmp_path / 'theirs', progress=quiet
    )
    ours = export_official(original, 'vjepa2', 'tiny', tmp_path / 'ours', progress=quiet)
    assert theirs.manifest.weights.which == 'encoder' and theirs.manifest.training['layout'] == 'huggingface'
    images = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
    first, second = (
        open_session(bundle, threads=1).step(frames_of(images, 0.25)).tokens for bundle in (theirs, ours)
    )
    assert np.array_equal(first, second)


def refused(path, *arguments, family='vjepa2', model='tiny'):
    """Run the command, which must fail; return its one sentence."""
    out = path.parent / 'bundle'
    status = cli.main(
        ['export', str(path), '--family', family, '--model', model, '--out', str(out), *arguments]
    )
    assert status == 2 and not out.exists()


@pytest.mark.parametrize(
    'arguments, words',
    [
        (['--frames', '7'], 'must be a multiple of 2, or 1, found 7'),
        (['--image-size', '72'], 'must be multiples of its patch (16), found 72x72'),
        (
            ['--image-size', '64', '64', '3'],
            '--image-size takes one side, or height and width, found 3 numbers',
        ),
        (['--frame-period', '-1'], 'expected a frame period above 0'),
        (['--precision', 'int8'], 'int8 needs recordings to calibrate with'),
    ],
)
def test_wrong_arguments(weights, capsys, arguments, words):
    refused(weights('vjepa2-tiny'), *arguments)
    assert words in capsys.readouterr().err


def test_weights_of_another_model_are_named(weights, capsys):
    path = weights('vjepa2.1-tiny')
    refused(path)
    assert f'{path} must hold' in capsys.readouterr().err


def test_a_model_must_be_named_with_its_family(weights, tmp_path):
    with pytest.raises(JepaError, match='family vjepa2 must be one of vitl, vith, .* name one with --model'):
        export_official(weights('vjepa2-tiny'), 'vjepa2', None, tmp_path / 'bundle')
    with pytest.raises(JepaError, match="family vjepa2 must be one of vitl, .* found 'vitx'"):
        export_official(weights('vjepa2-tiny'), 'vjepa2', 'vitx', tmp_path / 'bundle')


def test_truncated_weights_are_refused(weights, capsys):
    path = weights('vjepa2-tiny')
    os.truncate(path, path.stat().st_size // 2)
    refused(path)
    assert str(path) in capsys.readouterr().err


class Burglar:
    """What a pickle can do to whoever opens it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def test_code_in_weights_does_not_run(tmp_path, capsys):
    torch.save({'target_encoder': Burglar(str(tmp_path / 'broken_in'))}, tmp_path / 'weights.pt')
    refused(tmp_path / 'weights.pt')
    assert 'weights.pt must hold tensors alone' in capsys.readouterr().err
    assert not (tmp_path / 'broken_in').exists()


def test_one_byte_of_a_graph_is_noticed(weights, tmp_path):
    bundle = export_official(weights('ijepa-tiny'), 'ijepa', 'tiny', tmp_path / 'bundle', progress=quiet)
    content = bytearray(bundle.encoder.read_bytes())
    content[-100] ^= 1
    bundle.encoder.write_bytes(content)
    with pytest.raises(JepaError, match='encoder.onnx: expected sha256'):
        Bundle.load(tmp_path / 'bundle')
