# SPDX-License-Identifier: Apache-2.0
"""
OpenVINO on the CPU: two to three times ONNX Runtime where the CPU has bfloat16, x86 or Arm.

By its own choice it computes in bfloat16 on such a CPU, which moves latents a little; ``openvino-f32`` keeps
float32. Because of that, it is taken by name alone.
"""

from pathlib import Path

import numpy as np

from jepa_ros.engine.backends.graph import EngineError, Graph, Tensor
from jepa_ros.errors import one_line

_DTYPES = {'f32': np.float32, 'u8': np.uint8, 'i64': np.int64}


def open_graph(path: Path, threads: int) -> Graph:
    """Open an ONNX file in the precision that OpenVINO holds best on this CPU."""
    return OpenVinoGraph(path, threads, {})


def open_in_float32(path: Path, threads: int) -> Graph:
    """Open an ONNX file in the precision of the graph; parity tests and comparisons need that."""
    return OpenVinoGraph(path, threads, {'INFERENCE_PRECISION_HINT': 'f32'})


class OpenVinoGraph(Graph):
    """
    A compiled model with one request.

    :param properties: of the CPU device, beside those for one run at a time
    """

    def __init__(self, path: Path, threads: int, properties: dict[str, str]):
        try:
            import openvino
        except ImportError as error:
            raise EngineError(f"expected openvino ('pip install openvino'), found {error}") from error
        properties = {'PERFORMANCE_HINT': 'LATENCY', 'NUM_STREAMS': '1', **properties}
        if threads:
            properties['INFERENCE_NUM_THREADS'] = str(threads)
        try:
            core = openvino.Core()
            graph = core.read_model(str(path))
            model = core.compile_model(graph, 'CPU', properties)
        except Exception as error:  # OpenVINO raises RuntimeError and others
            raise EngineError(f'{path}: expected a graph for OpenVINO, found {one_line(error)}') from error
        self._request = model.create_infer_request()
        # Of the graph as it was read: compiled outputs also bear the names of tensors inside.
        self.inputs = tuple(_tensor(path, port) for port in graph.inputs)
        self.outputs = tuple(_tensor(path, port) for port in graph.outputs)
        precision = model.get_property('INFERENCE_PRECISION_HINT').to_string()
        self.description = (f"openvino {openvino.__version__.partition('-')[0]} on the CPU in {precision}, "
                            f"threads: {threads or 'its own choice'}")

    def run(self, feeds):
        """Run once. Contiguous arrays are passed without a copy."""
        try:
            values = self._request.infer(feeds, share_inputs=True, share_outputs=False)
        except Exception as error:
            raise EngineError(f'expected the graph to run, found {one_line(error)}') from error
        return {tensor.name: value for tensor, value in zip(self.outputs, values.to_tuple())}


def _tensor(path: Path, port) -> Tensor:
    kind = port.get_element_type().get_type_name()
    if kind not in _DTYPES:
        raise EngineError(f"{path}: expected {', '.join(_DTYPES)} for '{port.get_any_name()}', found {kind}")
    shape = tuple(None if n.is_dynamic else n.get_length() for n in port.get_partial_shape())
    return Tensor(port.get_any_name(), shape, np.dtype(_DTYPES[kind]))
