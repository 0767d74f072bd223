# SPDX-License-Identifier: Apache-2.0
"""What can run a bundle on this machine, and the TensorRT plans it has for it."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from jepa_ros.engine.backends import AUTO, EngineError, plans, tensorrt
from jepa_ros.engine.bundle import Bundle


@dataclass(frozen=True)
class PlanState:
    """
    A cached plan, or a graph without one.

    :param graph: the ONNX file
    :param path: the plan file; None: there is none for this machine
    :param key: what it was built for; None: it cannot be read
    :param problem: why it does not serve here, in words; None: it does
    """

    graph: Path
    path: Path | None
    key: dict | None
    problem: str | None


def graphs_of(bundle: Bundle) -> list[Path]:
    """Return the ONNX files of a bundle."""
    return [bundle.path / name for name in bundle.manifest.files if name.endswith('.onnx')]


def build_plans(bundle: Bundle, progress: Callable[[Path, int, int], None],
                done: Callable[[Path, str], None]) -> None:
    """
    Build the TensorRT plan of every graph of a bundle that has none that fits, and see that it loads.

    :param progress: told of a graph, the steps of its build that are done, and how many there are
    :param done: told of a graph and how it runs
    :raises EngineError: no GPU, no TensorRT, or it refuses a graph
    """
    for path in graphs_of(bundle):
        graph = tensorrt.prepare(path, lambda _, step, steps: progress(path, step, steps))
        done(path, graph.description)


def plan_states(bundle: Bundle) -> list[PlanState]:
    """Return all plans that are cached for a bundle, and the graphs that have none that fits this machine."""
    try:
        (trt, gpu), missing = tensorrt.here(), None
    except EngineError as error:
        missing = str(error)
    found = []
    for graph in graphs_of(bundle):
        key = None if missing else tensorrt.plan_key(graph, trt, gpu)
        sha256 = plans.graph_sha256(graph)
        states = [_state(graph, path, key, missing, sha256) for path in plans.cached_plans(graph)]
        states = [state for state in states if state is not None]
        if not any(state.problem is None for state in states):
            states.append(PlanState(graph, None, None, missing or 'not built yet'))
        found += states
    return found


def backends_here(bundle: Bundle) -> list[tuple[str, str]]:
    """Return for every kind of backend whether it runs here, and with what; nothing is built or loaded."""
    rows = []
    try:
        trt, gpu = tensorrt.here()
    except EngineError as error:
        rows.append(('tensorrt', f'no: {error}'))
        taken = AUTO[1]
    else:
        lacking = sorted({state.graph.stem for state in plan_states(bundle) if state.path is None})
        ready = f"to be built: {', '.join(lacking)} (jepa build)" if lacking else 'all plans are built'
        rows.append(('tensorrt', f'{trt.__version__} on {gpu.name} ({gpu.compute_capability}); {ready}'))
        taken = AUTO[0]
    import onnxruntime
    providers = [name.removesuffix('ExecutionProvider') for name in onnxruntime.get_available_providers()]
    rows.append(('onnxruntime', f"{onnxruntime.__version__} with {', '.join(providers)}"))
    try:
        rows.append(('openvino', f"{metadata.version('openvino')}; taken by name alone"))
    except metadata.PackageNotFoundError:
        rows.append(('openvino', "no: expected openvino ('pip install openvino'), found none"))
    return [*rows, ('auto takes', taken)]


def _state(graph: Path, path: Path, key: plans.PlanKey | None, missing: str | None,
           sha256: str) -> PlanState | None:
    try:
        found = plans.read_key(path)
    except (plans.PlanError, OSError) as error:
        return PlanState(graph, path, None, str(error))
    if found.get('onnx_sha256') != sha256 and path.parent != plans.beside(graph):
        return None  # in a shared cache: of another bundle
    problem = missing if key is None else ', '.join(key.differences(found)) or None
    return PlanState(graph, path, found, problem)
