# SPDX-License-Identifier: Apache-2.0
"""
A bank of clips as latents of the target encoder, encoded once: what stages on a frozen encoder draw from.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch

from jepa_ros.data.loader import ClipLoader
from jepa_ros.training import model as models
from jepa_ros.training import objectives
from jepa_ros.training.clips import Clips


@dataclass
class _Part:
    """Makes one part of the bank: a callable of its own, so that it travels to the processes that decode."""

    clips: Clips
    batch: int
    rows: range
    read: Any

    def __call__(self, number):
        start = number * self.batch
        return self.clips.draw('bank', 0, [start + row for row in self.rows], self.read)


@torch.no_grad()
def latents_of(stage, frames, times):
    """
    Latents that hold nothing of later slices: of all slices where the encoder is causal, and of a
    bidirectional one the context of the window's last slices (`heads.window`), then every later slice as the
    newest of its own window.

    :param frames: uint8 [B, F, H, W, 3]; `times`: float32 [B, T], s.
    :returns: float [B, T', N, D], of the last T' slices of the clip.
    """
    target, v, slices = stage.model.target, models.normalise(frames), times.shape[1]
    if stage.config.encoder.window:
        return objectives.encode_targets(target, v, times).unflatten(1, (slices, -1))
    window = stage.config.heads.window
    context, _ = objectives.encode_prefix(target, v, times, window - 1, window)
    later = objectives.encode_newest(target, v, times, range(window, slices), window)
    return torch.cat((context[:, -stage.config.forecaster.context :], later), 1)


@torch.no_grad()
def encode(stage, progress, stop, read=None):
    """
    Latents of `clips` random clips, all of them in every process, and their mean into the model.

    :param stage: a `Stage` whose section has the key `clips`.
    :param progress: `rich.progress.Progress`; `stop`: Event that asks to leave early.
    :param read: takes a `Clip` and returns an array with a row for each slice; its image points by default.
    :returns: latents float16 [C, T', N, D], times float32 [C, T'] (s), what was read float32 [C, T', ...]; T'
        as in `latents_of`.
    """
    config, place, count, batch = stage.config, stage.place, stage.values.clips, stage.values.batch
    whole, chunks = [], math.ceil(count / batch)
    task = progress.add_task(f'latents for {stage.name}', total=chunks, figures='')
    make = _Part(stage.clips, batch, place.rows(batch), read)
    with ClipLoader(make, 0, chunks, config.data.workers) as loader:
        for number, drawn in enumerate(loader):
            if place.any(stop.is_set()):
                break
            frames, times, found = (torch.from_numpy(array).to(place.device) for array in drawn)
            with place.autocast(config.bf16):
                latents = latents_of(stage, frames, times)
            slices = latents.shape[1]
            parts = latents.half(), times[:, -slices:], found[:, -slices:]
            parts = [place.gather(part).cpu() for part in parts]
            whole = whole or [part.new_empty(count, *part.shape[1:]) for part in parts]
            for rows, part in zip(whole, parts):
                rows[number * batch : (number + 1) * batch] = part[: count - number * batch]
            progress.advance(task)
    if whole:
        stage.model.latent_mean.copy_(whole[0].mean((0, 1, 2), dtype=torch.float32))
    return whole
