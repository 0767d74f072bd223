# SPDX-License-Identifier: Apache-2.0
"""
From an ONNX graph to a TensorRT plan.

Only what TensorRT 10.3 (JetPack 6) to 11 have in common is used. Networks are strongly typed: the precision
is the one written into the graph, and TensorRT changes none of it; TF32, which would round float32 products
to ten bits, is off. The module ``tensorrt`` is a parameter of all functions, so that TensorRT for RTX, which
builds without a GPU, can stand in for it where there is none.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from jepa_ros.engine.backends import plans
from jepa_ros.engine.backends.graph import EngineError
from jepa_ros.errors import one_line

PRECISION = 'strongly typed, no TF32'

#: Fewest, usual and most entries of a free length: the horizons that one run predicts or reads out.
FREE_LENGTHS = (1, 8, 64)

#: Called with the name of the phase, how many of its steps are done, and how many it has.
Progress = Callable[[str, int, int], None]

_log = logging.getLogger(__name__)


def build(trt, path: Path, timing_cache: Path | None = None, progress: Progress | None = None) -> bytes:
    """
    Build the plan of a graph for the GPU at hand.

    :param trt: the module tensorrt
    :param path: the ONNX file
    :param timing_cache: file with what earlier builds have timed; read if it is there, written afterwards
    :param progress: told of every step of a phase; from any thread
    :raises EngineError: TensorRT cannot parse the graph or build the plan; its own words are in the message
    :raises BuildStopped: see :data:`~jepa_ros.engine.backends.plans.ending`
    """
    log = logger(trt)
    log.errors.clear()
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(path)):
        found = '; '.join(parser.get_error(i).desc() for i in range(parser.num_errors)) or log.said()
        raise EngineError(f'{path}: expected a graph that TensorRT can parse, found {one_line(found)}')
    config = builder.create_builder_config()
    if hasattr(trt.BuilderFlag, 'TF32'):
        config.clear_flag(trt.BuilderFlag.TF32)
    _add_profile(builder, config, network)
    if timing_cache is not None:
        _load_timing_cache(config, timing_cache)
        log.errors.clear()  # what it said of an old cache has nothing to do with the graph
    with _Monitored(trt, config, path, progress) as monitored:
        plan = builder.build_serialized_network(network, config)
    monitored.raise_interruption()
    if plan is None and plans.ending.is_set():
        raise plans.BuildStopped(path)
    if plan is None:
        raise EngineError(f'{path}: expected TensorRT {trt.__version__} to build the graph, found '
                          f'{log.said()}')
    if timing_cache is not None:
        _save_timing_cache(config, timing_cache)
    return bytes(plan)


def timing_cache_name(trt_version: str, gpu: str, compute_capability: str) -> str:
    """Return the file name of a timing cache: what was timed on one device says nothing about another."""
    device = ''.join(c if c.isalnum() else '_' for c in f'{gpu}_{compute_capability}_{trt_version}')
    return f'timing-{device}.cache'


def logger(trt):
    """Return the one logger of a module tensorrt, which forwards to Python's logging and keeps the errors."""
    if trt not in _loggers:
        _loggers[trt] = _make_logger(trt)
    return _loggers[trt]


_loggers: dict = {}  # TensorRT complains when its parts are given different ones


def _make_logger(trt):
    errors = (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR)

    class Logger(trt.ILogger):
        def __init__(self):
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity, message):
            if severity in errors:
                self.errors.append(message)
                _log.warning('TensorRT: %s', one_line(message))
            elif severity == trt.ILogger.WARNING:  # advice to whoever writes networks
                _log.debug('TensorRT: %s', one_line(message))

        def said(self) -> str:
            return one_line('; '.join(self.errors)) or 'no word of why'

    return Logger()


def _add_profile(builder, config, network) -> None:
    """Add the optimisation profile that free lengths need, if there are any."""
    profile, free = builder.create_optimization_profile(), False
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = tuple(tensor.shape)
        if -1 in shape:
            free = True
            profile.set_shape(tensor.name, *(tuple(length if n == -1 else n for n in shape)
                                             for length in FREE_LENGTHS))
    if free:
        config.add_optimization_profile(profile)


def _load_timing_cache(config, path: Path) -> None:
    content = path.read_bytes() if path.is_file() else b''
    for attempt in ([content] if content else []) + [b'']:
        with contextlib.suppress(Exception):  # a damaged one is as good as none
            cache = config.create_timing_cache(attempt)
            if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
                return
        _log.warning('%s: TensorRT refuses the timing cache; it is begun anew', path)


def _save_timing_cache(config, path: Path) -> None:
    cache = config.get_timing_cache()
    if cache is not None:
        try:
            plans.write_atomically(path, bytes(cache.serialize()))
        except OSError as error:
            _log.warning('%s: the timing cache could not be kept: %s', path, error)


class _Monitored:
    """
    Watches a build: tells ``progress``, and writes a heartbeat into the log while nothing else is heard.

    TensorRT swallows what is raised inside of its callbacks, so an interruption is kept and raised after the
    build.
    """

    def __init__(self, trt, config, path: Path, progress: Progress | None):
        self._path, self._progress = path, progress
        self._phase = ''
        self._interruption: BaseException | None = None
        self._done = threading.Event()
        self._heart = threading.Thread(target=self._beat, name='heartbeat', daemon=True)
        if hasattr(trt, 'IProgressMonitor'):
            self._monitor = _make_monitor(trt, self._tell)
            config.progress_monitor = self._monitor

    def __enter__(self):
        self._began = time.monotonic()
        _log.info('building the TensorRT plan of %s: this is done once and takes up to minutes',
                  self._path.name)
        self._heart.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self._heart.join()
        _log.info('TensorRT has worked on %s for %.0f s', self._path.name, time.monotonic() - self._began)

    def raise_interruption(self) -> None:
        if self._interruption is not None:
            raise self._interruption

    def _tell(self, phase: str, done: int, steps: int) -> bool:
        """Take note of progress; return whether the build shall go on."""
        self._phase = f', {phase} {done} of {steps}'
        try:
            if self._progress is not None:
                self._progress(phase, done, steps)
        except BaseException as interruption:  # KeyboardInterrupt arrives in here
            self._interruption = interruption
        return self._interruption is None and not plans.ending.is_set()

    def _beat(self) -> None:
        while not self._done.wait(plans.HEARTBEAT):
            _log.info('still building the TensorRT plan of %s: %.0f s%s', self._path.name,
                      time.monotonic() - self._began, self._phase)


def _make_monitor(trt, tell: Callable[[str, int, int], bool]):
    """Return a progress monitor that reports the outermost phase."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self):
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}
            self._lock = threading.Lock()
            self._running = True

        def phase_start(self, phase, parent, steps):
            with self._lock:
                if parent is None:
                    self._steps[phase] = steps
            self._report(phase, 0)

        def step_complete(self, phase, step):
            self._report(phase, step + 1)
            return self._running

        def phase_finish(self, phase):
            with self._lock:
                steps = self._steps.get(phase, 0)
            self._report(phase, steps)

        def _report(self, phase, done):
            with self._lock:
                if phase in self._steps:
                    self._running = tell(phase, done, self._steps[phase]) and self._running

    return Monitor()
