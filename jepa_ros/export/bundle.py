# SPDX-License-Identifier: Apache-2.0
"""A checkpoint of `jepa train` becomes an engine bundle."""

from pathlib import Path

import numpy as np

from jepa_ros.engine.bundle import file_sha256
from jepa_ros.engine.manifest import (
    FORMAT,
    LATENT_MEAN,
    Architecture,
    ForecasterSpec,
    Horizons,
    Manifest,
    Normalisation,
    ReadoutSpec,
    Stream,
    Weights,
)
from jepa_ros.export import graphs
from jepa_ros.export.writer import placeholders, write_bundle
from jepa_ros.nets import rotary, sizes
from jepa_ros.training import config as configuration
from jepa_ros.training import model as models


def export_checkpoint(checkpoint, out=None, name=None, precision='fp32', clips=None, progress=print):
    """
    Write an engine bundle; an existing one of the same path is replaced only when the new one is whole.

    :param checkpoint: file of `jepa train`.
    :param out: directory to write, default `bundles/NAME`.
    :param name: name of the bundle, default the run's.
    :param precision: fp32, fp16, bf16 or int8, of all graphs.
    :param clips: `clips.Clips` to calibrate and measure on; None: random inputs.
    :param progress: called with a line for every stage.
    :returns: the loaded Bundle.
    :raises JepaError: the checkpoint is unreadable, or as `writer.write_bundle`.
    """
    config, model, state = models.load(checkpoint)
    model.eval()
    name = name or config.name
    manifest = describe(config, model, state, name, file_sha256(checkpoint), precision)
    modules = {'encoder': _encoder_graph(manifest, model.target)}
    if manifest.forecaster:
        modules['forecaster'] = graphs.ForecastGraph(model.forecaster)
    if manifest.readout:
        modules['readout'] = model.readout
    return write_bundle(
        out or Path('bundles') / name,
        manifest,
        modules,
        clips,
        lambda work: np.save(work / LATENT_MEAN, model.latent_mean.numpy()),
        progress,
    )


def _encoder_graph(manifest, encoder):
    if manifest.mode == 'stream':
        return graphs.StreamGraph(encoder)
    if manifest.mode == 'frame':
        return graphs.FrameGraph(encoder)
    slices = manifest.frames // manifest.tubelet
    return graphs.ClipGraph(
        encoder, [manifest.slice_period * (1 + index - slices) for index in range(slices)]
    )


def describe(config, model, state, name, sha256, precision='fp32'):
    """
    The manifest of a run, its parity still empty.

    An image encoder becomes a frame bundle, a block-causal video encoder a stream, a bidirectional one a
    clip. A run without a stage that trains the forecaster has no futures, and so no readout.

    :param state: the checkpoint's dictionary; `sha256`: of the checkpoint.
    """
    encoder, of_encoder, stream = model.target, model.encoder_config, None
    if of_encoder.tubelet == 1:
        mode, frames = 'frame', 1
    elif of_encoder.window:
        mode, frames = 'stream', of_encoder.tubelet
        stream = Stream(
            slices=of_encoder.window,
            layers=len(encoder.blocks),
            heads=encoder.heads,
            head_dim=encoder.head_dim,
            rotary_period=of_encoder.slice_period,
            frequencies=tuple(rotary.axis_frequencies(encoder.head_dim).tolist()),
        )
    else:
        mode, frames = 'clip', of_encoder.tubelet * config.data.slices
    forecaster = readout = None
    if 'heads' in config.stages and config.heads.steps or config.pretraining.forecast:
        low, high = config.forecaster.range
        forecaster = ForecasterSpec(
            config.forecaster.context,
            Horizons('continuous', low, high, tuple(config.forecaster.horizons)),
            encoder.width,
        )
    if forecaster and model.readout is not None:
        attributes = dict(config.readout.attributes)
        offsets = tuple(name for name in attributes if name not in config.data.vectors)
        readout = ReadoutSpec(config.readout.name, 'dense', 'image_point', attributes, offsets)
    return Manifest(
        format=FORMAT,
        name=name,
        family='ijepa' if mode == 'frame' else 'vjepa',
        mode=mode,
        image_size=of_encoder.image_size,
        patch=of_encoder.patch,
        tubelet=of_encoder.tubelet,
        frame_period=config.data.frame_period,
        frames=frames,
        normalisation=Normalisation(models.MEAN, models.STD),
        grid=of_encoder.grid,
        latent_dim=encoder.width,
        output_norm='layer_norm',
        future_space='latents',
        weights=Weights(
            'target_encoder', sha256, f'jepa train {config.name}, step {state["step"]}', config.licence
        ),
        precision=precision,
        stream=stream,
        architecture=Architecture(
            len(encoder.blocks), encoder.heads, sizes.size(of_encoder.size).mlp_width, of_encoder.stem
        ),
        forecaster=forecaster,
        readout=readout,
        files=placeholders(forecaster is not None, readout is not None),
        training={'config': _without_places(configuration.to_dict(config)), 'steps': state['step']},
        metrics={'validation': state['history'][-1]} if state['history'] else {},
    )


def _without_places(config):
    """A configuration for others to read: of a checkpoint that it began with its run and name, not where it lay."""
    path = Path(config['init_from'])
    return {**config, 'init_from': '/'.join(path.parts[-2:])} if path.is_absolute() else config
