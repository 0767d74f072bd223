# SPDX-License-Identifier: Apache-2.0
"""Published models made small, and random weights for them."""

from dataclasses import replace

import torch

from jepa_ros.nets.official import families
from jepa_ros.nets.official.encoder import OfficialEncoder
from jepa_ros.nets.official.predictor import ActionPredictor, OfficialPredictor
from jepa_ros.nets.sizes import Size

BOUND = {torch.float32: 1e-4, torch.float64: 1e-9}


def tiny(name, width=48, depth=3, heads=3, narrow=36, image_size=None, frames=8, **changes):
    """
    A model of `families.MODELS` with the same bookkeeping at a fraction of the size.

    Head widths are 16 and 12: neither is a multiple of 6, so some features do not turn.
    """
    model = families.find(name)
    shape, taps = model.predictor, (depth - 1,)
    if len(model.taps) > 1:
        depth, taps = 5, (0, 2, 3, 4)
    if model.tubelet == 1:
        frames = 1
    outputs = {model.size.width: width, len(model.taps) * model.size.width: len(taps) * width}
    shape = replace(
        shape, size=Size(narrow, 2, 3, 4 * narrow), out_width=outputs.get(shape.out_width, 2 * width + 2)
    )
    return replace(
        model,
        size=Size(width, depth, heads, 4 * width),
        taps=taps,
        predictor=shape,
        frames=frames,
        image_size=image_size or 4 * model.patch,
        **changes,
    )


def random_weights(module, seed=0):
    """
    Every weight from a normal distribution, so that biases, norms and mask tokens count; positions stay.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in module.named_parameters():
            noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
            is_norm = 'norm' in name and name.endswith('weight')
            value.copy_(1 + 0.2 * noise if is_norm else 0.1 * noise if value.dim() < 2 or value.numel() < 500
                        else noise * (2 / value[0].numel()) ** 0.5)
    return module.eval()


def networks(model, seed=0, **clip):
    """Encoder and predictor of a model with random weights."""
    kind = ActionPredictor if model.predictor.action_conditioned else OfficialPredictor
    image_size = {'image_size': clip.get('image_size')}
    hierarchical = model.predictor.levels > 1
    return (random_weights(OfficialEncoder(model, **clip, hierarchical=hierarchical), seed),
            random_weights(kind(model, **(image_size if kind is ActionPredictor else clip)), seed + 1))


def frames_of(model, batch=2, seed=2, image_size=None, frames=None):
    """Random normalised frames, [batch, 3, F, height, width]."""
    clip = families.ClipShape.of(model, image_size, frames)
    return torch.randn(batch, 3, clip.frames, *clip.image_size, generator=torch.Generator().manual_seed(seed),
                       dtype=torch.float64).to(torch.get_default_dtype())


def sparse_ids(clip, batch=2, seed=3):
    """Context and target indices, [batch, M] and [batch, Q], disjoint, in no order."""
    generator = torch.Generator().manual_seed(seed)
    total = clip.slices * clip.tokens
    ids = torch.stack([torch.randperm(total, generator=generator) for _ in range(batch)])
    return ids[:, :total // 2], ids[:, total // 2:total // 2 + total // 4]
