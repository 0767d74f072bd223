# SPDX-License-Identifier: Apache-2.0
"""
Latents without the future, for encoders that look both ways.

One bidirectional pass over context and target puts the answer into the context. Here every latent comes from
a pass that ends with its own slice, over the window that a clip session encodes: the context is what the
robot has at that moment, and a target is what the robot will have then, which is also what `surprise`
compares with.
"""

import torch

from jepa_ros.training.objectives.masked import widened


@torch.no_grad()
def encode_prefix(encoder, frames, times, newest, window):
    """
    Latents of the window that ends with slice `newest`; no later frame is read.

    :param encoder: any encoder; `frames`: float [B, 3, F, height, width]; `times`: float [B, T], seconds.
    :param newest: index of the window's last slice; `window`: slices in it, fewer where the clip begins.
    :returns: float [B, min(window, newest + 1), N, D], LayerNormed; and their times float [B, ...] relative
        to the newest.
    """
    tubelet = frames.shape[2] // times.shape[1]
    chosen = slice(max(0, newest + 1 - window), newest + 1)
    at = times[:, chosen] - times[:, newest, None]
    latents = widened(encoder(frames[:, :, chosen.start * tubelet : chosen.stop * tubelet], at))
    return latents.unflatten(1, (at.shape[1], -1)), at


def encode_newest(encoder, frames, times, slices, window):
    """
    The latents of slices, each as the newest of its own window: what a clip session publishes at those times.

    :param slices: K indices.
    :returns: float [B, K, N, D], LayerNormed, no gradient.
    """
    return torch.stack(
        [encode_prefix(encoder, frames, times, newest, window)[0][:, -1] for newest in slices], 1
    )
