# SPDX-License-Identifier: Apache-2.0
"""Export: the bundle computes what torch computes, slice by slice, and says so; a bad checkpoint or folder is refused."""

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')
pytest.importorskip('onnxscript', reason='onnxscript is not installed (the train extra)')

from recorded import write_video  # noqa: E402

from jepa_ros.clip import Frames  # noqa: E402
from jepa_ros.engine.session import open_session  # noqa: E402
from jepa_ros.errors import JepaError  # noqa: E402
from jepa_ros.export import bundle as exporting  # noqa: E402
from jepa_ros.export import fidelity  # noqa: E402
from jepa_ros.export.clips import Clips  # noqa: E402
from jepa_ros.images import fit  # noqa: E402
from jepa_ros.nets.vit import normalise_output  # noqa: E402
from jepa_ros.training import model as models  # noqa: E402


@pytest.fixture(scope='module')
def exported(tmp_path_factory, checkpoint):
    folder = tmp_path_factory.mktemp('export')
    model = checkpoint(folder / 'best.pt')
    return exporting.export_checkpoint(folder / 'best.pt', folder / 'bundle', progress=lambda line: None), model


def test_the_manifest_says_what_was_exported_and_measured(exported):
    manifest = exported[0].manifest
    assert (manifest.name, manifest.mode, manifest.family, manifest.grid) == ('small', 'stream', 'vjepa', (2, 3))
    assert manifest.stream.slices == 4 and manifest.forecaster.context == 3 and manifest.readout.name == 'handle'
    assert manifest.training['steps'] == 7 and manifest.metrics['validation']['rank'] == 3.0
    assert set(manifest.parity) == {'encoder.tokens', 'encoder.present', 'forecaster.futures', 'readout.point',
                                    'readout.cov'}
    assert max(manifest.parity.values()) < 1e-4
    card = (exported[0].path / 'README.md').read_text()
    assert '| 0.1 | +0.250 | +0.125 |' in card and f'{max(manifest.parity.values()):.1e}' in card


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
    latents = [session.step(Frames(images[i:i + 2], stamps[i:i + 2], geometry, None)).tokens
               for i in range(0, 2 * slices, 2)]
    times = torch.from_numpy((stamps[1::2] - stamps[1]) / 1e9)[None]
    whole = normalise_output(model.target(models.normalise(torch.from_numpy(images)[None]), times))[0]
    assert np.abs(np.concatenate(latents) - whole.numpy()).max() < 1e-4
    horizons = np.array([0.13, 0.27], np.float32)
    futures = session.forecast(horizons)
    context = whole.unflatten(0, (slices, -1))[None, -3:]
    expected = model.forecaster(context, (times[:, -3:] - times[:, -1:]).float(), torch.from_numpy(horizons)[None])
    assert np.abs(futures.tokens - expected[0].numpy()).max() < 1e-3


def test_an_image_encoder_becomes_a_frame_bundle(tmp_path, checkpoint):
    model = checkpoint(tmp_path / 'best.pt', encoder={'depth': 2, 'image_size': [32, 48], 'tubelet': 1, 'window': 1},
                       readout={})
    bundle = exporting.export_checkpoint(tmp_path / 'best.pt', tmp_path / 'bundle', progress=lambda line: None)
    assert bundle.manifest.mode == 'frame' and bundle.manifest.family == 'ijepa'
    images = np.random.default_rng(0).integers(0, 256, (1, 32, 48, 3), dtype=np.uint8)
    session = open_session(bundle, threads=1)
    latents = session.step(Frames(images, np.array([10**9]), fit(images[0], (32, 48))[1], None))
    with torch.no_grad():
        expected = normalise_output(model.target(models.normalise(torch.from_numpy(images)[None]), torch.zeros(1, 1)))
    assert np.abs(latents.tokens - expected[0].numpy()).max() < 1e-4


def test_a_graph_that_differs_from_torch_fails_the_export_and_leaves_the_old_bundle(tmp_path, monkeypatch, checkpoint):
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


@pytest.mark.parametrize('precision, words', [('fp16', 'rounded to fp16'), ('int8', 'calibrated on earlier ones')])
def test_other_precisions_are_measured_on_recordings_graph_by_graph_and_in_the_loop(tmp_path, checkpoint, precision,
                                                                                   words):
    path = tmp_path / 'best.pt'
    checkpoint(path, readout={})
    video = write_video(tmp_path / 'numbers.mp4', 40, rate=20)
    bundle = exporting.export_checkpoint(path, tmp_path / 'bundle', precision=precision,
                                         clips=Clips((str(video),), 12), progress=lambda line: None)
    manifest = bundle.manifest
    assert manifest.precision == precision
    assert manifest.parity_inputs.startswith('6 windows of numbers') and words in manifest.parity_inputs
    assert set(manifest.parity) == set(manifest.cosine) == {'encoder.tokens', 'encoder.present', 'forecaster.futures',
                                                            'session.tokens'}
    assert min(manifest.cosine.values()) > 0.999
    for output in ('encoder.tokens', 'encoder.present', 'session.tokens'):  # an untrained forecaster says persistence
        assert 1e-5 < manifest.parity[output] < 0.2  # rounding is there, and is small
    assert open_session(bundle, backend='onnxruntime-cpu', threads=1).manifest == manifest
