# SPDX-License-Identifier: Apache-2.0
"""Perception in lockstep: the window, session and readout of the nodes on the pictures of a cell."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from jepa_ros.clip import ClipWindow, Verdict
from jepa_ros.control.path import PredictedPath
from jepa_ros.engine.bundle import Bundle
from jepa_ros.engine.readout import Reading, Readout
from jepa_ros.engine.session import open_session
from jepa_ros.images import fit
from jepa_ros.latents import pool


@dataclass(frozen=True)
class Sight:
    """
    What was read from the frames up to one.

    :param stamp_ns: of the newest frame.
    :param horizons: float64 [K], s after it.
    :param reading: of these horizons.
    :param surprise: mean of the newest latents, as the controller takes it; NaN where there was no forecast.
    """

    stamp_ns: int
    horizons: np.ndarray
    reading: Reading
    surprise: float

    @property
    def path(self) -> PredictedPath:
        """What was read, as the controller takes it."""
        return PredictedPath.of(self.stamp_ns, self.horizons, self.reading)


class Perception:
    """
    What perception_node computes from a camera, and the readout that controller_node runs on it.

    :param bundle: a `Bundle`, the path of one, or the name of one that ships; with forecaster and readout.
    :param backend: as for `open_session`.
    :param threads: of the backend; 1 where several episodes run beside each other.
    :raises JepaError: the bundle cannot be used.

    Attributes: `latency`, s, from a frame to what was read from it: while one set of frames is computed, the
    next one waits, and frames that are overtaken are lost, as in the node. `seconds`: what each step took.
    `picture`: the current frame, RGB uint8 [H, W, 3]; None where it was not drawn.
    """

    def __init__(self, bundle, backend: str = 'auto', threads: int = 1):
        bundle = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
        self.bundle = bundle
        self._readout = Readout.open(bundle)
        self._session = open_session(bundle, backend=backend, threads=threads)
        self._session.check_horizons()
        self.latency = 0.0
        self.reset()

    @property
    def description(self) -> str:
        """Which backend runs it."""
        return self._session.description

    def reset(self) -> None:
        """Forget everything, for another episode."""
        self._session.reset()
        self._window = ClipWindow(self._session.request)
        self._free, self.picture = 0, None
        self.seconds: list[float] = []

    def see(self, cell) -> Sight | None:
        """
        Look at the current frame of a cell, which is drawn only if the window asks for it.

        :returns: what was read; None where this frame completes no set, or too few were seen yet.
        """
        stamp, window, manifest = cell.stamp_ns, self._window, self.bundle.manifest
        self.picture, began = None, time.perf_counter()
        if window.offer(stamp) is Verdict.TAKE:
            self.picture = cell.render()
            began = time.perf_counter()
            window.push(stamp, *fit(self.picture, manifest.image_size))
        if stamp < self._free or not window.ready():
            return None
        frames = window.take(0)
        latents = self._session.step(frames)
        futures = self._session.forecast()
        reading = None
        if futures is not None:
            reading = self._readout.read(pool(futures, manifest.readout.publish, manifest.grid))
        self.seconds.append(time.perf_counter() - began)
        self._free = stamp + round(self.latency * 1e9)
        if reading is None:
            return None
        known = latents.surprise[np.isfinite(latents.surprise)]
        surprise = float(known.mean()) if len(known) else float('nan')
        return Sight(latents.stamp_ns, futures.horizons.astype(float), reading, surprise)


def measure_latency(perception: Perception, seed: int, frames: int = 60) -> float:
    """
    Return the median time from a frame in memory to what is read from it, s, on this machine as it is now.

    :param seed: of the cell whose pictures are looked at.
    """
    from jepa_ros.sim.cell import ConveyorCell

    with ConveyorCell(seed, fps=1 / perception.bundle.manifest.frame_period) as cell:
        perception.reset()
        for _ in range(frames):
            cell.step()
            perception.see(cell)
    median = float(np.median(perception.seconds))
    perception.reset()
    return median
