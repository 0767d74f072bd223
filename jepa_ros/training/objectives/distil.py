# SPDX-License-Identifier: Apache-2.0
"""Teaching a small streaming encoder what a large bidirectional one sees."""

import torch.nn.functional as F

BETA = 2.0


def distillation(student, projection, frames, times, targets):
    """
    Every token of the student, projected, is drawn to the teacher's latent of the same place and time.

    Feature distillation as in Wei et al. 2022 (arXiv 2205.14141, section 3): the teacher's latents pass a
    LayerNorm without affine (their "whitening"), a linear layer meets the teacher's width, and the loss is
    smooth L1 with its bend at 2. What is ours: a block-causal student, which cannot know what the teacher
    learns from later frames, and gets the mean of it right at best.

    :param student: encoder; `projection`: maps [..., D] to [..., D of the teacher], and is thrown away
        afterwards.
    :param frames: float [B, 3, F, height, width]; `times`: float [B, T], seconds.
    :param targets: float [B, T * N, D of the teacher], LayerNormed, on the student's grid (`on_grid`), no
        gradient.
    """
    return F.smooth_l1_loss(projection(student(frames, times)), targets, beta=BETA)


def on_grid(latents, grid, wanted):
    """
    A teacher's latents on another grid: averaged where it is coarser, linear between tokens where it is
    finer.

    :param latents: float [B, T, rows * columns, D]; `grid`: its (rows, columns); `wanted`: those of the
        student.
    :returns: float [B, T, N, D].
    """
    if tuple(grid) == tuple(wanted):
        return latents
    maps = latents.flatten(0, 1).unflatten(1, grid).permute(0, 3, 1, 2)
    maps = F.interpolate(maps, size=tuple(wanted), mode='bilinear', antialias=True, align_corners=False)
    return maps.flatten(2).transpose(1, 2).unflatten(0, latents.shape[:2])
