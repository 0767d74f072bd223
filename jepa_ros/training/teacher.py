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


def load(values, tubelet, slices):
    """
    Open the weights.

    :param values: `config.Distillation`; `tubelet`: of the student; `slices`: of a clip.
    :returns: `Teacher`.
    :raises JepaError: for weights that cannot be read, another latent width than configured, or slices that
        are not the student's.
    """
    path = Path(values.teacher)
    if not values.teacher or not path.exists():
        raise JepaError(f'distillation.teacher must be weights, found none at {values.teacher!r}')
    encoder = _published(path, values, slices) if values.model else _own(path, values)
    of = encoder.config
    if encoder.width != values.width:
        raise JepaError(
            f'distillation.width must be the latent width of the teacher ({encoder.width}), '
            f'found {values.width}'
        )
    if of.tubelet not in (1, tubelet):
        raise JepaError(
            f"the teacher's slices have {of.tubelet} frames: expected encoder.tubelet to be as many, "
            f'or an image encoder as teacher, found {tubelet}'
        )
    return Teacher(encoder, encoder.width, of.image_size, of.grid, of.tubelet)


def _own(path, values):
    """The target encoder of a checkpoint of jepa train."""
    _, model, _ = models.load(path)
    size = model.encoder_config.image_size
    if tuple(values.image_size or size) != size:
        raise JepaError(
            f'distillation.image_size of a checkpoint of jepa train is its own, {list(size)}, found '
            f'{values.image_size}'
        )
    return model.target


def _published(path, values, slices):
    """The encoder of published weights, built for the clips of the run."""
    from jepa_ros.nets.official import families
    from jepa_ros.nets.official.loading import load_official

    model = families.find(values.model)
    frames = 1 if model.tubelet == 1 else slices * model.tubelet
    size = tuple(values.image_size) or None
    return load_official(path, model, size, frames, with_predictor=False).encoder
