# SPDX-License-Identifier: Apache-2.0
"""
Build the TensorRT plans of a bundle for this GPU, ahead of the first start.

A plan belongs to one GPU model, one version of TensorRT and one graph. perception_node builds what is missing
when it starts, which can take minutes; here it happens when you choose, with progress. Plans lie in plans/ in
the bundle, or in ~/.cache/jepa_ros/plans where the bundle cannot be written.

  jepa build conveyor_vjepa          build what is missing
  jepa build DIR --check              list what is cached and whether it fits; exit code 1 if one is missing

A plan holds code for the GPU: take it from nobody, build it from the bundle.
"""

import argparse

from jepa_ros.engine.bundle import Bundle


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('bundle', help='directory of a bundle, or the name of a shipped one')
    parser.add_argument('--backend', choices=['tensorrt'], default='tensorrt',
                        help='what to build for; the other backends need no building (default: %(default)s)')
    parser.add_argument('--check', action='store_true', help='build nothing: list the plans there are')


def run(args: argparse.Namespace) -> int:
    """Build, or list; return the exit code."""
    bundle = Bundle.load(args.bundle)
    return _check(bundle) if args.check else _build(bundle)


def _build(bundle: Bundle) -> int:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from jepa_ros.engine.backends import tensorrt
    from jepa_ros.engine.build import build_plans, graphs_of

    tensorrt.here()  # what is missing is said before bars are drawn
    console = Console()
    columns = TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as bars:
        tasks = {path: bars.add_task(path.name, total=None, start=False) for path in graphs_of(bundle)}

        def progress(path, step, steps):
            bars.start_task(tasks[path])
            bars.update(tasks[path], completed=step, total=steps)

        def done(path, description):
            bars.update(tasks[path], completed=1, total=1)
            console.print(f'{path.name}: {description}', soft_wrap=True, highlight=False)

        build_plans(bundle, progress, done)
    return 0


def _check(bundle: Bundle) -> int:
    from jepa_ros.engine.build import plan_states

    states = plan_states(bundle)
    for state in states:
        print(f'{state.graph.name}: {_sentence(state)}')
    return 1 if any(state.path is None for state in states) else 0


def _sentence(state) -> str:
    if state.path is None:
        return f'no plan for this machine ({state.problem})'
    size = f'{state.path} ({state.path.stat().st_size / 1e6:.1f} MB)'
    if state.key is None:
        return f'{size} cannot be used: {state.problem}'
    key = state.key
    built = f"built for {key['gpu']} ({key['compute_capability']}), TensorRT {key['tensorrt']}"
    return f'{size}, {built}: ' + (f'does not fit: {state.problem}' if state.problem else 'fits')
