# SPDX-License-Identifier: Apache-2.0
"""Surprise over the time of a recording, and its most surprising moments as pictures."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import cv2
import numpy as np

from jepa_ros.data.frames import RecordedFrame
from jepa_ros.evaluation.offline import Step
from jepa_ros.images import ImageError, centre_crop, encode_jpeg

APART = 1.0  # s between two moments that are shown
WIDTH = 480  # px of the pictures
_KEPT = 4  # candidates per moment that is shown


@dataclass(frozen=True)
class Moment:
    """
    A step that was surprising.

    :param time: s after the first frame.
    :param stamp_ns: of its newest frame.
    :param surprise: mean over the tokens.
    :param tokens: float32 [rows, columns], the surprise of each token.
    :param frame: the newest frame as recorded; `before`: that of the step before.
    """

    time: float
    stamp_ns: int
    surprise: float
    tokens: np.ndarray
    frame: RecordedFrame
    before: RecordedFrame | None


class SurpriseTrace:
    """
    Collects the surprise of every step and keeps the frames of the most surprising ones, as they were
    recorded.

    :param grid: (rows, columns) of the tokens.
    :param count: how many moments are to be shown.
    """

    def __init__(self, grid: tuple[int, int], count: int = 4):
        self._grid, self._count = grid, count
        self.times: list[float] = []
        self.values: list[float | None] = []  # None where nothing had been forecast
        self._best: dict[int, Moment] = {}  # by second: frames are large
        self._before: RecordedFrame | None = None

    def see(self, step: Step) -> None:
        """Take the next step."""
        before, self._before = (None if step.reset else self._before), step.frame
        known = np.isfinite(step.latents.surprise)
        self.times.append(step.time)
        if not known.any():
            self.values.append(None)
            return
        value = float(step.latents.surprise[known].mean())
        self.values.append(value)
        second = int(step.time / APART)
        if step.frame is None or second in self._best and self._best[second].surprise >= value:
            return
        tokens = step.latents.surprise.reshape(self._grid)
        self._best[second] = Moment(step.time, step.latents.stamp_ns, value, tokens, step.frame, before)
        if len(self._best) > _KEPT * self._count:
            del self._best[min(self._best, key=lambda key: self._best[key].surprise)]

    def moments(self) -> list[Moment]:
        """Return the most surprising moments, at least a second apart, the most surprising first."""
        chosen: list[Moment] = []
        for moment in sorted(self._best.values(), key=lambda moment: -moment.surprise):
            if all(abs(moment.time - other.time) >= APART for other in chosen):
                chosen.append(moment)
        return chosen[: self._count]

    def figures(self) -> dict | None:
        """Return median, percentiles, maximum and the whole series (None in it where there was no
        forecast); None where nothing was ever forecast."""
        values = self._known()
        if not len(values):
            return None
        return {
            'median': float(np.median(values)),
            'p90': float(np.percentile(values, 90)),
            'p99': float(np.percentile(values, 99)),
            'max': float(values.max()),
            'time_s': [round(time, 4) for time in self.times],
            'value': [None if v is None else round(v, 6) for v in self.values],
        }

    def pictures(self) -> list[dict]:
        """
        Return the moments for a report: ``time_s``, ``stamp_ns``, ``surprise``, ``times_median``, and as JPEG
        in base64 ``now`` (the surprising places marked) and ``before`` (the frame of the step before, or
        None).
        """
        values = self._known()
        median = float(np.median(values)) if len(values) else 0.0
        found = []
        for moment in self.moments():
            try:
                now = _jpeg(overlay(moment.frame.image(), moment.tokens))
                before = _jpeg(_shrunk(moment.before.image())) if moment.before else None
            except ImageError:
                continue
            found.append(
                {
                    'time_s': moment.time,
                    'stamp_ns': moment.stamp_ns,
                    'surprise': moment.surprise,
                    'times_median': moment.surprise / median if median else None,
                    'now': now,
                    'before': before,
                }
            )
        return found

    def _known(self) -> np.ndarray:
        return np.array([value for value in self.values if value is not None])


def marked(frame: RecordedFrame, tokens: np.ndarray, hottest: float | None = None) -> str | None:
    """Return `overlay` of a frame as JPEG in base64; None where it does not decode."""
    try:
        return _jpeg(overlay(frame.image(), tokens, hottest))
    except ImageError:
        return None


def overlay(image: np.ndarray, tokens: np.ndarray, hottest: float | None = None) -> np.ndarray:
    """
    Draw surprise over a frame.

    :param image: RGB uint8 [H, W, 3] as received.
    :param tokens: float32 [rows, columns], which cover the crop that the encoder sees; NaN is not drawn.
    :param hottest: surprise that is drawn strongest; None: the highest one.
    :returns: RGB uint8, WIDTH wide; what the encoder did not see is
        dimmed.
    """
    small = _shrunk(image)
    geometry = centre_crop(image.shape[1], image.shape[0], tokens.shape)
    scale = small.shape[1] / image.shape[1]
    left, top = round(geometry.x * scale), round(geometry.y * scale)
    right = min(small.shape[1], max(left + 1, round((geometry.x + geometry.crop_width) * scale)))
    bottom = min(small.shape[0], max(top + 1, round((geometry.y + geometry.crop_height) * scale)))
    hot = float(np.nanmax(tokens)) if hottest is None else hottest
    share = np.nan_to_num(tokens / hot if hot > 0 else np.zeros_like(tokens)).clip(0, 1).astype(np.float32)
    heat = cv2.resize(share, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)[..., None]
    grey = cv2.cvtColor(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    drawn = (0.35 * grey).astype(np.uint8)
    colours = cv2.applyColorMap((255 * heat).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    weight = 0.75 * heat
    seen = grey[top:bottom, left:right]
    drawn[top:bottom, left:right] = (1 - weight) * seen + weight * colours
    return drawn


def _shrunk(image: np.ndarray) -> np.ndarray:
    height = max(1, round(image.shape[0] * WIDTH / image.shape[1]))
    shrinks = image.shape[1] > WIDTH
    return cv2.resize(image, (WIDTH, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def _jpeg(image: np.ndarray) -> str:
    return base64.b64encode(encode_jpeg(np.ascontiguousarray(image), 82)).decode()
