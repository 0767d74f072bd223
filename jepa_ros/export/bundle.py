# SPDX-License-Identifier: Apache-2.0
"""A checkpoint of `jepa train` becomes an engine bundle: graphs, the parity measured on them, manifest."""

import dataclasses
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch

from jepa_ros.engine.backends import open_graph
from jepa_ros.engine.bundle import Bundle, file_sha256, write_manifest
from jepa_ros.engine.manifest import (
    ENCODER,
    FORECASTER,
    FORMAT,
    READOUT,
    ForecasterSpec,
    Horizons,
    Manifest,
    Normalisation,
    ReadoutSpec,
    Stream,
    Weights,
)
from jepa_ros.errors import JepaError
from jepa_ros.export import graphs
from jepa_ros.export.card import card
from jepa_ros.nets import rotary
from jepa_ros.training import config as configuration
from jepa_ros.training import model as models

LATENT_MEAN = 'latent_mean.npy'
PARITY_BOUND = 1e-3   # largest absolute difference to torch that an export may have, float32
PARITY_DRAWS = 3


def export_checkpoint(checkpoint, out, name=None, progress=print):
    """
    Write an engine bundle; an existing one of the same path is replaced only when the new one is whole.

    :param checkpoint: file of `jepa train`.
    :param out: directory to write.
    :param name: name of the bundle, default the run's.
    :param progress: called with a line for every stage.
    :returns: the loaded Bundle.
    :raises JepaError: when the checkpoint is unreadable, or graph and torch differ by more than `PARITY_BOUND`.
    """
    config, model, state = models.load(checkpoint)
    out = Path(out)
    if out.exists() and not (out / 'manifest.yaml').exists() and any(out.iterdir()):
        raise JepaError(f'{out} is not empty and holds no engine bundle: name another directory with --out')
    model.eval()
    manifest = describe(config, model, state, name or config.name, file_sha256(checkpoint))
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=out.parent, prefix=f'.{out.name}.'))
    try:
        parity = write_graphs(model, manifest, work, progress)
        np.save(work / LATENT_MEAN, model.latent_mean.numpy())
        (work / 'README.md').write_text(card(dataclasses.replace(manifest, parity=parity)), encoding='utf-8')
        files = {path.name: file_sha256(path) for path in sorted(work.iterdir())}
        write_manifest(work, Manifest.from_dict({**manifest.to_dict(), 'files': files, 'parity': parity}))
        work.chmod(0o755)
        if out.exists():
            shutil.rmtree(out)
        work.rename(out)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return Bundle.load(out)


def describe(config, model, state, name, sha256):
    """
    The manifest of a run, its files and parity still empty.

    :param state: the checkpoint's dictionary; `sha256`: of the checkpoint.
    """
    encoder, of_encoder = model.target, model.encoder_config
    of_forecaster = config.forecaster
    stream = None
    if of_encoder.window > 1:
        stream = Stream(slices=of_encoder.window, layers=len(encoder.blocks), heads=encoder.heads,
                        head_dim=encoder.head_dim, rotary_period=of_encoder.slice_period,
                        frequencies=tuple(rotary.axis_frequencies(encoder.head_dim).tolist()))
    low, high = of_forecaster.range
    readout = ReadoutSpec(config.readout.name, 'dense', 'image_point') if model.readout is not None else None
    values = configuration.to_dict(config)
    placeholder = dict.fromkeys([ENCODER, FORECASTER] + ([READOUT] if readout else []), '0' * 64)
    return Manifest(
        format=FORMAT, name=name, family='vjepa' if of_encoder.tubelet > 1 else 'ijepa',
        mode='stream' if stream else 'frame', image_size=of_encoder.image_size, patch=of_encoder.patch,
        tubelet=of_encoder.tubelet, frame_period=config.data.frame_period, frames=of_encoder.tubelet,
        normalisation=Normalisation(models.MEAN, models.STD), grid=of_encoder.grid, latent_dim=encoder.width,
        output_norm='layer_norm', future_space='latents',
        weights=Weights('target_encoder', sha256, f'jepa train {config.name}, step {state["step"]}', config.licence),
        precision='fp32', stream=stream,
        forecaster=ForecasterSpec(of_forecaster.context, Horizons('continuous', low, high,
                                                                  tuple(of_forecaster.horizons)), encoder.width),
        readout=readout, files=placeholder,
        training={'config': values, 'steps': state['step']},
        metrics={'validation': state['history'][-1]} if state['history'] else {})


def write_graphs(model, manifest, directory, progress=lambda line: None):
    """
    Export every graph and run it against torch.

    :returns: dict of `graph.output` to the largest absolute difference over `PARITY_DRAWS` random inputs.
    :raises JepaError: naming the output that differs by more than `PARITY_BOUND`.
    """
    encoder = graphs.StreamGraph if manifest.mode == 'stream' else graphs.FrameGraph
    modules = {'encoder': encoder(model.target), 'forecaster': graphs.ForecastGraph(model.forecaster),
               'readout': model.readout}
    outputs = {'encoder': ['tokens', 'present'] if manifest.mode == 'stream' else ['tokens'],
               'forecaster': ['futures'], 'readout': ['point', 'cov']}
    generator, parity = torch.Generator().manual_seed(0), {}
    for name, inputs in graphs.example_inputs(manifest, generator).items():
        path = directory / f'{name}.onnx'
        progress(f'exporting {path.name}')
        module = modules[name].eval()
        graphs.write_onnx(module, inputs, outputs[name], path)
        graph = open_graph(path, 'onnxruntime')
        for _ in range(PARITY_DRAWS):
            for output, difference in _differences(module, graph, inputs, outputs[name]).items():
                key = f'{name}.{output}'
                parity[key] = max(parity.get(key, 0.0), difference)
            inputs = graphs.example_inputs(manifest, generator)[name]
        for output in outputs[name]:
            key = f'{name}.{output}'
            progress(f'  {key}: differs from torch by at most {parity[key]:.1e}')
            if not parity[key] <= PARITY_BOUND:
                raise JepaError(f'the exported graph differs from torch by {parity[key]:.2e} at {key}, '
                                f'at most {PARITY_BOUND:.0e} was expected')
    return parity


@torch.no_grad()
def _differences(module, graph, inputs, outputs):
    expected = module(*inputs.values())
    expected = expected if isinstance(expected, tuple) else (expected,)
    found = graph.run({name: value.numpy() for name, value in inputs.items()})
    return {name: float(np.abs(found[name] - value.numpy()).max()) for name, value in zip(outputs, expected)}
