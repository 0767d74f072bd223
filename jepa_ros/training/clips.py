# SPDX-License-Identifier: Apache-2.0
"""The clips of a run: its recordings, opened, and random clips that follow from (seed, stage, step, index) alone."""

import logging
import zlib
from pathlib import Path

import numpy as np

from jepa_ros.data.clips import Augment, ClipSampler
from jepa_ros.data.sequences import assert_disjoint, load_sequences
from jepa_ros.errors import JepaError

logger = logging.getLogger(__name__)

CACHE_MARGIN = 1.25  # cached frames are this much larger than the encoder's, so that crops keep their detail
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
    :raises JepaError: for a pattern that finds nothing, a file in two splits, or recordings too short for a clip.

    Attributes: `samplers`, one for each entry of data.train, `weights`, how often each is drawn (sum 1), and `validation`,
    list of `Clip`.
    """

    def __init__(self, config, roots=('.',), cache='.cache'):
        self.config, data = config, config.data
        train, validation = expand(data.train, roots), expand(data.validation, roots)
        assert_disjoint(train=train, validation=validation, held_out=expand(data.held_out, roots))
        size = tuple(config.encoder.image_size)
        margin = tuple(round(side * CACHE_MARGIN) for side in size)
        common = {'size': size, 'frames': data.slices * config.encoder.tubelet, 'frame_period': data.frame_period}
        length = f'{common["frames"] * data.frame_period:.2f} s'

        # One sampler for each entry, so that a few minutes of real video are not lost among hours of others.
        augment = Augment(scale=tuple(data.crop), flip=data.flip)
        self.samplers, self._plain, self._paths, weights = [], [], [], []
        for index, pattern in enumerate(train):
            try:
                sequences = load_sequences([pattern], margin, cache, labels=data.labels, vectors=data.vectors)
                self.samplers.append(ClipSampler(sequences, **common, jitter=data.jitter, drop=data.drop,
                                                 stretch=tuple(data.stretch), augment=augment))
            except JepaError as error:
                logger.warning('left out of training: %s', error)
                continue
            self._plain.append(ClipSampler(sequences, **common))
            self._paths.append({sequence.name: str(sequence.path) for sequence in sequences})
            weights.append(data.weights[index] if data.weights else len(self.samplers[-1]))
        if not sum(weights):
            raise JepaError(f'data.train holds no recording that can be read and is long enough for a clip ({length})')
        self.weights = np.array(weights) / sum(weights)
        sequences = load_sequences(validation, margin, cache, labels=data.labels, vectors=data.vectors)
        self.validation = list(ClipSampler(sequences, **common).clips(data.validation_stride))
        if not self.validation:
            raise JepaError(f'data.validation holds no clip long enough for data.slices ({length} of frames)')
        self._watched = None

    def draw(self, name, step, rows, read=None):
        """
        Random clips of one step.

        :param name: of the stage; `rows`: indices of clips in the batch.
        :param read: takes a `Clip` and returns an array; the labels by default.
        :returns: frames uint8 [B, F, H, W, 3], times float32 [B, T] (s), and what was read: labels float32 [B, T, 2]
            (NaN: none).
        """
        tubelet = self.config.encoder.tubelet
        frames, times, found = [], [], []
        for clip, rng, _ in self._sample(name, step, rows):
            frames.append(_light(rng, clip.images, self.config.data.light))
            times.append(clip.times[tubelet - 1::tubelet].astype(np.float32))
            found.append((read or self.labels)(clip))
        return np.stack(frames), np.stack(times), np.stack(found)

    def files(self, name, step, rows):
        """Paths of the recordings that `draw` takes the same clips from."""
        return sorted({self._paths[source][clip.name] for clip, _, source in self._sample(name, step, rows)})

    def _sample(self, name, step, rows, samplers=None):
        """Yields for each row a clip, its generator, and the index of the entry of data.train it comes from."""
        for index in rows:
            rng = generator(self.config.seed, name, step, int(index))
            source = rng.choice(len(self.samplers), p=self.weights)
            yield (samplers or self.samplers)[source].sample(rng), rng, source

    def splits(self):
        """Clips that figures are computed on, by split: some of those trained on, unchanged, and all for validation."""
        if self._watched is None:
            count = min(WATCHED, len(self.validation))
            self._watched = [clip for clip, *_ in self._sample('watched', 0, range(count), self._plain)]
        return {'train_clips': self._watched, 'validation': self.validation}

    def labels(self, clip):
        """Image points at the slices of a clip: float32 [T, 2], NaN where there is none."""
        name, tubelet = self.config.readout.name, self.config.encoder.tubelet
        found = np.full((self.config.data.slices, 2), np.nan, np.float32)
        if name in clip.points:
            xy, state = (values[tubelet - 1::tubelet] for values in clip.points[name])
            found[state > 0] = xy[state > 0]
        return found


def expand(patterns, roots):
    """
    Relative patterns looked up in the roots.

    :returns: list of absolute or root-joined patterns, one for the first root in which each finds something.
    :raises JepaError: for a pattern that finds nothing anywhere.
    """
    found = []
    for pattern in patterns:
        hits = [str(Path(root) / pattern) for root in roots
                if Path(pattern).is_absolute() or any(Path(root).glob(pattern)) or (Path(root) / pattern).exists()]
        if not hits:
            raise JepaError(f'no file matches {pattern} in {", ".join(map(str, roots))}: name the folder that holds '
                            'it with --data')
        found.append(hits[0])
    return found


def _light(rng, images, strength):
    """Brightness, contrast and colour gain, one draw for a clip. uint8 [F, H, W, 3] in and out."""
    if not strength:
        return images
    gain = (1 + strength * rng.uniform(-1, 1)) * (1 + 0.3 * strength * rng.uniform(-1, 1, 3))
    shift = 255 * 0.3 * strength * rng.uniform(-1, 1)
    return np.clip(images * gain.astype(np.float32) + np.float32(shift), 0, 255).astype(np.uint8)
