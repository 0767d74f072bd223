# SPDX-License-Identifier: Apache-2.0
"""The table of published models in docs/official_models.md: counted from their shapes, not measured."""

from jepa_ros.engine.bookkeeping import gflop
from jepa_ros.engine.manifest import Architecture
from jepa_ros.nets.official.families import MODELS, ClipShape

FRAMES = 16  # of a window, unless the user asks for another number; the longest published clips have 64
HORIZONS = 2  # slices ahead that its predictor is asked for, likewise
IMAGE_PERIOD = 0.1  # s between the frames of image encoders, which have no time of their own
# Sustained float16 TFLOPS that are expected of a class of devices: a quarter of what their data sheets
# promise for dense float16 products. An expectation, not a measurement.
DEVICES = (
    (4.0, 'Jetson Orin Nano'),
    (10.0, 'Jetson AGX Orin'),
    (30.0, 'desktop GPU'),
    (80.0, 'large desktop GPU'),
)
COLUMNS = (
    'model',
    'weights',
    'licence',
    'parameters: encoder + predictor',
    'window',
    'GFLOP per window',
    'GFLOP per new slice',
    'GFLOP per forecast',
    'encoder in fp32 / fp16',
    'expected to suit',
)


def default_frames(model):
    """
    Frames of a window that a model is exported with by default; 1 for those that see one frame at a time.
    """
    return 1 if model.tubelet == 1 or model.predictor.action_conditioned else min(FRAMES, model.frames)


def default_period(model):
    """Seconds between the frames of a window, as the weights were trained."""
    return 1 / model.rate if model.rate else IMAGE_PERIOD


def architecture(model):
    """The manifest's section."""
    return Architecture(model.size.depth, model.size.heads, model.size.mlp_width)


def predicts_futures(model):
    """
    Whether the published predictor can be asked for the slices after a window.

    I-JEPA's knows no time, V-JEPA's no positions behind its window, V-JEPA 2-AC's asks for actions, and those
    of V-JEPA 2.1 giant and gigantic read four levels of the encoder, four times as wide as the latents that
    are published.
    """
    return model.rotary and not model.predictor.action_conditioned and model.predictor.levels == 1


def _forecast_gflop(model, clip):
    shape, context = model.predictor, clip.slices * clip.tokens
    inner, targets = shape.size.width, HORIZONS * clip.tokens
    of = Architecture(shape.size.depth, shape.size.heads, shape.size.mlp_width)
    ends = 2 * inner * (context * model.size.width + targets * shape.out_width) / 1e9
    return ends + gflop(of, inner, 0, context + targets)


def row(model):
    """The cells of a model, in the order of `COLUMNS`."""
    frames = default_frames(model)
    clip = ClipShape.of(model, frames=frames)
    values = 3 * model.tubelet * model.patch**2
    window, new_slice = (
        gflop(architecture(model), model.size.width, values, tokens, clip.slices * clip.tokens)
        for tokens in (clip.slices * clip.tokens, clip.tokens)
    )
    step = default_period(model) * (model.tubelet if frames > 1 else 1)
    files = [f'[{address.rsplit("/", 1)[-1]}]({address})' for address in model.download]
    files += [f'[{name}](https://huggingface.co/{name})' for name in model.hub]
    return (
        f'`{model.name}`',
        ', '.join(files),
        model.licence,
        f'{model.encoder_parameters / 1e6:.0f} M + {model.predictor_parameters / 1e6:.0f} M',
        f'{frames} x {model.image_size} px, {clip.slices} x {clip.tokens} tokens',
        f'{window:.0f}',
        f'{new_slice:.0f}' if frames > 1 else 'the same',
        f'{_forecast_gflop(model, clip):.0f}' if predicts_futures(model) else 'no forecaster',
        f'{4e-9 * model.encoder_parameters:.1f} / {2e-9 * model.encoder_parameters:.1f} GB',
        _suits(window, step),
    )


def _suits(window, step):
    """The smallest class of devices that is expected to encode a window in half the time between two."""
    needed = window / 1e3 / (step / 2)
    name = next((name for rate, name in DEVICES if needed <= rate), 'data-centre GPU')
    return f'{name} ({needed:.1f} TFLOPS)'


def table():
    """All published models as a table in Markdown."""
    lines = [COLUMNS, ('---',) * len(COLUMNS), *map(row, MODELS.values())]
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in lines)
