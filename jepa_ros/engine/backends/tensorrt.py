# SPDX-License-Identifier: Apache-2.0
"""
TensorRT on an NVIDIA GPU, desktop or Jetson.

The plan of a graph is built at first use and cached (:mod:`~jepa_ros.engine.backends.plans`). Buffers stay on
the GPU and pinned memory takes what goes in and out. A run is copies, the network and copies; from the second
run with the same shapes on, all of it is one CUDA graph, started by one call.
"""

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from jepa_ros.engine.backends import plans, tensorrt_build
from jepa_ros.engine.backends.gpu import Buffer, CapturedGraph, Gpu, has_driver, open_gpu
from jepa_ros.engine.backends.graph import EngineError, Graph, Ring, Tensor

_log = logging.getLogger(__name__)


def open_graph(path: Path, threads: int) -> Graph:
    """Open an ONNX file; see :func:`jepa_ros.engine.backends.open_graph`. ``threads`` means nothing here."""
    return prepare(Path(path))


def prepare(path: Path, progress: tensorrt_build.Progress | None = None) -> 'TensorRTGraph':
    """
    Open an ONNX file, building its plan if none is cached that fits.

    :param progress: see :data:`~jepa_ros.engine.backends.tensorrt_build.Progress`
    :raises EngineError: no GPU, no library, or TensorRT refuses the graph
    """
    trt, gpu = here()
    runtime = trt.Runtime(tensorrt_build.logger(trt))
    key = plan_key(path, trt, gpu)
    engines = []

    def usable(plan: bytes) -> bool:
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is not None:
            engines.append(engine)
        return engine is not None

    def build(directory: Path) -> bytes:
        timing_cache = tensorrt_build.timing_cache_name(key.tensorrt, gpu.name, gpu.compute_capability)
        return tensorrt_build.build(trt, path, directory / timing_cache, progress)

    how = plans.obtain(path, key, build, usable)[1]
    graph = TensorRTGraph(trt, gpu, runtime, engines[-1],
                          f'TensorRT {key.tensorrt} on {gpu.name} (compute capability '
                          f'{gpu.compute_capability}), plan {how}')
    graph.try_out()
    return graph


def library():
    """
    Import TensorRT.

    :raises EngineError: no driver, or TensorRT is not installed
    """
    if not has_driver():
        raise EngineError('expected an NVIDIA GPU and its driver for TensorRT, found none')
    try:
        import tensorrt
    except ImportError as error:
        raise EngineError('expected TensorRT 10.3 or later (JetPack has it: sudo apt install '
                          f"python3-libnvinfer; elsewhere 'pip install tensorrt'), found {error}") from error
    return tensorrt


def here() -> tuple:
    """
    Return the module tensorrt and the GPU of this machine.

    :raises EngineError: one of them is missing
    """
    return library(), open_gpu()


def plan_key(path: Path, trt, gpu: Gpu) -> plans.PlanKey:
    """Return what a plan for a graph must have been built for here."""
    return plans.PlanKey(plans.graph_sha256(path), trt.__version__, gpu.name, gpu.compute_capability,
                         tensorrt_build.PRECISION, tensorrt_build.FREE_LENGTHS)


@dataclass
class _Port:
    """An input or output: a buffer on the GPU, pinned memory once it is needed, and its shape now."""

    tensor: Tensor
    device: Buffer
    shape: tuple[int, ...]
    pinned: Buffer | None = None

    @property
    def size(self) -> int:
        return int(np.prod(self.shape)) * self.tensor.dtype.itemsize


class TensorRTGraph(Graph):
    """
    An engine with its execution context.

    :param trt: the module tensorrt
    :param runtime: that has loaded the engine; it must live as long
    :raises EngineError: the engine has an input or output of a type that NumPy lacks
    """

    def __init__(self, trt, gpu: Gpu, runtime, engine, description: str):
        self._gpu, self._runtime, self._engine = gpu, runtime, engine
        self._ports: dict[str, _Port] = {}
        self._work: tuple | None = None  # what the last run was made of; None: another shape came in between
        self._captured: CapturedGraph | None = None
        self._capturable = True
        self._context = engine.create_execution_context()
        if self._context is None:
            raise EngineError('expected TensorRT to run the plan, found '
                              f'{tensorrt_build.logger(trt).said()} (is the memory of the GPU used up?)')
        self.description = description
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        ingoing = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self.inputs = tuple(self._make_input(trt, name) for name in ingoing)
        self.outputs = tuple(self._make_output(trt, name) for name in names if name not in ingoing)
        for name, port in self._ports.items():
            self._context.set_tensor_address(name, port.device.address)

    def run(self, feeds):
        """Run once; the arrays are copied to pinned memory and back."""
        return self._execute(feeds, frozenset())

    def ring(self, past, present, axis):
        """Return a ring that stays on the GPU: what it holds is never copied to the host."""
        return _DeviceRing(self, past, present, axis)

    def try_out(self) -> None:
        """
        Run once on zeros, where no copy is needed.

        :raises EngineError: it does not run
        """
        self._enqueue(((), ()))
        self._gpu.synchronise()

    def timer(self, feeds: dict[str, np.ndarray]) -> Callable[[], float]:
        """
        Return a function that runs the network once more on these inputs and returns the milliseconds between
        two CUDA events around it. Copies from and to the host are not in it, a CUDA graph is.
        """
        self.run(feeds)  # what it needs is on the GPU from now on
        launch = partial(self._enqueue, ((), ()))
        with contextlib.suppress(EngineError):
            launch = self._gpu.capture(launch).launch

        def measure() -> float:
            with self._gpu.timed() as milliseconds:
                launch()
            return milliseconds[0]

        return measure

    def _execute(self, feeds: dict[str, np.ndarray], resident: frozenset[str]) -> dict[str, np.ndarray]:
        """Run once; ``resident`` are inputs that are on the GPU already, and outputs that stay there."""
        self._gpu.make_current()
        ingoing = [t.name for t in self.inputs if t.name not in resident]
        outgoing = [t.name for t in self.outputs if t.name not in resident]
        self._check(feeds, ingoing)
        shapes = {name: feeds[name].shape for name in ingoing}
        if any(self._ports[name].shape != shape for name, shape in shapes.items()):
            self._set_shapes(shapes)
        for name in ingoing:
            np.copyto(self._host(name), feeds[name], casting='no')
        for name in outgoing:
            self._host(name)  # allocated before anything is recorded
        work = tuple(ingoing), tuple(outgoing)
        if work != self._work:
            self._forget_recording()
            self._start(work)  # TensorRT wants one run with new shapes before it is recorded
            self._work = work
        else:
            if self._captured is None and self._capturable:
                self._record(work)
            self._start(work)
        self._gpu.synchronise()
        return {name: self._host(name).copy() for name in outgoing}

    def _start(self, work) -> None:
        if self._captured is not None:
            self._captured.launch()
        else:
            self._enqueue(work)

    def _enqueue(self, work) -> None:
        ingoing, outgoing = work
        for name in ingoing:
            port = self._ports[name]
            self._gpu.upload(port.device, port.pinned, port.size)
        if not self._context.execute_async_v3(self._gpu.stream):
            raise EngineError('expected TensorRT to run the plan, found that it refused to')
        for name in outgoing:
            port = self._ports[name]
            self._gpu.download(port.pinned, port.device, port.size)

    def _record(self, work) -> None:
        try:
            self._captured = self._gpu.capture(lambda: self._enqueue(work))
        except EngineError as error:
            self._capturable = False
            self.description += ', without a CUDA graph'
            _log.warning('TensorRT runs without a CUDA graph: %s', error)

    def _forget_recording(self) -> None:
        if self._captured is not None:
            self._captured.destroy()
        self._captured = self._work = None

    def _check(self, feeds: dict[str, np.ndarray], ingoing: list[str]) -> None:
        if sorted(feeds) != sorted(ingoing):
            raise EngineError(f"expected the graph to run, found inputs {', '.join(sorted(feeds))} instead "
                              f"of {', '.join(sorted(ingoing))}")
        most = tensorrt_build.FREE_LENGTHS[-1]
        for name in ingoing:
            tensor, array = self._ports[name].tensor, feeds[name]
            fits = array.dtype == tensor.dtype and len(array.shape) == len(tensor.shape) and all(
                1 <= m <= most if n is None else n == m for n, m in zip(tensor.shape, array.shape))
            if not fits:
                raise EngineError(f'expected the graph to run, found {name} {array.dtype} '
                                  f'{list(array.shape)} for {tensor}, where ? is at most {most}')

    def _set_shapes(self, shapes: dict[str, tuple[int, ...]]) -> None:
        self._forget_recording()
        for name, shape in shapes.items():
            self._ports[name].shape = shape
            self._context.set_input_shape(name, shape)
        for tensor in self.outputs:
            shape = tuple(self._context.get_tensor_shape(tensor.name))
            if -1 in shape:
                for name in shapes:
                    self._ports[name].shape = ()  # set anew by the next run, whatever it brings
                raise EngineError(f'expected inputs that agree with each other, found '
                                  f"{', '.join(f'{name} {list(shape)}' for name, shape in shapes.items())}")
            self._ports[tensor.name].shape = shape

    def _host(self, name: str) -> np.ndarray:
        """Return the pinned memory of an input or output as an array of its present shape."""
        port = self._ports[name]
        if port.pinned is None:
            port.pinned = self._gpu.allocate_pinned(port.device.size)
        return port.pinned.array(port.shape, port.tensor.dtype)

    def _make_input(self, trt, name: str) -> Tensor:
        tensor = self._describe(trt, name)
        most = tuple(tensorrt_build.FREE_LENGTHS[-1] if n is None else n for n in tensor.shape)
        if most != tensor.shape:
            self._context.set_input_shape(name, most)
        self._add_port(tensor, most)
        return tensor

    def _make_output(self, trt, name: str) -> Tensor:
        """Make an output; all inputs have their largest shape by now, so that its own is the largest too."""
        tensor = self._describe(trt, name)
        self._add_port(tensor, tuple(self._context.get_tensor_shape(name)))
        return tensor

    def _add_port(self, tensor: Tensor, shape: tuple[int, ...]) -> None:
        size = int(np.prod(shape)) * tensor.dtype.itemsize
        self._ports[tensor.name] = _Port(tensor, self._gpu.allocate(size), shape)

    def _describe(self, trt, name: str) -> Tensor:
        try:
            dtype = np.dtype(trt.nptype(self._engine.get_tensor_dtype(name)))
        except TypeError as error:
            raise EngineError(f"expected '{name}' to be of a type that NumPy has, found {error}") from error
        shape = tuple(None if n == -1 else n for n in self._engine.get_tensor_shape(name))
        return Tensor(name, shape, dtype)

    def __del__(self):
        with contextlib.suppress(Exception):  # at the end of the process CUDA may be gone before us
            self._gpu.make_current()
            self._forget_recording()
            self._context = self._engine = None
            for port in self._ports.values():
                self._gpu.free(port.device)
                if port.pinned is not None:
                    self._gpu.free_pinned(port.pinned)


class _DeviceRing(Ring):
    """Keeps an input of slots on the GPU; an output of the same run overwrites one of them there."""

    def __init__(self, graph: TensorRTGraph, past: str, present: str, axis: int):
        self._graph, self._names = graph, frozenset((past, present))
        self._past, self._present = graph._ports[past], graph._ports[present]
        inner = int(np.prod(self._past.shape[axis + 1:])) * self._past.tensor.dtype.itemsize
        self._rows = int(np.prod(self._past.shape[:axis]))
        self._width, self._pitch = self._present.shape[axis] * inner, self._past.shape[axis] * inner

    def clear(self):
        self._graph._gpu.make_current()
        self._graph._gpu.fill_zero(self._past.device)

    def run(self, feeds, slot):
        outputs = self._graph._execute(feeds, self._names)
        # On the same stream as the next run, which therefore sees it.
        self._graph._gpu.copy_rows(self._past.device, slot * self._width, self._pitch, self._present.device,
                                   self._width, self._rows)
        return outputs
