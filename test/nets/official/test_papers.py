# SPDX-License-Identifier: Apache-2.0
"""
The encoders against equations written down once more here, from Meta's names of weights: for V-JEPA 1 and
2.1, which transformers lacks, and for the others as well.

Nothing of the reference is shared with the networks: patches are cut one by one, attention is a softmax over
one query at a time, and pairs of features turn as complex numbers.
"""

import cmath
import math
from dataclasses import replace

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')

import tiny_official as tiny  # noqa: E402

from jepa_ros.errors import JepaError  # noqa: E402
from jepa_ros.nets.official import keys  # noqa: E402


def norm(x, state, name):
    """LayerNorm with eps 1e-6."""
    centred = x - x.mean(-1, keepdim=True)
    scale = (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return centred / scale * state[f'{name}.weight'] + state[f'{name}.bias']


def linear(x, state, name):
    return x @ state[f'{name}.weight'].T + state[f'{name}.bias']


def gelu(x):
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def turned(query, place, model, grid):
    """One head's features [E] at a place (Assran et al. 2025, section 2.1), V-JEPA 2's slip included."""
    pairs, result = len(query) // 3 // 2, query.clone()
    for axis, position in enumerate(place):
        if model.family == 'vjepa2.1' and axis:
            position = position * 15 / (grid[axis - 1] - 1)
        for pair in range(pairs):
            first = 2 * (axis * pairs + pair)
            even, odd = query[first].item(), query[first + 1].item()
            if model.family == 'vjepa2.1':
                value = complex(even, odd) * cmath.exp(1j * position * 10000 ** (-pair / pairs))
                result[first], result[first + 1] = value.real, value.imag
            else:  # the two of a pair turn by angles of their own
                a, b = (position * 10000 ** (-(index % pairs) / pairs) for index in (2 * pair, 2 * pair + 1))
                result[first] = even * math.cos(a) - odd * math.sin(a)
                result[first + 1] = odd * math.cos(b) + even * math.sin(b)
    return result


def fixed(place, model):
    """The features of a place that are added to its token."""
    def axis(position, features):
        angles = [position / 10000 ** (index / (features // 2)) for index in range(features // 2)]
        return [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]

    width, (time, row, column) = model.size.width, place
    if model.family == 'ijepa':
        return axis(column, width // 2) + axis(row, width // 2)
    own = 2 * math.ceil(width / 6)
    return (axis(time, own) + axis(row, own) + axis(column, own))[:width]


def reference(state, model, frames, ids=None):
    """
    :param state: of Meta's names; `frames`: float64 [3, F, height, width]; `ids`: list of the tokens to keep.
    :returns: list of the outputs at every tap, each float64 [M, D].
    """
    image = model.modalities and frames.shape[1] == 1
    patch, tubelet = model.patch, 1 if image else model.tubelet
    embed = 'patch_embed_img' if image else 'patch_embed'
    slices, *grid = frames.shape[1] // tubelet, frames.shape[2] // patch, frames.shape[3] // patch
    places = [(t, r, c) for t in range(slices) for r in range(grid[0]) for c in range(grid[1])]
    places = places if ids is None else [places[index] for index in ids]
    kernel, tokens = state[f'{embed}.proj.weight'].flatten(1), []
    for t, r, c in places:
        cut = frames[:, t * tubelet:(t + 1) * tubelet, r * patch:(r + 1) * patch, c * patch:(c + 1) * patch]
        token = kernel @ cut.flatten() + state[f'{embed}.proj.bias']
        if model.modalities:
            token = token + state['img_mod_embed' if image else 'video_mod_embed'][0, 0]
        if not model.rotary:
            token = token + torch.tensor(fixed((t, r, c), model), dtype=torch.float64)
        tokens.append(token)
    x, heads, outputs = torch.stack(tokens), model.size.heads, []
    for number in range(model.size.depth):
        block = f'blocks.{number}'
        qkv = linear(norm(x, state, f'{block}.norm1'), state, f'{block}.attn.qkv')
        q, k, v = qkv.unflatten(-1, (3, heads, -1)).unbind(1)
        if model.rotary:
            q, k = (torch.stack([torch.stack([turned(head, place, model, grid) for head in token])
                                 for token, place in zip(part, places)]) for part in (q, k))
        mixed = torch.stack([torch.cat([((k[:, h] @ q[m, h]) / q.shape[-1] ** 0.5).softmax(0) @ v[:, h]
                                        for h in range(heads)]) for m in range(len(x))])
        x = x + linear(mixed, state, f'{block}.attn.proj')
        hidden = gelu(linear(norm(x, state, f'{block}.norm2'), state, f'{block}.mlp.fc1'))
        x = x + linear(hidden, state, f'{block}.mlp.fc2')
        if number in model.taps:
            name = f'norms_block.{len(outputs)}' if model.family == 'vjepa2.1' else 'norm'
            outputs.append(norm(x, state, name))
    return outputs


CASES = [  # model, image size, frames
    ('ijepa-vith14', (42, 28), 1), ('vjepa-vitl16', (48, 48), 4), ('vjepa2-vitl', (32, 48), 4),
    ('vjepa2.1-vitb', (48, 32), 4), ('vjepa2.1-vitb', (32, 48), 1), ('vjepa2.1-vitg', (32, 32), 4)]


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(('name', 'image_size', 'frames'), CASES)
def test_encoders_are_the_papers(name, image_size, frames, dtype):
    width = 28 if name == 'ijepa-vith14' else 40
    model = tiny.tiny(name, width=width, heads=2, depth=2, image_size=image_size[0], frames=frames)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        encoder, _ = tiny.networks(model, image_size=image_size, frames=frames)
        clip = tiny.frames_of(model, batch=2, image_size=image_size, frames=frames)
        total = encoder.config.slices * encoder.config.tokens
        ids = torch.stack([torch.randperm(total, generator=torch.Generator().manual_seed(row))[:total // 2]
                           for row in range(2)])
        with torch.no_grad():
            whole, kept = encoder(clip), encoder(clip, torch.zeros(2, encoder.config.slices), ids)
    finally:
        torch.set_default_dtype(before)
    state = keys.to_official(encoder.state_dict(), model, 'encoder')
    state = {key: value.double() for key, value in state.items()}
    if model.family == 'ijepa':
        state['patch_embed.proj.weight'] = state['patch_embed.proj.weight'][:, :, None]
    levels = slice(None) if encoder.hierarchical else slice(-1, None)
    for row in range(2):
        for found, tokens in ((whole[row], None), (kept[row], ids[row].tolist())):
            expected = torch.cat(reference(state, model, clip[row].double(), tokens)[levels], -1)
            assert found.shape == expected.shape and expected.std() > 0.1
            assert (found - expected).abs().max() < tiny.BOUND[dtype]


def test_the_two_ways_of_turning_differ():
    """Weights of V-JEPA 2 in the positions of 2.1 give something else: the tests above tell them apart."""
    model = tiny.tiny('vjepa2-vitl', width=40, heads=2, depth=2)
    encoder, _ = tiny.networks(model)
    other, _ = tiny.networks(replace(model, positions='rope_rescaled'))
    frames = tiny.frames_of(model)
    with torch.no_grad():
        assert (encoder(frames) - other(frames)).abs().max() > 0.01


@pytest.mark.parametrize(('name', 'shape', 'message'), [
    ('vjepa2-vitl', (4, 64, 48), 'images of 64x64 pixels, found 64x48'),
    ('vjepa2-vitl', (3, 64, 64), 'a multiple of 2 frames, found 3'),
    ('vjepa-vitl16', (4, 64, 64), 'clips of 8 frames, found 4'),
])
def test_clips_that_an_encoder_was_not_built_for(name, shape, message):
    encoder, _ = tiny.networks(tiny.tiny(name))
    with pytest.raises(JepaError, match=message):
        encoder(torch.zeros(1, 3, *shape))
