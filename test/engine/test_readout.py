# SPDX-License-Identifier: Apache-2.0
"""Points in the received image, whatever part of it the model saw."""

from dataclasses import replace

import numpy as np
import pytest
from bundles import LATENT_DIM, make_bundle
from hypothesis import given
from hypothesis import strategies as st

from jepa_ros.engine.bundle import Bundle, read_manifest, write_manifest
from jepa_ros.engine.readout import EngineError, Readout
from jepa_ros.images import Geometry, centre_crop
from jepa_ros.latents import Futures, pool, token_centres

GRID = (6, 8)


@pytest.fixture(scope='module')
def bundle(tmp_path_factory):
    return Bundle.load(make_bundle(tmp_path_factory.mktemp('readout') / 'bundle'))


@pytest.fixture(scope='module')
def readout(bundle):
    return Readout.open(bundle)


def futures_of(bundle, token, geometry=None, horizons=(0.1, 0.4)):
    """Return futures in which one token is bright."""
    tokens = np.zeros((len(horizons), 48, LATENT_DIM), np.float32)
    tokens[:, token, 0] = 4
    return Futures(1, np.array(horizons, np.float32), tokens, token_centres(GRID, geometry), bundle.model_id)


def test_the_point_is_that_of_the_bright_token(bundle, readout):
    futures = futures_of(bundle, 13)
    points, covariances = readout(futures)
    assert points.dtype == covariances.dtype == np.float32
    np.testing.assert_allclose(points, np.tile(futures.positions[13], (2, 1)), atol=1e-5)
    assert covariances.shape == (2, 2, 2)
    np.testing.assert_allclose(covariances, covariances.transpose(0, 2, 1), atol=1e-9)
    assert covariances[1, 0, 0] > covariances[0, 0, 0] > 0


@given(width=st.integers(10, 4000), height=st.integers(10, 4000), token=st.integers(0, 47))
def test_crop_and_resize_are_undone(bundle, readout, width, height, token):
    geometry = centre_crop(width, height, (96, 128))
    whole_points, whole_covariances = readout(futures_of(bundle, token))
    points, covariances = readout(futures_of(bundle, token, geometry))
    np.testing.assert_allclose(points, geometry.to_received(whole_points), atol=2e-5)
    scale = np.array([geometry.crop_width / width, geometry.crop_height / height])
    np.testing.assert_allclose(covariances, whole_covariances * np.outer(scale, scale), rtol=1e-3, atol=1e-9)


def test_a_readout_of_the_grid_mode(tmp_path, bundle):
    # the tiny readout weighs 48 tokens; one for 12 is that of a 3x4 grid of larger patches
    path = make_bundle(tmp_path / 'bundle', size=(48, 64))
    manifest = read_manifest(path)
    write_manifest(path, replace(manifest, readout=replace(manifest.readout, publish='grid')))
    small = Bundle.load(path)
    geometry = Geometry(640, 360, 80, 0, 480, 360)
    tokens = np.zeros((1, 12, LATENT_DIM), np.float32)
    tokens[0, 6, 0] = 4
    dense = Futures(1, np.array([0.1], np.float32), tokens, token_centres((3, 4), geometry), small.model_id)
    points, _ = Readout.open(small)(pool(dense, 'grid', (3, 4)))
    np.testing.assert_allclose(points[0], dense.positions[6], atol=1e-5)


def test_what_it_refuses(bundle, readout):
    futures = futures_of(bundle, 3)
    with pytest.raises(EngineError, match=f'of model {bundle.model_id:08x} .* found 00000005'):
        readout(replace(futures, model=5))
    with pytest.raises(EngineError, match=r"\[2, 48, 16\] \(publish mode 'dense'\), found \[2, 12, 16\]"):
        readout(pool(futures, 'grid', GRID))
    with pytest.raises(EngineError, match='found .2, 48, 15.'):
        readout(replace(futures, tokens=futures.tokens[..., 1:]))
    for field in ('tokens', 'positions'):
        broken = getattr(futures, field).copy()
        broken.flat[1] = np.nan
        with pytest.raises(EngineError, match='expected finite futures'):
            readout(replace(futures, **{field: broken}))


def test_a_bundle_without_readout(tmp_path):
    with pytest.raises(EngineError, match="expected a bundle with a readout, found 'tiny_frame' without"):
        Readout.open(make_bundle(tmp_path / 'bundle', 'frame', readout=False))
