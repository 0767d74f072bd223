# SPDX-License-Identifier: Apache-2.0
"""What turns a clip's frames into tokens: a bundle's session, and the two baselines that learnt nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from jepa_ros.clip import Frames
from jepa_ros.engine.backends import Graph, open_graph
from jepa_ros.engine.bundle import Bundle
from jepa_ros.engine.manifest import Manifest
from jepa_ros.engine.session import open_session
from jepa_ros.evaluation.probes.scores import ProbeError
from jepa_ros.images import Geometry


class ClipEncoder(ABC):
    """
    Frames of one clip to tokens.

    :ivar key: names the encoder in the cache.
    :ivar horizons: float [K] (s) of its futures; empty: it has none.
    """

    key: str
    horizons: tuple[float, ...] = ()

    def __init__(self, manifest: Manifest):
        self.manifest = manifest
        whole = manifest.mode == 'clip'
        self.multiple = manifest.frames if whole else manifest.tubelet

    def choose(self, stamps_ns: np.ndarray, newest: int, span: float) -> np.ndarray:
        """
        Choose the frames of a clip as the run-time window does: counted back from the newest, one per period.

        :param stamps_ns: int64 [T], ascending; `newest`: position of the clip's newest frame; `span`: s.
        :returns: positions, ascending, a whole number of steps of the encoder; each once, where the camera is slow
            fewer than asked for, except in mode clip, whose graph takes a fixed number.
        :raises ProbeError: when the span is shorter than a clip of the encoder.
        """
        manifest = self.manifest
        count = max(round(span / manifest.frame_period), self.multiple)
        if manifest.mode == 'clip':
            needed = manifest.frames * manifest.frame_period
            if span < needed - 1e-6:
                raise ProbeError(
                    f"expected a span of at least {needed:g} s for '{manifest.name}', found {span:g} s"
                )
            count = manifest.frames
        wanted = stamps_ns[newest] - np.arange(count)[::-1] * round(manifest.frame_period * 1e9)
        right = np.clip(np.searchsorted(stamps_ns, wanted), 1, max(len(stamps_ns) - 1, 1))
        right = np.minimum(right, newest)
        left = np.maximum(right - 1, 0)
        nearest = np.where(wanted - stamps_ns[left] < stamps_ns[right] - wanted, left, right)
        if manifest.mode == 'clip':
            return nearest
        nearest = np.unique(nearest)
        spare = len(nearest) % self.multiple
        if len(nearest) < self.multiple:
            return np.repeat(nearest[-1:], self.multiple)
        return nearest[spare:]

    @abstractmethod
    def encode(self, images: np.ndarray, stamps_ns: np.ndarray, geometry: Geometry):
        """
        Encode a clip, from nothing.

        :param images: RGB uint8 [F, H, W, 3]; `stamps_ns`: int64 [F].
        :returns: slices float32 [S, N, D], oldest first, their stamps int64 [S], and futures float32 [K, N, D] or
            None.
        """


class BundleEncoder(ClipEncoder):
    """
    A bundle through the session that the node runs; its memory begins anew with each clip, so that every encoder
    knows of the same time.

    :param horizons: of which those that the bundle offers are asked for, s.
    """

    def __init__(self, bundle: Bundle, horizons=(), threads: int = 1):
        super().__init__(bundle.manifest)
        opener = partial(_open, bundle, threads)
        self._session = open_session(bundle, opener=opener, surprise=False)
        if bundle.manifest.forecaster is not None:
            self.horizons = tuple(float(h) for h in horizons if self._offers(h))
        self.key = f'{bundle.model_id:08x}' + ('' if self.horizons else '-now')

    def _offers(self, horizon: float) -> bool:
        offered = self.manifest.forecaster.horizons
        if offered.values is None:
            return offered.min - 1e-6 <= horizon <= offered.max + 1e-6
        return any(abs(horizon - value) < 1e-6 for value in offered.values)

    def encode(self, images, stamps_ns, geometry):
        session, step = self._session, self.multiple
        session.reset()
        slices, stamps = [], []
        for first in range(0, len(images), step):
            part = slice(first, first + step)
            session.step(Frames(images[part], stamps_ns[part], geometry))
            tokens, times = session.computed
            slices.append(tokens)
            stamps.append(times)
        futures = session.forecast(self.horizons) if self.horizons else None
        if self.horizons and futures is None:
            raise ProbeError(
                f'expected a span of at least {self.manifest.forecaster.context} slices for the forecaster of '
                f"'{self.manifest.name}', found {len(slices)}"
            )
        return np.concatenate(slices), np.concatenate(stamps), None if futures is None else futures.tokens


class _EachOnce(Graph):
    """An image encoder that is asked for a frame again and again, in one order after the other."""

    KEPT = 64  # frames: more than a clip has

    def __init__(self, graph: Graph):
        self.inputs, self.outputs, self.description = graph.inputs, graph.outputs, graph.description

        @lru_cache(self.KEPT)
        def tokens(pixels: bytes, shape: tuple[int, ...]) -> np.ndarray:
            return graph.run({'frames': np.frombuffer(pixels, np.uint8).reshape(shape)})['tokens']

        self._tokens = tokens

    def run(self, feeds):
        frames = feeds['frames']
        return {'tokens': self._tokens(frames.tobytes(), frames.shape).copy()}


def _open(bundle: Bundle, threads: int, path: Path) -> Graph:
    graph = open_graph(path, threads=threads)
    return _EachOnce(graph) if bundle.manifest.mode == 'frame' and path == bundle.encoder else graph


class RandomEncoder(ClipEncoder):
    """
    The same architecture with weights as they are before training.

    :raises ProbeError: when the architecture is not one that can be built here.
    """

    def __init__(self, manifest: Manifest, seed: int = 0):
        import torch

        from jepa_ros.nets.sizes import SIZES
        from jepa_ros.nets.vit import Encoder, EncoderConfig

        super().__init__(manifest)
        shape = manifest.architecture
        names = [
            name
            for name, size in SIZES.items()
            if shape
            and (size.width, size.heads, size.mlp_width)
            == (manifest.latent_dim, shape.heads, shape.mlp_width)
        ]
        if not names:
            raise ProbeError(
                f"expected a known architecture, found none in the manifest of '{manifest.name}'"
            )
        window = manifest.stream.slices if manifest.stream else 0
        config = EncoderConfig(
            names[0],
            shape.layers,
            manifest.image_size,
            manifest.patch,
            manifest.tubelet,
            window,
            manifest.slice_period,
            shape.stem,
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self._net = Encoder(config).eval()
        about = shape.layers, shape.stem, manifest.mode, manifest.image_size, manifest.tubelet, window
        self.key = '-'.join(map(str, (f'random{seed}', names[0], *about)))

    def encode(self, images, stamps_ns, geometry):
        import torch

        from jepa_ros.nets.vit import normalise_output

        manifest, norm = self.manifest, self.manifest.normalisation
        x = torch.from_numpy(images).float() / 255
        x = ((x - torch.tensor(norm.mean)) / torch.tensor(norm.std)).permute(3, 0, 1, 2)
        stamps = stamps_ns[manifest.tubelet - 1 :: manifest.tubelet]
        times = torch.from_numpy((stamps - stamps[0]) / 1e9).float()
        with torch.no_grad():
            if manifest.mode == 'frame':  # every frame by itself
                tokens = self._net(x.transpose(0, 1)[:, :, None], torch.zeros(len(times), 1))
            else:
                tokens = self._net(x[None], times[None])[0].unflatten(0, (len(times), -1))
        return normalise_output(tokens).numpy(), stamps, None


class RawPixels(ClipEncoder):
    """
    Pixels where an encoder has tokens: of each token's patch of the slice's newest frame 4x4 means of its colours,
    and where the patch is.
    """

    SIDE = 4
    PLACE = 16  # numbers that say where a patch is: sines and cosines of four frequencies of x and y

    def __init__(self, manifest: Manifest):
        super().__init__(manifest)
        about = manifest.mode, manifest.image_size, manifest.patch, manifest.tubelet, manifest.frame_period
        self.key = '-'.join(map(str, ('raw', *about)))

    def encode(self, images, stamps_ns, geometry):
        import cv2

        step, (rows, columns), side = self.manifest.tubelet, self.manifest.grid, self.SIDE
        newest = images[step - 1 :: step]
        small = [
            cv2.resize(image, (columns * side, rows * side), interpolation=cv2.INTER_AREA) for image in newest
        ]
        cut = np.stack(small).reshape(len(small), rows, side, columns, side, 3).transpose(0, 1, 3, 2, 4, 5)
        pixels = cut.reshape(len(small), rows * columns, -1).astype(np.float32) / 64 - 2
        y, x = np.meshgrid(
            (np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns, indexing='ij'
        )
        angles = np.stack([x.ravel(), y.ravel()], 1)[:, :, None] * np.pi * np.array([0.5, 1, 2, 4])
        place = np.concatenate([np.sin(angles), np.cos(angles)], -1).reshape(rows * columns, self.PLACE)
        place = np.broadcast_to(place.astype(np.float32), (len(small), *place.shape))
        return np.concatenate([pixels, place], -1), stamps_ns[step - 1 :: step], None
