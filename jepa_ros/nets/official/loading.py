# SPDX-License-Identifier: Apache-2.0
"""
Published weights to networks, checked name by name and shape by shape before anything is computed with them.

Two layouts are told apart by their names: Meta's files (dictionaries `encoder`, `predictor`,
`target_encoder`, `ema_encoder`, names with prefixes of the training's wrappers) and Hugging Face's.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import nn

from jepa_ros.errors import JepaError
from jepa_ros.nets.official import families, files, keys, positions
from jepa_ros.nets.official.encoder import OfficialEncoder
from jepa_ros.nets.official.predictor import ActionPredictor, OfficialPredictor
from jepa_ros.nets.vit import NORM_EPS

ENCODERS = ('target_encoder', 'ema_encoder', 'encoder')
PREFIXES = ('module.', 'backbone.')
# Meta's video files may hold the table of a position embedding that rotary models do not use.
UNUSED = {'encoder': 'pos_embed', 'predictor': 'predictor_pos_embed'}
LISTED = 6  # names of a long list that a message shows


@dataclass(frozen=True)
class Loaded:
    """
    Networks with published weights, and what was chosen.

    :param model: `families.Model`.
    :param encoder: `OfficialEncoder`; `predictor`: `OfficialPredictor`, `ActionPredictor` or None.
    :param weights: which encoder of the file: encoder, target_encoder or ema_encoder.
    :param layout: `official` or `huggingface`.
    :param files: names of the files read; `sha256`: of the file, or over the shards (`files.sha256`).
    """

    model: families.Model
    encoder: nn.Module
    predictor: nn.Module | None
    weights: str
    layout: str
    files: tuple[str, ...]
    sha256: str

    def to_dict(self):
        """Plain values, for a manifest."""
        return {
            'model': self.model.name,
            'weights': self.weights,
            'layout': self.layout,
            'files': list(self.files),
            'sha256': self.sha256,
            'licence': self.model.licence,
            'page': self.model.page,
            'encoder_parameters': self.model.encoder_parameters,
            'predictor_parameters': self.model.predictor_parameters if self.predictor is not None else 0,
            'mask_index': getattr(self.predictor, 'mask_index', None),
            'trained_mask_tokens': list(getattr(self.predictor, 'trained_mask_tokens', ())),
        }


def load_official(
    paths, model, image_size=None, frames=None, weights=None, with_predictor=True, hierarchical=False
):
    """
    Read published weights. Where training never reached the predictor's usual mask token, which is then all
    zeros, the predictor asks with the first that it reached.

    :param paths: a file, a folder of the Hugging Face hub, or a list of shards.
    :param model: a name of `families.MODELS`, or a `families.Model`.
    :param image_size: side or (height, width) in pixels to build for, default the model's; tables of
        positions that are added to tokens are stretched.
    :param frames: frames of a clip to build for, default the model's.
    :param weights: which encoder of Meta's file, default the one the published code evaluates.
    :param with_predictor: read the predictor too, where the file has one.
    :param hierarchical: see `OfficialEncoder`.
    :returns: `Loaded`, networks in eval mode and float32.
    :raises JepaError: naming the file and what was expected of it: names that are missing, left over or of
        another shape, another family or size, a file that is broken or wants to run code.
    """
    model = families.find(model) if isinstance(model, str) else model
    listed, config = files.gather(paths)
    where = listed[0].parent if len(listed) > 1 else listed[0]
    layout, parts = split_layout(where, _merged(listed))
    if layout == 'huggingface':
        if weights not in (None, 'encoder'):
            raise JepaError(
                f'{where} has the layout of Hugging Face, which names its encoder `encoder`, found {weights}'
            )
        states, weights = _of_hugging_face(where, parts, config, model), 'encoder'
    else:
        weights = _choose(where, parts, model, weights)
        states = {'encoder': parts[weights], 'predictor': parts.get('predictor') or None}
        _check(where, states, model, weights)
        states = {
            part: state and keys.from_official(_without_unused(state, part, model), model, part)
            for part, state in states.items()
        }
    clip = families.ClipShape.of(model, image_size, frames)
    encoder = _build(OfficialEncoder, states['encoder'], clip, hierarchical=hierarchical)
    predictor = None
    if with_predictor and states['predictor']:
        action = model.predictor.action_conditioned
        predictor = _build(ActionPredictor if action else OfficialPredictor, states['predictor'], clip)
        trained = getattr(predictor, 'trained_mask_tokens', ())
        if trained and predictor.mask_index not in trained:
            predictor.mask_index = trained[0]
    return Loaded(
        model, encoder, predictor, weights, layout, tuple(file.name for file in listed), files.sha256(listed)
    )


def split_layout(where, content):
    """
    Tell the layouts apart.

    :param where: what a message calls the weights; `content`: dict as `files.read` gives it.
    :returns: (`official`, dict of part to state without prefixes), or (`huggingface`, the state).
    :raises JepaError: when it is neither.
    """
    nested = {part: content[part] for part in (*ENCODERS, 'predictor') if isinstance(content.get(part), dict)}
    tensors = {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}
    if not nested and any(
        '.layer.' in name or name.startswith(('layers.', 'embeddings.')) for name in tensors
    ):
        return 'huggingface', tensors
    # The same parts in one flat dictionary, as safetensors has to have it.
    for name, value in tensors.items():
        part, _, rest = name.partition('.')
        if not nested.keys() & {part} and part in (*ENCODERS, 'predictor'):
            nested.setdefault(f'flat {part}', {})[rest] = value
    nested = {part.removeprefix('flat '): state for part, state in nested.items()}
    if not nested.keys() & set(ENCODERS):
        found = ', '.join(str(name) for name in list(content)[:LISTED]) or 'nothing'
        raise JepaError(
            f'{where} must hold one of {", ".join(ENCODERS)}, or the layout of Hugging Face, found {found}'
        )
    return 'official', {part: _bare(where, part, state) for part, state in nested.items()}


def missing_and_left_over(state, expected):
    """
    Compare a state with what a model has.

    :param state: dict of name to tensor; `expected`: likewise, or of shapes only (the meta device).
    :returns: list of clauses, empty when all is well: names that are missing, left over, of another shape.
    """
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    shapes = [
        f'{name} {list(state[name].shape)} for {list(expected[name].shape)}'
        for name in sorted(expected.keys() & state.keys())
        if state[name].shape != expected[name].shape
    ]
    return [
        f'{len(names)} {what} ({", ".join(names[:LISTED])}{", ..." if len(names) > LISTED else ""})'
        for what, names in (('missing', missing), ('left over', extra), ('of another shape', shapes))
        if names
    ]


@lru_cache
def expected_states(model):
    """
    Names and shapes of a model in Meta's layout, on the meta device.

    :returns: dict of `encoder` and `predictor` to a state.
    """
    kind = ActionPredictor if model.predictor.action_conditioned else OfficialPredictor
    with torch.device('meta'):
        return {
            part: keys.to_official(network(model).state_dict(), model, part)
            for part, network in (('encoder', OfficialEncoder), ('predictor', kind))
        }


def recognise(states):
    """
    Which published models have these names and shapes.

    :param states: dict of `encoder` and, optionally, `predictor` to a state in Meta's layout.
    :returns: list of names of `families.MODELS`.
    """
    return [
        name
        for name, model in families.MODELS.items()
        if not any(
            missing_and_left_over(_without_unused(states[part], part, model), expected)
            for part, expected in expected_states(model).items()
            if states.get(part)
        )
    ]


def _merged(listed):
    content = {}
    for file in listed:
        shard = files.read(file)
        twice = content.keys() & shard.keys()
        if twice:
            raise JepaError(f'shards must hold different weights, found {sorted(twice)[0]} again in {file}')
        content |= shard
    return content


def _bare(where, part, state):
    """Names without the prefixes that the training's wrappers left."""
    bare = {}
    for name, value in state.items():
        if not isinstance(value, torch.Tensor):
            raise JepaError(f'{where} must hold tensors in {part}, found {type(value).__name__} at {name}')
        while name.startswith(PREFIXES):
            name = name.removeprefix('module.').removeprefix('backbone.')
        bare[name] = value
    return bare


def _choose(where, parts, model, weights):
    weights = weights or model.weights
    if weights not in parts or weights not in ENCODERS:
        raise JepaError(
            f'{where} must hold {weights}, the encoder {model.name} is evaluated with, found '
            f'{", ".join(parts)}: name another one if you mean it'
        )
    return weights


def _without_unused(state, part, model):
    return {name: value for name, value in state.items() if not (model.rotary and name == UNUSED[part])}


def _check(where, states, model, weights):
    expected, faults = expected_states(model), []
    for part, state in states.items():
        if state is not None:
            found = missing_and_left_over(_without_unused(state, part, model), expected[part])
            faults += [f'{weights if part == "encoder" else part}: {clause}' for clause in found]
    if faults:
        others = recognise(states)
        like = f'; these are the weights of {" or ".join(others)}' if others else ''
        raise JepaError(f'{where} must hold the weights of {model.name}, found {"; ".join(faults)}{like}')


def _of_hugging_face(where, state, config, model):
    if config is not None:
        _check_config(where, config, model)
    expected = {name: keys.from_official(of, model, name) for name, of in expected_states(model).items()}
    if model.family == 'ijepa':
        expected['predictor'] = None
    faults = missing_and_left_over(
        keys.hf_spelling(state, model), keys.to_hf(expected['encoder'], expected['predictor'], model)
    )
    if faults:
        raise JepaError(f'{where} must hold the weights of {model.name}, found {"; ".join(faults)}')
    return dict(zip(('encoder', 'predictor'), keys.from_hf(state, model)))


def _check_config(where, config, model):
    """
    Compare what config.json says; a key it lacks has the value of transformers, which is that of no model
    here.
    """
    size = model.size
    expected = {
        'model_type': model.family,
        'hidden_size': size.width,
        'num_hidden_layers': size.depth,
        'num_attention_heads': size.heads,
        'patch_size': model.patch,
        'layer_norm_eps': NORM_EPS,
        'image_size' if model.family == 'ijepa' else 'crop_size': model.image_size,
    }
    for name, value in expected.items():
        found = config.get(name, value)
        if found != value and found != [value, value]:
            raise JepaError(f'{where}: config.json of {model.name} must say {name} {value}, found {found}')


def _build(network, state, clip, **options):
    """A network around a state: first without memory, then with the state's own."""
    model = clip.model
    added = state.get('pos_embed')
    if added is not None:
        native = families.ClipShape.of(model)
        state = {
            **state,
            'pos_embed': positions.resize_added(
                added.float(), native.slices, native.grid, clip.slices, clip.grid
            ),
        }
    if network is not ActionPredictor:
        options['frames'] = clip.frames
    with torch.device('meta'):
        built = network(model, clip.image_size, **options)
    built.load_state_dict({name: value.float() for name, value in state.items()}, strict=True, assign=True)
    return built.eval()
