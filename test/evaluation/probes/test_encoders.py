# SPDX-License-Identifier: Apache-2.0
"""What turns clips into tokens: as the node does, and the two baselines."""

import numpy as np
import pytest

from jepa_ros.clip import Frames
from jepa_ros.engine.bundle import Bundle
from jepa_ros.engine.session import open_session
from jepa_ros.evaluation.probes import encoders
from jepa_ros.evaluation.probes.encoders import BundleEncoder, RandomEncoder, RawPixels
from jepa_ros.evaluation.probes.scores import ProbeError
from jepa_ros.images import Geometry

PERIOD_NS = 50_000_000
GEOMETRY = Geometry(48, 32, 0, 0, 48, 32)
IMAGES = np.random.default_rng(0).integers(0, 255, (8, 32, 48, 3)).astype(np.uint8)
STAMPS = 10**9 + np.arange(8) * PERIOD_NS


@pytest.fixture(scope='module')
def stream(tiny):
    return BundleEncoder(Bundle.load(tiny), (0.1, 0.2, 0.9))


def test_a_clip_is_one_frame_per_period_back_from_the_newest(stream):
    stamps = 10**9 + np.arange(60) * PERIOD_NS // 2  # 40 Hz, twice as fast as the encoder
    jittered = stamps + np.where(np.arange(60) % 2, 0, 3_000_000)
    assert stream.choose(stamps, 50, 0.4).tolist() == list(range(36, 51, 2))
    assert stream.choose(jittered, 51, 0.4).tolist() == list(range(37, 52, 2))
    assert stream.choose(stamps, 50, 0.45).tolist()[0] == 36  # nine frames are no whole number of tubelets


def test_a_slow_camera_gives_each_frame_once(stream):
    stamps = 10**9 + np.arange(20) * 4 * PERIOD_NS
    assert stream.choose(stamps, 10, 0.8).tolist() == [7, 8, 9, 10]
    assert stream.choose(stamps, 10, 0.1).tolist() == [10, 10]


def test_a_clip_encoder_takes_as_many_frames_as_its_graph(tiny_clip):
    clip = BundleEncoder(Bundle.load(tiny_clip))
    slow = 10**9 + np.arange(20) * 2 * PERIOD_NS
    assert clip.choose(slow, 10, 0.8).tolist() == [7, 7, 8, 8, 9, 9, 10, 10]
    with pytest.raises(ProbeError, match='at least 0.4 s for .tiny_clip., found 0.3 s'):
        clip.choose(slow, 10, 0.3)
    slices, stamps, futures = clip.encode(IMAGES, STAMPS, GEOMETRY)
    assert slices.shape == (4, 6, 16) and (stamps == STAMPS[1::2]).all() and futures is None


def test_slices_and_futures_are_those_of_a_session_that_begins_anew(stream, tiny):
    stream.encode(IMAGES[::-1], STAMPS, GEOMETRY)  # is forgotten
    slices, stamps, futures = stream.encode(IMAGES, STAMPS, GEOMETRY)
    session = open_session(tiny, threads=1)
    for i in range(4):
        part = slice(2 * i, 2 * i + 2)
        latents = session.step(Frames(IMAGES[part], STAMPS[part], GEOMETRY))
        assert (slices[i] == latents.tokens).all() and stamps[i] == latents.stamp_ns
    assert stream.horizons == (0.1, 0.2)  # 0.9 is not offered
    assert (futures == session.forecast((0.1, 0.2)).tokens).all()


def test_too_little_context_for_a_forecast_is_told(stream):
    with pytest.raises(ProbeError, match='at least 3 slices for the forecaster .*, found 2'):
        stream.encode(IMAGES[:4], STAMPS[:4], GEOMETRY)


def test_an_image_encoder_sees_each_frame_once_in_whatever_order(tiny_frame, monkeypatch):
    runs = []

    def counted(path, threads):
        graph = real(path, threads=threads)
        run = graph.run
        graph.run = lambda feeds: runs.append(path.name) or run(feeds)
        return graph

    real = encoders.open_graph
    monkeypatch.setattr(encoders, 'open_graph', counted)
    encoder = BundleEncoder(Bundle.load(tiny_frame), (0.1,))
    there, _, future = encoder.encode(IMAGES, STAMPS, GEOMETRY)
    back, _, other = encoder.encode(IMAGES[::-1], STAMPS, GEOMETRY)
    assert (there == back[::-1]).all() and not np.allclose(future, other)
    assert runs.count('encoder.onnx') == 8 and runs.count('forecaster.onnx') == 2


def test_features_with_and_without_futures_are_kept_apart(stream, tiny):
    assert BundleEncoder(Bundle.load(tiny)).key != stream.key


def test_raw_pixels_are_the_colours_of_each_patch_and_where_it_is(tiny):
    images = np.zeros((2, 32, 48, 3), np.uint8)
    images[1, :16, 16:32] = (255, 128, 0)
    tokens, stamps, _ = RawPixels(Bundle.load(tiny).manifest).encode(images, STAMPS[:2], GEOMETRY)
    assert tokens.shape == (1, 6, 64) and (stamps == STAMPS[1:2]).all()
    assert tokens[0, 1, :3] == pytest.approx([255 / 64 - 2, 0, -2]) and (tokens[0, 0, :48] == -2).all()
    assert len(np.unique(tokens[0, :, 48:].round(4), axis=0)) == 6


def test_a_random_encoder_has_the_shape_of_the_real_one_and_repeats():
    pytest.importorskip('torch', reason='torch is not installed (the train extra)')
    bundle = Bundle.load('conveyor_vjepa')
    height, width = bundle.manifest.image_size
    images = np.random.default_rng(0).integers(0, 255, (4, height, width, 3)).astype(np.uint8)
    given = images, STAMPS[:4], Geometry(width, height, 0, 0, width, height)
    one, again, other = (RandomEncoder(bundle.manifest, seed).encode(*given)[0] for seed in (0, 0, 1))
    real = BundleEncoder(bundle).encode(*given)[0]
    assert one.shape == real.shape and (one == again).all() and not np.allclose(one, other)
    assert one.std() == pytest.approx(real.std(), rel=0.2)


def test_an_architecture_that_nobody_knows_is_told(tiny):
    pytest.importorskip('torch', reason='torch is not installed (the train extra)')
    with pytest.raises(ProbeError, match='known architecture'):
        RandomEncoder(Bundle.load(tiny).manifest)
