# SPDX-License-Identifier: Apache-2.0
"""
The graphs of a bundle as torch modules, and their export to ONNX.

Frames enter as uint8 and are normalised inside the graph, so that no backend can get the normalisation wrong
and the host copies a quarter of the bytes. Everything that does not depend on the input is folded to
constants.
"""

import logging
import warnings

import onnxscript.optimizer
import torch
from torch import nn

from jepa_ros.export import precision
from jepa_ros.nets.vit import normalise_output
from jepa_ros.training.model import MEAN, STD

# LayerNormalization is one operator (since 17); 23 would emit Attention, which ONNX Runtime runs slower.
OPSET = 20
# It misses torchvision.
logging.getLogger('torch.onnx._internal.exporter._registration').setLevel(logging.ERROR)
FOLDED = 1 << 24  # elements of the largest constant that is computed at export


class _Normalise(nn.Module):
    """uint8 [F, H, W, 3] to float32 [1, 3, F, H, W]."""

    def __init__(self):
        super().__init__()
        self.register_buffer('scale', 1 / (255 * torch.tensor(STD)), persistent=False)
        self.register_buffer('shift', torch.tensor(MEAN) / torch.tensor(STD), persistent=False)

    def forward(self, frames):
        return (frames.float() * self.scale - self.shift).permute(3, 0, 1, 2)[None]


class StreamGraph(nn.Module):
    """One slice with cached keys and values; published latents are LayerNormed. Signature: `Encoder.step`."""

    def __init__(self, encoder):
        super().__init__()
        self.normalise, self.encoder = _Normalise(), encoder

    def forward(self, frames, rotary, past, bias):
        tokens, present = self.encoder.step(self.normalise(frames), rotary, past, bias)
        return normalise_output(tokens), present


class ClipGraph(nn.Module):
    """
    A whole window in one bidirectional pass: frames uint8 [F, H, W, 3] to tokens [T, N, D].

    :param times: float [T], the constant times of the window's slices in seconds, last 0.
    """

    def __init__(self, encoder, times):
        super().__init__()
        self.normalise, self.encoder = _Normalise(), encoder
        self.register_buffer('times', torch.as_tensor(times, dtype=torch.float32)[None], persistent=False)

    def forward(self, frames):
        tokens = self.encoder(self.normalise(frames), self.times)[0]
        return normalise_output(tokens).unflatten(0, (self.times.shape[1], -1))


class FrameGraph(nn.Module):
    """An image encoder: frames uint8 [1, H, W, 3] to tokens [N, D]."""

    def __init__(self, encoder):
        super().__init__()
        self.clip = ClipGraph(encoder, [0.0])

    def forward(self, frames):
        return self.clip(frames)[0]


class OfficialGraph(nn.Module):
    """
    An official encoder as published, its positions constant: frames uint8 [F, H, W, 3] to tokens [T, N, D].

    Its output is not normalised once more: a published predictor reads it as it is.

    :param encoder: module of float [1, 3, F, H, W] to [1, T * N, D]; of an image encoder F and T are 1.
    :param slices: T; None: an image encoder, whose tokens are [N, D].
    """

    def __init__(self, encoder, slices=None):
        super().__init__()
        self.normalise, self.encoder, self.slices = _Normalise(), encoder, slices

    def forward(self, frames):
        tokens = self.encoder(self.normalise(frames))[0]
        return tokens if self.slices is None else tokens.unflatten(0, (self.slices, -1))


class OfficialForecastGraph(nn.Module):
    """
    An official predictor asked for the slices after a window: context [S, N, D], times [S], dt [K] to [K, N,
    D_future].

    :param forecaster: `nets.official.futures.OfficialForecaster`.
    :param slice_period: seconds between slices, which the user of a bundle may choose.
    """

    def __init__(self, forecaster, slice_period):
        super().__init__()
        self.forecaster, self.slice_period = forecaster, slice_period

    def forward(self, context, times, dt):
        ahead = torch.round((dt - times[-1]) / self.slice_period).clamp(1, self.forecaster.horizons)
        return self.forecaster.fill(context).index_select(0, ahead.long() - 1)


class ForecastGraph(nn.Module):
    """context [S, N, D], times [S], dt [K] to futures [K, N, D]."""

    def __init__(self, forecaster):
        super().__init__()
        self.forecaster = forecaster

    def forward(self, context, times, dt):
        return self.forecaster(context[None], times[None], dt[None])[0]


class ActionForecastGraph(nn.Module):
    """
    context [S, N, D], times [S], actions [K, A], states [K, P], dt [K] to futures [K, N, D].

    The rollout is unrolled: K is fixed at export.
    """

    def __init__(self, forecaster):
        super().__init__()
        self.forecaster = forecaster

    def forward(self, context, times, actions, states, dt):
        return self.forecaster(*(of[None] for of in (context, times, actions, states, dt)))[0]


def example_inputs(manifest, rng):
    """
    Random inputs of the right shapes for every graph of a bundle.

    :param manifest: `jepa_ros.engine.manifest.Manifest`; `rng`: torch Generator.
    :returns: dict of graph name to dict of input name to tensor.
    """

    def normal(*shape):
        return torch.randn(*shape, generator=rng)

    height, width = manifest.image_size
    n, dim = manifest.grid[0] * manifest.grid[1], manifest.latent_dim
    frames = torch.randint(0, 256, (manifest.frames, height, width, 3), dtype=torch.uint8, generator=rng)
    inputs = {'encoder': {'frames': frames}}
    if manifest.mode == 'stream':
        stream = manifest.stream
        angle = torch.rand(len(stream.frequencies), generator=rng) * 6
        cached = (stream.slices - 1) * n
        inputs['encoder'] |= {
            'rotary': torch.stack((angle.cos(), angle.sin())),
            'past': normal(stream.layers, 2, stream.heads, cached, stream.head_dim),
            'bias': torch.where(torch.arange(cached) < n, 0.0, -1e9),
        }
    if manifest.forecaster:
        context = manifest.forecaster.context
        offered = manifest.forecaster.horizons
        horizons = torch.tensor(offered.default or offered.values)
        slice_period = manifest.tubelet * manifest.frame_period
        inputs['forecaster'] = {
            'context': normal(context, n, dim),
            'times': torch.arange(1 - context, 1) * slice_period,
            'dt': horizons,
        }
        if manifest.readout:
            inputs['readout'] = {'futures': normal(len(horizons), n, manifest.forecaster.dim), 'dt': horizons}
    return inputs


def output_names(manifest):
    """Dict of graph name to the names of its outputs."""
    told = manifest.readout.attributes if manifest.readout else ()
    return {
        'encoder': ['tokens', 'present'] if manifest.mode == 'stream' else ['tokens'],
        'forecaster': ['futures'],
        'readout': ['point', 'cov'] + ['attributes', 'attributes_std'] * bool(told),
    }


def write_onnx(module, inputs, outputs, path):
    """
    Export one graph.

    :param module: torch module in eval mode; `inputs`: dict of name to example tensor.
    :param outputs: output names.
    :param path: file to write, beside it its weights where they are too many for one file. A `dt` input and
        what is counted by it (K) stay dynamic; every other shape is fixed.
    """
    horizons = torch.export.Dim('K')
    open_to_all = 'dt' in inputs and 'actions' not in inputs  # a rollout over actions is unrolled
    shapes = {name: {0: horizons} if open_to_all and name in ('dt', 'futures') else None for name in inputs}
    size = sum(value.nbytes for value in module.state_dict().values())
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter('ignore')
        program = torch.onnx.export(
            module,
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=outputs,
            dynamic_shapes=tuple(shapes.values()),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
        # Once more with room for tables of thousands of tokens, which the exporter's own limits leave
        # unfolded.
        onnxscript.optimizer.optimize(program.model, input_size_limit=FOLDED, output_size_limit=FOLDED)
        program.save(str(path), external_data=size > precision.EXTERNAL_ABOVE)
