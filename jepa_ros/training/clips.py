# SPDX-License-Identifier: Apache-2.0
"""
The clips of a run: its recordings, opened, and random clips that follow from (seed, stage, step, index)
alone.
"""

import zlib
from pathlib import Path

import numpy as np

from jepa_ros.data.augment import NO_LABEL, OUTSIDE, VISIBLE, in_picture
from jepa_ros.data.clips import Augment, ClipSampler
from jepa_ros.data.sequences import assert_disjoint, load_sequences, matches
from jepa_ros.errors import JepaError

CACHE_MARGIN = 1.25  # cached frames are this much larger than the encoder's, so that crops keep their detail
DRAWS = 20  # clips looked at, at most, for one in which there is something to be seen
BEYOND = 0.35  # of the picture, how far outside of it a point that left is still told: a second of a belt
JUMP = 0.15  # of the picture, from slice to slice: nothing that is followed moves by more
WATCHED = 64  # training clips, without augmentation, that are looked at beside the validation clips


def generator(seed, name, step, index=None):
    """
    The random numbers of a step, or of one clip in its batch.

    :param name: of the stage, or of whatever else draws.
    :param index: of the clip in the whole batch; None for what concerns all of it.
    """
    return np.random.default_rng([seed, zlib.crc32(name.encode()), step, 0 if index is None else index + 1])


class Clips:
    """
    :param config: `config.Config`.
    :param roots: folders in which relative patterns of `data` are looked up.
    :param cache: folder for decoded frames.
    :param size: height and width of the frames; the encoder's by default.
    :param progress: show a bar while recordings are decoded into the cache.
    :raises JepaError: for a pattern that finds nothing, a file in two splits, or recordings too short for a
        clip.

    Attributes: `sampler`, of random clips to train on, and `validation`, list of `Clip`.
    """

    def __init__(self, config, roots=('.',), cache='.cache', size=None, progress=True):
        self.config, data, self._opened = config, config.data, (roots, cache, progress)
        train, validation = expand(data.train, roots), expand(data.validation, roots)
        if not train or not validation:
            raise JepaError('data.train and data.validation must each name recordings, found an empty list')
        assert_disjoint(train=train, validation=validation, held_out=expand(data.held_out, roots))
        self.size = tuple(size or config.encoder.image_size)
        # All at once: one bar, and what a limited cache holds for the one is not given away for the other.
        loaded = load_sequences(
            train + validation,
            tuple(round(side * CACHE_MARGIN) for side in self.size),
            cache,
            topic=data.topic or None,
            labels=data.labels,
            progress=progress,
            vectors=data.vectors,
            rate=data.image_rate,
            stream=data.stream,
            workers=data.workers,
            cache_limit=round(data.cache_limit * 1e9) or None,
        )
        self._sequences = sequences = [sequence for sequence in loaded if sequence.source < len(train)]
        for_validation = [sequence for sequence in loaded if sequence.source >= len(train)]
        for split, found in (('train', sequences), ('validation', for_validation)):
            if not found:
                raise JepaError(f'data.{split} must name recordings that can be read, found none')
        cutting = {
            'size': self.size,
            'frames': data.slices * config.encoder.tubelet,
            'frame_period': data.frame_period,
        }
        balance = {'weights': data.weights or None, 'balance': data.balance}
        self.sampler = ClipSampler(
            sequences,
            **cutting,
            **balance,
            jitter=data.jitter,
            drop=data.drop,
            stretch=tuple(data.stretch),
            augment=Augment(tuple(data.crop), data.flip, tuple(data.aspect) or None, colour=data.colour),
        )
        self._plain = ClipSampler(sequences, **cutting, **balance)
        self._paths = {}
        for sequence in sequences:
            self._paths.setdefault(sequence.name, []).append(str(sequence.path))
        of_validation = ClipSampler(for_validation, **cutting)
        self.validation = [
            clip for clip, _ in self._sample('validation', 0, range(data.validation_clips), of_validation)
        ] or list(of_validation.clips(data.validation_stride))
        self._watched = None

    def __getstate__(self):
        """Processes that make batches get no clips of the splits, which may be gigabytes."""
        return {**self.__dict__, 'validation': [], '_watched': []}

    def resized(self, size):
        """The same clips in another size, which are decoded again for it. :param size: (height, width)."""
        roots, cache, progress = self._opened
        return self if tuple(size) == self.size else Clips(self.config, roots, cache, size, progress)

    def draw(self, name, step, rows, read=None, seen=False):
        """
        Random clips of one step.

        :param name: of the stage; `rows`: indices of clips in the batch.
        :param read: takes a `Clip` and returns an array; the labels by default.
        :param seen: draw each anew, up to a number of times, until the readout's point is to be seen in a slice.
        :returns: frames uint8 [B, F, H, W, 3], times float32 [B, T] (s), and what was read: labels float32
            [B, T, 2 + A] (NaN: none), see `labels`.
        """
        tubelet = self.config.encoder.tubelet
        frames, times, found = [], [], []
        for clip, rng in self._sample(name, step, rows, seen=seen):
            frames.append(_light(rng, clip.images, self.config.data.light))
            times.append(clip.times[tubelet - 1 :: tubelet].astype(np.float32))
            found.append((read or self.labels)(clip))
        return np.stack(frames), np.stack(times), np.stack(found)

    def files(self, name, step, rows, seen=False):
        """Paths of the recordings that `draw` takes the same clips from; of several with one name, all."""
        return sorted(
            {path for clip, _ in self._sample(name, step, rows, seen=seen) for path in self._paths[clip.name]}
        )

    def _sample(self, name, step, rows, sampler=None, seen=False):
        """Yields for each row a clip and its generator."""
        for index in rows:
            rng = generator(self.config.seed, name, step, int(index))
            clip = (sampler or self.sampler).sample(rng)
            for _ in range(DRAWS - 1 if seen else 0):
                if self._sees(clip):
                    break
                clip = (sampler or self.sampler).sample(rng)
            yield clip, rng

    def _sees(self, clip):
        """Whether the readout's point is to be seen in a slice."""
        _, state = clip.points.get(self.config.readout.name, (None, np.zeros(0)))
        return bool((state[self.config.encoder.tubelet - 1 :: self.config.encoder.tubelet] == VISIBLE).any())

    def attribute_scale(self):
        """
        Middle and spread of the readout's attributes where its point is labelled in the training recordings.

        :returns: float32 [A] each; 0 and 1 where nothing is known.
        """
        of, middles, units = self.config.readout, [np.zeros(0)], [np.zeros(0)]
        for name, length in of.attributes.items():
            found = [
                values[in_picture(sequence.points[of.name][1])]
                for sequence in self._sequences
                if of.name in sequence.points and (values := attribute(sequence, name, of.name)) is not None
            ]
            values = np.concatenate([np.zeros((0, length), np.float32), *found])
            known = values[~np.isnan(values).any(1)]
            middles.append(known.mean(0) if len(known) else np.zeros(length))
            units.append(np.maximum(known.std(0), 1e-6) if len(known) else np.ones(length))
        return tuple(np.concatenate(parts).astype(np.float32) for parts in (middles, units))

    def splits(self):
        """
        Clips that figures are computed on, by split: some of those trained on, unchanged, and all for
        validation.
        """
        if self._watched is None:
            count = min(WATCHED, len(self.validation))
            self._watched = [clip for clip, _ in self._sample('watched', 0, range(count), self._plain)]
        return {'train_clips': self._watched, 'validation': self.validation}

    def labels(self, clip):
        """
        What the readout is to tell at the slices of a clip: the image point, then its attributes, see `attribute`. A
        point that leaves the picture is told until it is further off than BEYOND.

        :returns: float32 [T, 2 + A], NaN where there is none.
        :raises JepaError: for an attribute that is longer or shorter than configured.
        """
        of, tubelet = self.config.readout, self.config.encoder.tubelet
        found = np.full((self.config.data.slices, 2), np.nan, np.float32)
        if of.name in clip.points:
            xy, state = (values[tubelet - 1 :: tubelet] for values in clip.points[of.name])
            known = followed(xy, state)
            found[known] = xy[known]
        parts = [found]
        for name, length in of.attributes.items():
            part = np.full((len(found), length), np.nan, np.float32)
            values = attribute(clip, name, of.name)
            if values is not None:
                values = values[tubelet - 1 :: tubelet]
                if values.shape[1] != length:
                    raise JepaError(
                        f'readout.attributes: expected {name} of length {length}, found {values.shape[1]} in '
                        f'{clip.name}'
                    )
                part[:] = values
            parts.append(part)
        return np.concatenate(parts, 1)


def attribute(of, name, point):
    """
    What is true of a labelled point: a vector, or where another labelled point lies from it.

    :param of: a `Sequence` or `Clip`; `name`: of the vector or of the other point; `point`: name of the point.
    :returns: float32 [T, P], NaN where unknown; None where there is no such label.
    """
    if name in of.vectors:
        return of.vectors[name]
    if name not in of.points or point not in of.points:
        return None
    (there, state), (here, _) = of.points[name], of.points[point]
    return np.where((state == NO_LABEL)[:, None], np.float32(np.nan), there - here)


def followed(xy, state):
    """
    Which slices have a point that can be told: in the picture, or on the way out of it.

    One that has not been in the picture yet cannot be known, and where a label jumps it is of another thing.

    :param xy: float [T, 2]; `state`: uint8 [T], see `augment`.
    :returns: bool [T].
    """
    known = in_picture(state)
    near = (state == OUTSIDE) & (np.abs(xy - 0.5).max(1) <= 0.5 + BEYOND)
    for now in range(1, len(known)):
        known[now] |= near[now] & known[now - 1] & (np.abs(xy[now] - xy[now - 1]).max() <= JUMP)
    return known


def expand(patterns, roots):
    """
    Relative patterns looked up in the roots.

    :returns: list of absolute or root-joined patterns, one for the first root in which each finds something.
    :raises JepaError: for a pattern that finds nothing anywhere.
    """
    found = []
    for pattern in patterns:
        # An absolute pattern stays what it is behind any root.
        candidates = [str(Path(root) / Path(pattern).expanduser()) for root in roots]
        hit = next(filter(matches, candidates), None)
        if hit is None:
            raise JepaError(
                f'no file matches {pattern} in {", ".join(map(str, roots))}: name the folder that holds '
                'it with --data'
            )
        found.append(hit)
    return found


def _light(rng, images, strength):
    """Brightness, contrast and colour gain, one draw for a clip. uint8 [F, H, W, 3] in and out."""
    if not strength:
        return images
    gain = (1 + strength * rng.uniform(-1, 1)) * (1 + 0.3 * strength * rng.uniform(-1, 1, 3))
    shift = 255 * 0.3 * strength * rng.uniform(-1, 1)
    return np.clip(images * gain.astype(np.float32) + np.float32(shift), 0, 255).astype(np.uint8)
