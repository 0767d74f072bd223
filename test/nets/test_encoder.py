# SPDX-License-Identifier: Apache-2.0
"""
The encoder's contract: streaming equals the whole sequence, time is true time, dropped tokens are really
dropped.
"""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from jepa_ros.errors import JepaError  # noqa: E402
from jepa_ros.nets import sizes  # noqa: E402
from jepa_ros.nets.vit import Encoder, EncoderConfig, block_causal_mask  # noqa: E402

SMALL = EncoderConfig(
    size='tiny', depth=3, image_size=(32, 48), patch=16, tubelet=2, window=4, slice_period=0.1
)


HIERARCHICAL = replace(SMALL, stem='hierarchical')
CONVOLUTIONAL = replace(SMALL, stem='convolutional')


def build(config=SMALL, seed=0):
    torch.manual_seed(seed)
    return Encoder(config).eval()


def stream(encoder, frames, times):
    """Slice by slice through a ring of cached keys and values, as a session does."""
    config, outputs = encoder.config, []
    slots, n, tubelet = config.window - 1, config.tokens, config.tubelet
    past = torch.zeros(len(encoder.blocks), 2, encoder.heads, slots * n, encoder.head_dim)
    bias = torch.full((slots * n,), -1e9)
    for index, time in enumerate(times):
        tokens, present = encoder.step(
            frames[:, :, index * tubelet : (index + 1) * tubelet], encoder.time_rotary(time), past, bias
        )
        outputs.append(tokens)
        slot = slice(index % slots * n, (index % slots + 1) * n)
        past[:, :, :, slot], bias[slot] = present, 0.0
    return torch.stack(outputs)


@torch.no_grad()
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), slices=st.integers(1, 12), origin=st.sampled_from([0.0, 3600.0, 86400.0]))
def test_streaming_equals_the_whole_sequence_with_dropped_and_jittered_frames(seed, slices, origin):
    """Slice times are drawn with jitter of half a period and gaps of up to three periods."""
    encoder, rng = build(seed % 2 and HIERARCHICAL or SMALL), np.random.default_rng(seed)
    gaps = 0.1 * (rng.integers(1, 4, slices) + rng.uniform(-0.5, 0.5, slices))
    times = torch.from_numpy(origin + np.cumsum(gaps))
    frames = torch.from_numpy(rng.normal(size=(1, 3, 2 * slices, 32, 48))).float()
    whole = encoder(frames, times[None])[0].unflatten(0, (slices, -1))
    assert (stream(encoder, frames, times) - whole).abs().max() < 1e-4


@torch.no_grad()
def test_the_window_slides_so_an_old_slice_reaches_only_through_later_layers():
    """
    With one block, a slice older than the window changes nothing; with three it does (the memory of deep
    layers).
    """
    times = torch.arange(6)[None] * 0.1
    frames = torch.randn(1, 3, 12, 32, 48, generator=torch.Generator().manual_seed(1))
    changed = frames.clone()
    changed[:, :, :2] += 1
    for depth, reaches in ((1, False), (3, True)):
        encoder = build(EncoderConfig(**{**SMALL.to_dict(), 'depth': depth, 'image_size': (32, 48)}))
        last = slice(-SMALL.tokens, None)
        difference = (encoder(frames, times) - encoder(changed, times))[:, last].abs().max().item()
        assert (difference > 1e-6) == reaches


@torch.no_grad()
def test_no_latent_depends_on_a_later_frame():
    encoder, times = build(), torch.arange(5)[None] * 0.1
    frames = torch.randn(1, 3, 10, 32, 48)
    planted = frames.clone()
    planted[:, :, 6:] = 5.0
    earlier = slice(0, 3 * SMALL.tokens)
    assert torch.equal(encoder(frames, times)[:, earlier], encoder(planted, times)[:, earlier])


@torch.no_grad()
def test_only_time_differences_matter_and_they_do():
    encoder, frames = build(), torch.randn(1, 3, 6, 32, 48)
    times = torch.tensor([[0.0, 0.1, 0.2]], dtype=torch.float64)
    base = encoder(frames, times)
    assert (encoder(frames, times + 1e5) - base).abs().max() < 1e-4
    assert (encoder(frames, torch.tensor([[0.0, 0.1, 0.5]])) - base).abs().max() > 1e-3


@torch.no_grad()
def test_kept_tokens_of_a_bidirectional_encoder_equal_a_pass_that_never_had_the_others():
    """Dropped tokens are gone before the first block: what they showed cannot change the rest."""
    encoder = build(EncoderConfig(**{**SMALL.to_dict(), 'window': 0, 'image_size': (32, 48)}))
    frames, times = torch.randn(1, 3, 4, 32, 48), torch.tensor([[0.0, 0.1]])
    ids = torch.tensor([[0, 3, 6, 9]])
    kept = encoder(frames, times, ids)
    other = frames.clone()
    other[:, :, :, :16, 16:32] = 9.0  # the cell of tokens 1 and 7
    assert kept.shape == (1, 4, encoder.width)
    assert torch.allclose(kept, encoder(other, times, ids), atol=1e-6)


def test_block_causal_mask_by_hand():
    ids = torch.tensor([[0, 1, 2, 4, 6]])  # two tokens per slice: slices 0 0 1 2 3
    mask = block_causal_mask(ids, tokens=2, window=2)[0, 0].int().tolist()
    assert mask == [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 1, 1]]
    assert block_causal_mask(ids, tokens=2, window=0) is None


@pytest.mark.parametrize('name', sizes.SIZES)
def test_every_size_builds_with_heads_that_divide_its_width(name):
    size = sizes.SIZES[name]
    assert size.width % size.heads == 0
    with torch.device('meta'):
        encoder = Encoder(EncoderConfig(size=name, depth=1))
    assert encoder.blocks[0].mlp[0].out_features == size.mlp_width


def test_an_unknown_size_and_a_patch_that_does_not_fit_are_named():
    with pytest.raises(JepaError, match="tiny, small.*'enormous'"):
        sizes.size('enormous')
    with pytest.raises(JepaError, match='multiples of the patch .16., found 30x48'):
        EncoderConfig(image_size=(30, 48))


@torch.no_grad()
def test_rotary_is_the_published_3d_rotation():
    """
    Against a plain reading of V-JEPA 2's rotary positions: each axis turns 2 * ((E // 3) // 2) features, pair
    (2i, 2i + 1) by position * 10000 ** (-i / pairs); what is left over stays.
    """
    from jepa_ros.nets import rotary

    head_dim, grid = 32, (2, 3)
    times, ids = torch.tensor([[0.0, 1.3]]), torch.tensor([[4, 7]])
    x = torch.randn(1, 1, 2, head_dim)
    got = rotary.rotate(x, rotary.token_table(times, ids, grid, head_dim))
    expected, pairs = x.clone(), head_dim // 3 // 2
    for m, (t, row, column) in enumerate([(0.0, 1, 1), (1.3, 0, 1)]):
        for axis, position in enumerate((t, row, column)):
            for i in range(pairs):
                at = axis * 2 * pairs + 2 * i
                turn = complex(np.exp(1j * position * 10000 ** (-i / pairs)))
                value = complex(x[0, 0, m, at], x[0, 0, m, at + 1]) * turn
                expected[0, 0, m, at], expected[0, 0, m, at + 1] = value.real, value.imag
    assert torch.allclose(got, expected, atol=1e-5)


@torch.no_grad()
def test_a_hierarchical_stem_never_looks_over_the_border_of_a_patch():
    """What is dropped from the context must leave nothing behind in the tokens beside it."""
    encoder, frames = build(HIERARCHICAL), torch.randn(1, 3, 4, 32, 48)
    changed = frames.clone()
    changed[:, :, :2, 16:, 16:32] = 0.0  # one patch of the first slice: row 1, column 1
    moved = (encoder.embed(frames) - encoder.embed(changed)).abs().amax(-1)[0] > 0
    assert moved.nonzero().flatten().tolist() == [4]
    assert encoder.embed(frames).shape == build().embed(frames).shape


@torch.no_grad()
@pytest.mark.parametrize('config', [HIERARCHICAL, CONVOLUTIONAL])
def test_what_is_dropped_leaves_nothing_behind_in_the_tokens_beside_it(config):
    encoder, frames, times = build(config), torch.randn(2, 3, 4, 32, 48), torch.tensor([[0.0, 0.1]] * 2)
    ids = torch.tensor([[0, 1, 2, 3, 5, 6, 8], [1, 2, 4, 5, 6, 7, 11]])
    changed = frames.clone()
    changed[0, :, :2, 16:, 16:32] = 9.0  # token 4 of the first
    changed[1, :, 2:, :16, 32:] = 9.0  # token 8 of the second
    whole = encoder(frames, times) - encoder(changed, times)
    assert whole.abs().amax((1, 2)).min() > 1e-3
    assert torch.equal(encoder(frames, times, ids), encoder(changed, times, ids))


@torch.no_grad()
def test_convolutions_look_over_the_border_of_a_patch_but_not_at_other_slices():
    encoder, frames = build(CONVOLUTIONAL), torch.randn(1, 3, 4, 32, 48)
    changed = frames.clone()
    changed[:, :, :2, 16:, 16:32] = 0.0
    moved = (encoder.embed(frames) - encoder.embed(changed)).abs().amax(-1)[0] > 0
    assert moved[:6].sum() > 1 and not moved[6:].any()


@pytest.mark.parametrize(('stem', 'patch'), [('round', 16), ('hierarchical', 12), ('hierarchical', 14)])
def test_a_stem_that_does_not_exist_or_fit_is_refused(stem, patch):
    with pytest.raises(JepaError, match=f'stem must be linear, or another one .*found {stem} with {patch}'):
        EncoderConfig(image_size=(patch, patch), patch=patch, stem=stem)
