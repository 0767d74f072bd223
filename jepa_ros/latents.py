# SPDX-License-Identifier: Apache-2.0
"""
Latents and predicted latents: the arrays, where their tokens lie, and what can be done with them without a
network.

Shapes: N tokens of one slice, D latent width, K horizons. Positions are x and y, 0..1 of the received image.
"""

from dataclasses import dataclass, replace

import numpy as np

from jepa_ros.errors import JepaError
from jepa_ros.images import Geometry

PUBLISH_MODES = ('dense', 'grid', 'pooled')


class LatentError(JepaError):
    """Latents that do not fit what is asked of them."""


@dataclass(frozen=True)
class Latents:
    """
    The tokens of the newest slice.

    :param stamp_ns: header stamp of the newest frame that was used (ns)
    :param tokens: float32 [N, D]
    :param positions: float32 [N, 2], token centres
    :param times: float32 [N], each token's time relative to ``stamp_ns`` (s, <= 0)
    :param surprise: float32 [N], how far each token is from what was forecast for this time; NaN where
        nothing was
    :param model: uint32, hash of the bundle
    """

    stamp_ns: int
    tokens: np.ndarray
    positions: np.ndarray
    times: np.ndarray
    surprise: np.ndarray
    model: int


@dataclass(frozen=True)
class Futures:
    """
    Predicted tokens for a set of horizons.

    :param stamp_ns: header stamp of the newest frame that was used (ns); horizons count from it
    :param horizons: float32 [K] (s, > 0, ascending)
    :param tokens: float32 [K, N, D]
    :param positions: float32 [N, 2], token centres
    :param model: uint32, hash of the bundle
    """

    stamp_ns: int
    horizons: np.ndarray
    tokens: np.ndarray
    positions: np.ndarray
    model: int


def token_centres(grid: tuple[int, int], geometry: Geometry | None = None) -> np.ndarray:
    """
    Return the centres of the tokens of a grid, row by row.

    :param grid: (rows, columns)
    :param geometry: which part of the received image the grid covers; None: all of it
    :returns: float32 [rows * columns, 2], x and y, 0..1 of the received image
    """
    rows, columns = grid
    y, x = np.meshgrid((np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns, indexing='ij')
    centres = np.stack([x.ravel(), y.ravel()], axis=1)
    return (centres if geometry is None else geometry.to_received(centres)).astype(np.float32)


def pool(values, mode: str, grid: tuple[int, int], coarse: tuple[int, int] = (3, 4)):
    """
    Reduce the tokens to what is published.

    :param values: :class:`Latents` or :class:`Futures` with the tokens of the whole grid
    :param mode: ``dense`` all tokens; ``grid`` the means of blocks, at most ``coarse`` of them; ``pooled``
        one mean
    :param grid: (rows, columns) of the tokens
    :param coarse: (rows, columns) of the blocks at most
    :returns: the same type; positions are means too; surprise is the mean of what is finite
    :raises LatentError: another mode, or tokens that are not those of the grid
    """
    if mode not in PUBLISH_MODES:
        raise LatentError(f"expected a publish mode of {', '.join(PUBLISH_MODES)}, found '{mode}'")
    if values.tokens.shape[-2] != grid[0] * grid[1]:
        raise LatentError(f'expected {grid[0]}x{grid[1]} tokens, found {values.tokens.shape[-2]}')
    if mode == 'dense':
        return values
    rows, columns = (1, 1) if mode == 'pooled' else (min(grid[0], coarse[0]), min(grid[1], coarse[1]))
    # [blocks, N]: a matrix of weights, since blocks need not be of one size (14 rows into 3)
    weights = np.kron(_averages(grid[0], rows), _averages(grid[1], columns)).astype(np.float32)
    pooled = {'tokens': weights @ values.tokens, 'positions': weights @ values.positions}
    if isinstance(values, Latents):
        known = np.isfinite(values.surprise)
        share = weights @ known.astype(np.float32)
        total = weights @ np.where(known, values.surprise, 0).astype(np.float32)
        pooled['surprise'] = np.divide(total, share, out=np.full_like(share, np.nan), where=share > 0)
        pooled['times'] = weights @ values.times
    return replace(values, **pooled)


def _averages(length: int, parts: int) -> np.ndarray:
    """Return [parts, length]: each row averages one of ``parts`` runs of nearly equal length."""
    weights = np.zeros((parts, length))
    for row, run in zip(weights, np.array_split(np.arange(length), parts)):
        row[run] = 1 / len(run)
    return weights


ENOUGH = 4096  # tokens to find colours from


@dataclass(frozen=True)
class ColourBasis:
    """
    Three directions in latent space and the range along each that becomes 0..1.

    :param mean: float32 [D]
    :param axes: float32 [3, D], orthonormal (zero rows where there are fewer directions)
    :param low: float32 [3]
    :param high: float32 [3]
    """

    mean: np.ndarray
    axes: np.ndarray
    low: np.ndarray
    high: np.ndarray


def colour_basis(tokens: np.ndarray) -> ColourBasis:
    """
    Find the three principal components of some tokens, to colour pictures with.

    Keep the basis over a whole picture or session: colours of frames are comparable only in one basis.

    :param tokens: float32 [..., D]; the more frames they come from, the better
    """
    samples = tokens.reshape(-1, tokens.shape[-1]).astype(np.float32)
    samples = samples[::max(1, len(samples) // ENOUGH)]  # an encoder waits for this: all tokens of a large one take seconds
    mean = samples.mean(axis=0)
    _, directions = np.linalg.eigh((samples - mean).T @ (samples - mean))
    axes = np.zeros((3, samples.shape[1]), dtype=np.float32)
    found = directions.T[::-1][:min(3, len(samples))]
    # The sign of a component is arbitrary; its largest weight is made positive, so that it is the same every
    # time.
    largest = np.take_along_axis(found, np.abs(found).argmax(axis=1)[:, None], axis=1)
    axes[:len(found)] = found * np.where(largest < 0, -1, 1)
    low, high = np.percentile((samples - mean) @ axes.T, [2, 98], axis=0).astype(np.float32)
    return ColourBasis(mean, axes, low, high)


def principal_components(tokens: np.ndarray, basis: ColourBasis | None = None) -> np.ndarray:
    """
    Colour tokens by their principal components.

    :param tokens: float32 [..., D]
    :param basis: from :func:`colour_basis`; None: that of these tokens
    :returns: float32 [..., 3], 0..1
    """
    basis = colour_basis(tokens) if basis is None else basis
    spread = np.maximum(basis.high - basis.low, np.finfo(np.float32).tiny)
    return np.clip(((tokens - basis.mean) @ basis.axes.T - basis.low) / spread, 0, 1).astype(np.float32)
