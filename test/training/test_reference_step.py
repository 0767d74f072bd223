# SPDX-License-Identifier: Apache-2.0
"""
Steps of ours against steps of the reference objectives: same weights, same masks, same clips.

The reference is written from the paper over transformers' V-JEPA 2 modules, whose encoder is walked layer by
layer because its forward pass encodes what should be hidden.
"""

import copy
import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')
transformers = pytest.importorskip('transformers', reason='transformers is not installed (the parity tests)')

import torch.nn.functional as F  # noqa: E402

from jepa_ros.nets import sizes  # noqa: E402
from jepa_ros.nets.masks import LONG, SHORT, MultiBlock, draw_masks  # noqa: E402
from jepa_ros.nets.predictor import Predictor  # noqa: E402
from jepa_ros.nets.vit import Encoder, EncoderConfig  # noqa: E402
from jepa_ros.training import objectives  # noqa: E402

SIDE, PATCH, SLICES, WIDTH, HEADS, NARROW = 80, 16, 3, 24, 4, 12
GRID = (SIDE // PATCH, SIDE // PATCH)
BOUNDS = {torch.float64: 1e-5, torch.float32: 1e-4}  # relative; of gradients per tensor, by their norm


def same_clips_and_masks(dtype):
    frames = torch.randn(2, 3, 2 * SLICES, SIDE, SIDE, generator=torch.Generator().manual_seed(1)).to(dtype)
    rng = np.random.default_rng(2)
    masks = [
        tuple(map(torch.from_numpy, draw_masks(recipe, rng, rng.spawn(2), GRID, SLICES)))
        for recipe in (SHORT, LONG)
    ]
    return frames, torch.arange(float(SLICES)).expand(2, -1), masks


def reference_networks(dtype, width, narrow):
    config = transformers.VJEPA2Config(
        crop_size=SIDE,
        patch_size=PATCH,
        frames_per_clip=2 * SLICES,
        tubelet_size=2,
        hidden_size=width,
        num_attention_heads=HEADS,
        num_hidden_layers=2,
        mlp_ratio=4,
        pred_hidden_size=narrow,
        pred_num_attention_heads=2,
        pred_num_hidden_layers=2,
        pred_num_mask_tokens=2,
        pred_mlp_ratio=4,
        attn_implementation='sdpa',
    )
    models = []
    for seed in (0, 1):  # the second one's encoder is the target encoder
        torch.manual_seed(seed)
        model = transformers.VJEPA2Model(config).to(dtype).eval()
        for parameter in model.parameters():  # as if trained: biases are not zero, attention chooses
            torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.3)
        models.append(model)
    return models


def reference_loss(model, target, frames, masks):
    """Equation 1 of V-JEPA over several masks, with facebookresearch/vjepa2's LayerNorm on the targets."""
    video, losses = frames.transpose(1, 2), []
    with torch.no_grad():
        h = target.encoder(video).last_hidden_state
        h = F.layer_norm(h, h.shape[-1:])
    for context, targets in masks:
        x = model.encoder.embeddings(video)
        x = torch.stack([row[ids] for row, ids in zip(x, context)])
        for layer in model.encoder.layer:
            x = layer(x, context)[0]
        x = model.encoder.layernorm(x)
        # The predictor picks the context out of a whole clip: put it back where it lay.
        whole = torch.zeros(len(x), h.shape[1], x.shape[-1], dtype=x.dtype)
        whole = whole.scatter(1, context[..., None].expand_as(x), x)
        z = model.predictor(whole, [context], [targets[:, 0]]).last_hidden_state
        losses.append((z - torch.stack([row[ids] for row, ids in zip(h, targets[:, 0])])).abs().mean())
    return sum(losses) / len(losses)


def layer_pairs(ours, theirs):
    for mine, other in zip(ours, theirs, strict=True):
        attention = other.attention
        yield mine.attn.qkv, (attention.query, attention.key, attention.value)
        yield from (
            (mine.norm1, (other.norm1,)),
            (mine.attn.proj, (attention.proj,)),
            (mine.norm2, (other.norm2,)),
            (mine.mlp[0], (other.mlp.fc1,)),
            (mine.mlp[2], (other.mlp.fc2,)),
        )


def module_pairs(encoder, predictor, model):
    """Our modules, and those of theirs that hold the same weights."""
    yield encoder.patch_embed, (model.encoder.embeddings.patch_embeddings.proj,)
    yield from layer_pairs(encoder.blocks, model.encoder.layer)
    yield getattr(encoder, 'norms', [getattr(encoder, 'norm', None)])[-1], (model.encoder.layernorm,)
    if predictor is not None:
        yield predictor.embed, (model.predictor.embeddings.predictor_embeddings,)
        yield from layer_pairs(predictor.blocks, model.predictor.layer)
        yield from ((predictor.norm, (model.predictor.layernorm,)), (predictor.proj, (model.predictor.proj,)))


def compare(ours, theirs, gradients, dtype):
    """:param gradients: pairs of ours and theirs."""
    assert abs(ours - theirs) <= BOUNDS[dtype] * abs(theirs)
    seen = 0
    for mine, other in gradients:
        assert other.norm() > 0 and (mine - other).norm() <= BOUNDS[dtype] * other.norm()
        seen += mine.numel()
    return seen


def our_networks():
    """
    Heads of 6 features, one pair for each axis: the published slip in the order of cosines changes nothing
    there.
    """
    config = EncoderConfig(size='toy', image_size=(SIDE, SIDE), patch=PATCH, window=0, slice_period=1.0)
    predictor = Predictor(config, WIDTH, NARROW, 2, 2)
    return Encoder(config), Encoder(config), predictor, predictor.mask_token


def official_networks():
    """V-JEPA 2's own positions, which tell with 16 features."""
    families = pytest.importorskip('jepa_ros.nets.official.families')
    from jepa_ros.nets.official.encoder import OfficialEncoder
    from jepa_ros.nets.official.predictor import OfficialPredictor

    of_vjepa2 = next(model for model in families.MODELS.values() if model.family == 'vjepa2')
    narrow = families.PredictorShape(sizes.Size(32, 2, 2, 128), 64, mask_tokens=2, mask_index=1)
    model = dataclasses.replace(of_vjepa2, size=sizes.Size(64, 2, HEADS, 256), taps=(1,), predictor=narrow)
    clip = model, SIDE, 2 * SLICES
    predictor = OfficialPredictor(*clip)
    return OfficialEncoder(*clip), OfficialEncoder(*clip), predictor, predictor.mask_tokens


@pytest.mark.parametrize('dtype', BOUNDS, ids=str)
@pytest.mark.parametrize(
    ('networks', 'width', 'narrow'),
    [(our_networks, WIDTH, NARROW), (official_networks, 64, 32)],
    ids=['ours', 'official'],
)
def test_a_step_of_v_jepa_is_the_papers(networks, width, narrow, dtype, monkeypatch):
    monkeypatch.setitem(sizes.SIZES, 'toy', sizes.Size(WIDTH, 2, HEADS, 4 * WIDTH))
    model, target_model = reference_networks(dtype, width, narrow)
    encoder, target, predictor, query = networks()
    for network in (encoder, target, predictor):
        network.to(dtype)
    pairs = list(module_pairs(encoder, predictor, model))
    their_query = model.predictor.embeddings.mask_tokens
    with torch.no_grad():
        for mine, others in (*pairs, *module_pairs(target, None, target_model)):
            for name in ('weight', 'bias'):
                getattr(mine, name).copy_(torch.cat([getattr(other, name) for other in others]))
        query.copy_(their_query[:, 0, 0] if query.ndim == 2 else their_query[1, 0, 0])

    frames, times, masks = same_clips_and_masks(dtype)
    wanted = objectives.encode_targets(target, frames, times)
    ours = objectives.v_jepa(encoder, predictor, frames, times, masks, wanted)
    theirs = reference_loss(model, target_model, frames, masks)
    ours.backward()
    theirs.backward()
    gradients = [(query.grad, their_query.grad[:, 0, 0] if query.ndim == 2 else their_query.grad[1, 0, 0])]
    for mine, others in pairs:
        gradients.append((mine.weight.grad, torch.cat([other.weight.grad for other in others])))
        # A bias of keys shifts all logits of a query alike: its gradient is rounding, in both, and not
        # compared.
        parts = zip(mine.bias.grad.chunk(len(others)), others)
        gradients += [(part, other.bias.grad) for number, (part, other) in enumerate(parts) if number != 1]
    seen = compare(ours, theirs, gradients, dtype)
    keys = sum(mine.bias.numel() // 3 for mine, others in pairs if len(others) == 3)
    assert seen + keys == sum(p.numel() for network in (encoder, predictor) for p in network.parameters())


class Dropping(torch.nn.Module):
    """transformers' I-JEPA in our calling convention: masked patches are gone before the first layer."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x, _times, ids=None):
        tokens = self.model.embeddings(x[:, :, 0])
        if ids is not None:
            tokens = torch.stack([row[kept] for row, kept in zip(tokens, ids)])
        for layer in self.model.layers:
            tokens = layer(tokens)
        return self.model.layernorm(tokens)


class PlainPredictor(torch.nn.Module):
    """I-JEPA's predictor (Assran et al. 2023, appendix A.1) with one layer, of torch's own parts."""

    def __init__(self):
        super().__init__()
        self.embed, self.proj = torch.nn.Linear(WIDTH, NARROW), torch.nn.Linear(NARROW, WIDTH)
        self.layer = torch.nn.TransformerEncoderLayer(
            NARROW, 2, 4 * NARROW, 0.0, 'gelu', batch_first=True, norm_first=True
        )
        self.norm, self.mask_token = torch.nn.LayerNorm(NARROW), torch.nn.Parameter(torch.randn(NARROW))
        self.position = torch.nn.Parameter(torch.randn(GRID[0] * GRID[1], NARROW))

    def forward(self, context, context_ids, target_ids, _times):
        x = torch.cat(
            (self.embed(context) + self.position[context_ids], self.mask_token + self.position[target_ids]), 1
        )
        return self.proj(self.norm(self.layer(x)[:, context_ids.shape[1] :]))


@pytest.mark.parametrize('dtype', BOUNDS, ids=str)
def test_a_step_of_i_jepa_is_the_official_codes(dtype):
    """
    The reference hides patches from attention where we drop them, and has the official order of targets:
    block by block, each with all images.
    """
    config = transformers.IJepaConfig(
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH,
        image_size=SIDE,
        patch_size=PATCH,
        attn_implementation='sdpa',
    )
    torch.manual_seed(0)
    model, target = (transformers.IJepaModel(config).to(dtype).eval() for _ in range(2))
    predictor = PlainPredictor().to(dtype).eval()
    for network in (model, target, predictor):
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.3)
    encoder, ours = Dropping(copy.deepcopy(model)), copy.deepcopy(predictor)
    images = torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)).to(dtype)
    rng = np.random.default_rng(4)
    drawn = draw_masks(MultiBlock(min_keep=3), rng, rng.spawn(3), GRID, 1)
    (context, blocks), times = map(torch.from_numpy, drawn), torch.zeros(3, 1)

    targets = objectives.encode_targets(Dropping(target), images[:, :, None], times)
    found = objectives.i_jepa(encoder, ours, images[:, :, None], times, context, blocks, targets)
    found.backward()

    with torch.no_grad():
        h = target(images).last_hidden_state
        h = F.layer_norm(h, h.shape[-1:])
    seen = torch.zeros(3, GRID[0] * GRID[1], dtype=torch.long).scatter(1, context, 1)
    z = model(images, attention_mask=seen).last_hidden_state
    z = torch.stack([row[ids] for row, ids in zip(z, context)])
    z = predictor(z.repeat(4, 1, 1), context.repeat(4, 1), blocks.transpose(0, 1).flatten(0, 1), None)
    h = torch.cat([torch.stack([row[ids] for row, ids in zip(h, blocks[:, k])]) for k in range(4)])
    expected = F.smooth_l1_loss(z, h)
    expected.backward()

    gradients = []
    for mine, theirs in ((encoder.model, model), (ours, predictor)):
        for (name, parameter), other in zip(mine.named_parameters(), theirs.parameters(), strict=True):
            if not name.endswith(('k_proj.bias', 'key.bias')):  # only rounding, as above
                gradients.append((parameter.grad, other.grad))
    seen = compare(found.detach(), expected.detach(), gradients, dtype)
    assert seen > 0.95 * sum(p.numel() for network in (model, predictor) for p in network.parameters())
