# SPDX-License-Identifier: Apache-2.0
"""The readout of a bundle: from predicted tokens to a point in the image and its covariance."""

from dataclasses import dataclass, field

import numpy as np

from jepa_ros.engine.backends import EngineError, Tensor, open_graph
from jepa_ros.engine.bundle import Bundle
from jepa_ros.engine.manifest import READOUT
from jepa_ros.latents import Futures, Latents, pool, token_centres


@dataclass(frozen=True)
class Attribute:
    """
    A vector that is true of the point.

    :param mean: float32 [K, P]
    :param std: float32 [K, P], standard deviation of each element
    """

    mean: np.ndarray
    std: np.ndarray


@dataclass(frozen=True)
class Reading:
    """
    What futures tell, per horizon.

    :param points: float32 [K, 2], x and y in 0..1 of the received image
    :param covariances: float32 [K, 2, 2]
    :param attributes: those that the manifest names; its offsets are in units of the received image, as points are
    """

    points: np.ndarray
    covariances: np.ndarray
    attributes: dict[str, Attribute] = field(default_factory=dict)


class Readout:
    """
    Reads a point per horizon out of futures, and what the bundle tells of it besides.

    The graph knows only the part of the image that the model saw; the tokens' positions tell where it lies.

    :param bundle: one that has a readout
    :param backend: as for :func:`~jepa_ros.engine.backends.open_graph`; by default the CPU, because a readout
        is small and would only wait for the encoder on the GPU
    :param threads: of one run; one is enough for a readout
    :raises EngineError: the bundle has no readout, or its graph is not as it must be
    """

    def __init__(self, bundle: Bundle, backend: str = 'onnxruntime-cpu', threads: int = 1):
        if bundle.readout is None:
            raise EngineError(f"expected a bundle with a readout, found '{bundle.manifest.name}' without")
        self.manifest = bundle.manifest
        self.name = bundle.manifest.readout.name
        self._model_id = bundle.model_id
        self._crop = _published_centres(bundle.manifest)
        self._graph = open_graph(bundle.readout, backend, threads)
        shape = (None, len(self._crop), bundle.manifest.forecaster.dim)
        self._told = bundle.manifest.readout.attributes
        told = sum(self._told.values())
        more = [_f32('attributes', None, told), _f32('attributes_std', None, told)] if told else []
        self._graph.check(READOUT, [_f32('futures', *shape), _f32('dt', None)],
                          [_f32('point', None, 2), _f32('cov', None, 2, 2), *more])

    @classmethod
    def open(cls, bundle, backend: str = 'onnxruntime-cpu', threads: int = 1) -> 'Readout':
        """Open the readout of a :class:`Bundle`, of the path of one, or of one shipped under that name."""
        return cls(bundle if isinstance(bundle, Bundle) else Bundle.load(bundle), backend, threads)

    def __call__(self, futures: Futures) -> tuple[np.ndarray, np.ndarray]:
        """Read the points and covariances alone; as :meth:`read`."""
        reading = self.read(futures)
        return reading.points, reading.covariances

    def read(self, futures: Futures) -> Reading:
        """
        Read out every horizon.

        :param futures: published in the mode that the bundle's readout names
        :raises EngineError: futures of another model, publish mode or width, or numbers that are not finite
        """
        if futures.model != self._model_id:
            raise EngineError(f"expected futures of model {self._model_id:08x} ('{self.manifest.name}'), "
                              f'found {futures.model:08x}')
        expected = (len(futures.horizons), len(self._crop), self.manifest.forecaster.dim)
        if futures.tokens.shape != expected:
            mode = self.manifest.readout.publish
            raise EngineError(f"expected futures {list(expected)} (publish mode '{mode}'), "
                              f'found {list(futures.tokens.shape)}')
        if not (np.isfinite(futures.tokens).all() and np.isfinite(futures.positions).all()):
            raise EngineError('expected finite futures, found NaN or infinity')
        outputs = self._graph.run({'futures': np.ascontiguousarray(futures.tokens, np.float32),
                                   'dt': np.ascontiguousarray(futures.horizons, np.float32)})
        if not all(np.isfinite(output).all() for output in outputs.values()):
            raise EngineError('expected finite numbers from the readout, found NaN or infinity')
        scale, offset = self._to_received(futures.positions)
        attributes, first = {}, 0
        for name, length in self._told.items():
            chosen = slice(first, first := first + length)
            unit = scale if name in self.manifest.readout.offsets else 1
            attributes[name] = Attribute(unit * outputs['attributes'][:, chosen],
                                         unit * outputs['attributes_std'][:, chosen])
        return Reading(outputs['point'] * scale + offset, outputs['cov'] * scale[:, None] * scale, attributes)

    def _to_received(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return scale [2] and offset [2] from the model's crop to the received image."""
        scale = (positions[-1] - positions[0]) / (self._crop[-1] - self._crop[0])
        return scale, positions[0] - scale * self._crop[0]


def _published_centres(manifest) -> np.ndarray:
    """Return the centres [N, 2] of the tokens in the readout's publish mode, in 0..1 of the model's crop."""
    centres = token_centres(manifest.grid)
    nothing = np.zeros((len(centres), 1), np.float32)
    whole = Latents(1, nothing, centres, nothing[:, 0], nothing[:, 0], 0)
    return pool(whole, manifest.readout.publish, manifest.grid).positions


def _f32(name: str, *shape: int | None) -> Tensor:
    return Tensor(name, shape, np.dtype(np.float32))
