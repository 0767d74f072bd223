# SPDX-License-Identifier: Apache-2.0
"""
The backends that run the graphs of a bundle.

A backend is a function ``open_graph(path, threads) -> Graph`` of a module here. The module is imported when
it is asked for, so that a missing library is no hindrance to the others; the function raises EngineError
where the backend cannot run.
"""

import importlib
from pathlib import Path

from jepa_ros.engine.backends.graph import EngineError, Graph, Ring, Tensor

_HERE = 'jepa_ros.engine.backends'
BACKENDS = {
    'tensorrt': f'{_HERE}.tensorrt:open_graph',
    'onnxruntime': f'{_HERE}.onnx_runtime:open_graph',
    'onnxruntime-cpu': f'{_HERE}.onnx_runtime:open_on_cpu',
    'onnxruntime-cuda': f'{_HERE}.onnx_runtime:open_on_cuda',
    'onnxruntime-tensorrt': f'{_HERE}.onnx_runtime:open_on_tensorrt',
    'openvino': f'{_HERE}.openvino:open_graph',
    'openvino-f32': f'{_HERE}.openvino:open_in_float32',
}

#: What 'auto' tries, in this order. OpenVINO is taken by name alone: it may compute in bfloat16.
AUTO = ('tensorrt', 'onnxruntime')

__all__ = ['AUTO', 'BACKENDS', 'EngineError', 'Graph', 'Ring', 'Tensor', 'open_graph']


def open_graph(path: Path, backend: str = 'auto', threads: int = 0) -> Graph:
    """
    Open the graph of a bundle.

    :param path: an ONNX file
    :param backend: a name of :data:`BACKENDS`, or ``auto``: the first of :data:`AUTO` that runs the graph
    :param threads: how many threads one run may use; 0: one per core
    :raises EngineError: unknown backend, a library is missing, or the graph cannot be read
    """
    if backend == 'auto':
        refusals = []
        for name in AUTO:
            try:
                graph = _open(name, path, threads)
            except EngineError as error:
                refusals.append(str(error))
                continue
            passed_over = f' after {"; ".join(refusals)}' if refusals else ''
            graph.description += f' (auto: the first that runs here{passed_over})'
            return graph
        raise EngineError('; '.join(refusals))
    if backend not in BACKENDS:
        raise EngineError(f"expected a backend of auto, {', '.join(BACKENDS)}, found '{backend}'")
    return _open(backend, path, threads)


def _open(name: str, path: Path, threads: int) -> Graph:
    if threads < 0:
        raise EngineError(f'expected 0 threads (one per core) or more, found {threads}')
    module, _, function = BACKENDS[name].partition(':')
    return getattr(importlib.import_module(module), function)(Path(path), threads)
