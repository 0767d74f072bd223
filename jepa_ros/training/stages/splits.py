# SPDX-License-Identifier: Apache-2.0
"""What validation does with the clips of a split, whatever the stage."""

import numpy as np
import torch

from jepa_ros.training import model as models
from jepa_ros.training import objectives, watch

MOST_TOKENS = (
    8192  # whose spread is measured: a singular value decomposition of more takes long and says the same
)


def chunks(stage, clips, read=None):
    """
    :param clips: list of `Clip`; `read`: takes one and returns an array with a row for each slice.

    Yields frames uint8 [B, F, H, W, 3] and times float32 [B, T], s, as tensors, and what was read, [B, T, ...].
    """
    size, tubelet = stage.values.batch, stage.config.encoder.tubelet
    for part in (clips[start : start + size] for start in range(0, len(clips), size)):
        times = np.stack([clip.times[tubelet - 1 :: tubelet] for clip in part]).astype(np.float32)
        arrays = [np.stack([clip.images for clip in part]), times]
        if read is not None:
            arrays.append(np.stack([read(clip) for clip in part]))
        yield tuple(map(torch.from_numpy, arrays))


def encode(stage, clips, latents_of=None, read=None):
    """
    Target latents of all clips, each process encoding its share.

    :param latents_of: as `bank.latents_of`; by default all latents from one pass over the clip.
    :param read: as for `chunks`.
    :returns: list of tuples of latents float32 [B, T', N, D], times float32 [B, T'] and what was read [B, T',
        ...], on the CPU.
    """

    def latents(frames, times):
        with stage.place.autocast(stage.place.device.type != 'cpu' and stage.config.bf16):
            if latents_of is not None:
                return latents_of(stage, frames, times)
            latents = objectives.encode_targets(stage.model.target, models.normalise(frames), times)
            return latents.unflatten(1, (times.shape[1], -1))

    encoded = []
    for frames, *of_slices in chunks(stage, clips, read):
        found = stage.place.share(latents, frames, of_slices[0]).cpu()
        encoded.append((found, *(part[:, -found.shape[1] :] for part in of_slices)))
    return encoded


def spread(latents):
    """`watch.spread` of the tokens of the newest slices. :param latents: iterable of float [B, T, N, D]."""
    tokens = torch.cat([part[:, -1].flatten(0, 1) for part in latents])
    some = torch.linspace(0, len(tokens) - 1, min(len(tokens), MOST_TOKENS)).long()  # of all recordings
    return watch.spread(tokens[some])
