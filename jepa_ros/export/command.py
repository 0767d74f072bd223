# SPDX-License-Identifier: Apache-2.0
"""`jepa export`."""

import argparse
from pathlib import Path

from jepa_ros.engine.manifest import FAMILIES, PRECISIONS, WEIGHTS

DESCRIPTION = """\
Turn weights into an engine bundle: encoder, forecaster and readout as ONNX, a manifest that says what the
numbers mean, checksums, and how near each graph is to torch in float32, as measured here.

Without --family the weights are a checkpoint of jepa train. With it they are official ones, as published by
Meta or in the layout of Hugging Face; --families lists them. Predictors of V-JEPA 2 and of 2.1 B and L become
the forecaster, whose horizons are whole tubelets; the others export without futures, and jepa train can fit
a forecaster on their frozen latents."""
EXAMPLES = """\
Examples:
  jepa export runs/own_videos/best.pt
  jepa export runs/own_videos/best.pt --name mine --precision fp16 --clips held_out.mp4
  jepa export vitl.pt --family vjepa2 --model vitl --image-size 256 --frames 16 --out bundles/vitl
  jepa export IN1K-vit.h.14-300e.pth.tar --family ijepa --model vith14 --precision int8 --clips bags/
  jepa export --families
  jepa info bundles/vitl"""


def configure(parser):
    """Declare the command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = DESCRIPTION
    parser.epilog = EXAMPLES
    parser.add_argument(
        'weights',
        type=Path,
        nargs='?',
        help='best.pt or last.pt of a run, or official weights: a file (.pt, .pth.tar, .safetensors) or a '
        'folder of the Hugging Face hub',
    )
    parser.add_argument('--out', type=Path, metavar='DIR', help='directory to write (default: bundles/NAME)')
    parser.add_argument('--name', help="name of the bundle (default: the run's, or family and model)")
    parser.add_argument(
        '--precision',
        choices=PRECISIONS,
        default='fp32',
        help='of the matrix products; normalisation, softmax and rotary positions stay in float32, and '
        'so do inputs and outputs. int8: linear layers, needs --clips (default: %(default)s)',
    )
    parser.add_argument(
        '--clips',
        nargs='+',
        metavar='VIDEO_OR_BAG',
        default=[],
        help='recordings (files, folders, globs) to calibrate int8 with and to measure every graph on; '
        'without them the graphs are measured on random inputs',
    )
    parser.add_argument(
        '--windows',
        type=int,
        metavar='N',
        default=32,
        help='windows taken of each recording, from its beginning; the first half calibrates, the second '
        'half measures (default: %(default)s)',
    )
    parser.add_argument('--topic', help='camera topic of the bags, where they have several')
    official = parser.add_argument_group('official weights')
    official.add_argument('--family', choices=FAMILIES, help='what the weights are')
    official.add_argument('--model', metavar='NAME', help='which size; see --families')
    official.add_argument(
        '--families',
        action='store_true',
        help='print the table of published models: weights, licence, size, cost (Markdown)',
    )
    official.add_argument(
        '--encoder', choices=WEIGHTS, help='which encoder of the file (default: the one its authors evaluate)'
    )
    official.add_argument(
        '--image-size',
        type=int,
        nargs='+',
        metavar='PX',
        help="side, or height and width, of the frames (default: the model's)",
    )
    official.add_argument(
        '--frames',
        type=int,
        metavar='T',
        help='frames per window; 1: one at a time (default: 16 of a video model)',
    )
    official.add_argument(
        '--frame-period',
        type=float,
        metavar='S',
        help='seconds between frames (default: as the weights were trained, 0.25 for V-JEPA 2; images 0.1)',
    )
    official.add_argument(
        '--horizons',
        type=int,
        metavar='K',
        default=2,
        help='how many tubelets ahead the predictor is asked for (default: %(default)s)',
    )


def run(args):
    """Export; returns the exit status."""
    from jepa_ros.errors import JepaError
    from jepa_ros.export.clips import Clips

    if args.families:
        from jepa_ros.export.families import table

        print(table())
        return 0
    if args.weights is None:
        raise JepaError(
            'expected weights to export: a checkpoint of jepa train, or official ones with --family'
        )
    if args.model and not args.family:
        raise JepaError(f'--model {args.model} needs --family, one of {", ".join(FAMILIES)}')
    if args.windows < 1:
        raise JepaError(f'--windows must be at least 1, found {args.windows}')
    clips = Clips(tuple(args.clips), args.windows, args.topic) if args.clips else None
    if args.family:
        from jepa_ros.export.official import export_official

        bundle = export_official(
            args.weights,
            args.family,
            args.model,
            args.out,
            name=args.name,
            which=args.encoder,
            image_size=args.image_size,
            frames=args.frames,
            frame_period=args.frame_period,
            horizons=args.horizons,
            precision=args.precision,
            clips=clips,
        )
    else:
        from jepa_ros.export.bundle import export_checkpoint

        bundle = export_checkpoint(args.weights, args.out, args.name, args.precision, clips)
    size = sum(path.stat().st_size for path in bundle.path.iterdir()) / 1e6
    print(
        f'{bundle.path}: {bundle.manifest.name}, mode {bundle.manifest.mode}, {bundle.manifest.precision}, '
        f'{size:.1f} MB'
    )
    return 0
