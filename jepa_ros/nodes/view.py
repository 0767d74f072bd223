# SPDX-License-Identifier: Apache-2.0
"""The picture of ~/view: what the encoder sees, what surprises it, and what it expects."""

from __future__ import annotations

import cv2
import numpy as np

from jepa_ros.images import Geometry
from jepa_ros.latents import ColourBasis, Futures, Latents, colour_basis, principal_components

_CAPTION = 22  # px
_SLICES_OF_BASIS = 64  # colours settle once so many slices have been seen


class View:
    """
    Draws panels side by side over the camera's image: the latents' principal components as colours, the
    surprise of every token as heat, and the components expected at the farthest horizon in the colours of the
    first panel.

    :param grid: (rows, columns) of the tokens.
    :param panel_width: width of a panel in px.
    """

    def __init__(self, grid: tuple[int, int], panel_width: int = 480):
        self._grid = grid
        self._width = panel_width
        self._seen: list[np.ndarray] = []
        self._basis: ColourBasis | None = None
        self._hot = 0.0

    def draw(self, image: np.ndarray, geometry: Geometry, latents: Latents,
             futures: Futures | None) -> np.ndarray:
        """
        :param image: the newest frame as received, RGB uint8 [H, W, 3].
        :param geometry: which part of it the model saw.
        :param latents: all tokens of the grid.
        :param futures: predicted tokens in the same space, or None.
        :return: RGB uint8 [h, w, 3].
        """
        self._learn_colours(latents.tokens)
        scale = self._width / image.shape[1]
        height = max(1, round(image.shape[0] * scale))
        image = cv2.resize(image, (self._width, height), interpolation=cv2.INTER_AREA)
        grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        box = (_extent(geometry.y, geometry.crop_height, scale, image.shape[0]),
               _extent(geometry.x, geometry.crop_width, scale, image.shape[1]))
        panels = [_caption(self._components(grey, box, latents.tokens), 'latents'),
                  self._surprise(image, box, latents)]
        if futures is not None:
            expected = self._components(grey, box, futures.tokens[-1])
            panels.append(_caption(expected, f'expected in {futures.horizons[-1]:.2f} s'))
        return np.concatenate(panels, axis=1)

    def _learn_colours(self, tokens: np.ndarray) -> None:
        # Anew whenever twice as many slices have been seen, then never again: colours must not flicker.
        if len(self._seen) < _SLICES_OF_BASIS:
            self._seen.append(tokens)
            if len(self._seen) & (len(self._seen) - 1) == 0:
                self._basis = colour_basis(np.stack(self._seen))

    def _components(self, grey: np.ndarray, box, tokens: np.ndarray) -> np.ndarray:
        colours = principal_components(tokens, self._basis).reshape(*self._grid, 3)
        panel = grey // 3
        light = grey[box].astype(np.float32)
        # Light from the image, colour from the tokens: the shapes stay visible.
        panel[box] = self._spread(colours, light.shape) * (0.35 * 255 + 0.65 * light)
        return panel

    def _surprise(self, image: np.ndarray, box, latents: Latents) -> np.ndarray:
        panel = image // 3
        panel[box] = image[box]
        if not np.isfinite(latents.surprise).any():
            return _caption(panel, 'surprise: no forecast yet')
        surprise = np.nan_to_num(latents.surprise, nan=0.0)
        # The scale follows the greatest surprise of the last pictures, lest every still scene glow.
        self._hot = max(float(surprise.max()), 0.97 * self._hot, 1e-6)
        heat = self._spread(np.sqrt(surprise / self._hot).reshape(self._grid), panel[box].shape)
        colours = cv2.applyColorMap((255 * heat).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
        weight = 0.8 * heat[..., None]
        panel[box] = (1 - weight) * panel[box] + weight * colours
        return _caption(panel, f'surprise {surprise.mean():.3f}, at most {surprise.max():.3f}')

    @staticmethod
    def _spread(values: np.ndarray, shape) -> np.ndarray:
        """:return: a grid of values in 0..1 smoothly enlarged to an image's shape."""
        size = (shape[1], shape[0])
        return np.clip(cv2.resize(values.astype(np.float32), size, interpolation=cv2.INTER_CUBIC), 0, 1)


def _extent(begin: int, length: int, scale: float, limit: int) -> slice:
    """:return: a run of pixels after scaling, at least one and within the image."""
    first = min(round(begin * scale), limit - 1)
    return slice(first, min(max(first + 1, round((begin + length) * scale)), limit))


def _caption(panel: np.ndarray, text: str) -> np.ndarray:
    strip = np.full((_CAPTION, panel.shape[1], 3), 24, np.uint8)
    cv2.putText(strip, text, (8, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (235, 235, 235), 1, cv2.LINE_AA)
    return np.concatenate([panel, strip])
