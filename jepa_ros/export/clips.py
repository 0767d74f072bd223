# SPDX-License-Identifier: Apache-2.0
"""
Real inputs for every graph of a bundle: what the graphs get when the robot's own session sees a recording.

Frames are chosen by the window and go through the float32 bundle, so a stream graph is given a cache that has
really rolled, the forecaster latents and the readout futures.
"""

from dataclasses import dataclass
from itertools import islice

from jepa_ros.clip import ClipWindow, Verdict
from jepa_ros.data.recordings import open_recording
from jepa_ros.data.sequences import find_recordings
from jepa_ros.engine.backends import Graph, open_graph
from jepa_ros.engine.session import open_session
from jepa_ros.errors import JepaError
from jepa_ros.images import ImageError, fit


@dataclass(frozen=True)
class Clips:
    """
    Which recordings a bundle is calibrated and measured on.

    :param patterns: videos, bags, folders or globs.
    :param windows: how many windows of each are taken, from its beginning on; the first half calibrates, the
        second half measures.
    :param topic: camera topic of the bags, where they have several.
    """

    patterns: tuple[str, ...]
    windows: int = 32
    topic: str | None = None

    def load(self, request, size):
        """
        Choose windows as the run-time window chooses them.

        Windows of a clip encoder follow each other without overlap; a stream's follow each other slice by
        slice, as its cache needs.

        :param request: `WindowRequest` of the bundle's session; `size`: (height, width) of the encoder's
            frames.
        :returns: dict of a recording's file name to its windows (`Frames`), oldest first.
        :raises JepaError: a recording without a whole window.
        """
        apart, found = max(1, request.frames // request.new_frames), {}
        for path in find_recordings(self.patterns):
            recording = open_recording(path, self.topic)
            name = path.stem if path.stem not in found else f'{path.stem} ({len(found)})'
            found[name] = list(
                islice(_windows(recording, request, size), 0, self.windows * apart, apart)
            )
            if not found[name]:
                raise JepaError(
                    f'{path}: expected at least one window of {request.frames} frames, '
                    f'{request.frame_period} s apart, found none'
                )
        return found


def _windows(recording, request, size):
    window = ClipWindow(request)
    for frame in recording.frames():
        if window.offer(frame.stamp_ns) is not Verdict.TAKE:
            continue
        try:
            image, geometry = fit(frame.image(), size)
        except ImageError:
            continue  # the node passes over it too
        window.push(frame.stamp_ns, image, geometry)
        if window.ready():
            yield window.take(0)


class Replay:
    """
    A bundle's session whose graphs tell what they were given.

    :param bundle: `Bundle` with float32 graphs.
    :ivar session: `EncoderSession` on ONNX Runtime's CPU, so that what is measured is the same on every
        machine.
    """

    def __init__(self, bundle):
        self._graphs = {}
        self.session = open_session(bundle, opener=self._open, surprise=False)
        self._readout = bundle.manifest.readout is not None

    def feeds(self, recordings):
        """
        Run windows, each recording from an empty session.

        :param recordings: iterable of lists of `Frames`.
        :returns: iterator over dicts of graph name to its inputs (dict of name to array); graphs that need
            more context than there was yet are absent.
        """
        for _ in self._steps(recordings):
            futures = self.session.forecast() if self.session.manifest.forecaster else None
            given = {name: graph.given for name, graph in self._graphs.items() if graph.given is not None}
            if futures is not None and self._readout:
                given['readout'] = {'futures': futures.tokens, 'dt': futures.horizons}
            yield given

    def tokens(self, recordings):
        """Likewise, but yields the latents of every step, float32 [N, D]."""
        for latents in self._steps(recordings):
            yield latents.tokens

    def replace_encoder(self, run):
        """Let another graph compute the latents; `run` takes and gives dicts of name to array."""
        self._graphs['encoder'].compute = run

    def _open(self, path):
        self._graphs[path.stem] = graph = _Listener(open_graph(path, 'onnxruntime-cpu'))
        return graph

    def _steps(self, recordings):
        for windows in recordings:
            self.session.reset()
            for frames in windows:
                for graph in self._graphs.values():
                    graph.given = None
                yield self.session.step(frames)


class _Listener(Graph):
    """
    A graph that keeps its inputs.

    :ivar given: inputs of the last run (dict of name to array), None before the first.
    :ivar compute: what runs in its place.
    """

    def __init__(self, graph):
        self.inputs, self.outputs, self.description = graph.inputs, graph.outputs, graph.description
        self.given, self.compute = None, graph.run

    def run(self, feeds):
        # Copies, because the cache of a stream is written on.
        self.given = {name: array.copy() for name, array in feeds.items()}
        return self.compute(feeds)
