# SPDX-License-Identifier: Apache-2.0
"""
Export: the bundle computes what torch computes, slice by slice, and says so; a bad checkpoint or folder is
refused.
"""

import os
import re
import shutil

import numpy as np
import onnx
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')
pytest.importorskip('onnxscript', reason='onnxscript is not installed (the train extra)')

from recorded import write_video  # noqa: E402

from jepa_ros.clip import Frames  # noqa: E402
from jepa_ros.engine.manifest import BundleError  # noqa: E402
from jepa_ros.engine.readout import Readout  # noqa: E402
from jepa_ros.engine.session import open_session  # noqa: E402
from jepa_ros.errors import JepaError  # noqa: E402
from jepa_ros.export import bundle as exporting  # noqa: E402
from jepa_ros.export import fidelity, precision, writer  # noqa: E402
from jepa_ros.export.clips import Clips  # noqa: E402
from jepa_ros.images import centre_crop, fit  # noqa: E402
from jepa_ros.latents import Futures, token_centres  # noqa: E402
from jepa_ros.nets.vit import normalise_output  # noqa: E402
from jepa_ros.training import config as configuration  # noqa: E402
from jepa_ros.training import model as models  # noqa: E402
from jepa_ros.training import start  # noqa: E402


def test_what_cannot_be_removed_of_the_bundle_before_does_not_cost_the_new_one(tmp_path, monkeypatch):
    out = tmp_path / 'bundle'
    out.mkdir()
    (out / 'before').touch()
    monkeypatch.setattr(writer.shutil, 'rmtree', lambda *arguments, **options: None)  # plans of another user
    with writer._replacing(out) as work:
        (work / 'now').touch()
    assert [path.name for path in out.iterdir()] == ['now']


@pytest.fixture(scope='module')
def exported(tmp_path_factory, checkpoint):
    folder = tmp_path_factory.mktemp('export')
    model = checkpoint(folder / 'best.pt')
    return exporting.export_checkpoint(
        folder / 'best.pt', folder / 'bundle', progress=lambda line: None
    ), model


def test_the_manifest_says_what_was_exported_and_measured(exported):
    manifest = exported[0].manifest
    assert (manifest.name, manifest.mode, manifest.family, manifest.grid) == (
        'small',
        'stream',
        'vjepa',
        (2, 3),
    )
    assert (
        manifest.stream.slices == 4 and manifest.forecaster.context == 3 and manifest.readout.name == 'handle'
    )
    assert manifest.training['steps'] == 7 and manifest.metrics['validation']['rank'] == 3.0
    assert set(manifest.parity) == {
        'encoder.tokens',
        'encoder.present',
        'forecaster.futures',
        'readout.point',
        'readout.cov',
    }
    assert max(manifest.parity.values()) < 1e-4
    card = (exported[0].path / 'README.md').read_text()
    assert '| 0.1 | +0.250 | +0.125 |' in card and f'{max(manifest.parity.values()):.1e}' in card


def test_a_bundle_does_not_say_where_its_maker_kept_things():
    for given, told in (('/home/someone/runs/first/last.pt', 'first/last.pt'), ('runs/first/last.pt', 'runs/first/last.pt'), ('', '')):
        assert exporting._without_places({'init_from': given, 'seed': 3}) == {'init_from': told, 'seed': 3}


@torch.no_grad()
@pytest.mark.parametrize('seed', range(4))
def test_the_session_equals_one_block_causal_pass_of_torch_with_dropped_and_jittered_frames(exported, seed):
    """Slice by slice through ONNX Runtime and its cache, against the whole sequence at once in torch."""
    bundle, model = exported
    rng, slices = np.random.default_rng(seed), 11
    spacing = 0.05 * (1 + (rng.random(2 * slices) < 0.2) + rng.uniform(-0.3, 0.3, 2 * slices))
    stamps = 1_700_000_000_000_000_000 + np.cumsum(spacing * 1e9).astype(np.int64)
    images = rng.integers(0, 256, (2 * slices, 32, 48, 3), dtype=np.uint8)
    geometry = fit(images[0], (32, 48))[1]
    session = open_session(bundle, threads=1)
    latents = [
        session.step(Frames(images[i : i + 2], stamps[i : i + 2], geometry, None)).tokens
        for i in range(0, 2 * slices, 2)
    ]
    times = torch.from_numpy((stamps[1::2] - stamps[1]) / 1e9)[None]
    whole = normalise_output(model.target(models.normalise(torch.from_numpy(images)[None]), times))[0]
    assert np.abs(np.concatenate(latents) - whole.numpy()).max() < 1e-4
    horizons = np.array([0.13, 0.27], np.float32)
    futures = session.forecast(horizons)
    context = whole.unflatten(0, (slices, -1))[None, -3:]
    expected = model.forecaster(
        context, (times[:, -3:] - times[:, -1:]).float(), torch.from_numpy(horizons)[None]
    )
    assert np.abs(futures.tokens - expected[0].numpy()).max() < 1e-3


def test_what_is_told_of_the_point_goes_into_the_picture_that_was_received(tmp_path, checkpoint):
    """Where another point lies from it is told in units of the received image; how it is turned is what it is."""
    labels, vectors = {'handle': '/sim/handle', 'foot': '/sim/foot'}, {'grasp': '/sim/grasp'}
    data = {'slices': 6, 'labels': labels, 'vectors': vectors, 'flip': False}
    of = {'name': 'handle', 'width': 24, 'depth': 1, 'heads': 2, 'attributes': {'grasp': 2, 'foot': 2}}
    torch.manual_seed(3)
    checkpoint(tmp_path / 'best.pt', data=data, readout=of)
    bundle = exporting.export_checkpoint(tmp_path / 'best.pt', tmp_path / 'bundle', progress=lambda line: None)
    assert bundle.manifest.readout.attributes == {'grasp': 2, 'foot': 2}
    assert bundle.manifest.readout.offsets == ('foot',)
    assert max(bundle.manifest.parity[f'readout.attributes{end}'] for end in ('', '_std')) < 1e-4
    readout, rng = Readout(bundle), np.random.default_rng(0)
    tokens = rng.normal(size=(2, 6, bundle.manifest.forecaster.dim)).astype(np.float32)
    geometry = centre_crop(640, 640, bundle.manifest.image_size)
    whole, cropped = (
        readout.read(
            Futures(1, np.float32([0.1, 0.3]), tokens, token_centres(bundle.manifest.grid, of), bundle.model_id)
        ).attributes
        for of in (None, geometry)
    )
    scale = np.array([geometry.crop_width, geometry.crop_height]) / 640
    assert scale[1] < 1
    np.testing.assert_allclose(cropped['foot'].mean, scale * whole['foot'].mean, rtol=1e-4)
    np.testing.assert_allclose(cropped['foot'].std, scale * whole['foot'].std, rtol=1e-4)
    np.testing.assert_array_equal(cropped['grasp'].mean, whole['grasp'].mean)


def test_a_run_keeps_the_licence_of_the_bundle_that_it_starts_from(exported, tmp_path):
    bundle, _ = exported
    shutil.copytree(bundle.path, tmp_path / 'bundle')
    manifest = tmp_path / 'bundle' / 'manifest.yaml'
    manifest.write_text(re.sub('^  licence: .*', '  licence: CC-BY-NC-4.0', manifest.read_text(), flags=re.M))
    config = configuration.from_dict(bundle.manifest.training['config'] | {'init_from': str(tmp_path / 'bundle')})
    with pytest.raises(JepaError, match='expected licence CC-BY-NC-4.0'):
        start.start_from(models.Model(config), config)


def test_an_image_encoder_becomes_a_frame_bundle(tmp_path, checkpoint):
    model = checkpoint(
        tmp_path / 'best.pt',
        encoder={'depth': 2, 'image_size': [32, 48], 'tubelet': 1, 'window': 1},
        data={'slices': 6, 'labels': {'handle': '/sim/handle'}, 'frame_period': 0.1},
        pretraining={'objective': 'ijepa'},
        readout={},
    )
    bundle = exporting.export_checkpoint(
        tmp_path / 'best.pt', tmp_path / 'bundle', progress=lambda line: None
    )
    assert bundle.manifest.mode == 'frame' and bundle.manifest.family == 'ijepa'
    images = np.random.default_rng(0).integers(0, 256, (1, 32, 48, 3), dtype=np.uint8)
    session = open_session(bundle, threads=1)
    latents = session.step(Frames(images, np.array([10**9]), fit(images[0], (32, 48))[1], None))
    with torch.no_grad():
        expected = normalise_output(
            model.target(models.normalise(torch.from_numpy(images)[None]), torch.zeros(1, 1))
        )
    assert np.abs(latents.tokens - expected[0].numpy()).max() < 1e-4


@torch.no_grad()
def test_a_bidirectional_encoder_without_heads_becomes_a_clip_bundle_without_futures(tmp_path, checkpoint):
    model = checkpoint(
        tmp_path / 'best.pt',
        encoder={'depth': 2, 'image_size': [32, 48], 'window': 0},
        stages=['pretraining'],
        readout={},
    )
    bundle = exporting.export_checkpoint(
        tmp_path / 'best.pt', tmp_path / 'bundle', progress=lambda line: None
    )
    assert (bundle.manifest.mode, bundle.manifest.frames, bundle.manifest.forecaster) == ('clip', 12, None)
    images = np.random.default_rng(0).integers(0, 256, (12, 32, 48, 3), dtype=np.uint8)
    stamps = 10**9 + np.arange(12) * 50_000_000
    session = open_session(bundle, threads=1)
    latents = session.step(Frames(images, stamps, fit(images[0], (32, 48))[1], None))
    whole = model.target(models.normalise(torch.from_numpy(images)[None]), torch.arange(6)[None] * 0.1)
    assert np.abs(latents.tokens - normalise_output(whole)[0, -6:].numpy()).max() < 1e-4
    assert session.forecast() is None
    graph = {node.op_type for node in onnx.load(bundle.encoder).graph.node}
    assert 'LayerNormalization' in graph and not graph & {'Sin', 'Cos', 'Where', 'Range', 'GatherElements'}


def test_a_graph_that_differs_from_torch_fails_the_export_and_leaves_the_old_bundle(
    tmp_path, monkeypatch, checkpoint
):
    path = tmp_path / 'best.pt'
    checkpoint(path, readout={})
    exporting.export_checkpoint(path, tmp_path / 'bundle', progress=lambda line: None)
    before = (tmp_path / 'bundle' / 'manifest.yaml').read_bytes()
    monkeypatch.setattr(fidelity, 'LARGEST_DIFFERENCE', 0.0)
    with pytest.raises(JepaError, match='differs from torch by .* at encoder.tokens'):
        exporting.export_checkpoint(path, tmp_path / 'bundle', progress=lambda line: None)
    assert (tmp_path / 'bundle' / 'manifest.yaml').read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith('.')] == []


def test_a_folder_that_holds_something_else_is_not_overwritten(tmp_path, checkpoint):
    checkpoint(tmp_path / 'best.pt')
    (tmp_path / 'home').mkdir()
    (tmp_path / 'home' / 'thesis.tex').write_text('words')
    with pytest.raises(JepaError, match='is not empty and holds no engine bundle'):
        exporting.export_checkpoint(tmp_path / 'best.pt', tmp_path / 'home')


def test_int8_without_recordings_is_refused_before_anything_is_written(tmp_path, checkpoint):
    checkpoint(tmp_path / 'best.pt')
    with pytest.raises(JepaError, match='int8 needs recordings to calibrate with: name some with --clips'):
        exporting.export_checkpoint(tmp_path / 'best.pt', tmp_path / 'bundle', precision='int8')
    assert [path.name for path in tmp_path.iterdir()] == ['best.pt']


@pytest.mark.parametrize('kind, words', [('fp16', 'rounded to fp16'), ('int8', 'calibrated on earlier ones')])
def test_other_precisions_are_measured_on_recordings_graph_by_graph_and_in_the_loop(
    tmp_path, checkpoint, kind, words
):
    path = tmp_path / 'best.pt'
    checkpoint(path, readout={})
    video = write_video(tmp_path / 'numbers.mp4', 40, rate=20)
    bundle = exporting.export_checkpoint(
        path, tmp_path / 'bundle', precision=kind, clips=Clips((str(video),), 12), progress=lambda line: None
    )
    manifest = bundle.manifest
    assert manifest.precision == kind
    assert manifest.parity_inputs.startswith('6 windows of numbers') and words in manifest.parity_inputs
    assert (
        set(manifest.parity)
        == set(manifest.cosine)
        == {'encoder.tokens', 'encoder.present', 'forecaster.futures', 'session.tokens'}
    )
    assert min(manifest.cosine.values()) > 0.999
    for output in (
        'encoder.tokens',
        'encoder.present',
        'session.tokens',
    ):  # an untrained forecaster says persistence
        assert 1e-5 < manifest.parity[output] < 0.2  # rounding is there, and is small
    assert open_session(bundle, backend='onnxruntime-cpu', threads=1).manifest == manifest


@pytest.mark.parametrize('kind, found', [('fp32', '2 windows of num'), ('int8', '2 windows to calibrate on')])
def test_recordings_too_short_for_the_forecaster_are_refused(tmp_path, checkpoint, kind, found):
    checkpoint(tmp_path / 'best.pt', readout={})
    video = write_video(tmp_path / 'numbers.mp4', 8, rate=20)
    with pytest.raises(
        JepaError, match=f'forecaster.onnx was never run: .* context of 3 slices, found {found}'
    ):
        exporting.export_checkpoint(
            tmp_path / 'best.pt',
            tmp_path / 'bundle',
            precision=kind,
            clips=Clips((str(video),)),
            progress=lambda line: None,
        )
    assert not (tmp_path / 'bundle').exists()


def test_weights_too_many_for_one_file_lie_beside_it_and_are_checked(tmp_path, checkpoint, monkeypatch):
    monkeypatch.setattr(precision, 'EXTERNAL_ABOVE', 1_000_000)
    checkpoint(tmp_path / 'best.pt', readout={})
    bundle = exporting.export_checkpoint(
        tmp_path / 'best.pt', tmp_path / 'bundle', progress=lambda line: None
    )
    data = bundle.path / 'encoder.onnx.data'
    assert (
        data.name in bundle.manifest.files and bundle.encoder.stat().st_size < 500_000 < data.stat().st_size
    )
    assert 'forecaster.onnx.data' not in bundle.manifest.files
    assert bundle.manifest.parity['encoder.tokens'] < 1e-4
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    with pytest.raises(BundleError, match=r'encoder.onnx.data: expected sha256 \w{64}, found \w{64}'):
        open_session(bundle.path)
    data.unlink()
    with pytest.raises(
        BundleError, match='encoder.onnx.data: expected a file that the manifest names, found none'
    ):
        open_session(bundle.path)


class Burglar:
    """What a pickle can do to whoever opens it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (self.path,))


@pytest.mark.parametrize('wrap', [lambda x: x, lambda x: {'config': {}, 'model': x, 'step': 0}])
def test_code_in_a_checkpoint_does_not_run(tmp_path, wrap):
    torch.save(wrap(Burglar(str(tmp_path / 'broken_in'))), tmp_path / 'best.pt')
    with pytest.raises(JepaError, match='best.pt is no readable checkpoint'):
        exporting.export_checkpoint(tmp_path / 'best.pt', tmp_path / 'bundle')
    assert [path.name for path in tmp_path.iterdir()] == ['best.pt']


def test_a_truncated_checkpoint_is_named(tmp_path, checkpoint):
    checkpoint(tmp_path / 'best.pt')
    os.truncate(tmp_path / 'best.pt', (tmp_path / 'best.pt').stat().st_size // 2)
    with pytest.raises(JepaError, match='best.pt is no readable checkpoint'):
        exporting.export_checkpoint(tmp_path / 'best.pt', tmp_path / 'bundle')
