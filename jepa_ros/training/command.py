# SPDX-License-Identifier: Apache-2.0
"""`jepa train CONFIG`."""

import argparse
from pathlib import Path

from jepa_ros import paths
from jepa_ros.training import config as configuration


def configure(parser):
    """Declare the command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = ('Pretrain an encoder on your recordings, and the forecaster (and readout) that run behind '
                          'it on the robot. An interrupted run goes on where it stopped.')
    parser.epilog = ('Examples:\n'
                     '  jepa train own_videos --data ~/videos --out runs/mine\n'
                     '  jepa train conveyor_stream --data data --set optimiser.steps=500\n'
                     '  tensorboard --logdir runs\n\n'
                     'Configuration keys (type, default, meaning):\n  '
                     + '\n  '.join(configuration.reference()))
    parser.add_argument('config', help='a YAML file, or the name of one in config/train')
    parser.add_argument('--data', action='append', metavar='DIR',
                        help='folder in which relative patterns are looked up (repeatable; default: here)')
    parser.add_argument('--out', metavar='DIR', help='folder of the run (default: runs/NAME)')
    parser.add_argument('--cache', default='.cache/jepa_ros', metavar='DIR', help='folder for decoded frames')
    parser.add_argument('--set', action='append', default=[], metavar='KEY=VALUE', dest='overrides',
                        help='override a configuration key (repeatable)')
    parser.add_argument('--threads', type=int, default=0, help='CPU threads for torch (default: its own choice)')


def run(args):
    """Train; returns the exit status."""
    import torch

    from jepa_ros.training.trainer import Trainer

    if args.threads:
        torch.set_num_threads(args.threads)
    path = Path(args.config)
    config = configuration.load(path if path.exists() else paths.find_config(f'train/{args.config}.yaml'),
                                args.overrides)
    trainer = Trainer(config, args.out or Path('runs') / config.name, args.data or ['.'], args.cache)
    trainer.resume()
    complete = trainer.run()
    if complete:
        print(f'done: {trainer.out / "best.pt"}; next: jepa export {trainer.out / "best.pt"}')
    return 0 if complete else 130
