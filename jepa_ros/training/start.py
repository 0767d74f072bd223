# SPDX-License-Identifier: Apache-2.0
"""Weights to start from: those of another run, an image encoder's for a video encoder too."""

from pathlib import Path

from jepa_ros.errors import JepaError
from jepa_ros.nets.inflate import PATCH_EMBEDDING, inflate_from_image
from jepa_ros.training import model as models


def start_from(model, config):
    """
    Copy the weights of `init_from` into a new model: encoder and target encoder from its target encoder, and the smaller
    networks where they have the same shapes.

    :param model: `model.Model`, changed in place; `config`: `config.Config`.
    :returns: names of the networks that were copied.
    :raises JepaError: when the checkpoint's encoder is another one.
    """
    path = Path(config.init_from)
    if not path.is_file():
        raise JepaError(f'init_from must be a checkpoint of jepa train, found no file {path}')
    _, found, _ = models.load(path)
    weights, tubelet = found.target.state_dict(), config.encoder.tubelet
    if tubelet > 1 and weights[PATCH_EMBEDDING].shape[2] == 1:
        weights = inflate_from_image(weights, tubelet)
    _fits(weights, model.encoder.state_dict(), path)
    model.encoder.load_state_dict(weights)
    model.target.load_state_dict(weights)
    copied = ['encoder']
    for name in ('predictor', 'forecaster', 'readout'):
        ours, theirs = getattr(model, name), getattr(found, name)
        if ours is not None and theirs is not None and _shapes(ours.state_dict()) == _shapes(theirs.state_dict()):
            ours.load_state_dict(theirs.state_dict())
            copied.append(name)
    return copied


def _fits(found, expected, path):
    found, expected = _shapes(found), _shapes(expected)
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            raise JepaError(f'the encoder in {path} is another one: expected {name} {expected.get(name, "absent")}, found '
                            f'{found.get(name, "absent")}; set encoder.size, depth, patch and tubelet as there')


def _shapes(state):
    return {name: tuple(value.shape) for name, value in state.items()}
