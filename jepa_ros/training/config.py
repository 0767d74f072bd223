# SPDX-License-Identifier: Apache-2.0
"""
The training configuration: one typed table that the YAML files, `--set` and `jepa train --help` are read
against.

An unknown or ill-typed key is an error that names the nearest valid one.
"""

import collections
import dataclasses
import difflib
import inspect
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from jepa_ros.errors import JepaError
from jepa_ros.training.stages import STAGES

DIFFERENCES = ('differences', 'pose_differences')  # what an action is made of where no command was recorded
PARALLEL = ('auto', 'none', 'ddp', 'fsdp')


def _key(default, help_text, machine=False):
    """:param machine: True for a key about the machine or the log, which may change when a run is resumed."""
    metadata = {'help': help_text, 'machine': machine}
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class Data:
    """Where clips come from, and how they are cut and changed."""

    train: list[str] = _key(
        [], 'files, folders or globs to train on: videos, bags, image folders, WebDataset shards'
    )
    weights: list[float] = _key([], 'how often each entry of train is drawn; empty: by its number of frames')
    balance: float = _key(1.0, 'recordings of an entry are drawn by their frames to this power; 0: all alike')
    validation: list[str] = _key([], 'the same for validation; no file may stand in two lists')
    held_out: list[str] = _key([], 'the same for the final figures; never read by the trainer')
    topic: str = _key('', 'camera topic of the bags; empty: each has one')
    labels: dict[str, str] = _key(
        {},
        'readout name: bag topic with its image point (geometry_msgs/PointStamped), or its pose in the optical frame of '
        'the camera (PoseStamped)',
    )
    vectors: dict[str, str] = _key(
        {}, 'name: bag topic with a vector (JointState, Twist, PoseStamped, Float64MultiArray)'
    )
    frame_period: float = _key(0.05, 'seconds between the frames of a clip')
    slices: int = _key(10, 'tubelets in a clip')
    jitter: float = _key(0.3, 'random shift of every asked frame, as a share of frame_period')
    drop: float = _key(0.05, 'probability that an asked frame is missing and the next one is taken')
    stretch: list[float] = _key([0.8, 1.5], 'range of the random factor on frame_period')
    crop: list[float] = _key([0.6, 1.0], 'range of the area of the random crop, one crop for a whole clip')
    aspect: list[float] = _key([], 'range of a random factor on the aspect ratio of the crop; empty: none')
    flip: bool = _key(True, 'mirror half of the clips')
    light: float = _key(
        0.25, 'range of random brightness, contrast and colour gain, one draw for a whole clip'
    )
    colour: float = _key(
        0.0,
        "strength of the colour distortion of I-JEPA's code, 0 to 1, which its recipes leave off; 0: none",
    )
    validation_stride: float = _key(1.0, 'seconds between the starts of validation clips')
    validation_clips: int = _key(
        0, 'that many random ones instead, the same in every run; 0: all, validation_stride apart'
    )
    image_rate: float | None = _key(
        None, 'frames per second of folders of numbered images; null: single images'
    )
    stream: bool = _key(
        False, 'decode whenever a clip needs it, for sets that no disk holds decoded', machine=True
    )
    cache_limit: float = _key(
        0.0,
        'most gigabytes of decoded frames in the cache, the longest unused give way; 0: the disk',
        machine=True,
    )
    workers: int = _key(0, 'processes that make batches; 0: one thread of the trainer', machine=True)


@dataclass
class Encoder:
    """The encoder that is trained."""

    size: str = _key('tiny', 'tiny, small, base, large, huge, giant or gigantic')
    depth: int = _key(0, 'transformer blocks; 0: as the size has')
    image_size: list[int] = _key([96, 128], 'height and width in pixels')
    patch: int = _key(16, 'side of a patch in pixels')
    stem: str = _key(
        'linear',
        'linear: a patch is projected at once, as in the papers; hierarchical: in steps, which finds small '
        'things with less training; convolutional: that, and convolutions beside it, which tell where edges lie',
    )
    tubelet: int = _key(2, 'frames in a slice of tokens')
    window: int = _key(8, 'slices a token sees, its own included: what a stream caches')


@dataclass
class Transformer:
    """What every smaller network behind the encoder has."""

    width: int = _key(96, 'latent width, a multiple of heads')
    depth: int = _key(4, 'transformer blocks')
    heads: int = _key(3, 'attention heads')


@dataclass
class Predictor(Transformer):
    """The mask-token predictor of the pretraining."""


@dataclass
class Masks:
    """
    What the predictor must fill, drawn per clip (vjepa) or per frame (ijepa).

    vjepa: tubes; half of the steps use the short-range ones, half the long-range ones. ijepa: target blocks,
    and a context block without them.
    """

    short_blocks: int = _key(8, 'blocks in a short-range mask')
    short_scale: float = _key(0.15, 'area of each, as a share of the image')
    long_blocks: int = _key(2, 'blocks in a long-range mask')
    long_scale: float = _key(0.7, 'area of each, as a share of the image')
    target_blocks: int = _key(4, 'target blocks of ijepa')
    target_scale: list[float] = _key([0.15, 0.2], 'range of the area of each, as a share of the image')
    context_scale: list[float] = _key(
        [0.85, 1.0], 'range of the area of the context block, targets not yet cut out'
    )
    min_keep: int = _key(10, 'the context keeps more patches than this')
    both: bool = _key(
        False,
        'vjepa: a short-range and a long-range mask in every step, as the official code has it; it takes '
        'twice as long',
    )


@dataclass
class Forecaster(Transformer):
    """The Δt-conditioned forecaster."""

    width: int = _key(128, 'latent width, a multiple of heads')
    heads: int = _key(4, 'attention heads')
    context: int = _key(4, 'slices it reads')
    range: list[float] = _key([0.05, 0.6], 'shortest and longest horizon it may be asked for, seconds')
    horizons: list[float] = _key([0.1, 0.2, 0.3, 0.4, 0.5], 'horizons a node asks for unless told otherwise')


@dataclass
class ActionForecaster(Transformer):
    """The action-conditioned forecaster; there is one where `state` is set."""

    width: int = _key(128, 'latent width, a multiple of heads')
    heads: int = _key(4, 'attention heads')
    context: int = _key(4, 'slices it reads')
    state: str = _key('', 'which entry of data.vectors is the state of the robot; empty: no such forecaster')
    states: int = _key(7, 'elements of the state')
    action: str = _key(
        'differences',
        'what an action is: differences (of the state), pose_differences (V-JEPA 2-AC: x, y, z, '
        'roll, pitch, yaw, gripper), or an entry of data.vectors with commands',
    )
    actions: int = _key(7, 'elements of an action')


@dataclass
class Readout(Transformer):
    """The readout head on the futures; trained where `data.labels` names its topic."""

    depth: int = _key(2, 'transformer blocks')
    name: str = _key('', 'which entry of data.labels; empty: none')
    attributes: dict[str, int] = _key(
        {},
        'entries of data.vectors that are true of the point, and their lengths: it tells them too; or of '
        'data.labels, length 2: where another point lies from it',
    )


@dataclass
class Stage:
    """What every stage has: how long, how many clips at once, and AdamW's schedules."""

    steps: int = _key(3000, 'updates; 0 leaves the stage out')
    batch: int = _key(16, 'clips in an update, over all processes')
    accumulate: int = _key(
        1, 'parts of the batch that go through one after the other, to save memory', machine=True
    )
    rate: float = _key(1e-3, 'peak learning rate')
    rate_start: float = _key(0.0, 'learning rate at which the warm-up begins')
    rate_end: float | None = _key(None, 'learning rate of the last update (cosine); null: 1 % of the peak')
    warmup: int = _key(200, 'updates of linear warm-up')
    weight_decay: float = _key(0.04, 'on weights of two and more dimensions, first update')
    weight_decay_end: float | None = _key(None, 'the same, last update (cosine); null: as at first')
    betas: list[float] = _key([0.9, 0.95], "decay of AdamW's two averages")


@dataclass
class Pretraining(Stage):
    """The encoder learns to fill masks."""

    objective: str = _key('vjepa', 'vjepa (tubes over a clip) or ijepa (blocks in every frame)')
    norm: str = _key(
        'l1', "distance to the target: l1 (V-JEPA), smooth_l1 (I-JEPA's code) or l2 (I-JEPA's paper)"
    )
    ema: list[float] = _key([0.99, 0.9999], 'momentum of the target encoder, first to last update (linear)')
    context_loss: float = _key(0.0, "weight of V-JEPA 2.1's loss on context tokens (there 0.5); 0: none")
    context_loss_rise: list[int] = _key(
        [15000, 30000], 'updates between which that weight rises from 0 to its value'
    )
    forecast: float = _key(
        0.0, "weight of the forecaster's loss, which then teaches the encoder too; 0: only in heads"
    )
    readout: float = _key(
        0.0, "weight of the readout's loss on labelled slices, a teacher of the encoder too; 0: only in heads"
    )
    labelled: int = _key(
        0,
        'clips of a step, besides the batch, in which the point is to be seen: the readout learns from them alone, which '
        'costs less than filling masks; 0: it learns from the batch',
    )


@dataclass
class Distillation(Stage):
    """The encoder learns what a larger one sees, often one that looks both ways."""

    teacher: str = _key(
        '', 'weights of the teacher: a checkpoint of jepa train, or published ones (then with model)'
    )
    model: str = _key(
        '', 'which published model the weights are, as jepa export --families lists them; empty: a checkpoint'
    )
    image_size: list[int] = _key([], 'height and width in which the teacher sees the clips; empty: its own')
    width: int = _key(1024, 'latent width of the teacher')
    ema: list[float] = _key(
        [0.99, 0.9999], 'momentum of the target encoder, which is kept, first to last update (linear)'
    )


@dataclass
class Heads(Stage):
    """Forecaster and readout on latents of the encoder, which now stands still."""

    steps: int = _key(5000, 'updates; 0 leaves the stage out')
    warmup: int = _key(100, 'updates of linear warm-up')
    clips: int = _key(4000, 'clips that are encoded once, and that the heads learn from')
    readout: float = _key(
        0.0, "share of the readout's gradient that the forecaster learns from; 0: the readout learns alone"
    )
    window: int = _key(
        0, 'slices that a bidirectional encoder (encoder.window 0) encodes at once, the newest known one last'
    )


@dataclass
class Actions(Stage):
    """The action-conditioned forecaster on latents of the encoder, which stands still."""

    steps: int = _key(5000, 'updates; 0 leaves the stage out')
    warmup: int = _key(100, 'updates of linear warm-up')
    clips: int = _key(4000, 'clips that are encoded once, and that the forecaster learns from')
    rollout: int = _key(2, 'slices it forecasts from its own answers in the loss')


@dataclass
class Config:
    """One training run."""

    name: str = _key('jepa', 'name of the model')
    seed: int = _key(0, 'everything random follows from it and the step')
    licence: str = _key('Apache-2.0', 'licence of the weights that come out')
    init_from: str = _key(
        '', 'start from these weights: a checkpoint of jepa train, a bundle (also one that ships), or published weights'
    )
    init_model: str = _key(
        '', 'which published model init_from is (vjepa2-vitl, ...); empty: a checkpoint of jepa train, or a bundle'
    )
    init_which: str = _key(
        'target_encoder',
        'which weights of a checkpoint of jepa train: target_encoder, or encoder, which a target that moves slowly '
        'has not caught up with after a short run',
    )
    stages: list[str] = _key(['pretraining', 'heads'], 'what is trained, in this order')
    clip: float = _key(1.0, 'largest norm of the gradient of a module; 0: not clipped')
    bf16: bool | None = _key(
        None, 'compute in bfloat16 where autocast allows; null: where this machine is faster with it', machine=True
    )
    device: str = _key('auto', 'auto (cuda where there is one), cpu, cuda or cuda:N', machine=True)
    parallel: str = _key('auto', 'none, ddp or fsdp; auto: ddp under torchrun, else none', machine=True)
    compile: bool = _key(False, 'compile the blocks with torch.compile', machine=True)
    recompute: bool = _key(
        False, 'forget what blocks computed until the backward pass: less memory, more work', machine=True
    )
    most_skipped: int = _key(
        10, 'updates in a row that may be skipped for a loss or gradient that is not finite'
    )
    log_every: int = _key(20, 'updates between lines of metrics.jsonl and TensorBoard', machine=True)
    validate_every: int = _key(250, 'updates between validations')
    save_every: int = _key(250, 'updates between checkpoints', machine=True)
    data: Data = field(default_factory=Data, metadata={'help': 'clips'})
    encoder: Encoder = field(default_factory=Encoder, metadata={'help': 'encoder'})
    predictor: Predictor = field(default_factory=Predictor, metadata={'help': 'predictor'})
    masks: Masks = field(default_factory=Masks, metadata={'help': 'masks'})
    forecaster: Forecaster = field(default_factory=Forecaster, metadata={'help': 'forecaster'})
    readout: Readout = field(default_factory=Readout, metadata={'help': 'readout'})
    pretraining: Pretraining = field(default_factory=Pretraining, metadata={'help': 'stage pretraining'})
    action_forecaster: ActionForecaster = field(
        default_factory=ActionForecaster, metadata={'help': 'action forecaster'}
    )
    distillation: Distillation = field(default_factory=Distillation, metadata={'help': 'stage distillation'})
    heads: Heads = field(default_factory=Heads, metadata={'help': 'stage heads'})
    actions: Actions = field(default_factory=Actions, metadata={'help': 'stage actions'})

    def __post_init__(self):
        """
        Check what one key alone cannot tell.

        :raises JepaError: for values that do not fit each other.
        """
        weights = self.data.weights
        if weights and (len(weights) != len(self.data.train) or min(weights) < 0 or not sum(weights)):
            raise JepaError(
                f'data.weights takes one number for each entry of data.train ({len(self.data.train)}), none '
                f'negative and not all 0, found {weights}'
            )
        for key, found, choice in (
            ('stages', self.stages, STAGES),
            ('parallel', [self.parallel], PARALLEL),
            ('init_which', [self.init_which], ('target_encoder', 'encoder')),
            ('pretraining.objective', [self.pretraining.objective], ('vjepa', 'ijepa')),
            ('pretraining.norm', [self.pretraining.norm], ('l1', 'l2', 'smooth_l1')),
        ):
            if len(set(found)) != len(found) or not set(found) <= set(choice):
                raise JepaError(f'{key} takes {", ".join(choice)}, none twice, found {", ".join(found)}')
        for key, found in (
            ('data.aspect', self.data.aspect),
            ('distillation.image_size', self.distillation.image_size),
        ):
            if len(found) not in (0, 2):
                raise JepaError(f'configuration key {key} takes two numbers or none, found {found}')
        self._check_encoder()
        if 'heads' in self.stages and self.heads.steps or self.pretraining.forecast:
            self._check_forecaster()
        self._check_readout()
        if 'actions' in self.stages and self.actions.steps:
            self._check_actions()

    def _check_readout(self):
        of, names = self.readout, sorted(self.data.vectors)
        if of.name and of.name not in self.data.labels:
            raise JepaError(
                f'readout.name must be a key of data.labels ({sorted(self.data.labels)}), found {of.name!r}'
            )
        others = sorted({*self.data.labels} - {of.name})
        if any(
            length < 1 or name not in names and (name not in others or length != 2)
            for name, length in of.attributes.items()
        ):
            raise JepaError(
                f'readout.attributes takes keys of data.vectors ({names}) and their lengths, and other keys of '
                f'data.labels ({others}) with length 2, found {of.attributes}'
            )
        if of.attributes and self.data.flip:
            raise JepaError(
                'readout.attributes needs data.flip: false, found true: a mirrored picture would have others'
            )
        if not of.name and (of.attributes or self.pretraining.readout or self.heads.readout):
            raise JepaError(
                'readout.attributes, pretraining.readout and heads.readout need a readout.name, found none'
            )
        if self.pretraining.labelled and not self.pretraining.readout:
            raise JepaError('pretraining.labelled needs a pretraining.readout above 0, found 0')

    def _check_actions(self):
        of, names = self.action_forecaster, sorted(self.data.vectors)
        if of.state not in names or of.action not in (*DIFFERENCES, *names):
            raise JepaError(
                f'the stage actions needs action_forecaster.state from data.vectors ({names}) and action '
                f'from there or {", ".join(DIFFERENCES)}, found state {of.state!r} and action {of.action!r}'
            )
        if of.action in DIFFERENCES and of.actions != of.states:
            raise JepaError(
                f'action_forecaster.actions must be as many as states ({of.states}) where an action is their '
                f'change, found {of.actions}'
            )
        if of.action == 'pose_differences' and of.states != 7:
            raise JepaError(
                'action_forecaster.action pose_differences takes 7 states (x, y, z, roll, pitch, yaw, '
                f'gripper), found {of.states}'
            )
        if self.data.flip:
            raise JepaError(
                'the stage actions needs data.flip: false, found true: a mirrored robot moves the other way'
            )
        if self.encoder.window < 1 or self.data.slices <= of.context:
            raise JepaError(
                'the stage actions needs encoder.window >= 1 (it would read latents that have seen the '
                'future) and more data.slices than action_forecaster.context, found window '
                f'{self.encoder.window}, slices {self.data.slices} and context {of.context}'
            )

    def _check_encoder(self):
        window, tubelet = self.encoder.window, self.encoder.tubelet
        if window < 0 or tubelet < 1 or (window == 1) != (tubelet == 1):
            raise JepaError(
                'expected encoder.window >= 2 with a tubelet of 2 or more (a stream), 0 with such a tubelet '
                f'(bidirectional), or 1 and 1 (an image encoder), found window {window}, tubelet {tubelet}'
            )
        if (self.pretraining.objective == 'ijepa') != (tubelet == 1) and 'pretraining' in self.stages:
            raise JepaError(
                'pretraining.objective ijepa is for image encoders (tubelet 1) and vjepa for video encoders, '
                f'found {self.pretraining.objective} with tubelet {tubelet}'
            )
        if self.pretraining.context_loss and self.pretraining.objective == 'ijepa':
            raise JepaError('pretraining.context_loss belongs to vjepa, found it with ijepa')
        start, end = self.pretraining.context_loss_rise
        if start >= end:
            raise JepaError(
                f'pretraining.context_loss_rise takes two ascending updates, found {start}, {end}'
            )

    def _check_forecaster(self):
        """
        A bidirectional encoder's latents must not have seen the future: the window ends before what is
        forecast.
        """
        past, key = self.forecaster.context, 'forecaster.context'
        if not self.encoder.window:
            past, key = self.heads.window, 'heads.window'
            if past < self.forecaster.context:
                raise JepaError(
                    'a bidirectional encoder (encoder.window 0) needs heads.window, at least '
                    f'forecaster.context ({self.forecaster.context}), or the forecaster would read latents '
                    f'that have seen the future; found {past}'
                )
        longest = self.data.slices - past
        slice_period = self.data.frame_period * self.encoder.tubelet
        if longest < 1:
            raise JepaError(
                f'data.slices ({self.data.slices}) must hold {key} ({past}) slices and what is to be forecast after them'
            )
        first, last = (of * slice_period for of in (min(self.data.stretch), longest * max(self.data.stretch)))
        if min(self.forecaster.horizons) < first - 1e-6 or max(self.forecaster.horizons) > last + 1e-6:
            raise JepaError(
                f'expected forecaster.horizons within {first:.3g}..{last:.3g} s, which is what data.slices '
                f'({self.data.slices}, {past} of them past), data.frame_period and data.stretch show, found '
                f'{self.forecaster.horizons}: of others nothing would be learned'
            )


def load(path, overrides=()):
    """
    Read a configuration.

    :param path: YAML file.
    :param overrides: `section.key=value` strings, values in YAML.
    :returns: Config.
    :raises JepaError: naming the key, what was expected and what was found.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding='utf-8')) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise JepaError(f'cannot read the configuration {path}: {error}') from error
    for override in overrides:
        _override(values, override)
    return from_dict(values)


def _override(values, override):
    """:param values: nested dictionary, changed in place; `override`: `section.key=value`."""
    name, equals, text = override.partition('=')
    *sections, key = name.split('.')
    target = values
    for section in sections:
        target = target.setdefault(section, {}) if isinstance(target, dict) else None
    if not equals or not isinstance(target, dict):
        raise JepaError(f'--set takes section.key=value, found {override!r}')
    try:
        target[key] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise JepaError(f'--set takes a value in YAML, found {override!r}') from error


def from_dict(values):
    """:param values: nested dictionary as the YAML file has it; returns a checked Config."""
    return _build(Config, values, '')


def to_dict(config):
    """The inverse of `from_dict`."""
    return dataclasses.asdict(config)


def differences(old, new):
    """
    What two configurations do not share, apart from keys about the machine.

    :returns: list of `key was VALUE, is VALUE`.
    """
    return _differences(Config, to_dict(old), to_dict(new), '')


def _differences(cls, old, new, prefix):
    lines = []
    for entry in dataclasses.fields(cls):
        before, after = old[entry.name], new[entry.name]
        if dataclasses.is_dataclass(entry.type):
            lines += _differences(entry.type, before, after, f'{prefix}{entry.name}.')
        elif before != after and not entry.metadata['machine']:
            lines.append(f'{prefix}{entry.name} was {before!r}, is {after!r}')
    return lines


def reference():
    """Every key with type, default and meaning, one line each: what `jepa train --help` prints."""
    return [
        f'{row.name:<32}{row.kind:<18}{row.default:<26}{row.help}'
        for _, rows in _table(Config)
        for row in rows
    ]


def reference_page():
    """The same as a page in Markdown, `docs/training_reference.md`."""
    lines = [
        '# Configuration of a training run',
        '',
        '<!-- made by: jepa train --reference > docs/training_reference.md -->',
        '',
        'Every key of the files in `config/train`, of `--set KEY=VALUE`, and of `jepa train --help`. An',
        'unknown or ill-typed key is an error that names the nearest valid one. Keys marked * are about the',
        'machine or the log: they may change when a run is resumed; any other change is refused by name.',
    ]
    for title, rows in _table(Config):
        lines += ['', f'## {title}', '', '| key | type | default | meaning |', '|---|---|---|---|']
        for row in rows:
            mark = ' *' if row.machine else ''
            lines.append(f'| `{row.name}`{mark} | {row.kind} | `{row.default}` | {row.help} |')
    return '\n'.join(lines) + '\n'


Row = collections.namedtuple('Row', 'name kind default help machine')


def _table(cls, prefix=''):
    """Pairs of a section's docstring and its rows, sections in order."""
    rows, sections = [], []
    for entry in dataclasses.fields(cls):
        if dataclasses.is_dataclass(entry.type):
            sections += _table(entry.type, f'{prefix}{entry.name}.')
        else:
            default = entry.default if entry.default is not dataclasses.MISSING else entry.default_factory()
            kind = str(entry.type) if typing.get_args(entry.type) else entry.type.__name__
            rows.append(
                Row(
                    prefix + entry.name,
                    kind.replace('None', 'null'),
                    yaml_text(default),
                    entry.metadata['help'],
                    entry.metadata['machine'],
                )
            )
    title = f'{prefix[:-1]}: {inspect.getdoc(cls).splitlines()[0]}' if prefix else inspect.getdoc(cls)
    return [(title, rows), *sections]


def yaml_text(value):
    """A value as one writes it in a configuration file, on one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=1000).splitlines()[0]


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
        built[key] = (
            _build(kind, value, f'{prefix}{key}.')
            if dataclasses.is_dataclass(kind)
            else _typed(kind, value, prefix + key)
        )
        if kind in (list[int], list[float]) and len(fields[key].default_factory()) == 2 != len(value):
            raise JepaError(f'configuration key {prefix}{key} takes two numbers, found {value}')
    return cls(**built)


def _typed(kind, value, name):
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:  # `float | None`
        return None if value is None else _typed(arguments[0], value, name)
    if origin is list and isinstance(value, list):
        return [_typed(arguments[0], item, name) for item in value]
    if origin is dict and isinstance(value, dict):
        return {key: _typed(arguments[1], item, name) for key, item in value.items()}
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if (
        isinstance(kind, type)
        and not isinstance(kind, types.GenericAlias)
        and isinstance(value, kind)
        and not (kind is int and isinstance(value, bool))
    ):
        return value
    raise JepaError(
        f'configuration key {name} takes {getattr(kind, "__name__", kind) if not arguments else kind}, '
        f'found {value!r}'
    )
