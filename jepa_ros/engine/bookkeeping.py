# SPDX-License-Identifier: Apache-2.0
"""
Token bookkeeping: how many tokens a family's windows, contexts and targets have, and what they cost to
compute.

Letters: N tokens per slice, T slices per window, D width, L layers, M hidden width of the feed-forward layer.
"""

import math

from jepa_ros.engine.manifest import Architecture, Manifest

FORMULA = '2 n v D for n patches of v values, and per layer 2 n (4 D D + 2 D M) + 4 n k D with k keys'
# Pretraining masks as the papers give them: blocks, share of the grid of each, and how they extend over time.
# I-JEPA: Assran et al. 2023, section 4; V-JEPA: Bardes et al. 2024, section 3.2, kept by V-JEPA 2 and 2.1.
TARGETS = {
    'ijepa': (('target', 4, (0.15, 0.2)),),
    'vjepa': (('short-range target', 8, (0.15, 0.15)), ('long-range target', 2, (0.7, 0.7))),
}
CONTEXT = {'ijepa': (0.85, 1.0)}


def parameters(of: Architecture, width: int, values: int) -> int:
    """
    Return how many numbers an encoder has learned: patch embedding, blocks and one final norm.

    :param of: its size
    :param width: D
    :param values: v, numbers in one patch or tubelet (3 x tubelet x patch x patch)
    """
    attention = 4 * width * (width + 1)
    feed_forward = 2 * width * of.mlp_width + of.mlp_width + width
    return (values + 1) * width + of.layers * (attention + feed_forward + 4 * width) + 2 * width


def gflop(of: Architecture, width: int, values: int, tokens: int, keys: int | None = None) -> float:
    """
    Return the cost of encoding tokens (GFLOP); a multiplication and an addition are two.

    See :data:`FORMULA`.

    :param of: size of the encoder
    :param width: D
    :param values: v, numbers in one patch or tubelet
    :param tokens: n, tokens that are encoded
    :param keys: k, tokens that they attend to, with those in a cache; None: themselves
    """
    linear = 2 * tokens * (4 * width * width + 2 * width * of.mlp_width)
    attention = 4 * tokens * (tokens if keys is None else keys) * width
    return (2 * tokens * values * width + of.layers * (linear + attention)) / 1e9


def manifest_rows(manifest: Manifest) -> list[tuple[str, str]]:
    """Tell the token bookkeeping of a bundle, as rows of a name and a text."""
    slices = manifest.stream.slices if manifest.stream else manifest.frames // manifest.tubelet
    rows = window_rows(manifest.family, manifest.grid, slices)
    if manifest.architecture is None:
        return [*rows, ('GFLOP', 'unknown: the bundle was written before sizes stood in the manifest')]
    of, width = manifest.architecture, manifest.latent_dim
    values, tokens = 3 * manifest.tubelet * manifest.patch ** 2, manifest.tokens
    rows.append(('encoder', f'{of.layers} layers, {width} wide, {of.heads} heads, '
                            f'{parameters(of, width, values) / 1e6:.1f} M parameters'))
    if slices == 1:
        rows.append(('GFLOP per image', f'{gflop(of, width, values, tokens):.4g}'))
    else:
        cached = 'computed each step' if manifest.stream else 'only with a cache, which this encoder lacks'
        new_slice = gflop(of, width, values, tokens, slices * tokens)
        rows += [('GFLOP per window', f'{gflop(of, width, values, slices * tokens):.4g}'),
                 ('GFLOP per new slice', f'{new_slice:.4g} ({cached})')]
    return [*rows, ('counted as', FORMULA)]


def volume(*sides: int) -> int:
    """Return how many tokens a block has: rows x columns of an image, slices x rows x columns of a video."""
    return math.prod(sides)


def block_sides(grid: tuple[int, int], share: float) -> tuple[int, int]:
    """Return rows and columns of a block with the grid's own aspect ratio that covers a share of it."""
    return tuple(max(1, min(side, round(side * math.sqrt(share)))) for side in grid)


def window_rows(family: str, grid: tuple[int, int], slices: int) -> list[tuple[str, str]]:
    """
    Tell what one window is made of in tokens, as rows of a name and a text.

    :param family: of the manifest
    :param grid: (rows, columns)
    :param slices: T
    """
    image = family == 'ijepa'  # its targets are blocks of one image
    per_slice, whole = volume(*grid), volume(slices, *grid)
    rows = [('token grid', f'{grid[0]}x{grid[1]} = {per_slice} tokens a slice' if image or slices == 1 else
             f'{slices}x{grid[0]}x{grid[1]} = {whole} tokens a window, {per_slice} a slice')]
    if image:
        low, high = (volume(*block_sides(grid, share)) for share in CONTEXT['ijepa'])
        rows.append(('context in pretraining', f'{low} to {high} of {per_slice} tokens, less the targets'))
    block = (4, 4) if image else (min(4, slices), 4, 4)
    if min(grid) >= 4:
        left = whole - volume(*block)
        rows.append((f'a target of {"x".join(map(str, block))}',
                     f'{volume(*block)} of {whole} tokens, {left} are left as context'))
    for name, count, shares in TARGETS['ijepa' if image else 'vjepa']:
        span = _span(grid, shares, None if image else slices)
        rows.append((f'{name} in pretraining', f'{count} of {span}'))
    return rows


def _span(grid, shares, slices):
    """Describe a block, or the smallest and the largest."""
    texts = []
    for share in dict.fromkeys(shares):
        sides = block_sides(grid, share) if slices is None else (slices, *block_sides(grid, share))
        texts.append(f'{"x".join(map(str, sides))} = {volume(*sides)} tokens')
    return ' to '.join(dict.fromkeys(texts))
