# SPDX-License-Identifier: Apache-2.0
"""Where tokens lie, how they are pooled and coloured."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jepa_ros.images import centre_crop
from jepa_ros.latents import (
    Futures,
    LatentError,
    Latents,
    colour_basis,
    pool,
    principal_components,
    token_centres,
)

GRIDS = st.tuples(st.integers(1, 16), st.integers(1, 16))


def make_latents(grid=(6, 8), dim=5, seed=0):
    rng = np.random.default_rng(seed)
    count = grid[0] * grid[1]
    surprise = rng.random(count, np.float32)
    return Latents(7, rng.normal(size=(count, dim)).astype(np.float32), token_centres(grid),
                   np.full(count, -0.25, np.float32), surprise, 3)


def make_futures(horizons=(0.1, 0.2, 0.4), count=6, dim=5):
    horizons = np.array(horizons, np.float32)
    tokens = np.random.default_rng(0).normal(size=(len(horizons), count, dim)).astype(np.float32)
    return Futures(7, horizons, tokens, np.zeros((count, 2), np.float32), 3)


def test_centres_go_row_by_row():
    centres = token_centres((2, 4))
    np.testing.assert_allclose(centres[[0, 1, 4]], [[0.125, 0.25], [0.375, 0.25], [0.125, 0.75]])
    assert centres.dtype == np.float32


def test_centres_in_the_received_image():
    wide = token_centres((6, 8), centre_crop(1280, 720, (96, 128)))
    assert wide[:, 0].min() == pytest.approx(0.125 + 0.75 / 16) and wide[:, 1].min() == pytest.approx(1 / 12)


def test_dense_is_the_same():
    latents = make_latents()
    assert pool(latents, 'dense', (6, 8)) is latents


def test_grid_is_the_mean_of_blocks():
    latents = make_latents()
    pooled = pool(latents, 'grid', (6, 8))
    blocks = latents.tokens.reshape(3, 2, 4, 2, 5).mean(axis=(1, 3)).reshape(12, 5)
    np.testing.assert_allclose(pooled.tokens, blocks, rtol=1e-5)
    np.testing.assert_allclose(pooled.positions, token_centres((3, 4)), rtol=1e-5)
    np.testing.assert_allclose(pooled.surprise[0], latents.surprise.reshape(6, 8)[:2, :2].mean(), rtol=1e-5)
    assert (pooled.stamp_ns, pooled.model) == (7, 3)


@given(grid=GRIDS, mode=st.sampled_from(['grid', 'pooled']))
def test_every_token_counts_in_every_grid(grid, mode):
    latents = make_latents(grid)
    pooled = pool(latents, mode, grid)
    expected = 1 if mode == 'pooled' else min(grid[0], 3) * min(grid[1], 4)
    assert pooled.tokens.shape == (expected, 5) and pooled.tokens.dtype == np.float32
    assert pooled.times.tolist() == pytest.approx([-0.25] * expected)
    ones = Latents(7, np.ones_like(latents.tokens), *(getattr(latents, name) for name in
                                                    ('positions', 'times', 'surprise', 'model')))
    np.testing.assert_allclose(pool(ones, mode, grid).tokens, 1, rtol=1e-5)
    changed = latents.tokens.copy()
    changed[-1] += 100
    moved = pool(Latents(7, changed, latents.positions, latents.times, latents.surprise, 3), mode, grid)
    assert (moved.tokens != pooled.tokens).any()


def test_pooled_futures():
    futures = make_futures()
    pooled = pool(futures, 'pooled', (2, 3))
    expected = futures.tokens.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(pooled.tokens, expected, rtol=1e-5, atol=1e-6)
    assert pooled.horizons is futures.horizons


def test_unknown_surprise_is_left_out_of_the_mean():
    latents = make_latents((2, 2))
    latents.surprise[:] = [np.nan, 1, 2, np.nan]
    assert pool(latents, 'pooled', (2, 2)).surprise.tolist() == pytest.approx([1.5])
    latents.surprise[:] = np.nan
    assert np.isnan(pool(latents, 'pooled', (2, 2)).surprise).all()


def test_pool_refuses():
    with pytest.raises(LatentError, match="dense, grid, pooled, found 'raw'"):
        pool(make_latents(), 'raw', (6, 8))
    with pytest.raises(LatentError, match='expected 3x3 tokens, found 48'):
        pool(make_latents(), 'grid', (3, 3))


def test_colours_are_stable():
    tokens = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32) * np.arange(8, 0, -1)
    basis = colour_basis(tokens)
    colours = principal_components(tokens, basis)
    assert colours.shape == (200, 3) and colours.dtype == np.float32
    assert colours.min() == 0 and colours.max() == 1 and colours.std() > 0.1
    # the same tokens have the same colours among others and in another order
    np.testing.assert_array_equal(principal_components(tokens[::-1], basis), colours[::-1])
    again = principal_components(tokens[::-1])[::-1]
    np.testing.assert_allclose(again, colours, atol=1e-3)


def test_first_colour_follows_the_greatest_spread():
    tokens = np.zeros((10, 6), np.float32)
    tokens[:, 4] = np.arange(10)
    red = principal_components(tokens)[:, 0]
    assert (np.diff(red[1:-1]) > 0).all()


@pytest.mark.parametrize('shape', [(1, 1), (2, 2), (5, 1), (1, 9)])
def test_colours_of_few_tokens_are_finite(shape):
    assert np.isfinite(principal_components(np.ones(shape, np.float32))).all()


def test_colours_of_many_tokens_are_found_from_some_of_them():
    tokens = np.random.default_rng(0).normal(size=(50, 400, 6)).astype(np.float32) * np.arange(6, 0, -1)
    some, every = colour_basis(tokens), np.linalg.svd(tokens.reshape(-1, 6) - tokens.mean((0, 1)))[2][:3]
    assert (np.abs((some.axes * every).sum(1)) > 0.98).all()
    one = colour_basis(tokens[0, :1])
    assert np.isfinite(principal_components(tokens[0], one)).all()
