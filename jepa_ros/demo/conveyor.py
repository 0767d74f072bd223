# SPDX-License-Identifier: Apache-2.0
"""One run of the picking cell: simulator, perception and controller as processes, until enough was picked."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from jepa_ros.data.recordings import RAW_TYPE
from jepa_ros.demo import picking, picking_report
from jepa_ros.demo.isolation import isolate
from jepa_ros.demo.recorder import BagRecorder
from jepa_ros.demo.run import play
from jepa_ros.engine.bundle import Bundle
from jepa_ros.errors import JepaError
from jepa_ros.nodes.graph import NodeSpec, conveyor_graph
from jepa_ros.sim.hall import import_mujoco


@dataclass(frozen=True)
class ConveyorOptions:
    """
    What to run.

    :param bundle: path or name of an engine bundle with forecaster and readout.
    :param out: directory for what the run leaves behind.
    :param picks: end after so many; `seconds`: or after so many simulated ones.
    :param speed: simulated seconds per second.
    :param seed: of the simulator; None as its parameter file says.
    :param backend: what runs the graphs; '' as the parameter file says.
    :param video: False to leave the video out.
    :param params_file: YAML file of parameters over the package's own; '' for none.
    :param viewer: open MuJoCo's window, which needs a screen.
    """

    bundle: str
    out: Path
    picks: int = 3
    seconds: float = 120.0
    speed: float = 1.0
    seed: int | None = None
    backend: str = ''
    video: bool = True
    params_file: str = ''
    viewer: bool = False


def run_conveyor(options: ConveyorOptions) -> int:
    """
    Run the cell and write bag, video, figures and page.

    :return: 0, however much was picked; 1 if a process failed or no futures came; 130 after Ctrl-C.
    :raises JepaError: MuJoCo or the bundle cannot be used, or nothing can be written.
    """
    import_mujoco()
    bundle = Bundle.load(options.bundle)
    manifest = bundle.manifest
    if manifest.forecaster is None or manifest.readout is None:
        raise JepaError(f"expected a bundle with a forecaster and a readout, found '{manifest.name}' without")
    isolate()
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JepaError(f'expected a directory to write in at {options.out}, found: {error}') from error
    figures = picking.PickingFigures(manifest.slice_period, manifest.future_space == 'latents')
    recorder = BagRecorder(options.out / 'bag')

    def done() -> bool:
        return figures.enough(options.picks) or figures.now >= options.seconds

    try:
        code, failure = play(
            graph(options, bundle),
            RAW_TYPE,
            options.out / 'logs',
            f'picking cell through {manifest.name}',
            figures,
            recorder,
            handlers=picking.handlers(figures),
            rows=picking.live_rows,
            done=done,
        )
    finally:
        recorder.close()
    figures.end()
    return picking_report.conclude(picking_report.Run(options, bundle, figures, recorder), code, failure)


def graph(options: ConveyorOptions, bundle: Bundle) -> list[NodeSpec]:
    """Return the nodes, the simulator first, which does not start by itself: perception is to miss no frame."""
    readout = bundle.manifest.readout
    own = {
        'conveyor_sim': {'autostart': False, 'viewer': options.viewer},
        'perception': {'publish': readout.publish},
        'controller': {'readout': readout.name},
    }
    specs = conveyor_graph(
        speed=options.speed,
        seed=options.seed,
        bundle=str(bundle.path.resolve()),
        backend=options.backend,
        params_file=options.params_file,
    )
    return [dataclasses.replace(spec, parameters=spec.parameters | own[spec.name]) for spec in specs]
