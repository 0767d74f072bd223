# SPDX-License-Identifier: Apache-2.0
"""Clips for training and evaluation, chosen from sequences by stamp as the run-time window chooses frames."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np

from jepa_ros.data.sequences import NO_LABEL, Sequence, segments
from jepa_ros.errors import JepaError

logger = logging.getLogger(__name__)

TOLERANCE = 0.25  # fraction of the frame period by which a frame may be early, as in clip.ClipWindow


class ClipError(JepaError):
    """Sequences from which no clip can be cut."""


@dataclass(frozen=True)
class Clip:
    """Consecutive frames at roughly one frame period.

    :param images: RGB uint8 [F, H, W, 3].
    :param times: float64 [F], s from the first frame, strictly ascending: the true times, not the asked ones.
    :param points: for each label its places, float32 [F, 2] in 0..1 of the image, and its state, uint8 [F]
        (NO_LABEL, VISIBLE, HIDDEN of `sequences`).
    :param name: the sequence it was cut from.
    """

    images: np.ndarray
    times: np.ndarray
    points: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    name: str = ''


@dataclass(frozen=True)
class Augment:
    """Random changes of view, the same for all frames of a clip.

    :param scale: range of the area of the crop as a fraction of the image; the aspect ratio is kept.
    :param flip: mirror half of the clips left to right.
    """

    scale: tuple[float, float] = (0.6, 1.0)
    flip: bool = True


class ClipSampler:
    """Cuts clips of `frames` frames from sequences.

    The frames are chosen as `clip.ClipWindow` chooses them at run time: one is due every `frame_period`, the
    first that is at most a quarter period early is taken, and when it comes more than a period late the
    schedule restarts from it. Training meets what a robot's camera does through `jitter`, `drop` and
    `stretch`.

    :param sequences: those too short for a clip are named in `skipped`.
    :param size: height and width (px) of the clips.
    :param frames: F, the frames of a clip.
    :param frame_period: s.
    :param jitter: random shift of each asked instant, as a fraction of the period (each way).
    :param drop: probability that an asked frame is missing; the next real one is taken.
    :param stretch: range of a random factor on the period, one per clip.
    :param augment: random view; None for none.
    :param max_gap: steps between recorded frames longer than this (s) are never crossed; default: 8 periods.
    :param seed: of the generator that `sample` uses when it is given none.
    :raises ClipError: when no sequence is long enough.
    """

    def __init__(
        self,
        sequences: list[Sequence],
        size: tuple[int, int],
        frames: int,
        frame_period: float,
        jitter: float = 0.0,
        drop: float = 0.0,
        stretch: tuple[float, float] = (1.0, 1.0),
        augment: Augment | None = None,
        max_gap: float | None = None,
        seed: int = 0,
    ):
        self.size, self.frames, self.frame_period = tuple(size), frames, frame_period
        self.jitter, self.drop, self.stretch, self.augment = jitter, drop, stretch, augment
        self._rng = np.random.default_rng(seed)
        self._labels = sorted({name for sequence in sequences for name in sequence.points})
        self._segments: list[tuple[Sequence, int, int]] = []
        self.skipped: list[str] = []
        counts = []
        for sequence in sequences:
            before = len(counts)
            for first, stop in segments(sequence.stamps_ns, max_gap or 8 * frame_period):
                starts = self._starts(sequence, first, stop)
                if starts:
                    self._segments.append((sequence, first, stop))
                    counts.append(starts)
            if len(counts) == before:
                self.skipped.append(sequence.name)
        if self.skipped:
            logger.warning(
                '%d of %d sequences are too short for a clip: %s',
                len(self.skipped),
                len(sequences),
                ', '.join(self.skipped),
            )
        if not counts:
            raise ClipError(
                f'expected sequences of at least {frames} frames {frame_period} s apart, found none among '
                f'{len(sequences)}'
            )
        self._ends = np.cumsum(counts)

    def __len__(self) -> int:
        """Return the number of frames at which a clip can begin."""
        return int(self._ends[-1])

    def sample(self, rng: np.random.Generator | None = None) -> Clip:
        """Return a random clip, every possible first frame being equally likely."""
        rng = rng or self._rng
        start = int(rng.integers(self._ends[-1]))
        which = int(np.searchsorted(self._ends, start, side='right'))
        sequence, first, stop = self._segments[which]
        first += start - (int(self._ends[which - 1]) if which else 0)
        for _ in range(10):
            period = self.frame_period * rng.uniform(*self.stretch)
            shifts = rng.uniform(-self.jitter, self.jitter, self.frames) * period
            drops = rng.random(self.frames) < self.drop
            chosen = choose(sequence.stamps_ns[first:stop], self.frames, period, shifts, drops)
            if chosen is not None:
                break
        else:  # too near the end for this much bad luck
            chosen = choose(sequence.stamps_ns[first:stop], self.frames, self.frame_period)
        return self._clip(sequence, first + chosen, rng if self.augment else None)

    def clips(self, stride: float) -> Iterator[Clip]:
        """Yield clips in order, `stride` seconds apart, without any randomness or augmentation."""
        for sequence, first, stop in self._segments:
            stamps = sequence.stamps_ns[first:stop]
            last = first + self._starts(sequence, first, stop) - 1
            due = stamps[0]
            while (start := first + int(np.searchsorted(stamps, due))) <= last:
                chosen = choose(sequence.stamps_ns[start:stop], self.frames, self.frame_period)
                yield self._clip(sequence, start + chosen, None)
                due = max(due, sequence.stamps_ns[start]) + round(stride * 1e9)

    def _starts(self, sequence: Sequence, first: int, stop: int) -> int:
        """Return how many frames from `first` on can begin a clip that ends before `stop`."""
        stamps = sequence.stamps_ns[first:stop]
        low, high = 0, len(stamps)  # a later start never reaches less far: bisect for the first that fails
        while low < high:
            middle = (low + high) // 2
            if choose(stamps[middle:], self.frames, self.frame_period) is None:
                high = middle
            else:
                low = middle + 1
        return low

    def _clip(self, sequence: Sequence, indices: np.ndarray, rng: np.random.Generator | None) -> Clip:
        images = np.asarray(sequence.images[indices])
        stamps = sequence.stamps_ns[indices]
        points = {}
        for name in self._labels:
            if name in sequence.points:
                xy, state = sequence.points[name]
                points[name] = (xy[indices].copy(), state[indices].copy())
            else:
                points[name] = (np.zeros((len(indices), 2), np.float32), np.zeros(len(indices), np.uint8))
        images, points = view(images, points, self.size, self.augment if rng else None, rng)
        return Clip(images, (stamps - stamps[0]) / 1e9, points, sequence.name)


def choose(
    stamps_ns: np.ndarray,
    frames: int,
    period: float,
    shifts: np.ndarray | None = None,
    drops: np.ndarray | None = None,
) -> np.ndarray | None:
    """Choose frames by stamp, beginning with the first one.

    :param stamps_ns: int64 [T], ascending.
    :param frames: how many.
    :param period: s.
    :param shifts: float [frames], s, added to each asked instant (the first is not shifted).
    :param drops: bool [frames]: the frame that would be taken is missing, the next one comes instead.
    :returns: int [frames] indices, strictly ascending, or None when there are too few frames.
    """
    chosen = [0]
    if not len(stamps_ns):
        return None
    step = period * 1e9
    due = stamps_ns[0] + step
    for number in range(1, frames):
        asked = due - TOLERANCE * step + (shifts[number] * 1e9 if shifts is not None else 0.0)
        index = max(int(np.searchsorted(stamps_ns, asked)), chosen[-1] + 1)
        if drops is not None and drops[number]:
            index += 1
        if index >= len(stamps_ns):
            return None
        chosen.append(index)
        late = stamps_ns[index] - due > step
        due = (stamps_ns[index] if late else due) + step
    return np.array(chosen)


def view(
    images: np.ndarray,
    points: dict[str, tuple[np.ndarray, np.ndarray]],
    size: tuple[int, int],
    augment: Augment | None,
    rng: np.random.Generator | None,
) -> tuple[np.ndarray, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Bring frames to a size, through a random view if one is asked for; points follow.

    :param images: uint8 [F, h, w, 3].
    :param points: as in `Clip`; a point that falls outside the view becomes NO_LABEL.
    :returns: uint8 [F, H, W, 3] and the points in its coordinates.
    """
    height, width = images.shape[1:3]
    x, y, crop_width, crop_height, flip = 0, 0, width, height, False
    if augment is not None:
        side = np.sqrt(rng.uniform(*augment.scale))
        crop_width, crop_height = max(1, round(width * side)), max(1, round(height * side))
        x, y = int(rng.integers(width - crop_width + 1)), int(rng.integers(height - crop_height + 1))
        flip = augment.flip and rng.random() < 0.5
    if (crop_height, crop_width) != (height, width) or (height, width) != tuple(size):
        shrinks = crop_height > size[0]
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        images = np.stack(
            [
                cv2.resize(image[y : y + crop_height, x : x + crop_width], size[::-1], interpolation=how)
                for image in images
            ]
        )
    if flip:
        images = np.ascontiguousarray(images[:, :, ::-1])
    moved = {}
    for name, (xy, state) in points.items():
        xy = ((xy * (width, height) - (x, y)) / (crop_width, crop_height)).astype(np.float32)
        if flip:
            xy[:, 0] = 1 - xy[:, 0]
        inside = np.all((xy >= 0) & (xy <= 1), axis=1)
        moved[name] = (xy, np.where(inside, state, NO_LABEL).astype(np.uint8))
    return images, moved
