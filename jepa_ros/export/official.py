# SPDX-License-Identifier: Apache-2.0
"""
Published weights become an engine bundle.

The latents are what the published encoder gives (`output_norm: none`): published probes and the published
predictor read them so. A predictor gives features of its training targets, LayerNormed without affine, which
is another space: the manifest names it, and the session computes no surprise from it.
"""

from pathlib import Path

from jepa_ros.engine.manifest import FORMAT, ForecasterSpec, Horizons, Manifest, Normalisation, Weights
from jepa_ros.errors import JepaError
from jepa_ros.export import families, graphs
from jepa_ros.export.writer import placeholders, write_bundle
from jepa_ros.nets.official.families import ClipShape, find
from jepa_ros.nets.official.futures import OfficialForecaster
from jepa_ros.nets.official.loading import load_official
from jepa_ros.training.model import MEAN, STD


def export_official(
    weights,
    family,
    model,
    out=None,
    *,
    name=None,
    which=None,
    image_size=None,
    frames=None,
    frame_period=None,
    horizons=families.HORIZONS,
    precision='fp32',
    clips=None,
    progress=print,
):
    """
    Write an engine bundle: mode clip for windows of frames, mode frame for I-JEPA and for one frame at a
    time.

    :param weights: file as published, or in the layout of Hugging Face.
    :param family: one of `manifest.FAMILIES`; `model`: a size of it (`jepa export --families` lists them).
    :param out: directory to write, default `bundles/NAME`; `name`: default the model's.
    :param which: encoder, target_encoder or ema_encoder, default the one the model's authors evaluate.
    :param image_size: [side] or [height, width] in px, default the model's own.
    :param frames: of a window; `frame_period`: seconds between them; default as the table of families says.
    :param horizons: slices ahead that the predictor is asked for; 0: no forecaster.
    :param precision: fp32, fp16, bf16 or int8; `clips`: `clips.Clips` or None; `progress`: called with lines.
    :returns: the loaded Bundle.
    :raises JepaError: weights that are no such model, sizes that do not fit it, or as `writer.write_bundle`.
    """
    found = find(family, model or 'nothing: name one with --model')
    clip = ClipShape.of(
        found, _sides(image_size), families.default_frames(found) if frames is None else frames
    )
    period = families.default_period(found) if frame_period is None else frame_period
    if period <= 0 or horizons < 0:
        raise JepaError(
            f'expected a frame period above 0 and horizons of 0 or more, found {period} and {horizons}'
        )
    asked = horizons and clip.frames > 1 and families.predicts_futures(found)
    official = load_official(weights, found, clip.image_size, clip.frames, which, with_predictor=bool(asked))
    forecaster = None
    if asked and official.predictor is not None:
        forecaster = OfficialForecaster(official.predictor, clip.slices, horizons)
    elif horizons:
        progress(
            f'{found.name} exports without futures: {_why_none(found, clip)}; jepa train can fit a '
            'forecaster on its frozen latents'
        )
    manifest = describe(official, clip, name or found.name, period, horizons if forecaster else 0, precision)
    slices = clip.slices if clip.frames > 1 else None
    modules = {'encoder': graphs.OfficialGraph(official.encoder, slices).eval()}
    if forecaster is not None:
        modules['forecaster'] = graphs.OfficialForecastGraph(forecaster, manifest.slice_period).eval()
    return write_bundle(out or Path('bundles') / manifest.name, manifest, modules, clips, progress=progress)


def describe(official, clip, name, period, horizons, precision):
    """
    The manifest, its parity still empty.

    :param official: `loading.Loaded`; `clip`: `families.ClipShape`; the others as of `export_official`.
    """
    model, image = official.model, clip.frames == 1
    # A lone frame is one step, however the encoder fills a tubelet with it.
    tubelet = 1 if image else model.tubelet
    forecaster = space = None
    if horizons:
        times = tuple(round(step * tubelet * period, 9) for step in range(1, horizons + 1))
        forecaster = ForecasterSpec(
            clip.slices, Horizons('discrete', values=times), model.predictor.out_width
        )
        distilled = model.predictor.out_width != model.size.width
        space = f'LayerNorm of the latents of {"its ViT-G teacher" if distilled else "its target encoder"}'
    return Manifest(
        format=FORMAT,
        name=name,
        family=model.family,
        mode='frame' if image else 'clip',
        image_size=clip.image_size,
        patch=model.patch,
        tubelet=tubelet,
        frame_period=period,
        frames=clip.frames,
        normalisation=Normalisation(MEAN, STD),
        grid=clip.grid,
        latent_dim=model.size.width,
        output_norm='none',
        future_space=space or 'latents',
        weights=Weights(official.weights, official.sha256, f'{model.name}, {model.page}', model.licence),
        precision=precision,
        architecture=families.architecture(model),
        forecaster=forecaster,
        files=placeholders(forecaster is not None, False),
        training={
            'model': model.name,
            'layout': official.layout,
            'files': list(official.files),
            # Which learned query asks for the futures: see `load_official`.
            **({'mask_index': official.predictor.mask_index} if horizons else {}),
        },
    )


def _sides(image_size):
    if image_size is None or len(image_size) == 2:
        return image_size
    if len(image_size) != 1:
        raise JepaError(f'--image-size takes one side, or height and width, found {len(image_size)} numbers')
    return tuple(image_size) * 2


def _why_none(model, clip):
    if model.family == 'ijepa':
        return 'its predictor knows no time'
    if model.predictor.action_conditioned:
        return 'its predictor asks for actions'
    if not model.rotary:
        return 'the positions it knows end with its window'
    if model.predictor.levels > 1:
        return 'its predictor reads four levels of the encoder, not the latents alone'
    return (
        'a single frame has no slices to predict from' if clip.frames == 1 else 'the file holds no predictor'
    )
