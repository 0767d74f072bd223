# SPDX-License-Identifier: Apache-2.0
"""
The configuration of an audit: which pair, which recordings, which probes, and the rule that decides.

The dataclasses below are the format: names and types of their fields are those of the YAML file, and a field
with a default may be left out.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from jepa_ros.errors import JepaError, one_line
from jepa_ros.evaluation.probes.settings import Settings

HEADS, TIES = ('attentive', 'linear'), ('image', 'pending')


class AuditError(JepaError):
    """An audit that cannot be run, or a record that cannot be read."""


@dataclass(frozen=True)
class Side:
    """
    One of the two encoders.

    :param bundle: path, or name of one that ships.
    :param name: in the record; '': that of the bundle's manifest.
    :param training_hours: that training took, in the unit of `rule.cost.training_unit`; None: as the
        manifest's `training` says under `hours`, or unknown.
    """

    bundle: str
    name: str = ''
    training_hours: float | None = None


@dataclass(frozen=True)
class Data:
    """
    Recordings: files, folders or globs, relative to the folders that --data names.

    :param train: probes are fitted on them.
    :param validation: learning rate and weight decay are chosen on them, and nothing else is.
    :param held_out: scored once, after all choices.
    :param topic: camera topic of the bags; '': each has one.
    """

    train: list[str]
    validation: list[str]
    held_out: list[str]
    topic: str = ''


@dataclass(frozen=True)
class Gain:
    """
    What the video encoder must gain on a temporal probe.

    :param probe: name of the probe.
    :param metric: of it; '': its first.
    :param minimum_gain: above 0: the lower end of the interval must reach it.
    :param resolution: differences that do not matter: an interval this narrow to either side that still holds
        the minimum is a tie. 0: no ties.
    """

    probe: str
    minimum_gain: float
    metric: str = ''
    resolution: float = 0.0


@dataclass(frozen=True)
class Loss:
    """
    What it may lose on a static probe.

    :param largest_loss: from 0: the upper end of the interval must not exceed it.
    """

    probe: str
    largest_loss: float
    metric: str = ''
    resolution: float = 0.0


@dataclass(frozen=True)
class ClosedLoop:
    """
    What it must gain in the success rate of rollouts, over the same seeds.

    :param minimum_gain: may be negative, a loss that is allowed.
    :param result: folder of a run of `jepa evaluate rollout` with both bundles, looked up in --data.
    """

    minimum_gain: float
    result: str = ''
    resolution: float = 0.0


@dataclass(frozen=True)
class Cost:
    """
    The largest cost that the minimum gain justifies, as video over image. None: no limit.

    :param inference: of the time per new frame, in the mode each is run in.
    :param load: of the computing time per second of camera.
    :param memory: of the memory a process takes for it.
    :param training: of the time training took.
    :param training_unit: of `training_hours`, for people.
    """

    inference: float | None = None
    load: float | None = None
    memory: float | None = None
    training: float | None = None
    training_unit: str = 'GPU-hours'


@dataclass(frozen=True)
class Rule:
    """
    When the video encoder wins; written before the evidence is looked at.

    :param head: of the probes whose score counts: attentive or linear; the other is reported.
    :param confidence: of every interval (0.5..1).
    :param least_sequences: below it nothing is decided.
    :param tie: image or pending: who wins where all that is open is tied.
    """

    temporal: list[Gain]
    static: list[Loss]
    closed_loop: ClosedLoop | None = None
    cost: Cost = field(default_factory=Cost)
    head: str = 'attentive'
    confidence: float = 0.95
    least_sequences: int = 12
    tie: str = 'pending'

    def sha256(self) -> str:
        """Return what tells whether two rules are the same; where a result lies is not part of a rule."""
        values = dataclasses.asdict(self)
        if self.closed_loop:
            del values['closed_loop']['result']
        return sha256(values)


@dataclass(frozen=True)
class Timing:
    """
    How inference is timed.

    :param rounds: turns of each encoder, in alternation.
    :param seconds: of the recording in one turn.
    :param threads: of the backend; 0: one per core.
    """

    rounds: int = 12
    seconds: float = 2.0
    backend: str = 'auto'
    threads: int = 0


@dataclass(frozen=True)
class Config:
    """
    The whole audit.

    :param name: of the audit and its folder.
    :param split: what the held-out recordings are called in the record.
    :param also: further probes that are run and reported, and decide nothing.
    :param probes: settings of all probes: clips, budget, sweep.
    :param probe_task: what the record calls the first temporal task; '': the name of its probe.
    :param metric: what it calls the metric; '': as the probe says.
    """

    name: str
    split: str
    image: Side
    video: Side
    data: Data
    rule: Rule
    also: list[str] = field(default_factory=list)
    probes: Settings = field(default_factory=Settings)
    probe_task: str = ''
    metric: str = ''
    timing: Timing = field(default_factory=Timing)

    def __post_init__(self):
        """
        Check what one key alone cannot tell.

        :raises AuditError: naming the key.
        """
        rule = self.rule
        folder = self.name and Path(self.name).name == self.name
        _expect(bool(folder), 'name', 'a name that a folder can have', repr(self.name))
        if not rule.temporal or not rule.static:
            raise AuditError('expected at least one probe in rule.temporal and in rule.static, found none')
        for gain in rule.temporal:
            _expect(gain.minimum_gain > 0, 'rule.temporal.minimum_gain', 'above 0', gain.minimum_gain)
        for loss in rule.static:
            _expect(loss.largest_loss >= 0, 'rule.static.largest_loss', 'from 0', loss.largest_loss)
        for key in ('inference', 'load', 'memory', 'training'):
            limit = getattr(rule.cost, key)
            _expect(limit is None or limit > 0, f'rule.cost.{key}', 'a ratio above 0', limit)
        _expect(0.5 <= rule.confidence < 1, 'rule.confidence', 'from 0.5 to below 1', rule.confidence)
        _expect(rule.least_sequences >= 2, 'rule.least_sequences', '2 or more', rule.least_sequences)
        _expect(rule.head in HEADS, 'rule.head', ' or '.join(HEADS), rule.head)
        _expect(rule.tie in TIES, 'rule.tie', ' or '.join(TIES), rule.tie)
        _expect(self.timing.rounds >= 3, 'timing.rounds', '3 or more', self.timing.rounds)
        _expect(bool(self.data.held_out), 'data.held_out', 'recordings', self.data.held_out)

    @property
    def settings(self) -> Settings:
        """Of all probes: their verdicts ask for the confidence of the rule."""
        return dataclasses.replace(self.probes, confidence=self.rule.confidence)

    def probe_names(self) -> list[str]:
        """Return every probe that is run, each once, those of the rule first."""
        rule = self.rule
        return list(dict.fromkeys([*(g.probe for g in (*rule.temporal, *rule.static)), *self.also]))


def load(path: Path) -> tuple[Config, str]:
    """
    Read a configuration.

    :returns: the configuration and the sha256 of the file.
    :raises AuditError: it cannot be read, or a key is wrong.
    """
    try:
        content = Path(path).read_bytes()
        values = yaml.safe_load(content)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise AuditError(f'{path}: expected a configuration in YAML, found {one_line(error)}') from error
    try:
        return build(Config, values), hashlib.sha256(content).hexdigest()
    except AuditError as error:
        raise AuditError(f'{path}: {error}') from error


def sha256(values) -> str:
    """Return the sha256 of values that JSON can hold, the same whatever the order of their keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def build(kind, value, key: str = ''):
    """
    Return a value from YAML as an instance of an annotation.

    :param kind: a dataclass, or the annotation of one of its fields.
    :raises AuditError: naming the key, what was expected and what was found.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else build(arguments[0], value, key)
    if dataclasses.is_dataclass(kind):
        return _section(kind, value, key)
    if origin is list:
        _expect(isinstance(value, list), key, 'a list', value)
        return [build(arguments[0], item, f'{key}[{i}]') for i, item in enumerate(value)]
    if origin is tuple:
        length = None if arguments[-1] is Ellipsis else len(arguments)
        holds = isinstance(value, list) and length in (None, len(value))
        _expect(holds, key, f'a list of {length}' if length else 'a list', value)
        return tuple(build(arguments[0], item, f'{key}[{i}]') for i, item in enumerate(value))
    if kind is float and type(value) is int:
        value = float(value)
    words = {dict: 'a mapping', str: 'text', int: 'a whole number', float: 'a number', bool: 'true or false'}
    _expect(type(value) is kind and (kind is not float or math.isfinite(value)), key, words[kind], value)
    return value


def _section(kind, value, key: str):
    _expect(isinstance(value, dict), key, 'a mapping', value)
    hints, prefix = typing.get_type_hints(kind), f'{key}.' if key else ''
    for name in value:
        if name not in hints:
            near = difflib.get_close_matches(str(name), hints, n=1)
            meant = f"did you mean '{near[0]}'" if near else f'there are {", ".join(hints)}'
            raise AuditError(f"unknown key '{prefix}{name}': {meant}")
    for entry in dataclasses.fields(kind):
        optional = not (entry.default is entry.default_factory is dataclasses.MISSING)
        _expect(optional or entry.name in value, prefix + entry.name, 'a value', 'none')
    return kind(**{name: build(hints[name], item, prefix + name) for name, item in value.items()})


def _expect(holds: bool, key: str, expected: str, found) -> None:
    if not holds:
        raise AuditError(f"expected {expected} for '{key or 'the file'}', found {found}")
