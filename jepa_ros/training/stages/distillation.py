# SPDX-License-Identifier: Apache-2.0
"""
A large encoder, often one that looks both ways, teaches a small streaming one.

Clips are drawn in the teacher's resolution and made smaller for the student, so that both see the same
picture.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from jepa_ros.training import model as models
from jepa_ros.training import objectives, teacher
from jepa_ros.training.clips import Clips
from jepa_ros.training.stages import splits
from jepa_ros.training.stages.stage import Stage


@dataclass
class _Batch:
    """Makes the batch of a step: a callable of its own, so that it travels to the processes that decode."""

    clips: Clips
    rows: range

    def __call__(self, step):
        """:returns: frames uint8 [B, F, H, W, 3], times float32 [B, T] (s)."""
        return self.clips.draw('distillation', step, self.rows)[:2]


class Distillation(Stage):
    """Feature distillation, see `objectives.distillation`."""

    name, decodes = 'distillation', True
    advice = 'lower distillation.rate'

    def __init__(self, config, model, clips, place):
        super().__init__(config, model, clips, place)
        self.teacher = teacher.load(self.values, config.encoder.tubelet, config.data.slices).to(place.device)
        with place.leader_first():
            self.clips = clips.resized(self.teacher.image_size)
        self.modules, self.frozen = [model.encoder, model.projection], [model.target, self.teacher]
        self.batch = _Batch(self.clips, place.rows(self.values.batch))

    def sources(self, step):
        return self.clips.files('distillation', step, range(self.values.batch))

    def loss(self, frames, times):
        """
        :param frames: uint8 [B, F, H, W, 3] in the teacher's resolution; `times`: float32 [B, T], seconds.
        """
        v, of = models.normalise(frames), self.model.encoder_config
        targets = objectives.on_grid(self.teacher(v, times), self.teacher.grid, of.grid).flatten(1, 2)
        student = self.model.encoder, self.model.projection
        return objectives.distillation(*student, self._smaller(v), times, targets), {}

    def _smaller(self, v):
        """Frames float [B, 3, F, H, W] in the student's resolution."""
        size = self.model.encoder_config.image_size
        if tuple(v.shape[-2:]) == size:
            return v
        frames = F.interpolate(v.transpose(1, 2).flatten(0, 1), size=size, mode='bilinear', antialias=True)
        return frames.unflatten(0, (len(v), -1)).transpose(1, 2)

    def after_update(self, step):
        return self.move_target(step)

    @torch.no_grad()
    def validate(self):
        """Loss, and the spread of the newest slice's latents of the student's average."""
        return {split: self._figures(clips) for split, clips in self.clips.splits().items()}

    def _figures(self, clips):
        def latents(frames, times):
            v = self._smaller(models.normalise(frames))
            return objectives.encode_targets(self.model.target, v, times).unflatten(1, (times.shape[1], -1))

        def losses(frames, times):  # clip by clip: a mean would count a clip twice that two processes share
            return torch.stack([self.loss(clip[None], at[None])[0] for clip, at in zip(frames, times)])

        with self.place.autocast(self.place.device.type != 'cpu' and self.config.bf16):
            encoded, each = zip(
                *(
                    [self.place.share(of, *chunk).cpu() for of in (latents, losses)]
                    for chunk in splits.chunks(self, clips)
                )
            )
        return {'loss': float(torch.cat(each).mean()), **splits.spread(encoded)}

    def score(self, figures):
        return -figures['loss']
