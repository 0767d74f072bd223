# SPDX-License-Identifier: Apache-2.0
"""Sessions: streaming equals the whole sequence, contexts, surprise, resets."""

import subprocess
import sys

import bundles
import numpy as np
import onnx
import pytest
from bundles import make_bundle
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from jepa_ros.clip import ClipWindow, Frames, Verdict
from jepa_ros.engine.bundle import Bundle
from jepa_ros.engine.session import ClipSession, EngineError, FrameSession, StreamSession, open_session
from jepa_ros.images import Geometry, centre_crop
from jepa_ros.latents import token_centres

START = 1_700_000_000_000_000_000
MS = 1_000_000
GEOMETRY = centre_crop(640, 480, (96, 128))


@pytest.fixture(scope='module')
def paths(tmp_path_factory):
    return {mode: make_bundle(tmp_path_factory.mktemp(mode) / 'bundle', mode)
            for mode in ('frame', 'clip', 'stream')}


@pytest.fixture(scope='module')
def loaded(paths):
    return {mode: Bundle.load(path) for mode, path in paths.items()}


def picture(seed):
    """A picture with large patches of colour."""
    coarse = np.random.default_rng(seed % 2 ** 32).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.kron(coarse, np.ones((16, 16, 1), np.uint8))


def frames_at(times_ms, geometry=GEOMETRY, reset=None):
    """Return frames whose pictures are given by their times."""
    return Frames(np.stack([picture(round(t)) for t in times_ms]),
                  np.array([START + round(t * MS) for t in times_ms]), geometry, reset)


def tubelet(k, **more):
    """Return the frames of the k-th slice of a steady camera."""
    return frames_at([100 * k, 100 * k + 50], **more)


def reference(path, images, stamps):
    """
    Encode a whole sequence at once, in numpy: sliding block-causal attention over all slices.

    :param images: uint8 [slices, 2, H, W, 3]
    :param stamps: int64 [slices] (ns)
    :returns: [slices, N, D]
    """
    weights = [numpy_helper.to_array(w) for w in onnx.load(path / 'encoder.onnx').graph.initializer]
    embedding = next(w for w in weights if w.shape == (6, 16))
    offset = next(w for w in weights if w.shape == (16,))
    layers = iter([w for w in weights if w.shape == (16, 16)])
    slices = len(images)
    patches = images.reshape(slices, 2, 6, 16, 8, 16, 3).astype(np.float64).mean(axis=(3, 5)) / 64
    x = patches.transpose(0, 2, 3, 1, 4).reshape(slices * 48, 6) @ embedding + offset
    angles = ((stamps - stamps[0]) / 1e9 / bundles.ROTARY_PERIOD)[:, None] * np.array(bundles.FREQUENCIES)
    angles = np.repeat(angles, 48, axis=0)
    of_slice = np.repeat(np.arange(slices), 48)
    age = of_slice[:, None] - of_slice
    allowed = (age >= 0) & (age < bundles.SLICES)

    def heads(weights_of):
        return (x @ weights_of).reshape(-1, bundles.HEADS, bundles.HEAD_DIM).transpose(1, 0, 2)

    def rotate(h):
        first, second = np.split(h, 2, axis=2)
        return np.concatenate([first * np.cos(angles) - second * np.sin(angles),
                               first * np.sin(angles) + second * np.cos(angles)], axis=2)

    for _ in range(bundles.LAYERS):
        query, key, value = rotate(heads(next(layers))), rotate(heads(next(layers))), heads(next(layers))
        scores = np.where(allowed, query @ key.transpose(0, 2, 1), -np.inf)
        attention = np.exp(scores - scores.max(axis=-1, keepdims=True))
        attention /= attention.sum(axis=-1, keepdims=True)
        x = x + (attention @ value).transpose(1, 0, 2).reshape(-1, 16)
    x = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-6)
    return x.reshape(slices, 48, 16)


def stream(session, stamps):
    """Step through slices of random pictures; return the pictures and the latents."""
    images = np.stack([np.stack([picture(2 * k), picture(2 * k + 1)]) for k in range(len(stamps))])
    latents = [session.step(Frames(pair, np.array([stamp - 50 * MS, stamp]), GEOMETRY))
               for pair, stamp in zip(images, stamps)]
    return images, np.stack([found.tokens for found in latents])


@settings(max_examples=15)
@given(steps=st.lists(st.integers(60, 390), min_size=0, max_size=10))
def test_streaming_equals_the_whole_sequence(paths, loaded, steps):
    # also with jitter and drops, and beyond the point where the cache begins to overwrite itself
    stamps = START + np.cumsum([0, *steps]) * MS
    images, tokens = stream(open_session(loaded['stream'], surprise=False), stamps)
    np.testing.assert_allclose(tokens, reference(paths['stream'], images, stamps), atol=1e-4)


def test_streaming_after_hours_is_as_exact(paths, loaded):
    session = open_session(loaded['stream'])
    session.step(frames_at([0, 50]))
    stamps = START + 10 * 3600 * 1000 * MS + np.arange(9) * 100 * MS
    images, tokens = stream(session, stamps)
    # by now nothing of the first slice is left: relative times alone matter to rotary positions
    np.testing.assert_allclose(tokens[7:], reference(paths['stream'], images, stamps)[7:], atol=1e-4)


def test_time_matters_to_the_stream(loaded):
    apart = [stream(open_session(loaded['stream']), START + np.arange(3) * step * MS)[1]
             for step in (100, 130)]
    np.testing.assert_allclose(apart[0][0], apart[1][0], atol=1e-6)
    assert np.abs(apart[0][1:] - apart[1][1:]).max() > 1e-3


def test_only_one_slot_of_the_cache_changes_per_step(loaded):
    session = open_session(loaded['stream'])
    session.step(tubelet(0))
    cache = session._cache._past
    before = cache.copy()
    session.step(tubelet(1))
    assert session._cache._past is cache  # never copied
    changed = (cache != before).any(axis=(0, 1, 2, 4)).reshape(3, 48)
    assert changed.all(axis=1).tolist() == [False, True, False] and not changed[[0, 2]].any()


@pytest.mark.parametrize('mode, kind, frames', [('frame', FrameSession, 1), ('clip', ClipSession, 8),
                                                ('stream', StreamSession, 2)])
def test_latents_of_every_mode(loaded, mode, kind, frames):
    session = open_session(loaded[mode])
    assert type(session) is kind and session.request.frames == frames
    assert session.model_id == loaded[mode].model_id
    geometry = centre_crop(1280, 720, (96, 128))
    given_frames = frames_at(50 * np.arange(frames), geometry)
    before = given_frames.images.copy()
    latents = session.step(given_frames)
    assert latents.stamp_ns == given_frames.stamps_ns[-1] and latents.model == loaded[mode].model_id
    assert latents.tokens.shape == (48, 16) and latents.tokens.dtype == np.float32
    np.testing.assert_array_equal(latents.positions, token_centres((6, 8), geometry))
    assert not latents.times.any() and np.isnan(latents.surprise).all()
    np.testing.assert_array_equal(given_frames.images, before)


def test_positions_follow_the_geometry(loaded):
    session = open_session(loaded['frame'])
    session.step(frames_at([0]))
    other = Geometry(100, 100, 20, 30, 40, 30)
    positions = session.step(frames_at([50], other)).positions
    np.testing.assert_array_equal(positions, token_centres((6, 8), other))


def expected_futures(contexts, times, horizons):
    """Do what the tiny forecaster does: extend the straight line that fits best."""
    times = np.array(times)[:, None, None]
    slope = ((times - times.mean()) * contexts).sum(axis=0) / (np.square(times - times.mean()).sum() + 1e-6)
    return contexts.mean(axis=0) + (np.array(horizons)[:, None, None] - times.mean()) * slope


def test_futures_come_from_the_last_slices_and_their_true_times(loaded):
    session = open_session(loaded['stream'])
    tokens = []
    for k, at in enumerate((0, 100, 230, 290)):
        tokens.append(session.step(frames_at([at - 50, at])).tokens)
        assert (session.forecast() is None) == (k < 2)
    futures = session.forecast([0.15, 0.3])
    assert futures.stamp_ns == START + 290 * MS and futures.model == session.model_id
    np.testing.assert_array_equal(futures.horizons, np.array([0.15, 0.3], np.float32))
    expected = expected_futures(np.stack(tokens[1:]), [-0.19, -0.06, 0], [0.15, 0.3])
    np.testing.assert_allclose(futures.tokens, expected, atol=1e-4)
    np.testing.assert_array_equal(futures.positions, token_centres((6, 8), GEOMETRY))
    assert len(session.forecast().horizons) == 5


def test_a_clip_brings_its_own_context(loaded):
    session = open_session(loaded['clip'])
    clip = frames_at(50 * np.arange(8))
    session.step(clip)
    slices = session._encoder.run({'frames': clip.images})['tokens']
    expected = expected_futures(slices[1:], [-0.2, -0.1, 0], [0.2])
    np.testing.assert_allclose(session.forecast([0.2]).tokens, expected, atol=1e-4)


def test_surprise_is_the_distance_to_the_forecast_for_this_time(loaded):
    session = open_session(loaded['stream'])
    for k in range(3):
        assert np.isnan(session.step(tubelet(k)).surprise).all()
    forecast = session.forecast([0.13]).tokens[0]
    latents = session.step(frames_at([330, 380]))
    np.testing.assert_allclose(latents.surprise, np.square(latents.tokens - forecast).mean(axis=1), rtol=1e-4)


def test_surprise_reaches_back_to_a_slice_that_is_far_enough(loaded):
    session = open_session(loaded['stream'])
    for k in range(3):
        session.step(tubelet(k))
    older = session.forecast([0.13]).tokens[0]
    session.step(frames_at([250, 300]))  # 50 ms after the newest: nearer than the shortest horizon
    latents = session.step(frames_at([330, 380]))  # 80 ms after it, 130 ms after the one before
    np.testing.assert_allclose(latents.surprise, np.square(latents.tokens - older).mean(axis=1), rtol=1e-4)


def test_surprise_takes_what_the_newest_futures_foretold(loaded):
    """One run of the forecaster less per step, and the same answer."""
    asked, alone = open_session(loaded['stream']), open_session(loaded['stream'])
    for k in range(3):
        asked.step(tubelet(k)), alone.step(tubelet(k))
    asked.forecast([0.13, 0.3])
    runs = []
    asked._forecaster.run = lambda feeds: runs.append(feeds)
    found, expected = (of.step(frames_at([330, 380])).surprise for of in (asked, alone))
    assert not runs
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_surprise_forgives_rounded_stamps(loaded):
    session = open_session(loaded['stream'])
    for k in range(4):  # three frames of a 30 Hz camera are 99.999999 ms
        latents = session.step(frames_at([99.999999 * k - 50, 99.999999 * k]))
    assert np.isfinite(latents.surprise).all()


def test_surprise_is_unknown_beyond_the_horizons(loaded):
    session = open_session(loaded['stream'])
    for k in range(3):
        session.step(tubelet(k))
    assert np.isnan(session.step(frames_at([950, 1000])).surprise).all()


def test_surprise_can_be_left_out(loaded):
    session = open_session(loaded['stream'], surprise=False)
    assert all(np.isnan(session.step(tubelet(k)).surprise).all() for k in range(5))
    assert session.forecast() is not None


def test_surprise_of_discrete_horizons(tmp_path):
    discrete = {'kind': 'discrete', 'values': [0.1, 0.3]}
    session = open_session(make_bundle(tmp_path / 'bundle', horizons=discrete))
    for k in range(3):
        session.step(tubelet(k))
    assert np.isfinite(session.step(frames_at([310, 360])).surprise).all()  # 110 ms: near enough
    session.reset()
    for k in range(3):
        session.step(tubelet(k))
    assert np.isnan(session.step(frames_at([350, 400])).surprise).all()  # 150 ms


def test_a_reset_makes_a_new_session(loaded):
    session = open_session(loaded['stream'])
    first = [session.step(tubelet(k)).tokens for k in range(6)]
    again = [session.step(tubelet(k, reset='the clock jumped' if k == 0 else None)) for k in range(6)]
    np.testing.assert_array_equal([latents.tokens for latents in again], first)
    assert np.isnan(again[2].surprise).all() and np.isfinite(again[3].surprise).all()


def test_a_reset_ends_the_futures(loaded):
    session = open_session(loaded['frame'])
    for k in range(4):
        session.step(frames_at([50 * k]))
    assert session.forecast() is not None
    session.reset()
    assert session.forecast() is None


@pytest.mark.parametrize('horizons, words', [
    ([0.05, 0.2], r'within 0.1..0.5 s, found 0.05, 0.2 s'),
    ([0.6], 'within 0.1..0.5 s'),
    ([0.2, 0.2], 'ascending horizons, found 0.2, 0.2 s'),
    ([float('nan')], 'within 0.1..0.5 s'),
])
def test_horizons_that_are_not_offered(loaded, horizons, words):
    with pytest.raises(EngineError, match=words):
        open_session(loaded['frame']).forecast(horizons)


def test_horizons_that_are_offered(loaded, tmp_path):
    session = open_session(loaded['frame'])
    assert session.check_horizons([0.1, 0.5]).dtype == np.float32
    np.testing.assert_allclose(session.check_horizons([]), [0.1, 0.2, 0.3, 0.4, 0.5])
    discrete = open_session(make_bundle(tmp_path / 'bundle', 'frame',
                                        horizons={'kind': 'discrete', 'values': [0.2, 0.4]}))
    np.testing.assert_allclose(discrete.check_horizons(), [0.2, 0.4])
    np.testing.assert_allclose(discrete.check_horizons([0.4]), [0.4])
    with pytest.raises(EngineError, match='out of 0.2, 0.4 s, found 0.3 s'):
        discrete.check_horizons([0.3])


def test_without_a_forecaster_there_are_no_futures(tmp_path):
    session = open_session(make_bundle(tmp_path / 'bundle', forecaster=False))
    for k in range(4):
        assert np.isnan(session.step(tubelet(k)).surprise).all()
    assert session.forecast() is None and session.forecast([0.2]) is None
    with pytest.raises(EngineError, match="expected a bundle with a forecaster, found 'tiny_stream' without"):
        session.check_horizons([0.2])


def test_frames_of_another_shape_are_named(loaded):
    session = open_session(loaded['stream'])
    with pytest.raises(EngineError, match=r'uint8 \[2, 96, 128, 3\], found uint8 \[1, 96, 128, 3\]'):
        session.step(frames_at([0]))
    with pytest.raises(EngineError, match='found float32'):
        session.step(Frames(np.zeros((2, 96, 128, 3), np.float32), np.array([1, 2]), GEOMETRY))


def test_what_is_not_finite_is_an_error_and_clears_the_cache(loaded, monkeypatch):
    session = open_session(loaded['stream'])
    whole = session.step(tubelet(0)).tokens
    run = session._encoder.run
    with monkeypatch.context() as patch:
        patch.setattr(session._encoder, 'run', lambda feeds: {n: v * np.nan for n, v in run(feeds).items()})
        with pytest.raises(EngineError, match='expected finite latents'):
            session.step(tubelet(1))
    np.testing.assert_array_equal(session.step(tubelet(0)).tokens, whole)


def test_graphs_that_are_not_what_the_manifest_says(loaded, tmp_path):
    other = Bundle.load(make_bundle(tmp_path / 'bundle', size=(64, 128)))
    with pytest.raises(EngineError, match=r'encoder.onnx: expected the inputs frames uint8 \[2,96,128,3\].*'
                                          r'found frames uint8 \[2,64,128,3\]'):
        open_session(Bundle(other.path, loaded['stream'].manifest, 1))


def test_a_window_feeds_a_session(loaded):
    for mode, expected in (('frame', 20), ('stream', 10), ('clip', 7)):
        session = open_session(loaded[mode])
        window = ClipWindow(session.request)
        stamps = []
        for k in range(20):
            stamp = START + k * 50 * MS
            if window.offer(stamp, None) is Verdict.TAKE:
                window.push(stamp, picture(k), GEOMETRY)
            if (frames := window.take(0)) is not None:
                stamps.append(session.step(frames).stamp_ns)
        assert len(stamps) == expected and (np.diff(stamps) > 0).all()
        assert session.forecast().stamp_ns == stamps[-1]


def test_the_run_time_path_imports_neither_torch_nor_rclpy(paths):
    code = ('import sys; from jepa_ros.engine.session import open_session; open_session(sys.argv[1]); '
            'print(sorted({"torch", "rclpy", "matplotlib", "onnx"} & set(sys.modules)))')
    done = subprocess.run([sys.executable, '-c', code, str(paths['stream'])], capture_output=True, text=True,
                          timeout=120)
    assert done.stdout.strip() == '[]', done.stderr
