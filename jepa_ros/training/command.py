# SPDX-License-Identifier: Apache-2.0
"""`jepa train CONFIG`."""

import logging
import os
from pathlib import Path

from jepa_ros import paths, processes
from jepa_ros.errors import JepaError
from jepa_ros.training import config as configuration

EPILOG = """\
Your own recordings: put videos or bags into DIR/train, DIR/validation and DIR/held_out, then
  jepa train own_videos --data DIR --out runs/mine     interrupt it when you like; the same command goes on
  jepa curves runs/mine --out curves.png               loss, effective rank and skill so far
  jepa export runs/mine/best.pt                        a bundle for perception_node

More examples:
  jepa train conveyor_video --data data --set pretraining.steps=500
  jepa train own_videos --data DIR --init-from runs/other/best.pt
  jepa train conveyor_vjepa --data data --init-from conveyor_vjepa    go on from a bundle, here one that ships
  torchrun --nproc-per-node 8 -m jepa_ros.cli train vjepa2_vitl --data DIR --set parallel=fsdp
  tensorboard --logdir runs

A run's folder holds last.pt (where it goes on), best.pt (the best by validation), metrics.jsonl and
TensorBoard's events.

Configuration keys (type, default, meaning):
"""


def configure(parser):
    """Declare the command's arguments."""
    parser.description = (
        'Train an encoder on your recordings, and the forecaster (and readout) that run behind it on the '
        'robot.\nAn interrupted run goes on where it stopped.'
    )
    parser.epilog = EPILOG + '\n'.join(f'  {line}' for line in configuration.reference())
    parser.add_argument(
        'config', nargs='?', help='a YAML file, or the name of one in config/train: ' + ', '.join(shipped())
    )
    parser.add_argument(
        '--data',
        action='append',
        metavar='DIR',
        help='folder in which relative patterns are looked up (repeatable; default: here)',
    )
    parser.add_argument('--out', metavar='DIR', help='folder of the run (default: runs/NAME)')
    parser.add_argument(
        '--cache',
        default='.cache/jepa_ros',
        metavar='DIR',
        help='folder for decoded frames (default: %(default)s)',
    )
    parser.add_argument(
        '--init-from', metavar='WEIGHTS', help='start from a checkpoint or a bundle: the key init_from'
    )
    parser.add_argument(
        '--set',
        action='append',
        default=[],
        metavar='KEY=VALUE',
        dest='overrides',
        help='override a configuration key (repeatable)',
    )
    parser.add_argument(
        '--threads', type=int, default=0, metavar='N', help='CPU threads (default: as torch chooses)'
    )
    parser.add_argument(
        '--reference', action='store_true', help='print the table of the keys in Markdown, and leave'
    )


def shipped():
    """The configurations that ship: dict of name to path."""
    return {path.stem: path for path in sorted((paths.share_directory() / 'config' / 'train').glob('*.yaml'))}


def find(name_or_path):
    """
    :returns: path of a configuration.
    :raises JepaError: when there is neither such a file nor such a name.
    """
    path = Path(name_or_path).expanduser()
    known = shipped()
    if path.is_file():
        return path
    if path.name.removesuffix('.yaml') not in known or path.parent != Path():
        raise JepaError(
            f'expected a configuration as a YAML file or one of {", ".join(known)}, '
            f'found {str(name_or_path)!r}'
        )
    return known[path.name.removesuffix('.yaml')]


def run(args):
    """Train; returns the exit status."""
    if args.reference:
        print(configuration.reference_page(), end='')
        return 0
    if not args.config:
        raise JepaError(f'expected a configuration: a YAML file or one of {", ".join(shipped())}')
    import torch

    from jepa_ros.training.trainer import Trainer

    if args.threads:
        torch.set_num_threads(args.threads)
    if int(os.environ.get('RANK', 0)):  # what is wrong with the data is said once
        logging.getLogger('jepa_ros').setLevel(logging.ERROR)
    chosen = [f'init_from={args.init_from}'] if args.init_from else []
    config = configuration.load(find(args.config), args.overrides + chosen)
    trainer = Trainer(config, args.out or Path('runs') / config.name, args.data or ['.'], args.cache)
    try:
        trainer.resume()
        complete = trainer.run()
    finally:
        trainer.place.close()
    if complete and trainer.place.leader:
        print(f'done: {trainer.out / "best.pt"}; next: jepa export {trainer.out / "best.pt"}')
    status = 0 if complete else 130
    if trainer.place.world > 1:
        processes.leave(status)
    return status
