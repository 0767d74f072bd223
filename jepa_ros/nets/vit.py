# SPDX-License-Identifier: Apache-2.0
"""
The encoder: a vision transformer over tubelets (video) or patches (image, tubelet 1).

Pre-norm blocks, LayerNorm eps 1e-6, query/key/value bias, GELU, no class token: the recipe that I-JEPA
(Assran et al. 2023) and V-JEPA (Bardes et al. 2024) share. What is ours is the attention pattern: a video
encoder is `bidirectional`, or *block-causal* with a sliding window, where a token attends to its own slice
and to the `window - 1` slices before it. The second can be computed slice by slice with cached keys and
values (`step`), and gives the same latents as one pass over the whole sequence.
"""

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn

from jepa_ros.errors import JepaError
from jepa_ros.nets import rotary as rope
from jepa_ros.nets import sizes

NORM_EPS = 1e-6
STEMS = ('linear', 'hierarchical', 'convolutional')
CELL = 4  # px, side of what a hierarchical stem looks at first
FIRST = 32  # channels of the first convolutions; twice as many after each step down
START = 0.1  # what the convolutions' tokens begin with, of the usual


@dataclass(frozen=True)
class EncoderConfig:
    """
    What an encoder is; stored in checkpoints.

    :param size: key of `sizes.SIZES`.
    :param depth: blocks, 0 for the size's own number.
    :param image_size: (height, width) of its input in pixels, multiples of `patch`.
    :param patch: side of a patch in pixels.
    :param tubelet: frames joined into one slice of tokens; 1 makes an image encoder.
    :param window: slices a token may attend to, its own included (block-causal); 0 for bidirectional.
    :param slice_period: nominal time between slices in seconds, the unit of the time axis.
    :param stem: `linear`, one projection of a patch as in the papers; `hierarchical`, see `hierarchical_stem`;
        `convolutional`, see `ConvolutionalStem`.
    """

    size: str = 'tiny'
    depth: int = 0
    image_size: tuple[int, int] = (224, 224)
    patch: int = 16
    tubelet: int = 2
    window: int = 0
    slice_period: float = 0.1
    stem: str = 'linear'

    def __post_init__(self):
        height, width = self.image_size
        if height % self.patch or width % self.patch:
            raise JepaError(
                f'image_size must be multiples of the patch ({self.patch}), found {height}x{width}'
            )
        cells = self.patch // CELL
        if self.stem not in STEMS or self.stem != 'linear' and (self.patch % CELL or cells & (cells - 1)):
            raise JepaError(
                f'stem must be linear, or another one with a patch of {CELL}, 8, 16, 32, ... pixels; found '
                f'{self.stem} with {self.patch}'
            )

    @property
    def grid(self):
        """(rows, columns) of the token grid of one slice."""
        return self.image_size[0] // self.patch, self.image_size[1] // self.patch

    @property
    def tokens(self):
        """N, tokens of one slice."""
        return self.grid[0] * self.grid[1]

    def to_dict(self):
        """Plain values, for a checkpoint."""
        return {**asdict(self), 'image_size': list(self.image_size)}


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of float [B, C, ...]."""

    def forward(self, x):
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def hierarchical_stem(width, patch, tubelet):
    """
    A patch embedding in steps: cells of 4x4 pixels, joined two by two until they are a patch.

    What a cell shows is learned once for all places in a patch, so small things are found within it with less
    training. No kernel reaches over the border of a patch: dropped tokens leave nothing behind in the others.
    (The hMLP stem of Touvron et al. 2022, "Three things everyone should know about Vision Transformers", with
    LayerNorm for its BatchNorm: a stream has no batch.)

    :returns: module of float [B, 3, F, H, W] to [B, width, F / tubelet, H / patch, W / patch].
    """
    joins = (patch // CELL).bit_length() - 1
    channels = [width >> (joins - step) for step in range(joins + 1)]
    layers = [nn.Conv3d(3, channels[0], (tubelet, CELL, CELL), stride=(tubelet, CELL, CELL))]
    for before, after in zip(channels, channels[1:]):
        join = nn.Conv3d(before, after, (1, 2, 2), stride=(1, 2, 2))
        layers += [ChannelNorm(before, eps=NORM_EPS), nn.GELU(), join]
    return nn.Sequential(*layers)


class ConvolutionalStem(nn.Module):
    """
    A hierarchical stem, and beside it convolutions of 3x3 that overlap and look over the border of a patch.

    Where an edge lies, to less than a pixel, is seen by convolutions of one patch as of any other, and how far one
    edge is from another across patches too; a transformer has to learn it for every pair of places. (Early
    convolutions: Xiao et al. 2021, "Early convolutions help transformers see better".) `Encoder.forward` blanks the
    pixels of dropped tokens first, so that nothing of them is left in the others.

    Parts and sizes follow from the patch: a step down to half the size, and a convolution more, until one step is left,
    which gives the tokens. It adds to the tokens of the hierarchical stem and begins small, so that training can go
    on from an encoder that has the hierarchical stem alone.
    """

    def __init__(self, width, patch, tubelet):
        super().__init__()
        self.tubelet, self.hierarchical = tubelet, hierarchical_stem(width, patch, tubelet)
        layers, before = [], 3 * tubelet
        for step in range(patch.bit_length() - 2):
            channels = min(FIRST << step, width)
            for source, stride in ((before, 2), (channels, 1)):
                layers += [nn.Conv2d(source, channels, 3, stride, 1), ChannelNorm(channels, eps=NORM_EPS), nn.GELU()]
            before = channels
        last = nn.Conv2d(before, width, 3, 2, 1)
        last.weight.data.mul_(START)
        nn.init.zeros_(last.bias)
        self.details = nn.Sequential(*layers, last)

    def forward(self, frames):
        """:param frames: float [B, 3, F, H, W]; returns float [B, width, F / tubelet, H / patch, W / patch]."""
        slices = frames.unflatten(2, (-1, self.tubelet)).transpose(1, 2)  # [B, T, 3, tubelet, H, W]
        details = self.details(slices.flatten(2, 3).flatten(0, 1))
        return self.hierarchical(frames) + details.unflatten(0, slices.shape[:2]).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head attention with rotary queries and keys, and optional cached keys and values."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def project(self, x, rotary):
        """
        :param x: float [B, M, D].
        :returns: queries, keys (both turned) and values, each float [B, H, M, E].
        """
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return rope.rotate(q, rotary), rope.rotate(k, rotary), v

    def attend(self, q, k, v, mask=None):
        """:param mask: boolean (True attends) or additive float, broadcastable to [B, H, M, M']."""
        return self.proj(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """One pre-norm transformer block."""

    def __init__(self, width, heads, mlp_width):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = nn.Sequential(nn.Linear(width, mlp_width), nn.GELU(), nn.Linear(mlp_width, width))

    def forward(self, x, rotary, mask=None):
        """:param x: float [B, M, D]; returns the same shape."""
        x = x + self.attn.attend(*self.attn.project(self.norm1(x), rotary), mask)
        return x + self.mlp(self.norm2(x))

    def step(self, x, rotary, past, bias):
        """
        One new slice, with the keys and values of earlier ones.

        :param x: float [1, N, D], the new slice.
        :param past: float [2, H, M, E], cached keys (already turned) and values.
        :param bias: float [M + N], added to the attention logits (large negative: empty slot).
        :returns: the slice's output [1, N, D] and its own keys and values [2, H, N, E].
        """
        q, k, v = self.attn.project(self.norm1(x), rotary)
        keys, values = torch.cat((past[:1], k), 2), torch.cat((past[1:], v), 2)
        x = x + self.attn.attend(q, keys, values, bias.expand(1, 1, x.shape[1], -1))
        return x + self.mlp(self.norm2(x)), torch.cat((k, v))


def initialise(module, depth_of=None):
    """
    Truncated normal weights (std 0.02), zero biases, and V-JEPA's rescaling of each block's output layers by
    depth.
    """
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Conv3d)):
            nn.init.trunc_normal_(part.weight, std=0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    for index, block in enumerate(depth_of or [], start=1):
        for layer in (block.attn.proj, block.mlp[-1]):
            layer.weight.data.div_((2.0 * index) ** 0.5)


def blanked(frames, ids, config):
    """
    Frames without the pixels of the tokens that are dropped: 0 there, which is the mean of all pictures.

    :param frames: float [B, 3, F, height, width], normalised; `ids`: int64 [B, M], the tokens to keep.
    :param config: `EncoderConfig`.
    :returns: float, as `frames`.
    """
    slices = frames.shape[2] // config.tubelet
    kept = frames.new_zeros(len(frames), slices * config.tokens).scatter_(1, ids, 1.0)
    kept = kept.unflatten(1, (1, slices, *config.grid))
    for axis, times in ((2, config.tubelet), (3, config.patch), (4, config.patch)):
        kept = kept.repeat_interleave(times, axis)
    return frames * kept


def block_causal_mask(ids, tokens, window):
    """
    Which token may attend to which.

    :param ids: int64 [B, M], token indices as in `rotary.token_table`.
    :param tokens: N, tokens per slice.
    :param window: slices a token sees, its own included; 0 for all, in both directions.
    :returns: bool [B, 1, M, M], True where row attends to column, or None for no restriction.
    """
    if not window:
        return None
    slice_ids = ids // tokens
    age = slice_ids[:, :, None] - slice_ids[:, None, :]
    return ((age >= 0) & (age < window))[:, None]


class Encoder(nn.Module):
    """
    Frames to latents.

    :param config: see `EncoderConfig`.
    """

    def __init__(self, config):
        super().__init__()
        self.config = config
        size = sizes.size(config.size)
        self.width, self.heads, self.head_dim = size.width, size.heads, size.width // size.heads
        kernel = (config.tubelet, config.patch, config.patch)
        if config.stem == 'linear':
            self.patch_embed = nn.Conv3d(3, self.width, kernel, stride=kernel)
        else:
            stem = hierarchical_stem if config.stem == 'hierarchical' else ConvolutionalStem
            self.patch_embed = stem(self.width, config.patch, config.tubelet)
        self.blocks = nn.ModuleList(
            Block(size.width, size.heads, size.mlp_width) for _ in range(config.depth or size.depth)
        )
        self.norm = nn.LayerNorm(self.width, eps=NORM_EPS)
        initialise(self, self.blocks)

    def all_ids(self, batch, slices, device=None):
        """Indices of every token of a clip: int64 [B, T * N]."""
        return torch.arange(slices * self.config.tokens, device=device).expand(batch, -1)

    def embed(self, frames):
        """
        :param frames: float [B, 3, F, height, width], normalised.
        :returns: float [B, T * N, D] with T = F / tubelet.
        """
        return self.patch_embed(frames).flatten(2).transpose(1, 2)

    def forward(self, frames, times, ids=None):
        """
        Encode a clip in one pass.

        :param frames: float [B, 3, F, height, width], normalised.
        :param times: float [B, T], time of each slice's newest frame in seconds; any origin.
        :param ids: int64 [B, M], the tokens to keep; the others are dropped before the first block. All by
            default.
        :returns: float [B, M, D], after the final norm.
        """
        if ids is not None and self.config.stem == 'convolutional':
            frames = blanked(frames, ids, self.config)
        x = self.embed(frames)
        if ids is None:
            ids = self.all_ids(len(x), times.shape[1], x.device)
        else:
            x = x.gather(1, ids[..., None].expand(-1, -1, x.shape[-1]))
        rotary = rope.token_table(times / self.config.slice_period, ids, self.config.grid, self.head_dim)
        mask = block_causal_mask(ids, self.config.tokens, self.config.window)
        for block in self.blocks:
            x = block(x, rotary, mask)
        return self.norm(x)

    def time_rotary(self, time):
        """
        Cosine and sine of the time axis for one slice, as the streaming step takes them.

        :param time: float64 tensor [], seconds since the session's origin.
        :returns: float32 [2, P].
        """
        angle = rope.angles(time / self.config.slice_period, self.head_dim)
        return torch.stack((angle.cos(), angle.sin()))

    def step(self, frames, time_rotary, past, bias):
        """
        Encode one new slice with cached keys and values: what the robot runs in stream mode.

        :param frames: float [1, 3, tubelet, height, width], normalised.
        :param time_rotary: float [2, P], see `time_rotary`.
        :param past: float [L, 2, H, (window - 1) * N, E], cached keys and values in any order of slots.
        :param bias: float [(window - 1) * N], 0 where the cache is filled, large negative where it is empty.
        :returns: tokens float [N, D] after the final norm, present float [L, 2, H, N, E].
        """
        x, n = self.embed(frames), self.config.tokens
        cell = torch.arange(n, device=x.device)
        rows, columns = (
            rope.angles(axis, self.head_dim)
            for axis in (cell // self.config.grid[1], cell % self.config.grid[1])
        )
        time = tuple(part.expand(n, -1) for part in time_rotary)
        rotary = rope.table(time, (rows.cos(), rows.sin()), (columns.cos(), columns.sin()), self.head_dim)
        bias, present = torch.cat((bias, bias.new_zeros(n))), []
        for block, cached in zip(self.blocks, past):
            x, new = block.step(x, rotary, cached, bias)
            present.append(new)
        return self.norm(x)[0], torch.stack(present)


def normalise_output(latents):
    """
    LayerNorm without affine: the space that JEPA targets, our published latents and the futures live in.
    """
    return F.layer_norm(latents, latents.shape[-1:])
