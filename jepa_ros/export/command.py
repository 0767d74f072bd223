# SPDX-License-Identifier: Apache-2.0
"""`jepa export CHECKPOINT`."""

import argparse
from pathlib import Path


def configure(parser):
    """Declare the command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = ('Turn a checkpoint of jepa train into an engine bundle: encoder, forecaster and readout as '
                          'ONNX, a manifest that says what the numbers mean, checksums, and the difference between '
                          'each graph and torch as measured here.')
    parser.epilog = ('Examples:\n'
                     '  jepa export runs/own_videos/best.pt\n'
                     '  jepa export runs/own_videos/best.pt --out models/mine --name mine\n'
                     '  jepa info models/mine')
    parser.add_argument('checkpoint', type=Path, help='best.pt or last.pt of a run')
    parser.add_argument('--out', type=Path, metavar='DIR', help='directory to write (default: bundles/NAME)')
    parser.add_argument('--name', help="name of the bundle (default: the run's)")


def run(args):
    """Export; returns the exit status."""
    from jepa_ros.export.bundle import export_checkpoint
    from jepa_ros.training import model as models

    out = args.out or Path('bundles') / (args.name or models.load(args.checkpoint)[0].name)
    bundle = export_checkpoint(args.checkpoint, out, args.name)
    size = sum(path.stat().st_size for path in out.iterdir()) / 1e6
    print(f'{out}: {bundle.manifest.name}, mode {bundle.manifest.mode}, {size:.1f} MB')
    return 0
