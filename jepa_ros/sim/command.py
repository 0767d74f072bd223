# SPDX-License-Identifier: Apache-2.0
"""`jepa sim record`: bags and videos of the simulated conveyor and of the picking cell."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jepa_ros.errors import JepaError
from jepa_ros.sim import seeds
from jepa_ros.sim.cell import CAMERAS, ConveyorCell
from jepa_ros.sim.cell_recorder import record_cell
from jepa_ros.sim.conveyor import ConveyorScene
from jepa_ros.sim.hall import Hall
from jepa_ros.sim.oracle import OraclePolicy
from jepa_ros.sim.recorder import record_bag, record_video
from jepa_ros.sim.violations import IN_TURN, VIOLATIONS, StagedCell

EXAMPLES = """\
examples:
  jepa sim record --seeds 0:20 --out DIR                  belt, bins and pillar, one bag per seed
  jepa sim record --cell --seeds 0:20 --out DIR           with the manipulator at work, and all labels
  jepa sim record --cell --camera arm --depth --out DIR   seen from its hand, with depth
  jepa sim record --violations --seeds 0:6 --out DIR      pairs of clips, one of each impossible
  jepa sim record --cell --camera overview --fine --size 1280x720 --video FILE.mp4"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `jepa sim`."""
    record = parser.add_subparsers(dest='action', required=True, metavar='ACTION').add_parser(
        'record',
        help='record one rosbag2 per seed, or a video',
        description='Record the simulated conveyor: one rosbag2 (MCAP) per seed, with camera, camera_info '
        'and the place of the handle. Bags that are there already are kept. '
        f'Seeds: training {_span(seeds.TRAIN)}, validation {_span(seeds.VALIDATION)}, '
        f'held out {_span(seeds.HELD_OUT)}.',
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    record.add_argument(
        '--seeds', default='0', metavar='A:B', help='seeds A to B-1, or a single one (default: 0)'
    )
    record.add_argument('--seconds', type=float, default=30.0, help='length of each recording (default: 30)')
    record.add_argument('--rate', type=float, default=30.0, help='frames per second (default: 30)')
    record.add_argument(
        '--size', default='320x240', metavar='WxH', help='of the picture, px (default: 320x240)'
    )
    record.add_argument(
        '--fine', action='store_true', help='with shadows and antialiasing, about seven times slower'
    )
    _configure_cell(record)
    target = record.add_mutually_exclusive_group(required=True)
    target.add_argument('--out', type=Path, metavar='DIR', help='folder for the bags')
    target.add_argument(
        '--video', type=Path, metavar='FILE.mp4', help='a video of one seed instead, replaced if there'
    )
    record.add_argument(
        '--crf', type=int, default=23, help='quality of the video, 0 (lossless) to 51 (default: 23)'
    )


def _configure_cell(record: argparse.ArgumentParser) -> None:
    kind = record.add_mutually_exclusive_group()
    kind.add_argument(
        '--cell',
        action='store_true',
        help='the picking cell: a manipulator that takes the bins, interventions and passing loads; the bags '
        'have joint states and labels of every frame besides',
    )
    kind.add_argument(
        '--violations',
        action='store_true',
        help='pairs of clips of the cell at rest: one possible, one in which a law is broken '
        f'({", ".join(VIOLATIONS)} in turn by seed)',
    )
    record.add_argument('--camera', choices=CAMERAS, default='fixed', help='of the cell (default: fixed)')
    record.add_argument(
        '--speed', type=float, help='of the belt of the cell, m/s (default: drawn from the seed)'
    )
    record.add_argument(
        '--bins', type=int, default=1, help='on the belt of the cell at most, 1 to 3 (default: 1)'
    )
    record.add_argument('--calm', action='store_true', help='no interventions and no passing loads')
    record.add_argument('--idle', action='store_true', help='the manipulator rests')
    record.add_argument('--depth', action='store_true', help='depth images too')


def run(args: argparse.Namespace) -> int:
    """Run `jepa sim`; returns the exit code."""
    chosen = seeds.parse(args.seeds)
    size = _size(args.size)
    _check(args, size, chosen)
    frames = max(1, round(args.seconds * args.rate))
    wanted = [recording for seed in chosen for recording in _recordings(args, seed, size)]
    columns = TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns) as progress:
        task = progress.add_task('frames', total=len(wanted) * frames)
        for recording in wanted:
            path = args.video or args.out / recording.name
            progress.update(task, description=path.name)
            if path.exists() and not args.video:
                progress.advance(task, frames)
                continue
            with recording.open() as scene:
                for _ in _record(args, scene, frames, path):
                    progress.advance(task)
    return 0


@dataclass(frozen=True)
class _Recording:
    name: str
    open: Callable[[], Hall]


def _recordings(args: argparse.Namespace, seed: int, size: tuple[int, int]) -> list[_Recording]:
    """Return what is to be recorded of a seed."""
    basic = seed, size, args.rate, args.fine
    if args.violations:
        kind = IN_TURN[seed % len(IN_TURN)]
        return [
            _Recording(
                f'cell_{seed:05d}_{kind}_{"possible" if possible else "impossible"}',
                lambda possible=possible: StagedCell(*basic, kind=kind, possible=possible),
            )
            for possible in (True, False)
        ]
    if not args.cell:
        return [_Recording(f'conveyor_{seed:05d}', lambda: ConveyorScene(*basic))]

    def cell() -> ConveyorCell:
        lively = {} if args.calm else {'interventions': 'seed', 'passing': True}
        made = ConveyorCell(*basic, camera=args.camera, speed=args.speed, bins=args.bins, **lively)
        made.policy = None if args.idle else OraclePolicy(made)
        return made

    return [_Recording(f'cell_{seed:05d}', cell)]


def _record(args: argparse.Namespace, scene: Hall, frames: int, path: Path) -> Iterator[int]:
    if args.video:
        return record_video(scene, frames, path, args.crf)
    if isinstance(scene, ConveyorCell):
        return record_cell(scene, frames, path, args.depth)
    return record_bag(scene, frames, path)


def _check(args: argparse.Namespace, size: tuple[int, int], chosen: range) -> None:
    if args.seconds <= 0 or not 1 <= args.rate <= 240 or not 0 <= args.crf <= 51:
        raise JepaError(
            f'expected seconds above 0, a rate of 1 to 240 and a crf of 0 to 51, found {args.seconds:g}, '
            f'{args.rate:g} and {args.crf}'
        )
    if args.video and (len(chosen) > 1 or args.violations):
        raise JepaError(f'--video: expected one seed, and not --violations, found {args.seeds}')
    if args.video and (size[0] % 2 or size[1] % 2):
        raise JepaError(f'--video: expected an even size, found {args.size}')
    if args.speed is not None and not -0.5 <= args.speed <= 0.5:
        raise JepaError(f'--speed: expected -0.5 to 0.5 m/s, found {args.speed:g}')
    given = {
        '--camera': args.camera != 'fixed',
        '--speed': args.speed is not None,
        '--bins': args.bins != 1,
        '--calm': args.calm,
        '--idle': args.idle,
    }
    for option in (name for name, there in given.items() if there and not args.cell):
        raise JepaError(f'{option}: expected --cell with it')
    if args.depth and (args.video or not (args.cell or args.violations)):
        raise JepaError('--depth: expected --cell or --violations, and --out')


def _span(seeds_: range) -> str:
    return f'{seeds_.start} to {seeds_.stop - 1}'


def _size(text: str) -> tuple[int, int]:
    """Read 'WxH'; returns height and width."""
    width, _, height = text.partition('x')
    sizes = width.isdecimal() and height.isdecimal()
    if not (sizes and 16 <= int(width) <= 1920 and 16 <= int(height) <= 1440):
        raise JepaError(
            f'--size: expected WIDTHxHEIGHT from 16x16 to 1920x1440 such as 320x240, found {text}'
        )
    return int(height), int(width)
