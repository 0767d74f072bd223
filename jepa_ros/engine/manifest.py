# SPDX-License-Identifier: Apache-2.0
"""
The manifest of an engine bundle: what the graphs are, what they need, and how well they were measured.

The dataclasses below are the format: the names and types of their fields are those of ``manifest.yaml``, and
a field with a default may be left out.
"""

import dataclasses
import hashlib
import json
import math
import re
import types
import typing
from dataclasses import dataclass, field
from typing import Any

from jepa_ros.errors import JepaError

FORMAT = 1
FAMILIES = ('ijepa', 'vjepa', 'vjepa2', 'vjepa2.1')
MODES = ('frame', 'clip', 'stream')
PRECISIONS = ('fp32', 'fp16', 'bf16', 'int8')
ENCODER, FORECASTER, READOUT = 'encoder.onnx', 'forecaster.onnx', 'readout.onnx'
LATENT_MEAN = 'latent_mean.npy'  # optional: mean of the training latents, float32 [D]
WEIGHTS = ('encoder', 'target_encoder', 'ema_encoder')
_SHA256 = re.compile('[0-9a-f]{64}')


class BundleError(JepaError):
    """An engine bundle that cannot be used; the message names the file or key."""


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of RGB (0..1). Informative: they are folded into the graph."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Architecture:
    """
    The size of the encoder, a vision transformer.

    :param layers: L
    :param heads: attention heads
    :param mlp_width: hidden width of the feed-forward layers
    :param stem: how patches become tokens: ``linear``, one projection, ``hierarchical``, in steps, or
        ``convolutional``, in steps and with convolutions beside them
    """

    layers: int
    heads: int
    mlp_width: int
    stem: str = 'linear'


@dataclass(frozen=True)
class Stream:
    """
    The key/value cache of a block-causal encoder.

    :param slices: W, how many slices attend to each other, the newest included
    :param layers: L
    :param heads: attention heads
    :param head_dim: width of a head
    :param rotary_period: the time that advances every temporal angle by its frequency (s)
    :param frequencies: of the temporal rotary position; angle = t / rotary_period * frequency
    """

    slices: int
    layers: int
    heads: int
    head_dim: int
    rotary_period: float
    frequencies: tuple[float, ...]


@dataclass(frozen=True)
class Horizons:
    """
    What can be asked of the forecaster (s): any time in ``min..max``, or one of ``values``.

    :param kind: ``continuous`` (with min, max and default) or ``discrete`` (with values)
    """

    kind: str
    min: float | None = None
    max: float | None = None
    default: tuple[float, ...] | None = None
    values: tuple[float, ...] | None = None


@dataclass(frozen=True)
class ForecasterSpec:
    """
    The forecaster.

    :param context: S, slices it looks at
    :param horizons: what can be asked
    :param dim: width of the futures
    """

    context: int
    horizons: Horizons
    dim: int


@dataclass(frozen=True)
class ReadoutSpec:
    """
    What the readout tells.

    :param name: of the thing that is read out, such as ``handle``
    :param publish: the publish mode its input must have
    :param quantity: ``image_point``
    :param attributes: name and length of vectors that are true of that point and told with it, in the order of
        the graph's outputs ``attributes`` and ``attributes_std``; without any it has no such outputs
    :param offsets: which of these tell where another point lies from that point, in the model's picture
    """

    name: str
    publish: str
    quantity: str
    attributes: dict[str, int] = field(default_factory=dict)
    offsets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Weights:
    """
    Where the weights come from.

    :param which: one of :data:`WEIGHTS`: the key in the checkpoint
    :param sha256: of the checkpoint
    :param source: who trained it, with what
    :param licence: of the weights
    """

    which: str
    sha256: str
    source: str
    licence: str


@dataclass(frozen=True)
class Manifest:
    """
    The whole manifest; see the dataclasses above for its sections.

    :param format: version of this format
    :param name: of the bundle
    :param family: one of :data:`FAMILIES`
    :param mode: one of :data:`MODES`
    :param image_size: (height, width) of the frames the encoder takes (px)
    :param patch: edge of a patch (px)
    :param tubelet: frames per slice
    :param frame_period: time between frames (s)
    :param frames: frames per step: clip T, stream the tubelet, frame 1
    :param grid: (rows, columns) of the tokens
    :param latent_dim: D
    :param output_norm: ``layer_norm`` or ``none``: what the graph applied to the latents
    :param future_space: ``latents``, or the name of another space the futures live in
    :param precision: one of :data:`PRECISIONS`
    :param files: sha256 of every file of the bundle
    :param training: free: data, steps, command
    :param metrics: free: what was measured
    :param parity: greatest absolute difference between checkpoint (in float32) and graph, per output
    :param cosine: mean cosine similarity between the two, per output
    :param parity_inputs: what both were run on
    """

    format: int
    name: str
    family: str
    mode: str
    image_size: tuple[int, int]
    patch: int
    tubelet: int
    frame_period: float
    frames: int
    normalisation: Normalisation
    grid: tuple[int, int]
    latent_dim: int
    output_norm: str
    future_space: str
    weights: Weights
    precision: str
    files: dict[str, str]
    architecture: Architecture | None = None
    stream: Stream | None = None
    forecaster: ForecasterSpec | None = None
    readout: ReadoutSpec | None = None
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    parity: dict[str, float] = field(default_factory=dict)
    cosine: dict[str, float] = field(default_factory=dict)
    parity_inputs: str = ''

    @classmethod
    def from_dict(cls, data: Any) -> 'Manifest':
        """
        Build a manifest from what YAML or JSON gave, and validate it.

        :raises BundleError: a key is missing, unknown, of a wrong type or does not fit the others
        """
        if isinstance(data, dict) and data.get('format', FORMAT) != FORMAT:
            raise BundleError(f"expected format {FORMAT} in the manifest, found {data['format']!r}: "
                              'the bundle was written by another version of jepa_ros')
        manifest = _build(cls, data, '')
        manifest.validate()
        return manifest

    def to_dict(self) -> dict:
        """Return what :meth:`from_dict` takes: plain mappings, lists, text and numbers."""
        return _plain(self)

    def model_id(self) -> int:
        """Return the uint32 that every cloud of this bundle carries: a hash over the manifest."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], 'big')

    @property
    def tokens(self) -> int:
        """N, tokens per slice."""
        return self.grid[0] * self.grid[1]

    @property
    def slice_period(self) -> float:
        """Time between two slices (s)."""
        return self.tubelet * self.frame_period

    def validate(self) -> None:
        """
        Check that the values are possible and fit each other.

        :raises BundleError: naming the key, what was expected and what was found
        """
        _expect(self.format == FORMAT, 'format', FORMAT, self.format)
        _expect(bool(self.name), 'name', 'a name', self.name)
        _one_of('family', self.family, FAMILIES)
        _one_of('mode', self.mode, MODES)
        _one_of('output_norm', self.output_norm, ('layer_norm', 'none'))
        _one_of('precision', self.precision, PRECISIONS)
        for key in ('patch', 'tubelet', 'frame_period', 'frames', 'latent_dim'):
            _positive(key, getattr(self, key))
        for key in ('image_size', 'grid'):
            for number in getattr(self, key):
                _positive(key, number)
        grid = (self.image_size[0] // self.patch, self.image_size[1] // self.patch)
        _expect(self.grid == grid, 'grid', f'{list(grid)}, image_size over patch', list(self.grid))
        rest = [self.image_size[0] % self.patch, self.image_size[1] % self.patch]
        _expect(rest == [0, 0], 'image_size', f'multiples of the patch {self.patch}', list(self.image_size))
        for key in ('mean', 'std'):
            found = getattr(self.normalisation, key)
            _expect(len(found) == 3, f'normalisation.{key}', '3 numbers', list(found))
        self._validate_mode()
        if self.forecaster is not None:
            _positive('forecaster.context', self.forecaster.context)
            _positive('forecaster.dim', self.forecaster.dim)
            self._validate_horizons(self.forecaster.horizons)
        if self.readout is not None:
            _expect(self.forecaster is not None, 'readout', 'none without a forecaster', self.readout.name)
            _expect(bool(self.readout.name), 'readout.name', 'a name', self.readout.name)
            # The readout finds the model's crop in the received image by its first and last token.
            _one_of('readout.publish', self.readout.publish, ('dense', 'grid'))
            _expect(min(self.grid) > 1, 'grid', 'at least 2 rows and 2 columns with a readout',
                    list(self.grid))
            _one_of('readout.quantity', self.readout.quantity, ('image_point',))
            for name, length in self.readout.attributes.items():
                _positive(f'readout.attributes.{name}', length)
            for name in self.readout.offsets:
                found = self.readout.attributes.get(name)
                _expect(found == 2, 'readout.offsets', f'attributes of length 2 (not {name})', found)
        _one_of('weights.which', self.weights.which, WEIGHTS)
        _sha256('weights.sha256', self.weights.sha256)
        self._validate_files()

    def _validate_mode(self) -> None:
        """Check what depends on the mode."""
        if self.mode == 'stream':
            _expect(self.stream is not None, 'stream', 'a section in mode stream', _Words('none'))
            self._validate_stream(self.stream)
        else:
            _expect(self.stream is None, 'stream', f'none in mode {self.mode}', _Words('a section'))
        if self.mode == 'frame':
            _expect(self.tubelet == 1, 'tubelet', '1 in mode frame', self.tubelet)
        frames = {'frame': 1, 'stream': self.tubelet}.get(self.mode, self.frames)
        _expect(self.frames == frames, 'frames', f'{frames} in mode {self.mode}', self.frames)
        _expect(self.frames % self.tubelet == 0, 'frames', f'a multiple of the tubelet {self.tubelet}',
                self.frames)
        if self.mode == 'clip' and self.forecaster is not None:
            slices = self.frames // self.tubelet
            _expect(self.forecaster.context <= slices, 'forecaster.context',
                    f'at most {slices}, the slices of a clip', self.forecaster.context)

    def _validate_stream(self, stream: Stream) -> None:
        """Check the cache of a streaming encoder."""
        for key in ('slices', 'layers', 'heads', 'head_dim', 'rotary_period'):
            _positive(f'stream.{key}', getattr(stream, key))
        _expect(stream.slices > 1, 'stream.slices', 'at least 2', stream.slices)
        angles = len(stream.frequencies)
        _expect(0 < 2 * angles <= stream.head_dim, 'stream.frequencies',
                f'at least one number and at most half of head_dim {stream.head_dim}',
                _Words(f'{angles} of them'))

    def _validate_horizons(self, horizons: Horizons) -> None:
        """Check the horizons of the forecaster."""
        where = 'forecaster.horizons'
        _one_of(f'{where}.kind', horizons.kind, ('continuous', 'discrete'))
        continuous = horizons.kind == 'continuous'
        for key in ('min', 'max', 'default', 'values'):
            wanted = (key == 'values') != continuous
            found = getattr(horizons, key)
            _expect((found is not None) == wanted, f'{where}.{key}',
                    f"{'a value' if wanted else 'none'} for kind {horizons.kind}", found)
        if continuous:
            _expect(0 < horizons.min <= horizons.max, f'{where}.min', f'a time in 0..max ({horizons.max} s)',
                    horizons.min)
        times = horizons.default if continuous else horizons.values
        ascending = bool(times) and times[0] > 0 and all(a < b for a, b in zip(times, times[1:]))
        inside = ascending and (not continuous or horizons.min <= times[0] and times[-1] <= horizons.max)
        _expect(inside, f"{where}.{'default' if continuous else 'values'}",
                'ascending positive times' + (' within min..max' if continuous else ''), list(times))

    def _validate_files(self) -> None:
        """Check the list of files against what the manifest promises."""
        graphs = {ENCODER: True, FORECASTER: self.forecaster is not None, READOUT: self.readout is not None}
        for name, wanted in graphs.items():
            _expect((name in self.files) == wanted, f'files.{name}', 'an entry' if wanted else 'none',
                    _Words('one' if name in self.files else 'none'))
        for name, digest in self.files.items():
            _expect(name not in ('', '.', '..', 'manifest.yaml') and '/' not in name and '\\' not in name,
                    'files', 'plain names of files other than the manifest', name)
            _sha256(f'files.{name}', digest)


def _build(kind: Any, value: Any, where: str) -> Any:
    """Return ``value`` as an instance of the annotation ``kind``; ``where`` is its key, for messages."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):  # X | None
        return None if value is None else _build(arguments[0], value, where)
    if dataclasses.is_dataclass(kind):
        return _build_section(kind, value, where)
    if origin is tuple:
        length = None if arguments[-1] is Ellipsis else len(arguments)
        _expect(isinstance(value, (list, tuple)) and length in (None, len(value)), where,
                'a list' if length is None else f'a list of {length}', value)
        return tuple(_build(arguments[0], item, f'{where}[{index}]') for index, item in enumerate(value))
    if origin is dict:
        _expect(isinstance(value, dict), where, 'a mapping', value)
        return {_build(str, key, where): _build(arguments[1], item, f'{where}.{key}')
                for key, item in value.items()}
    if kind is Any:
        return _build_free(value, where)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    name = {int: 'a whole number', float: 'a number', str: 'text'}[kind]
    _expect(type(value) is kind and (kind is not float or math.isfinite(value)), where, name, value)
    return value


def _build_section(kind: type, value: Any, where: str) -> Any:
    """Return a mapping as an instance of a dataclass whose fields are its keys."""
    _expect(isinstance(value, dict), where or 'the manifest', 'a mapping', value)
    prefix = f'{where}.' if where else ''
    hints = typing.get_type_hints(kind)
    unknown = sorted(str(key) for key in value if key not in hints)
    if unknown:
        raise BundleError(f"expected no other keys than {', '.join(hints)} in {where or 'the manifest'}, "
                          f"found {', '.join(unknown)}")
    for entry in dataclasses.fields(kind):
        required = entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
        _expect(entry.name in value or not required, prefix + entry.name, 'a value', _Words('none'))
    return kind(**{name: _build(hints[name], item, prefix + name) for name, item in value.items()})


def _build_free(value: Any, where: str) -> Any:
    """Check a free section: it must survive YAML and JSON."""
    if isinstance(value, dict):
        return {_build(str, key, where): _build_free(item, f'{where}.{key}') for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_build_free(item, f'{where}[{index}]') for index, item in enumerate(value)]
    plain = value is None or type(value) in (str, bool, int) or type(value) is float and math.isfinite(value)
    _expect(plain, where, 'text, a finite number, true, false or null', value)
    return value


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {entry.name: _plain(getattr(value, entry.name)) for entry in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


class _Words(str):
    """What was found, in words: not quoted in a message as a value of the manifest is."""

    __repr__ = str.__str__


def _expect(holds: bool, key: str, expected: Any, found: Any) -> None:
    if not holds:
        raise BundleError(f'expected {expected} for {key} in the manifest, found {found!r}')


def _one_of(key: str, found: str, allowed: tuple[str, ...]) -> None:
    _expect(found in allowed, key, f"one of {', '.join(allowed)}", found)


def _positive(key: str, found: float) -> None:
    _expect(found > 0, key, 'a number above 0', found)


def _sha256(key: str, found: str) -> None:
    _expect(bool(_SHA256.fullmatch(found)), key, '64 hexadecimal digits of a sha256', found)
