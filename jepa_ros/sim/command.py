# SPDX-License-Identifier: Apache-2.0
"""`jepa sim record`: bags and videos of the simulated conveyor."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jepa_ros.errors import JepaError
from jepa_ros.sim import seeds
from jepa_ros.sim.conveyor import ConveyorScene
from jepa_ros.sim.recorder import record_bag, record_video


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `jepa sim`."""
    record = parser.add_subparsers(dest='action', required=True, metavar='ACTION').add_parser(
        'record',
        help='record one rosbag2 per seed, or a video',
        description='Record the simulated conveyor: one rosbag2 (MCAP) per seed, with camera, camera_info '
        'and the place of the handle. Bags that are there already are kept. '
        f'Seeds: training {_span(seeds.TRAIN)}, validation {_span(seeds.VALIDATION)}, '
        f'held out {_span(seeds.HELD_OUT)}.',
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
    target = record.add_mutually_exclusive_group(required=True)
    target.add_argument('--out', type=Path, metavar='DIR', help='folder for the bags')
    target.add_argument(
        '--video', type=Path, metavar='FILE.mp4', help='a video of one seed instead, replaced if there'
    )
    record.add_argument(
        '--crf', type=int, default=23, help='quality of the video, 0 (lossless) to 51 (default: 23)'
    )


def run(args: argparse.Namespace) -> int:
    """Run `jepa sim`; returns the exit code."""
    chosen = seeds.parse(args.seeds)
    size = _size(args.size)
    if args.seconds <= 0 or not 1 <= args.rate <= 240 or not 0 <= args.crf <= 51:
        raise JepaError(
            f'expected seconds above 0, a rate of 1 to 240 and a crf of 0 to 51, found {args.seconds:g}, '
            f'{args.rate:g} and {args.crf}'
        )
    if args.video and len(chosen) > 1:
        raise JepaError(f'--video: expected one seed, found {args.seeds}')
    if args.video and (size[0] % 2 or size[1] % 2):
        raise JepaError(f'--video: expected an even size, found {args.size}')
    frames = max(1, round(args.seconds * args.rate))
    columns = TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns) as progress:
        task = progress.add_task('frames', total=len(chosen) * frames)
        for seed in chosen:
            path = args.video or args.out / f'conveyor_{seed:05d}'
            progress.update(task, description=path.name)
            if path.exists() and not args.video:
                progress.advance(task, frames)
                continue
            with ConveyorScene(seed, size, args.rate, fine=args.fine) as scene:
                if args.video:
                    recorded = record_video(scene, frames, path, args.crf)
                else:
                    recorded = record_bag(scene, frames, path)
                for _ in recorded:
                    progress.advance(task)
    return 0


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
