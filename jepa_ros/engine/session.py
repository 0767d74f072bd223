# SPDX-License-Identifier: Apache-2.0
"""
Encoder sessions: frames in, latents out, futures on request; one small class per mode of encoder.

Letters: T frames per step, N tokens per slice, D latent width, S slices of context, K horizons, W slices in
the cache. A slice is what one tubelet becomes; its time is the stamp of the tubelet's newest frame.
"""

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from jepa_ros.clip import Frames, WindowRequest
from jepa_ros.engine.backends import EngineError, Graph, Ring, Tensor, open_graph
from jepa_ros.engine.bundle import Bundle
from jepa_ros.engine.manifest import ENCODER, FORECASTER
from jepa_ros.images import Geometry
from jepa_ros.latents import Futures, Latents, token_centres

_EMPTY = -1e9  # attention bias of an empty slot: large, and finite so that no graph makes NaN of it


@dataclass(frozen=True)
class _Context:
    """What a forecast is made from: tokens [S, N, D] and times [S] (s, <= 0) before ``stamp_ns``."""

    stamp_ns: int
    tokens: np.ndarray
    times: np.ndarray


def open_session(bundle, *, backend: str = 'auto', threads: int = 0, surprise: bool = True,
                 opener: Callable[[Path], Graph] | None = None) -> 'EncoderSession':
    """
    Open the encoder, and the forecaster if there is one, of a bundle.

    :param bundle: a :class:`Bundle`, the path of one, or the name of one that the package ships
    :param backend: ``auto`` or the name of a backend
    :param threads: threads of one run; 0: one per core
    :param surprise: compare every slice with its forecast, at the cost of one run of the forecaster per step
    :param opener: opens an ONNX file instead of the backend, for who wants to see what the graphs are given
    :raises JepaError: the bundle, the backend or a graph is not as it must be
    """
    bundle = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
    kind = {'frame': FrameSession, 'clip': ClipSession, 'stream': StreamSession}[bundle.manifest.mode]
    return kind(bundle, opener or partial(open_graph, backend=backend, threads=threads), surprise)


class EncoderSession(ABC):
    """
    One camera's stream through an encoder.

    :ivar manifest: of the bundle
    :ivar model_id: uint32 that the latents carry
    :ivar request: what the session wants from a :class:`~jepa_ros.clip.ClipWindow`
    :ivar computed: all slices of the last step, float32 [slices, N, D], oldest first, and their stamps (ns)
    """

    def __init__(self, bundle: Bundle, opener: Callable[[Path], Graph], surprise: bool):
        self.manifest = bundle.manifest
        self.model_id = bundle.model_id
        self._encoder = opener(bundle.encoder)
        self._encoder.check(ENCODER, *self._encoder_signature())
        self._forecaster = self._open_forecaster(bundle, opener)
        # Only futures in the space of the latents can be compared with them.
        self._surprise = (surprise and self._forecaster is not None
                          and self.manifest.future_space == 'latents'
                          and self.manifest.forecaster.dim == self.manifest.latent_dim)
        self._centres: tuple[Geometry, np.ndarray] | None = None
        self._contexts: deque[_Context] = deque(maxlen=self._contexts_kept())
        self.reset()

    @property
    def description(self) -> str:
        """Which backend runs the encoder, and the forecaster where that is another, and why."""
        found = self._encoder.description
        if self._forecaster is not None and self._forecaster.description != found:
            found += f'; forecaster: {self._forecaster.description}'
        return found

    @property
    @abstractmethod
    def request(self) -> WindowRequest:
        """What the session wants from a camera."""

    @abstractmethod
    def _encoder_signature(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return the inputs and outputs that the encoder's graph must have."""

    @abstractmethod
    def _encode(self, frames: Frames) -> tuple[np.ndarray, np.ndarray]:
        """Return the newest slices float32 [slices, N, D], oldest first, and their stamps [slices] (ns)."""

    def step(self, frames: Frames) -> Latents:
        """
        Encode a set of frames.

        :param frames: as :attr:`request` asks for them; if their history was cleared, so is the session's
        :returns: the tokens of the newest slice
        :raises EngineError: frames of another size or number, or the encoder gave NaN or infinity
        """
        if frames.reset is not None:
            self.reset()
        expected = (self.request.frames, *self.manifest.image_size, 3)
        if frames.images.shape != expected or frames.images.dtype != np.uint8:
            raise EngineError(f'expected frames uint8 {list(expected)}, found {frames.images.dtype} '
                              f'{list(frames.images.shape)}')
        slices, stamps = self._encode(frames)
        if not np.isfinite(slices[-1]).all():
            self.reset()  # what is in the cache cannot be trusted either
            raise EngineError('expected finite latents from the encoder, found NaN or infinity')
        self.computed = slices, stamps
        stamp, tokens = int(stamps[-1]), slices[-1]
        latents = Latents(stamp, tokens, self._positions(frames.geometry), np.zeros(len(tokens), np.float32),
                          self._surprise_of(tokens, stamp), self.model_id)
        self._remember(slices, stamps)
        return latents

    def forecast(self, horizons=None) -> Futures | None:
        """
        Predict the tokens after the newest slice.

        :param horizons: times after the newest slice, [K] (s), ascending; None: the bundle's default
        :returns: the futures, or None where the bundle has no forecaster or too few slices were encoded yet
        :raises EngineError: a horizon the bundle does not offer, or the forecaster gave NaN or infinity
        """
        if self._forecaster is None:
            return None
        horizons = self.check_horizons(horizons)
        if not self._contexts:
            return None
        tokens = self._predict(self._contexts[-1], horizons)
        if not np.isfinite(tokens).all():
            raise EngineError('expected finite futures from the forecaster, found NaN or infinity')
        self._futures = Futures(self._contexts[-1].stamp_ns, horizons, tokens, self._centres[1], self.model_id)
        return self._futures

    def check_horizons(self, horizons=None) -> np.ndarray:
        """
        Return horizons as the forecaster takes them, float32 [K].

        :param horizons: times (s); None or empty: the bundle's default
        :raises EngineError: not ascending, or not offered by the bundle; or the bundle has no forecaster
        """
        if self.manifest.forecaster is None:
            raise EngineError(f"expected a bundle with a forecaster, found '{self.manifest.name}' without")
        offered = self.manifest.forecaster.horizons
        if horizons is None or len(horizons) == 0:
            return np.array(offered.default if offered.values is None else offered.values, np.float32)
        times = np.array(horizons, np.float32).reshape(-1)
        given = ', '.join(f'{t:g}' for t in times)
        if (np.diff(times) <= 0).any():
            raise EngineError(f'expected ascending horizons, found {given} s')
        if offered.values is None:
            inside = (times >= np.float32(offered.min)) & (times <= np.float32(offered.max))
            wanted = f'within {offered.min:g}..{offered.max:g} s'
        else:
            inside = np.isin(times, np.array(offered.values, np.float32))
            wanted = f"out of {', '.join(f'{t:g}' for t in offered.values)} s"
        if not inside.all():
            raise EngineError(f'expected horizons {wanted}, found {given} s')
        return times

    def reset(self) -> None:
        """Forget everything that was seen."""
        self._contexts.clear()
        self._futures: Futures | None = None
        self._slices: deque[tuple[int, np.ndarray]] = deque(
            maxlen=self.manifest.forecaster.context if self.manifest.forecaster else 1)

    def _remember(self, slices: np.ndarray, stamps: np.ndarray) -> None:
        """Keep the newest slices as the context of the next forecast."""
        if len(slices) > 1:
            self._slices.clear()  # a clip brings its own past
        self._slices.extend(zip(stamps.tolist(), slices))
        if self._forecaster is None or len(self._slices) < self._slices.maxlen:
            return
        times = np.array([stamp for stamp, _ in self._slices], np.int64)
        self._contexts.append(_Context(int(times[-1]), np.stack([tokens for _, tokens in self._slices]),
                                       ((times - times[-1]) / 1e9).astype(np.float32)))

    def _predict(self, context: _Context, horizons: np.ndarray) -> np.ndarray:
        """Run the forecaster: float32 [K, N, D_future]."""
        feeds = {'context': context.tokens, 'times': context.times, 'dt': horizons}
        return self._forecaster.run(feeds)['futures']

    def _surprise_of(self, tokens: np.ndarray, stamp_ns: int) -> np.ndarray:
        """
        Return the mean squared difference of each token from what an earlier slice forecast for this time.

        The newest slice from which this time can be reached is used; a quarter of a frame period of jitter,
        as frames are chosen with, counts as exact. NaN where there is no such slice.
        """
        unknown = np.full(len(tokens), np.nan, np.float32)
        if not self._surprise:
            return unknown
        for context in reversed(self._contexts):
            dt = (stamp_ns - context.stamp_ns) / 1e9
            nearest = self._nearest_horizon(dt)
            if abs(nearest - dt) <= 0.25 * self.manifest.frame_period:
                forecast = self._foretold(context, nearest)
                surprise = np.square(tokens - forecast).mean(axis=-1)
                return np.where(np.isfinite(surprise), surprise, unknown)
        return unknown

    def _foretold(self, context: _Context, horizon: float) -> np.ndarray:
        """
        Return what a context forecasts, float32 [N, D].

        Where the newest futures have it already, as they have while someone asks for them at every step, the
        forecaster is not run for it again; a twentieth of a frame period counts as the same time.
        """
        known = self._futures
        if known is not None and known.stamp_ns == context.stamp_ns:
            nearest = int(np.abs(known.horizons - horizon).argmin())
            if abs(known.horizons[nearest] - horizon) <= 0.05 * self.manifest.frame_period:
                return known.tokens[nearest]
        return self._predict(context, np.array([horizon], np.float32))[0]

    def _nearest_horizon(self, dt: float) -> float:
        """Return the horizon that is offered and nearest to ``dt`` (s)."""
        offered = self.manifest.forecaster.horizons
        if offered.values is None:
            return min(max(dt, offered.min), offered.max)
        return min(offered.values, key=lambda value: abs(value - dt))

    def _contexts_kept(self) -> int:
        """Return how many contexts reach back over the shortest horizon."""
        if self.manifest.forecaster is None:
            return 1
        offered = self.manifest.forecaster.horizons
        shortest = offered.min if offered.values is None else offered.values[0]
        step = self.manifest.frame_period * self.request.new_frames
        return 2 + math.ceil(shortest / step)

    def _positions(self, geometry: Geometry) -> np.ndarray:
        """Return the token centres [N, 2] in the received image."""
        if self._centres is None or self._centres[0] != geometry:
            self._centres = (geometry, token_centres(self.manifest.grid, geometry))
        return self._centres[1]

    def _open_forecaster(self, bundle: Bundle, opener: Callable[[Path], Graph]) -> Graph | None:
        if bundle.forecaster is None:
            return None
        manifest, spec = self.manifest, self.manifest.forecaster
        graph = opener(bundle.forecaster)
        graph.check(FORECASTER, [_f32('context', spec.context, manifest.tokens, manifest.latent_dim),
                                 _f32('times', spec.context), _f32('dt', None)],
                    [_f32('futures', None, manifest.tokens, spec.dim)])
        return graph

    def _frames_input(self, frames: int) -> Tensor:
        return Tensor('frames', (frames, *self.manifest.image_size, 3), np.dtype(np.uint8))


class FrameSession(EncoderSession):
    """An image encoder: every frame is encoded once; the context of a forecast is the last S frames."""

    @property
    def request(self):
        """One frame per period; only a forecast has a history, and a slow camera need not break it."""
        context = self.manifest.forecaster.context if self.manifest.forecaster else 1
        return WindowRequest(self.manifest.frame_period, 1, 1,
                             max_gap=max(1.0, (context + 1) * self.manifest.frame_period))

    def _encoder_signature(self):
        return [self._frames_input(1)], [_f32('tokens', self.manifest.tokens, self.manifest.latent_dim)]

    def _encode(self, frames):
        return self._encoder.run({'frames': frames.images})['tokens'][None], frames.stamps_ns


class ClipSession(EncoderSession):
    """A bidirectional video encoder: the whole window is encoded anew whenever a tubelet has come in."""

    @property
    def request(self):
        """An anchored window of T frames, since the positions in the graph are constant."""
        manifest = self.manifest
        return WindowRequest(manifest.frame_period, manifest.frames, manifest.tubelet,
                             max_gap=manifest.frames * manifest.frame_period, anchored=True)

    def _encoder_signature(self):
        manifest = self.manifest
        return ([self._frames_input(manifest.frames)],
                [_f32('tokens', manifest.frames // manifest.tubelet, manifest.tokens, manifest.latent_dim)])

    def _encode(self, frames):
        tokens = self._encoder.run({'frames': frames.images})['tokens']
        return tokens, frames.stamps_ns[self.manifest.tubelet - 1::self.manifest.tubelet]


class StreamSession(EncoderSession):
    """
    A block-causal video encoder with a rolling key/value cache: only the newest slice is computed.

    Keys are cached already rotated to their own time, so a slot needs no order: the newest slice overwrites
    the oldest one. The cache lies where the backend computes.
    """

    _cache: Ring | None = None

    @property
    def request(self):
        """One tubelet of new frames; the history ends when the whole cache could have passed."""
        manifest = self.manifest
        return WindowRequest(manifest.frame_period, manifest.tubelet, manifest.tubelet,
                             max_gap=manifest.stream.slices * manifest.slice_period)

    def _encoder_signature(self):
        manifest, stream = self.manifest, self.manifest.stream
        cached = (stream.slices - 1) * manifest.tokens
        return ([self._frames_input(manifest.tubelet), _f32('rotary', 2, len(stream.frequencies)),
                 _f32('past', stream.layers, 2, stream.heads, cached, stream.head_dim), _f32('bias', cached)],
                [_f32('tokens', manifest.tokens, manifest.latent_dim),
                 _f32('present', stream.layers, 2, stream.heads, manifest.tokens, stream.head_dim)])

    def reset(self):
        """Forget everything: all slots are empty, and time begins with the next slice."""
        super().reset()
        if self._cache is None:
            self._cache = self._encoder.ring('past', 'present', axis=3)
        self._cache.clear()
        self._bias = np.full((self.manifest.stream.slices - 1) * self.manifest.tokens, _EMPTY, np.float32)
        self._slot = 0
        self._origin_ns: int | None = None

    def _encode(self, frames):
        stamp = int(frames.stamps_ns[-1])
        if self._origin_ns is None:
            self._origin_ns = stamp
        stream, tokens = self.manifest.stream, self.manifest.tokens
        # In float64: after hours the angles are large, and only their remainder matters.
        angles = (stamp - self._origin_ns) / 1e9 / stream.rotary_period * np.array(stream.frequencies)
        rotary = np.stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
        outputs = self._cache.run({'frames': frames.images, 'rotary': rotary, 'bias': self._bias}, self._slot)
        self._bias[self._slot * tokens:(self._slot + 1) * tokens] = 0
        self._slot = (self._slot + 1) % (stream.slices - 1)
        return outputs['tokens'][None], frames.stamps_ns[-1:]


def _f32(name: str, *shape: int | None) -> Tensor:
    return Tensor(name, shape, np.dtype(np.float32))
