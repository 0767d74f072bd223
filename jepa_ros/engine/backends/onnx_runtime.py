# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime on the CPU: the backend that is always there."""

from pathlib import Path

import numpy as np

from jepa_ros.engine.backends.graph import EngineError, Graph, Tensor

_DTYPES = {'tensor(float)': np.float32, 'tensor(uint8)': np.uint8, 'tensor(int64)': np.int64}


def open_graph(path: Path, threads: int) -> Graph:
    """Open an ONNX file; see :func:`jepa_ros.engine.backends.open_graph`."""
    return OnnxRuntimeGraph(path, threads)


class OnnxRuntimeGraph(Graph):
    """An ONNX Runtime session."""

    def __init__(self, path: Path, threads: int):
        try:
            import onnxruntime
        except ImportError as error:
            raise EngineError(f"expected onnxruntime ('pip install onnxruntime'), found {error}") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that spin between two frames would take the cores from the robot's other processes.
        options.add_session_config_entry('session.intra_op.allow_spinning', '0')
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options,
                                                         providers=['CPUExecutionProvider'])
        except Exception as error:  # ONNX Runtime's own have no common base
            raise EngineError(f'{path}: expected a graph for ONNX Runtime, found {_line(error)}') from error
        self.inputs = tuple(_tensor(path, node) for node in self._session.get_inputs())
        self.outputs = tuple(_tensor(path, node) for node in self._session.get_outputs())
        self.description = (f'onnxruntime {onnxruntime.__version__} on the CPU, '
                            f"threads: {threads or 'one per core'}")

    def run(self, feeds):
        """Run once. Contiguous arrays are passed without a copy."""
        try:
            values = self._session.run(None, feeds)
        except Exception as error:
            raise EngineError(f'expected the graph to run, found {_line(error)}') from error
        return {tensor.name: value for tensor, value in zip(self.outputs, values)}


def _tensor(path: Path, node) -> Tensor:
    if node.type not in _DTYPES:
        raise EngineError(f"{path}: expected {', '.join(_DTYPES)} for '{node.name}', found {node.type}")
    shape = tuple(n if isinstance(n, int) else None for n in node.shape)
    return Tensor(node.name, shape, np.dtype(_DTYPES[node.type]))


def _line(error: Exception) -> str:
    return ' '.join(str(error).split())
