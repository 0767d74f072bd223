# SPDX-License-Identifier: Apache-2.0
"""Clips for training and evaluation, chosen from sequences by stamp as the run-time window chooses frames."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from jepa_ros.data import faults
from jepa_ros.data.augment import NO_LABEL, Augment, view
from jepa_ros.data.sequences import Sequence, segments
from jepa_ros.errors import JepaError

__all__ = [
    'Augment',
    'Clip',
    'ClipError',
    'ClipSampler',
    'choose',
    'class_names',
    'view',
]

logger = logging.getLogger(__name__)

TOLERANCE = 0.25  # fraction of the frame period by which a frame may be early, as in clip.ClipWindow
DRAWS = 100  # unreadable clips in a row after which the data is taken to be gone


class ClipError(JepaError):
    """Sequences from which no clip can be cut."""


@dataclass(frozen=True)
class Clip:
    """Consecutive frames at roughly one frame period.

    :param images: RGB uint8 [F, H, W, 3].
    :param times: float64 [F], s from the first frame, strictly ascending: the true times, not the asked ones.
    :param points: for each label its places, float32 [F, 2] in 0..1 of the image, and its state, uint8 [F]
        (NO_LABEL, VISIBLE, HIDDEN, OUTSIDE of `augment`).
    :param name: the sequence it was cut from.
    :param vectors: float32 [F, P] each, NaN where unknown; a view does not change them.
    :param classes: int64 [F] each, places in the sampler's `class_names`, -1 where unknown.
    """

    images: np.ndarray
    times: np.ndarray
    points: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    name: str = ''
    vectors: dict[str, np.ndarray] = field(default_factory=dict)
    classes: dict[str, np.ndarray] = field(default_factory=dict)


def class_names(*splits: Iterable[Sequence]) -> dict[str, list[str]]:
    """Return for each kind of class the names that occur in some sets of sequences, sorted."""
    found: dict[str, set[str]] = {}
    for sequence in (sequence for split in splits for sequence in split):
        for name, values in sequence.classes.items():
            found.setdefault(name, set()).update(np.unique(values).tolist())
    return {name: sorted(values - {''}) for name, values in sorted(found.items())}


class ClipSampler:
    """Cuts clips of `frames` frames from sequences.

    The frames are chosen as `clip.ClipWindow` chooses them at run time: one is due every `frame_period`, the
    first that is at most a quarter period early is taken, and when it comes more than a period late the
    schedule restarts from it. Training meets what a robot's camera does through `jitter`, `drop` and
    `stretch`.

    A clip that cannot be read (a file that was deleted or cut short in mid-run) is counted in `faults` and
    another one is drawn, from the same generator.

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
    :param weights: of the sources (`Sequence.source`, the patterns in their order): how often each is drawn
        from. None: as often as it has frames.
    :param balance: how the sequences of a source share its draws: in proportion to their frames to this
        power. 1: every frame is equally likely, and long recordings dominate; 0: every recording is.
    :param names: of the classes, so that training and validation count alike (`class_names` of both);
        default: those of `sequences`.
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
        weights: list[float] | None = None,
        balance: float = 1.0,
        names: Mapping[str, list[str]] | None = None,
    ):
        self.size, self.frames, self.frame_period = tuple(size), frames, frame_period
        self.jitter, self.drop, self.stretch, self.augment = jitter, drop, stretch, augment
        self._rng = np.random.default_rng(seed)
        self._labels = sorted({name for sequence in sequences for name in sequence.points})
        self._widths = _widths(sequences)
        self.class_names = dict(names) if names is not None else class_names(sequences)
        self._classes = {
            name: {value: place for place, value in enumerate(values)}
            for name, values in self.class_names.items()
        }
        self._segments: list[tuple[Sequence, int, int]] = []
        self.skipped: list[str] = []
        counts = []
        for sequence in sequences:
            before = len(counts)
            for first, stop in self._pieces(sequence, max_gap or 8 * frame_period):
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
        self._chances = None
        if weights is not None or balance != 1.0:
            self._chances = np.cumsum(self._probabilities(np.array(counts, float), weights, balance))

    def __len__(self) -> int:
        """Return the number of frames at which a clip can begin."""
        return int(self._ends[-1])

    def sample(self, rng: np.random.Generator | None = None) -> Clip:
        """Return a random clip.

        :raises ClipError: when a hundred draws in a row cannot be read.
        """
        rng = rng or self._rng
        for _ in range(DRAWS):
            sequence, indices = self._draw(rng)
            clip = None if indices is None else self._read(sequence, indices, rng if self.augment else None)
            if clip is not None:
                return clip
        raise ClipError(
            f'expected recordings that can be read, found {DRAWS} draws in a row that cannot, the last from '
            f'{sequence.path}'
        )

    def clips(self, stride: float) -> Iterator[Clip]:
        """Yield clips in order, `stride` seconds apart, without any randomness or augmentation.

        Of independent images each is a clip. Clips that cannot be read are counted in `faults` and left out.
        """
        for sequence, first, stop in self._segments:
            stamps = sequence.stamps_ns[first:stop]
            last = first + self._starts(sequence, first, stop) - 1
            due = stamps[0]
            while (start := first + int(np.searchsorted(stamps, due))) <= last:
                chosen = choose(sequence.stamps_ns[start:stop], self.frames, self.frame_period)
                # where frames are missing a start can fail although a later one does not
                clip = None if chosen is None else self._read(sequence, start + chosen, None)
                if clip is not None:
                    yield clip
                step = 1 if sequence.still else round(stride * 1e9)
                due = max(due, sequence.stamps_ns[start]) + step

    def _pieces(self, sequence: Sequence, max_gap: float) -> list[tuple[int, int]]:
        if not sequence.still:
            return segments(sequence.stamps_ns, max_gap)
        return [(0, len(sequence))] if self.frames == 1 and len(sequence) else []

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

    def _probabilities(self, counts: np.ndarray, weights: list[float] | None, balance: float) -> np.ndarray:
        """Return how likely each segment is."""
        owners = [id(sequence) for sequence, _, _ in self._segments]
        _, owner = np.unique(owners, return_inverse=True)
        of_owner = np.bincount(owner, counts)
        chances = counts * of_owner[owner] ** (balance - 1)
        sources = np.array([sequence.source for sequence, _, _ in self._segments])
        if weights is None:
            frames = np.bincount(sources, counts)
            weights = frames / frames.sum()
        if sources.max() >= len(weights) or min(weights) < 0:
            raise ClipError(
                f'expected a weight of 0 or more for each of {sources.max() + 1} sources, found '
                f'{list(weights)}'
            )
        chances *= np.asarray(weights, float)[sources] / np.bincount(sources, chances)[sources]
        if not chances.sum():
            raise ClipError(f'expected a source with clips and a weight above 0, found {list(weights)}')
        absent = [number for number, weight in enumerate(weights) if weight and number not in sources]
        if absent:
            logger.warning('no clips come from source %s: their weight goes to the others', absent)
        return chances / chances.sum()

    def _draw(self, rng: np.random.Generator) -> tuple[Sequence, np.ndarray | None]:
        """Return a random sequence and the positions of the frames of a clip in it, or None where too many are missing."""
        if self._chances is None:
            start = int(rng.integers(self._ends[-1]))
            which = int(np.searchsorted(self._ends, start, side='right'))
            start -= int(self._ends[which - 1]) if which else 0
        else:
            which = int(np.searchsorted(self._chances, rng.random() * self._chances[-1], side='right'))
            start = int(rng.integers(self._ends[which] - (self._ends[which - 1] if which else 0)))
        sequence, first, stop = self._segments[which]
        first += start
        for _ in range(10):
            period = self.frame_period * rng.uniform(*self.stretch)
            shifts = rng.uniform(-self.jitter, self.jitter, self.frames) * period
            drops = rng.random(self.frames) < self.drop
            chosen = choose(sequence.stamps_ns[first:stop], self.frames, period, shifts, drops)
            if chosen is not None:
                break
        else:  # too near the end for this much bad luck
            chosen = choose(sequence.stamps_ns[first:stop], self.frames, self.frame_period)
        return sequence, None if chosen is None else first + chosen

    def _read(self, sequence: Sequence, indices: np.ndarray, rng: np.random.Generator | None) -> Clip | None:
        """Return a clip, or None where it cannot be read."""
        key = sequence.key(indices[0])
        if faults.is_quarantined(key):
            faults.report(key, f'{key}: a process that read it did not survive it')
            return None
        try:
            with faults.reading(key):
                images = np.asarray(sequence.images[indices])
        except (JepaError, OSError) as error:
            faults.report(key, error)
            return None
        return self._clip(sequence, indices, images, rng)

    def _clip(self, sequence, indices, images, rng) -> Clip:
        stamps = sequence.stamps_ns[indices]
        points = {}
        for name in self._labels:
            if name in sequence.points:
                xy, state = sequence.points[name]
                points[name] = (xy[indices].copy(), state[indices].copy())
            else:
                points[name] = (
                    np.zeros((len(indices), 2), np.float32),
                    np.full(len(indices), NO_LABEL, np.uint8),
                )
        vectors = {
            name: sequence.vectors[name][indices]
            if name in sequence.vectors
            else np.full((len(indices), width), np.nan, np.float32)
            for name, width in self._widths.items()
        }
        classes = {
            name: np.array(
                [places.get(value, -1) for value in sequence.classes[name][indices].tolist()]
                if name in sequence.classes
                else [-1] * len(indices)
            )
            for name, places in self._classes.items()
        }
        images, points = view(images, points, self.size, self.augment if rng else None, rng)
        return Clip(images, (stamps - stamps[0]) / 1e9, points, sequence.name, vectors, classes)


def _widths(sequences: list[Sequence]) -> dict[str, int]:
    """Return the length of each vector.

    :raises ClipError: when it is not the same everywhere.
    """
    widths: dict[str, int] = {}
    for sequence in sequences:
        for name, values in sequence.vectors.items():
            width = widths.setdefault(name, values.shape[1])
            if width != values.shape[1]:
                raise ClipError(
                    f'{sequence.path}: expected {width} elements in vector {name} as in the recordings '
                    f'before, found {values.shape[1]}'
                )
    return widths


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
