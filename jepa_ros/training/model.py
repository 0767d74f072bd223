# SPDX-License-Identifier: Apache-2.0
"""The modules of one run, built from its configuration, and its checkpoints."""

import copy
import os
import pickle
from pathlib import Path

import torch
from torch import nn

from jepa_ros.errors import JepaError
from jepa_ros.nets.action_forecaster import ActionForecaster
from jepa_ros.nets.forecaster import Forecaster
from jepa_ros.nets.predictor import Predictor
from jepa_ros.nets.readout import PointReadout
from jepa_ros.nets.vit import Encoder, EncoderConfig
from jepa_ros.training import config as configuration

# ImageNet statistics: what every published JEPA encoder expects, and ours with them.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Model(nn.Module):
    """
    Encoder, target encoder, predictor and forecaster; where the configuration asks for them, readout, action
    forecaster and the projection to a teacher's latents.

    :param config: `config.Config`.
    """

    def __init__(self, config):
        super().__init__()
        values = config.encoder
        self.encoder_config = EncoderConfig(
            size=values.size,
            depth=values.depth,
            image_size=tuple(values.image_size),
            patch=values.patch,
            tubelet=values.tubelet,
            window=values.window,
            slice_period=values.tubelet * config.data.frame_period,
            stem=values.stem,
        )
        torch.manual_seed(config.seed)
        self.encoder = Encoder(self.encoder_config)
        width = self.encoder.width
        of = config.predictor
        self.predictor = Predictor(
            self.encoder_config,
            width,
            of.width,
            of.depth,
            of.heads,
            predicts_context=bool(config.pretraining.context_loss),
        )
        of = config.forecaster
        self.forecaster = Forecaster(self.encoder_config, width, of.context, of.width, of.depth, of.heads)
        of = config.readout
        self.readout = (
            PointReadout(
                self.encoder_config, width, of.width, of.depth, of.heads, sum(of.attributes.values())
            )
            if of.name
            else None
        )
        self.target = copy.deepcopy(self.encoder).requires_grad_(False)
        of = config.action_forecaster
        self.action_forecaster = (
            ActionForecaster(
                self.encoder_config, width, of.actions, of.states, of.context, of.width, of.depth, of.heads
            )
            if of.state
            else None
        )
        self.projection = (
            nn.Linear(width, config.distillation.width) if 'distillation' in config.stages else None
        )
        # Mean of the training latents, for the shrunk persistence that a forecast has to beat.
        self.register_buffer('latent_mean', torch.zeros(width))

    @torch.no_grad()
    def update_target(self, momentum):
        """Move the target encoder: ξ ← m ξ + (1 − m) θ. Works on sharded weights as well."""
        for target, online in zip(self.target.parameters(), self.encoder.parameters()):
            target.lerp_(online, 1 - momentum)


def normalise(frames):
    """
    uint8 frames to the encoder's input.

    :param frames: uint8 tensor [B, F, H, W, 3], RGB.
    :returns: float32 [B, 3, F, H, W].
    """
    mean, std = (torch.tensor(v, device=frames.device) for v in (MEAN, STD))
    return ((frames.float() / 255 - mean) / std).permute(0, 4, 1, 2, 3)


def save(path, state):
    """
    Write a checkpoint so that a crash at any moment leaves the old one or the new one, never half of one.

    :param state: dictionary of tensors and plain values.
    :raises JepaError: when the disk does not take it.
    """
    path = Path(path)
    partial = path.with_suffix('.partial')
    try:
        with open(partial, 'wb') as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        partial.unlink(missing_ok=True)
        raise JepaError(f'cannot write the checkpoint {path}: {error}') from error


def _sync_folder(folder):
    """Bring the folder itself to the disk: until then the new name may be lost with the power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load(path):
    """
    Read a checkpoint; nothing but tensors and plain values is unpickled.

    :returns: (Config, Model, the checkpoint's dictionary).
    :raises JepaError: for a file that is missing, damaged or something else.
    """
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise JepaError(f'{path} is no readable checkpoint of jepa train: {first}') from error
    if not isinstance(state, dict) or not {'config', 'model', 'step'} <= state.keys():
        raise JepaError(f'{path} is no checkpoint of jepa train: expected the keys config, model and step')
    config = configuration.from_dict(state['config'])
    model = Model(config)
    try:
        model.load_state_dict(state['model'])
    except RuntimeError as error:
        raise JepaError(f'the weights in {path} do not fit their own configuration: {error}') from error
    return config, model, state
