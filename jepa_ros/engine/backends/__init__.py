# SPDX-License-Identifier: Apache-2.0
"""
The backends that run the graphs of a bundle.

A backend is a module here with a function ``open_graph(path, threads) -> Graph``. It is imported when it is
asked for, so that a missing library is no hindrance to the others; it raises EngineError where it cannot run.
"""

import importlib
from pathlib import Path

from jepa_ros.engine.backends.graph import EngineError, Graph, Tensor

# In the order in which 'auto' tries them.
BACKENDS = {'onnxruntime': 'jepa_ros.engine.backends.onnx_runtime'}

__all__ = ['BACKENDS', 'EngineError', 'Graph', 'Tensor', 'open_graph']


def open_graph(path: Path, backend: str = 'auto', threads: int = 0) -> Graph:
    """
    Open the graph of a bundle.

    :param path: an ONNX file
    :param backend: a name of :data:`BACKENDS`, or ``auto``: the first that can run the graph here
    :param threads: how many threads one run may use; 0: one per core
    :raises EngineError: unknown backend, a library is missing, or the graph cannot be read
    """
    if backend == 'auto':
        refusals = []
        for name in BACKENDS:
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
    return importlib.import_module(BACKENDS[name]).open_graph(path, threads)
