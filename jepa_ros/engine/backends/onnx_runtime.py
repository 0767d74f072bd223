# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime: always there on the CPU, and where its build has them, on CUDA and TensorRT."""

from pathlib import Path

import numpy as np

from jepa_ros.engine.backends import plans
from jepa_ros.engine.backends.graph import EngineError, Graph, Tensor
from jepa_ros.errors import one_line

_DTYPES = {'tensor(float)': np.float32, 'tensor(uint8)': np.uint8, 'tensor(int64)': np.int64}

CPU, CUDA, TENSORRT = 'CPUExecutionProvider', 'CUDAExecutionProvider', 'TensorrtExecutionProvider'
_PLACES = {CPU: 'the CPU', CUDA: 'CUDA', TENSORRT: 'its TensorRT provider'}


def open_graph(path: Path, threads: int) -> Graph:
    """
    Open an ONNX file on CUDA if this ONNX Runtime has it, else on the CPU.

    Its TensorRT provider is taken by name alone: where it runs, so does our own backend, whose plans are
    checked and whose builds show progress.
    """
    return OnnxRuntimeGraph(path, threads, None)


def open_on_cpu(path: Path, threads: int) -> Graph:
    """Open an ONNX file on the CPU, whatever else there is."""
    return OnnxRuntimeGraph(path, threads, CPU)


def open_on_cuda(path: Path, threads: int) -> Graph:
    """Open an ONNX file on CUDA, or raise EngineError."""
    return OnnxRuntimeGraph(path, threads, CUDA)


def open_on_tensorrt(path: Path, threads: int) -> Graph:
    """Open an ONNX file with ONNX Runtime's TensorRT provider, or raise EngineError."""
    return OnnxRuntimeGraph(path, threads, TENSORRT)


class OnnxRuntimeGraph(Graph):
    """
    An ONNX Runtime session.

    :param provider: that it must run on; None: CUDA if it works, else the CPU
    """

    def __init__(self, path: Path, threads: int, provider: str | None):
        try:
            import onnxruntime
        except ImportError as error:
            raise EngineError(f"expected onnxruntime ('pip install onnxruntime'), found {error}") from error
        available = onnxruntime.get_available_providers()
        if provider is not None and provider not in available:
            raise EngineError(f"expected an ONNX Runtime with {provider} ('pip install onnxruntime-gpu'), "
                              f"found {', '.join(available)}")
        taken, fallen = provider or (CUDA if CUDA in available else CPU), ''
        try:
            self._open(onnxruntime, path, threads, taken)
        except EngineError as error:
            if provider is not None or taken == CPU:
                raise
            taken, fallen = CPU, f' ({error})'
            self._open(onnxruntime, path, threads, CPU)
        self.description = (f'onnxruntime {onnxruntime.__version__} on {_PLACES[taken]}{fallen}, '
                            f"threads: {threads or 'one per core'}")

    def _open(self, onnxruntime, path: Path, threads: int, provider: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that spin between two frames would take the cores from the robot's other processes.
        options.add_session_config_entry('session.intra_op.allow_spinning', '0')
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options,
                                                         providers=_providers(provider, path))
        except Exception as error:  # ONNX Runtime's own have no common base
            found = one_line(error)
            raise EngineError(f'{path}: expected a graph for ONNX Runtime, found {found}') from error
        self.inputs = tuple(_tensor(path, node) for node in self._session.get_inputs())
        self.outputs = tuple(_tensor(path, node) for node in self._session.get_outputs())
        if provider != CPU:
            self._try_out(provider)

    def _try_out(self, provider: str) -> None:
        """Run once: a provider that is listed may lack its libraries, or code for this very GPU."""
        taken = self._session.get_providers()[0]
        if taken != provider:  # it falls back by itself, silently
            raise EngineError(f'expected ONNX Runtime to run on {_PLACES[provider]}, found that it fell back '
                              f'to {_PLACES.get(taken, taken)}: its libraries or the GPU are missing')
        self.run({tensor.name: np.zeros([n or 1 for n in tensor.shape], tensor.dtype)
                  for tensor in self.inputs})

    def run(self, feeds):
        """Run once. Contiguous arrays are passed without a copy."""
        try:
            values = self._session.run(None, feeds)
        except Exception as error:
            raise EngineError(f'expected the graph to run, found {one_line(error)}') from error
        return {tensor.name: value for tensor, value in zip(self.outputs, values)}


def _providers(wanted: str, path: Path) -> list:
    """Return providers with options: float32 stays so, and TensorRT keeps its engines beside our plans."""
    if wanted == CPU:
        return [CPU]
    cuda = (CUDA, {'use_tf32': '0'})
    if wanted == CUDA:
        return [cuda, CPU]
    # ONNX Runtime names its engines after names alone: those of another network of this shape would be taken for ours.
    directory = plans.writable_directory(path) / f'onnxruntime-{plans.graph_sha256(path)[:16]}'
    directory.mkdir(exist_ok=True)
    cache = str(directory)
    return [(TENSORRT, {'trt_engine_cache_enable': '1', 'trt_engine_cache_path': cache,
                        'trt_timing_cache_enable': '1', 'trt_timing_cache_path': cache}), cuda, CPU]


def _tensor(path: Path, node) -> Tensor:
    if node.type not in _DTYPES:
        raise EngineError(f"{path}: expected {', '.join(_DTYPES)} for '{node.name}', found {node.type}")
    shape = tuple(n if isinstance(n, int) else None for n in node.shape)
    return Tensor(node.name, shape, np.dtype(_DTYPES[node.type]))
