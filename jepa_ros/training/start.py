# SPDX-License-Identifier: Apache-2.0
"""Weights to start from: another run's, a bundle's or published ones, an image encoder's for a video encoder too."""

from dataclasses import replace
from pathlib import Path

from jepa_ros.engine.bundle import Bundle
from jepa_ros.errors import JepaError
from jepa_ros.nets.exported import read_weights
from jepa_ros.nets.inflate import inflate_from_image, patch_embedding, with_details
from jepa_ros.nets.vit import Encoder
from jepa_ros.paths import PathError
from jepa_ros.training import model as models

PERMISSIVE = ('MIT', 'Apache-2.0')


def start_from(model, config):
    """
    Copy the weights of `init_from` into a new model: encoder and target encoder, and from a checkpoint of
    jepa train the smaller networks where they have the same shapes; of a readout the attributes need not.

    :param model: `model.Model`, changed in place; `config`: `config.Config`.
    :returns: names of the networks that were copied.
    :raises JepaError: when the file's encoder is another one, or its licence forbids that of the run.
    """
    path = Path(config.init_from)
    if not config.init_model and not path.is_file():
        return _from_bundle(model, config)
    if not path.exists():
        raise JepaError(f'init_from must be published weights where init_model is set, found no file {path}')
    found = None if config.init_model else models.load(path)[1]
    if found:
        weights = (found.encoder if config.init_which == 'encoder' else found.target).state_dict()
    else:
        weights = _published(path, model, config)
    _take_encoder(model, config, weights, path)
    copied = ['encoder']
    for name in ('predictor', 'forecaster', 'readout'):
        ours, theirs = getattr(model, name), getattr(found, name, None)
        if ours is not None and theirs is not None and _copy(ours, theirs.state_dict()):
            copied.append(name)
    return copied


def _copy(network, weights):
    """
    Weights of another network into one of the same shapes. A readout that is to tell more goes on finding the point:
    its attributes need not fit.

    :returns: whether they were taken.
    """
    of = network.state_dict()
    fit = {name: value for name, value in weights.items() if name in of and of[name].shape == value.shape}
    if not fit.keys() >= {name for name, _ in network.named_parameters() if not name.startswith('attributes.')}:
        return False
    network.load_state_dict(fit, strict=False)  # a bundle has no calibration: it is computed anew
    return True


def _take_encoder(model, config, weights, path):
    """Into encoder and target encoder, an image encoder's inflated."""
    if config.encoder.tubelet > 1 and weights[patch_embedding(weights)].shape[2] == 1:
        weights = inflate_from_image(weights, config.encoder.tubelet)
    weights = with_details(weights, model.encoder)
    _fits(weights, model.encoder.state_dict(), path)
    model.encoder.load_state_dict(weights)
    model.target.load_state_dict(weights)


def _from_bundle(model, config):
    """
    A bundle, one that ships too: its encoder, and forecaster and readout as from a checkpoint.
    """
    try:
        bundle = Bundle.load(config.init_from)
    except PathError as error:
        raise JepaError(
            'init_from must be a checkpoint of jepa train, a bundle, or published weights with init_model, found no '
            f'file and no bundle {config.init_from}'
        ) from error
    _licensed(bundle.manifest.weights.licence, bundle.manifest.name, config)
    stem = bundle.manifest.architecture.stem if bundle.manifest.architecture else model.encoder_config.stem
    weights = read_weights(bundle.encoder, Encoder(replace(model.encoder_config, stem=stem)))
    if not weights:
        raise JepaError(f'expected in {bundle.encoder} the encoder of a bundle of jepa train, found other weights')
    _take_encoder(model, config, weights, bundle.encoder)
    copied = ['encoder']
    for name in ('forecaster', 'readout'):
        ours, graph = getattr(model, name), getattr(bundle, name)
        if ours is None or graph is None:
            continue
        if _copy(ours, read_weights(graph, ours)):
            copied.append(name)
    return copied


def _published(path, model, config):
    """
    The encoder of a published model, with our names.

    It is a start and no more: our positions turn by true time and pair by pair, and a stream does not look
    ahead, so the first latents are not the published ones.
    """
    from jepa_ros.nets.official import families
    from jepa_ros.nets.official.loading import load_official

    published = families.find(config.init_model)
    _licensed(published.licence, published.name, config)
    encoder = load_official(path, published, with_predictor=False).encoder
    if encoder.heads != model.encoder.heads:
        raise JepaError(
            f'{published.name} has {encoder.heads} attention heads, expected the {model.encoder.heads} of '
            f'encoder.size {config.encoder.size}'
        )
    # What images and added positions have of their own stays behind; of several norms the last one makes the
    # latents.
    last = f'norms.{len(encoder.norms) - 1}.'
    return {
        name.replace(last, 'norm.'): value
        for name, value in encoder.state_dict().items()
        if name.startswith(('patch_embed.', 'blocks.', last))
    }


def _licensed(licence, name, config):
    if licence not in PERMISSIVE and config.licence != licence:
        raise JepaError(
            f'the weights of {name} are under {licence}, and so is what is trained from them: expected licence '
            f'{licence}, found {config.licence}'
        )


def _fits(found, expected, path):
    found, expected = _shapes(found), _shapes(expected)
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            raise JepaError(
                f'the encoder in {path} is another one: expected {name} {expected.get(name, "absent")}, '
                f'found {found.get(name, "absent")}; set encoder.size, depth, patch and tubelet as there'
            )


def _shapes(state):
    return {name: tuple(value.shape) for name, value in state.items()}
