# SPDX-License-Identifier: Apache-2.0
"""Masked latent prediction: the encoder and the predictor learn, the target encoder follows."""

from dataclasses import dataclass

import numpy as np
import torch

from jepa_ros.nets.masks import MultiBlock, Tubes, draw_masks
from jepa_ros.training import model as models
from jepa_ros.training import objectives, schedules
from jepa_ros.training.clips import Clips, generator
from jepa_ros.training.config import Config
from jepa_ros.training.stages import splits
from jepa_ros.training.stages.stage import Stage


@dataclass
class MaskedClips:
    """
    Makes the batch of a step: a callable of its own, so that it travels to the processes that decode.

    :param rows: this process's share of the batch, indices of clips.
    """

    config: Config
    clips: Clips
    grid: tuple[int, int]
    rows: range

    def __call__(self, step):
        """
        :returns: frames uint8 [B, F, H, W, 3], times float32 [B, T] (s), and as `masks` gives them, the context's and the
            targets' ids.
        """
        frames, times, _ = self.clips.draw('pretraining', step, self.rows)
        context_ids, target_ids = self.masks('pretraining', step, self.config.pretraining.batch)
        rows = slice(self.rows.start, self.rows.stop)
        return frames, times, context_ids[rows], target_ids[rows]

    def masks(self, name, step, count):
        """
        Masks of a whole batch, of equal size.

        :returns: ids int64 [B, I, M] and [B, I, K, Q] of I separately masked parts of a clip: the clip itself (V-JEPA), or
            each of its frames (I-JEPA).
        """
        slices, parts = (1, self.config.data.slices) if self.config.pretraining.objective == 'ijepa' \
            else (self.config.data.slices, 1)
        rng, *rngs = (generator(self.config.seed, f'{name} masks', step, index)
                      for index in (None, *range(count * parts)))
        ids = draw_masks(self._recipe(rng), rng, rngs, self.grid, slices)
        return tuple(of.reshape(count, parts, *of.shape[1:]) for of in ids)

    def _recipe(self, rng):
        of = self.config.masks
        if self.config.pretraining.objective == 'ijepa':
            return MultiBlock(of.target_blocks, tuple(of.target_scale), tuple(of.context_scale), min_keep=of.min_keep)
        return Tubes(of.short_blocks, of.short_scale) if rng.random() < 0.5 else Tubes(of.long_blocks, of.long_scale)


class Pretraining(Stage):
    """I-JEPA's or V-JEPA's pretraining, see `objectives.masked`."""

    name, decodes = 'pretraining', True

    def __init__(self, config, model, clips, place):
        super().__init__(config, model, clips, place)
        self.modules, self.frozen = [model.encoder, model.predictor], [model.target]
        self.batch = MaskedClips(config, clips, model.encoder_config.grid, place.rows(self.values.batch))

    def sources(self, step):
        return self.clips.names('pretraining', step, range(self.values.batch))

    def loss(self, frames, times, context_ids, target_ids):
        """
        :param frames: uint8 [B, F, H, W, 3]; `times`: float32 [B, T], seconds.
        :param context_ids: int64 [B, I, M]; `target_ids`: int64 [B, I, K, Q], as `MaskedClips.masks` gives them.
        """
        f, g, v = self.model.encoder, self.model.predictor, models.normalise(frames)
        context_ids, target_ids = context_ids.flatten(0, 1), target_ids.flatten(0, 1)
        if self.values.objective == 'ijepa':  # every frame is an image of its own
            x, times = v.transpose(1, 2).flatten(0, 1)[:, :, None], times.reshape(-1, 1)
            targets = objectives.encode_targets(self.model.target, x, times)
            return objectives.i_jepa(f, g, x, times, context_ids, target_ids, targets, self.values.norm), {}
        targets = objectives.encode_targets(self.model.target, v, times)
        return objectives.v_jepa(f, g, v, times, [(context_ids, target_ids)], targets, self.values.norm), {}

    def after_update(self, step):
        momentum = schedules.momentum(step, self.values)
        self.model.update_target(momentum)
        return {'momentum': momentum}

    @torch.no_grad()
    def validate(self):
        """Loss under masks that stay the same, and the spread of the newest slice's target latents."""
        return {split: {'loss': self._masked_loss(clips), **splits.spread(latents for latents, _ in
                                                                          splits.encode(self, clips))}
                for split, clips in self.clips.splits().items()}

    def _masked_loss(self, clips):
        losses, weights = [], []
        for number, chunk in enumerate(splits.chunks(self, clips)):
            rows = self.place.rows(len(chunk[0]), cut=True)
            if rows:
                ids = map(torch.from_numpy, self.batch.masks('validation', number, len(chunk[0])))
                with self.place.autocast(self.config.bf16):
                    loss, _ = self.loss(*(tensor[list(rows)].to(self.place.device) for tensor in (*chunk, *ids)))
                losses.append(self.place.mean(loss.float()).item())
                weights.append(len(rows))
        return float(np.average(losses, weights=weights)) if losses else float('nan')
