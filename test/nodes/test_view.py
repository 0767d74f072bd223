# SPDX-License-Identifier: Apache-2.0
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jepa_ros.images import centre_crop
from jepa_ros.latents import Futures, Latents, token_centres
from jepa_ros.nodes.view import View

GRID = (6, 8)


def latents(geometry, surprise=np.nan, seed=0):
    tokens = np.random.default_rng(seed).normal(size=(48, 16)).astype(np.float32)
    return Latents(1, tokens, token_centres(GRID, geometry), np.zeros(48, np.float32),
                   np.broadcast_to(np.float32(surprise), 48).copy(), 1)


def futures(of):
    return Futures(1, np.array([0.1, 0.5], np.float32), np.stack([of.tokens, of.tokens]), of.positions, 1)


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 1500), st.integers(2, 1500), st.booleans())
def test_any_image_can_be_drawn(width, height, forecast):
    geometry = centre_crop(width, height, (96, 128))
    seen = latents(geometry)
    picture = View(GRID, 96).draw(np.zeros((height, width, 3), np.uint8), geometry, seen,
                                  futures(seen) if forecast else None)
    assert picture.dtype == np.uint8 and picture.shape[1:] == (96 * (3 if forecast else 2), 3)


def test_surprise_glows_where_it_is():
    geometry = centre_crop(640, 480, (96, 128))
    seen = latents(geometry, 0.0)
    seen.surprise[0] = 1.0
    panel = View(GRID).draw(np.zeros((480, 640, 3), np.uint8), geometry, seen, None)[:360, 480:]
    assert panel[:60, :60].mean() > 50 and panel[180:, 240:].max() == 0


def test_same_tokens_have_the_same_colours_in_latents_and_futures_and_later():
    geometry = centre_crop(640, 480, (96, 128))
    view, image = View(GRID), np.full((480, 640, 3), 128, np.uint8)
    for seed in range(100):
        view.draw(image, geometry, latents(geometry, seed=seed), None)
    seen = latents(geometry)
    first = view.draw(image, geometry, seen, futures(seen))
    np.testing.assert_array_equal(first[:360, :480], first[:360, 960:])
    view.draw(image, geometry, latents(geometry, seed=7), None)
    np.testing.assert_array_equal(view.draw(image, geometry, seen, None)[:, :480], first[:, :480])


def test_what_the_model_does_not_see_is_dark():
    geometry = centre_crop(960, 480, (96, 128))  # a strip at either side is cut off
    seen = latents(geometry, 0.5)
    picture = View(GRID, 480).draw(np.full((480, 960, 3), 200, np.uint8), geometry, seen, None)
    for panel in (picture[:240, :480], picture[:240, 480:960]):
        assert panel[:, :70].max() < 80 < panel[:, 100:380].mean()
