# SPDX-License-Identifier: Apache-2.0
"""What validation does with the clips of a split, whatever the stage."""

import numpy as np
import torch

from jepa_ros.training import model as models
from jepa_ros.training import objectives, watch

MOST_TOKENS = (
    8192  # whose spread is measured: a singular value decomposition of more takes long and says the same
)


def chunks(stage, clips):
    """
    :param clips: list of `Clip`. Yields frames uint8 [B, F, H, W, 3] and times float32 [B, T], s, as tensors.
    """
    size, tubelet = stage.values.batch, stage.config.encoder.tubelet
    for part in (clips[start : start + size] for start in range(0, len(clips), size)):
        times = np.stack([clip.times[tubelet - 1 :: tubelet] for clip in part])
        yield torch.from_numpy(np.stack([clip.images for clip in part])), torch.from_numpy(times).float()


def labels(stage, clips):
    """:param clips: list of `Clip`. Yields what `Clips.labels` says of each chunk, float32 [B, T, 2 + A]."""
    size = stage.values.batch
    for part in (clips[start : start + size] for start in range(0, len(clips), size)):
        yield torch.from_numpy(np.stack([stage.clips.labels(clip) for clip in part]))


def encode(stage, clips, latents_of=None):
    """
    Target latents of all clips, each process encoding its share.

    :param latents_of: as `bank.latents_of`; by default all latents from one pass over the clip.
    :returns: list of pairs of latents float32 [B, T', N, D] and times float32 [B, T'], on the CPU.
    """

    def latents(frames, times):
        with stage.place.autocast(stage.place.device.type != 'cpu' and stage.config.bf16):
            if latents_of is not None:
                return latents_of(stage, frames, times)
            latents = objectives.encode_targets(stage.model.target, models.normalise(frames), times)
            return latents.unflatten(1, (times.shape[1], -1))

    encoded = []
    for frames, times in chunks(stage, clips):
        found = stage.place.share(latents, frames, times).cpu()
        encoded.append((found, times[:, -found.shape[1] :]))
    return encoded


def spread(latents):
    """`watch.spread` of the tokens of the newest slices. :param latents: iterable of float [B, T, N, D]."""
    return watch.spread(torch.cat([part[:, -1].flatten(0, 1) for part in latents])[:MOST_TOKENS])
