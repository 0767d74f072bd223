# SPDX-License-Identifier: Apache-2.0
"""Tokens and cost, counted by hand, against published figures and against torch."""

import dataclasses

import pytest
from bundles import make_bundle
from hypothesis import given
from hypothesis import strategies as st

from jepa_ros.engine.bookkeeping import block_sides, gflop, manifest_rows, parameters, volume, window_rows
from jepa_ros.engine.bundle import read_manifest
from jepa_ros.engine.manifest import Architecture

TINY, SMALL, BASE, LARGE = (Architecture(12, 3, 768), Architecture(12, 6, 1536), Architecture(12, 12, 3072),
                            Architecture(24, 16, 4096))
TUBELET = 3 * 2 * 16 * 16


def test_targets_of_a_14x14_grid():
    """The two volumes by which bookkeeping is checked everywhere."""
    assert volume(4, 4) == 16 and volume(4, 4, 4) == 64
    image, video = (dict(window_rows(family, (14, 14), slices))
                    for family, slices in (('ijepa', 1), ('vjepa2', 8)))
    assert image['a target of 4x4'] == '16 of 196 tokens, 180 are left as context'
    assert video['a target of 4x4x4'] == '64 of 1568 tokens, 1504 are left as context'


def test_pretraining_masks_of_an_image_and_of_a_video():
    image, video = (dict(window_rows(family, (16, 16), slices))
                    for family, slices in (('ijepa', 1), ('vjepa2.1', 8)))
    assert image['target in pretraining'] == '4 of 6x6 = 36 tokens to 7x7 = 49 tokens'
    assert image['context in pretraining'] == '225 to 256 of 256 tokens, less the targets'
    # of a video over the whole temporal extent
    assert video['short-range target in pretraining'] == '8 of 8x6x6 = 288 tokens'
    assert video['long-range target in pretraining'] == '2 of 8x13x13 = 1352 tokens'
    assert video['token grid'] == '8x16x16 = 2048 tokens a window, 256 a slice'


@given(rows=st.integers(1, 40), columns=st.integers(1, 40), share=st.floats(0.01, 1))
def test_a_block_lies_in_its_grid_and_covers_about_its_share(rows, columns, share):
    height, width = block_sides((rows, columns), share)
    assert 1 <= height <= rows and 1 <= width <= columns
    assert abs(height - rows * share ** 0.5) <= 1 and abs(width - columns * share ** 0.5) <= 1
    assert block_sides((rows, columns), 1.0) == (rows, columns)


@pytest.mark.parametrize('of, width, window, new_slice', [(TINY, 192, 62, 7.5), (SMALL, 384, 167, 20.5),
                                                          (BASE, 768, 507, 63), (LARGE, 1024, 1656, 206)])
def test_cost_of_16_frames_at_256(of, width, window, new_slice):
    """As counted elsewhere, with another program, for the same shapes."""
    assert gflop(of, width, TUBELET, 2048) == pytest.approx(window, rel=0.01)
    assert gflop(of, width, TUBELET, 256, 2048) == pytest.approx(new_slice, rel=0.03)


@given(tokens=st.integers(1, 500), slices=st.integers(1, 16))
def test_a_cache_saves_all_but_the_attention_to_it(tokens, slices):
    """
    The slices of a window, one by one with a cache, cost together exactly what the window costs at once.
    """
    assert slices * gflop(SMALL, 384, TUBELET, tokens, slices * tokens) == pytest.approx(
        gflop(SMALL, 384, TUBELET, slices * tokens))


def test_parameters_are_those_of_the_network():
    torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')
    from jepa_ros.nets.vit import Encoder, EncoderConfig

    with torch.device('meta'):
        encoder = Encoder(EncoderConfig(size='small', image_size=(64, 64)))
    assert parameters(SMALL, 384, TUBELET) == sum(p.numel() for p in encoder.parameters())


@pytest.mark.parametrize('mode, words', [('frame', 'GFLOP per image'), ('clip', 'only with a cache'),
                                         ('stream', 'computed each step')])
def test_a_bundle_tells_what_its_steps_cost(tmp_path, mode, words):
    manifest = read_manifest(make_bundle(tmp_path / 'bundle', mode))
    assert 'unknown' in dict(manifest_rows(manifest))['GFLOP']
    rows = manifest_rows(dataclasses.replace(manifest, architecture=Architecture(2, 2, 64)))
    assert words in str(rows) and '2 layers, 16 wide' in dict(rows)['encoder']
