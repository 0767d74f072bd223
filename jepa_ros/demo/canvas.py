# SPDX-License-Identifier: Apache-2.0
"""A small drawing surface: OpenCV's lines and letters, drawn large and made smooth by shrinking."""

import cv2
import numpy as np

SCALE = 2  # OpenCV smooths lines badly and letters worse: everything is drawn this much larger
_SHIFT = 4  # fractional bits of coordinates that cv2 takes as integers
_FONT = cv2.FONT_HERSHEY_SIMPLEX


class Canvas:
    """
    An RGB picture to draw on; all coordinates and sizes are pixels of the final picture.

    :param width: px; `height`: px; `background`: (r, g, b), 0..255.
    """

    def __init__(self, width: int, height: int, background=(255, 255, 255)):
        self.width, self.height = width, height
        self._large = np.full((height * SCALE, width * SCALE, 3), background, np.uint8)

    def picture(self) -> np.ndarray:
        """Return the picture, RGB uint8 [height, width, 3]."""
        return cv2.resize(self._large, (self.width, self.height), interpolation=cv2.INTER_AREA)

    def part(self, x: int, y: int, width: int, height: int) -> 'Canvas':
        """Return a part of this canvas with coordinates of its own, that nothing is drawn out of."""
        part = Canvas.__new__(Canvas)
        part.width, part.height = width, height
        part._large = self._large[y * SCALE:(y + height) * SCALE, x * SCALE:(x + width) * SCALE]
        return part

    def text(self, text: str, x: float, y: float, size: float = 14, colour=(40, 40, 40), align: str = 'left',
             bold: bool = False) -> None:
        """Write a line of ASCII. :param y: its base line. :param align: 'left', 'centre' or 'right' of x."""
        scale, weight = size * SCALE / 30, max(1, round(size * SCALE / (11 if bold else 14)))
        width = cv2.getTextSize(text, _FONT, scale, weight)[0][0]
        left = x * SCALE - {'left': 0, 'centre': width / 2, 'right': width}[align]
        at = round(left), round(y * SCALE)
        cv2.putText(self._large, text, at, _FONT, scale, colour, weight, cv2.LINE_AA)

    def image(self, image: np.ndarray, x: int, y: int, width: int, height: int, smooth: bool = True) -> None:
        """Put an RGB uint8 image into a rectangle. :param smooth: False keeps its pixels as squares."""
        large = (width * SCALE, height * SCALE)
        shrinks = image.shape[1] > large[0]
        how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC if smooth else cv2.INTER_NEAREST
        self._large[y * SCALE:y * SCALE + large[1], x * SCALE:x * SCALE + large[0]] = cv2.resize(
            image, large, interpolation=how)

    def rectangle(self, x: float, y: float, width: float, height: float, colour) -> None:
        """Fill a rectangle."""
        corners = np.round(np.array([x, y, x + width, y + height]) * SCALE).astype(int)
        cv2.rectangle(self._large, tuple(corners[:2]), tuple(corners[2:] - 1), colour, cv2.FILLED)

    def line(self, points, colour, width: float = 1.5) -> None:
        """Draw a line through points [n, 2]."""
        if len(points) > 1:
            weight = max(1, round(width * SCALE))
            cv2.polylines(self._large, [_fixed(points)], False, colour, weight, cv2.LINE_AA, _SHIFT)

    def circle(self, centre, radius: float, colour, width: float = 0) -> None:
        """Draw a circle. :param width: of its line; 0 fills it."""
        at, size = tuple(_fixed(centre).tolist()), int(_fixed(radius))
        weight = max(1, round(width * SCALE)) if width else cv2.FILLED
        cv2.circle(self._large, at, size, colour, weight, cv2.LINE_AA, _SHIFT)


def _fixed(points) -> np.ndarray:
    return np.round(np.asarray(points, float) * SCALE * 2 ** _SHIFT).astype(np.int32)
