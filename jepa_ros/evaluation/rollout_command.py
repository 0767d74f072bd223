# SPDX-License-Identifier: Apache-2.0
"""`jepa evaluate rollout`."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path

from jepa_ros import host
from jepa_ros.sim import seeds as ranges

DEFAULT = ranges.HELD_OUT[9200:9300]  # no training, tuning or recording uses them
DESCRIPTION = f"""\
The arm takes moving bins off the belt, in the simulated cell, in lockstep and without ROS, as each of these
sees them:
  vjepa   the futures and readout of a V-JEPA bundle
  ijepa   the same of an I-JEPA bundle
  kalman  a Kalman filter with constant velocity on the belt, fed by the I-JEPA readout
  hold    the last certain reading of the I-JEPA readout, unchanged
  oracle  the true pose and velocity: what the control law makes of perfect perception
All of them see the same seeds and drive the same control law, and their paths come late by the latency that
was measured on this machine. Seeds: training {ranges.TRAIN.start} to {ranges.TRAIN[-1]}, validation
{ranges.VALIDATION.start} to {ranges.VALIDATION[-1]}, held out {ranges.HELD_OUT.start} to {ranges.HELD_OUT[-1]}."""
EXAMPLES = """\
examples:
  jepa evaluate rollout                                     100 held-out seeds, all contenders
  jepa evaluate rollout --seeds 10200:10220 --contenders vjepa,oracle      a quick look, on validation seeds
  jepa evaluate rollout --vjepa models/mine --out mine      your bundle against the others
  jepa evaluate rollout --latency 0.08                      as if perception took 80 ms

Every episode is kept in the folder when it is done, and the same command goes on with what is missing; more
seeds or contenders are added to what is there. Left besides: report.html to look at, report.json for programs
(docs/rollout.md). Exit codes: 0 done; 2 a wrong argument; 130 after Ctrl-C."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.add_argument(
        '--seeds',
        default=f'{DEFAULT.start}:{DEFAULT.stop}',
        metavar='A:B',
        help='seeds A to B-1, or a single one (default: %(default)s)',
    )
    parser.add_argument(
        '--contenders',
        metavar='NAME,NAME',
        help='some of them (default: vjepa,ijepa,kalman,hold,oracle)',
    )
    parser.add_argument(
        '--vjepa', default='conveyor_vjepa', metavar='BUNDLE', help='path or name (default: %(default)s)'
    )
    parser.add_argument(
        '--ijepa', default='conveyor_ijepa', metavar='BUNDLE', help='path or name (default: %(default)s)'
    )
    parser.add_argument(
        '--latency', type=float, metavar='S', help='s from a frame to its path, of all (default: measured)'
    )
    parser.add_argument(
        '--out', type=Path, default=Path('jepa_rollout'), metavar='DIR', help='default: ./%(default)s'
    )
    parser.add_argument('--again', action='store_true', help='forget what is there, and measure anew')
    parser.add_argument(
        '--jobs', type=int, metavar='N', help='episodes beside each other (default: one per core)'
    )
    parser.add_argument('--backend', default='auto', metavar='NAME', help='what runs the graphs (jepa info)')


def run(args: argparse.Namespace) -> int:
    """Run what is missing and report; returns the exit code."""
    from jepa_ros.evaluation.rollout_run import CONTENDERS, RolloutError, Store, run_all

    seeds = ranges.parse(args.seeds)
    names = args.contenders.split(',') if args.contenders else list(CONTENDERS)
    jobs = host.cores() if args.jobs is None else args.jobs
    if not set(names) <= set(CONTENDERS) or len(set(names)) < len(names):
        raise RolloutError(f'--contenders: expected some of {",".join(CONTENDERS)}, found {args.contenders}')
    if jobs < 1 or args.latency is not None and not 0 <= args.latency < 1:
        raise RolloutError(
            f'expected --jobs from 1 on and --latency 0 to 1 s, found {jobs} and {args.latency}'
        )
    store = Store(args.out)
    if args.again:
        store.clear()
    plan = _plan(args, names, store)
    store.begin(plan)
    every = [(name, seed) for seed in seeds for name in names]
    missing = [pair for pair in every if store.load(*pair) is None]
    interrupted = False
    if missing:
        try:
            _watch(run_all(plan, missing, store, min(jobs, len(missing))), len(every), len(missing))
        except KeyboardInterrupt:
            interrupted = True
    episodes = {name: [e for seed in seeds if (e := store.load(name, seed))] for name in names}
    _report(args, store.plan(), {name: ran for name, ran in episodes.items() if ran}, interrupted)
    return 130 if interrupted else 0


def _plan(args, names: list[str], store):
    """Return what all episodes have in common; latencies are measured once per run and bundle."""
    from rich.console import Console

    from jepa_ros.engine.bundle import Bundle
    from jepa_ros.evaluation.rollout_perception import Perception, measure_latency
    from jepa_ros.evaluation.rollout_run import CONTENDERS, Plan, RolloutError

    console = Console(stderr=True)
    needed = dict.fromkeys(bundle for name in names if (bundle := CONTENDERS[name][0]))
    kept = (store.plan() or {}).get('latencies', {})
    paths, models, measured = {}, {}, {}
    for kind in needed:
        bundle = Bundle.load(getattr(args, kind))
        if bundle.readout is None:
            raise RolloutError(f"expected a bundle with a readout, found '{bundle.manifest.name}' without")
        paths[kind], models[kind] = str(bundle.path), bundle.model_id
        looking = [name for name in names if CONTENDERS[name][0] == kind]
        if args.latency is None and not all(name in kept for name in looking):
            console.print(f'measuring the latency of {bundle.manifest.name}', highlight=False)
            measured[kind] = round(measure_latency(Perception(bundle, args.backend, 1), DEFAULT.start), 4)
    longest = max([*measured.values(), *kept.values()], default=0.03)

    def latency(name: str) -> float:
        if args.latency is not None:
            return args.latency
        return kept.get(name, measured.get(CONTENDERS[name][0], longest))

    return Plan(paths, models, {name: latency(name) for name in names}, args.backend, given=args.latency)


def _watch(episodes, count: int, missing: int) -> None:
    """Go through the episodes with a bar."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task('episodes', total=count, completed=count - missing)
        try:
            for name, seed in episodes:
                progress.update(task, advance=1, description=f'{name} {seed}')
        finally:
            episodes.close()


def _report(args, plan: dict, episodes: dict[str, list[dict]], interrupted: bool) -> None:
    from rich.console import Console

    from jepa_ros.evaluation import page
    from jepa_ros.evaluation.rollout_page import render
    from jepa_ros.evaluation.rollout_summary import summarise
    from jepa_ros.evaluation.rollout_table import show

    console = Console(width=None if sys.stdout.isatty() else 140)  # a file has no edge to wrap at
    if not episodes:
        console.print('no episode is done')
        return
    reference = 'oracle' if 'oracle' in episodes else next(iter(episodes))
    report = summarise(episodes, reference)
    command = (
        shlex.join(['jepa', *sys.argv[1:]]) if sys.argv[1:2] == ['evaluate'] else 'jepa evaluate rollout'
    )
    report = {
        'command': command,
        'host': plan['host'],
        'latency': plan['conditions']['latency'],
        'interrupted': interrupted,
        'bundles': {'vjepa': args.vjepa, 'ijepa': args.ijepa},
        **report,
        'episodes': {
            name: [{k: v for k, v in e.items() if k not in ('errors', 'strip')} for e in ran]
            for name, ran in episodes.items()
        },
    }
    page.write(args.out / 'report.json', json.dumps(report, indent=1) + '\n')
    page.write(args.out / 'report.html', render(report, episodes))
    show(console, report)
    console.print(f'left in {args.out}: report.html, report.json', highlight=False)
