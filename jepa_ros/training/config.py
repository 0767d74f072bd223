# SPDX-License-Identifier: Apache-2.0
"""
The training configuration: one typed table that the YAML files, `--set` and `jepa train --help` are read against.

An unknown or ill-typed key is an error that names the nearest valid one.
"""

import dataclasses
import difflib
import types
import typing
from dataclasses import dataclass, field

import yaml

from jepa_ros.errors import JepaError


def _key(default, help_text):
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata={'help': help_text})
    return field(default=default, metadata={'help': help_text})


@dataclass
class Data:
    """Where clips come from, and how they are cut and changed."""

    train: list[str] = _key([], 'files, folders or globs to train on (videos, rosbag2, ROS 1 bags)')
    weights: list[float] = _key([], 'how often each entry of train is drawn; empty: by its number of frames')
    validation: list[str] = _key([], 'the same for validation; no file may stand in two lists')
    held_out: list[str] = _key([], 'the same for the final figures; never read by the trainer')
    labels: dict[str, str] = _key({}, 'readout name: bag topic with its image point (geometry_msgs/PointStamped)')
    frame_period: float = _key(0.05, 'seconds between the frames of a clip')
    slices: int = _key(10, 'tubelets in a clip')
    jitter: float = _key(0.3, 'random shift of every asked frame, as a share of frame_period')
    drop: float = _key(0.05, 'probability that an asked frame is missing and the next one is taken')
    stretch: list[float] = _key([0.8, 1.5], 'range of the random factor on frame_period')
    crop: list[float] = _key([0.6, 1.0], 'range of the area of the random crop, one crop for a whole clip')
    flip: bool = _key(True, 'mirror half of the clips')
    light: float = _key(0.25, 'range of random brightness, contrast and colour gain, one draw for a whole clip')
    validation_stride: float = _key(1.0, 'seconds between the starts of validation clips')


@dataclass
class Encoder:
    """The encoder that is trained."""

    size: str = _key('tiny', 'tiny, small, base, large, huge, giant or gigantic')
    depth: int = _key(0, 'transformer blocks; 0: as the size has')
    image_size: list[int] = _key([96, 128], 'height and width in pixels')
    patch: int = _key(16, 'side of a patch in pixels')
    tubelet: int = _key(2, 'frames in a slice of tokens')
    window: int = _key(8, 'slices a token sees, its own included: what a stream caches')


@dataclass
class Predictor:
    """The mask-token predictor of the pretraining."""

    width: int = _key(96, 'latent width')
    depth: int = _key(4, 'transformer blocks')
    heads: int = _key(3, 'attention heads')


@dataclass
class Masks:
    """Tube masks, drawn per clip; half of the steps use the short-range ones, half the long-range ones."""

    short_blocks: int = _key(8, 'blocks in a short-range mask')
    short_scale: float = _key(0.15, 'area of each, as a share of the image')
    long_blocks: int = _key(2, 'blocks in a long-range mask')
    long_scale: float = _key(0.7, 'area of each, as a share of the image')


@dataclass
class Forecaster:
    """The Δt-conditioned forecaster."""

    width: int = _key(128, 'latent width')
    depth: int = _key(4, 'transformer blocks')
    heads: int = _key(4, 'attention heads')
    context: int = _key(4, 'slices it reads')
    range: list[float] = _key([0.05, 0.6], 'shortest and longest horizon it may be asked for, seconds')
    horizons: list[float] = _key([0.1, 0.2, 0.3, 0.4, 0.5], 'horizons a node asks for unless told otherwise')


@dataclass
class Readout:
    """The readout head on the futures; trained where `data.labels` names its topic."""

    name: str = _key('', 'which entry of data.labels; empty: none')
    width: int = _key(96, 'latent width')
    depth: int = _key(2, 'transformer blocks')
    heads: int = _key(3, 'attention heads')


@dataclass
class Pretraining:
    """First stage: the encoder learns to fill masks."""

    steps: int = _key(3000, 'steps')
    batch: int = _key(16, 'clips in a step')
    rate: float = _key(1e-3, 'peak learning rate (AdamW)')
    warmup: int = _key(200, 'steps of linear warm-up; then a cosine to 1 % of the peak')
    weight_decay: float = _key(0.04, 'on weights of two and more dimensions')
    ema: list[float] = _key([0.99, 0.9999], 'momentum of the target encoder, first to last step')


@dataclass
class Heads:
    """Second stage: forecaster and readout on latents of the encoder, which now stands still."""

    clips: int = _key(4000, 'clips that are encoded once, and that the heads learn from')
    steps: int = _key(5000, 'steps')
    batch: int = _key(16, 'clips in a step')
    rate: float = _key(1e-3, 'peak learning rate (AdamW)')
    warmup: int = _key(100, 'steps of linear warm-up; then a cosine to 1 % of the peak')
    weight_decay: float = _key(0.04, 'on weights of two and more dimensions')


@dataclass
class Config:
    """One training run."""

    name: str = _key('jepa', 'name of the model')
    seed: int = _key(0, 'everything random follows from it and the step')
    licence: str = _key('Apache-2.0', 'licence of the weights that come out')
    clip: float = _key(1.0, 'largest norm of the gradient of a module')
    bf16: bool = _key(True, 'compute in bfloat16 where autocast allows')
    validate_every: int = _key(250, 'steps between validations')
    save_every: int = _key(250, 'steps between checkpoints')
    data: Data = field(default_factory=Data, metadata={'help': 'clips'})
    encoder: Encoder = field(default_factory=Encoder, metadata={'help': 'encoder'})
    predictor: Predictor = field(default_factory=Predictor, metadata={'help': 'predictor'})
    masks: Masks = field(default_factory=Masks, metadata={'help': 'masks'})
    forecaster: Forecaster = field(default_factory=Forecaster, metadata={'help': 'forecaster'})
    readout: Readout = field(default_factory=Readout, metadata={'help': 'readout'})
    pretraining: Pretraining = field(default_factory=Pretraining, metadata={'help': 'first stage'})
    heads: Heads = field(default_factory=Heads, metadata={'help': 'second stage'})

    def __post_init__(self):
        """
        Check what one key alone cannot tell.

        :raises JepaError: for values that do not fit each other.
        """
        weights = self.data.weights
        if weights and (len(weights) != len(self.data.train) or min(weights) < 0 or not sum(weights)):
            raise JepaError(f'data.weights takes one number for each entry of data.train ({len(self.data.train)}), none '
                            f'negative and not all 0, found {weights}')
        longest = self.data.slices - self.forecaster.context
        slice_period = self.data.frame_period * self.encoder.tubelet
        if longest < 1 or longest * slice_period < min(self.forecaster.horizons):
            raise JepaError(f'data.slices ({self.data.slices}) must hold forecaster.context '
                            f'({self.forecaster.context}) slices and the shortest horizon after them')
        if self.encoder.window < 1 or (self.encoder.window > 1) != (self.encoder.tubelet > 1):
            raise JepaError('expected encoder.window >= 2 with a tubelet of 2 or more (a stream), or 1 and 1 (an image '
                            f'encoder), found window {self.encoder.window}, tubelet {self.encoder.tubelet}; without '
                            'a window the forecaster would read latents that have seen the future')
        if self.readout.name and self.readout.name not in self.data.labels:
            raise JepaError(f'readout.name must be a key of data.labels ({sorted(self.data.labels)}), '
                            f'found {self.readout.name!r}')


def load(path, overrides=()):
    """
    Read a configuration.

    :param path: YAML file.
    :param overrides: `section.key=value` strings, values in YAML.
    :returns: Config.
    :raises JepaError: naming the key, what was expected and what was found.
    """
    try:
        values = yaml.safe_load(open(path, encoding='utf-8').read()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise JepaError(f'cannot read the configuration {path}: {error}') from error
    for override in overrides:
        name, equals, text = override.partition('=')
        if not equals:
            raise JepaError(f'--set takes section.key=value, found {override!r}')
        *sections, key = name.split('.')
        target = values
        for section in sections:
            target = target.setdefault(section, {})
        target[key] = yaml.safe_load(text)
    return from_dict(values)


def from_dict(values):
    """:param values: nested dictionary as the YAML file has it; returns a checked Config."""
    return _build(Config, values, '')


def to_dict(config):
    """The inverse of `from_dict`."""
    return dataclasses.asdict(config)


def reference(cls=Config, prefix=''):
    """Every key with type, default and meaning, one line each: what `jepa train --help` prints."""
    lines = []
    for entry in dataclasses.fields(cls):
        if dataclasses.is_dataclass(entry.type):
            lines += reference(entry.type, f'{prefix}{entry.name}.')
        else:
            default = entry.default if entry.default is not dataclasses.MISSING else entry.default_factory()
            kind = getattr(entry.type, '__name__', str(entry.type)) if not typing.get_args(entry.type) \
                else str(entry.type)
            lines.append(f'{prefix + entry.name:<28}{kind:<16}{default!s:<26}{entry.metadata["help"]}')
    return lines


def _build(cls, values, prefix):
    if not isinstance(values, dict):
        raise JepaError(f'{prefix or "the configuration"} must be a table of keys, found {values!r}')
    fields = {entry.name: entry for entry in dataclasses.fields(cls)}
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1, cutoff=0.4)
            hint = f', nearest is {prefix}{near[0]}' if near else f', keys there are {", ".join(fields)}'
            raise JepaError(f'unknown configuration key {prefix}{key}{hint}')
    built = {}
    for key, value in values.items():
        kind = fields[key].type
        built[key] = _build(kind, value, f'{prefix}{key}.') if dataclasses.is_dataclass(kind) \
            else _typed(kind, value, prefix + key)
    return cls(**built)


def _typed(kind, value, name):
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is list and isinstance(value, list):
        return [_typed(arguments[0], item, name) for item in value]
    if origin is dict and isinstance(value, dict):
        return {key: _typed(arguments[1], item, name) for key, item in value.items()}
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and not isinstance(kind, types.GenericAlias) and isinstance(value, kind) \
            and not (kind is int and isinstance(value, bool)):
        return value
    raise JepaError(f'configuration key {name} takes {getattr(kind, "__name__", kind) if not arguments else kind}, '
                    f'found {value!r}')
