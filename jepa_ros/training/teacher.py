# SPDX-License-Identifier: Apache-2.0
"""
The teacher of a distillation: a frozen encoder that looks at a clip in its own resolution, and both ways if
it can.
"""

from pathlib import Path

import torch
from torch import nn

from jepa_ros.errors import JepaError
from jepa_ros.training import model as models
from jepa_ros.training import objectives


class Teacher(nn.Module):
    """
    :param encoder: any encoder; `width`: D of its latents.
    :param image_size: (height, width) in pixels in which it sees the clips; `grid`: its (rows, columns) of
        tokens then.
    :param tubelet: frames of one of its slices; 1 for an image encoder, which sees the newest frame of each
        slice.
    """

    def __init__(self, encoder, width, image_size, grid, tubelet):
        super().__init__()
        self.encoder = encoder.requires_grad_(False).eval()
        self.width, self.image_size, self.grid, self.tubelet = width, tuple(image_size), tuple(grid), tubelet

    @torch.no_grad()
    def forward(self, v, times):
        """
        :param v: float [B, 3, F, height, width] in its resolution; `times`: float [B, T], seconds.
        :returns: float [B, T, N, D], LayerNormed.
        """
        if self.tubelet == 1:
            v = v[:, :, v.shape[2] // times.shape[1] - 1 :: v.shape[2] // times.shape[1]]
            x = v.transpose(1, 2).flatten(0, 1)[:, :, None]
            return objectives.encode_targets(self.encoder, x, times.reshape(-1, 1)).unflatten(0, times.shape)
        return objectives.encode_targets(self.encoder, v, times).unflatten(1, (times.shape[1], -1))


def load(values, tubelet):
    """
    Open the weights.

    :param values: `config.Distillation`; `tubelet`: of the student.
    :returns: `Teacher`.
    :raises JepaError: for weights that cannot be read, another latent width than configured, or slices that
        are not the student's.
    """
    path = Path(values.teacher)
    if not path.is_file():
        raise JepaError(f'distillation.teacher must be a file with weights, found none at {path}')
    _, model, _ = models.load(path)
    of = model.encoder_config
    teacher = Teacher(model.target, model.target.width, of.image_size, of.grid, of.tubelet)
    if tuple(values.image_size or of.image_size) != of.image_size:
        raise JepaError(
            f'distillation.image_size of a checkpoint of jepa train is its own, {list(of.image_size)}, found '
            f'{values.image_size}'
        )
    if teacher.width != values.width:
        raise JepaError(
            f'distillation.width must be the latent width of the teacher ({teacher.width}), '
            f'found {values.width}'
        )
    if teacher.tubelet not in (1, tubelet):
        raise JepaError(
            f"the teacher's slices have {teacher.tubelet} frames: expected encoder.tubelet to be as many, "
            f'or an image encoder as teacher, found {tubelet}'
        )
    return teacher
