# SPDX-License-Identifier: Apache-2.0
"""
Measure what the nodes and the transport cost on this machine.

  jepa bench node        processor time that perception_node adds to a frame, and its start-up
  jepa bench transport   share of a raw camera's frames that arrive whole, with and without the profile
  jepa bench engine      encoders of the published sizes on every backend, side by side
  jepa bench train       a step of the trainer against a plain loop over transformers' modules

The first two are real processes over real DDS. Leave the machine alone meanwhile; trust the ratios more than
the times.
"""

import argparse
import json
import re
import statistics
import sys
import tempfile
from pathlib import Path

from jepa_ros import host
from jepa_ros.bench import engine_table, train

SIZES = ('640x480', '1280x720')


def configure(parser) -> None:
    """Declare the arguments."""
    benches = parser.add_subparsers(dest='bench', required=True, metavar='node | transport | engine | train')
    node = benches.add_parser('node', help='what perception_node adds to a frame')
    node.add_argument('--bundle', default='conveyor_vjepa', help='engine bundle (default: %(default)s)')
    node.add_argument('--starts', type=int, default=3, help='starts that are timed (default: %(default)s)')
    node.add_argument('--rounds', type=int, default=2, help='turns of either process (default: %(default)s)')
    transport = benches.add_parser('transport', help='share of the frames that arrive whole')
    for bench, seconds in ((node, 6.0), (transport, 5.0)):
        bench.add_argument('--seconds', type=float, default=seconds, help='per figure (default: %(default)s)')
        bench.add_argument('--sizes', type=_sizes, default=','.join(SIZES), metavar='WIDTHxHEIGHT,...',
                           help='of the camera (default: %(default)s)')
    engine = benches.add_parser('engine', help='encoders on every backend')
    engine_table.configure(engine)
    training = benches.add_parser('train', help='the trainer against a plain loop')
    train.configure(training)
    for bench in (node, transport, engine, training):
        bench.add_argument('--json', type=Path, metavar='FILE', help='write the figures there as well')


def run(args) -> int:
    """Measure, print, and write JSON where it was asked for."""
    if args.bench == 'engine':
        figures = engine_table.run(args)
    elif args.bench == 'train':
        figures = train.run(args)
    else:
        from jepa_ros.demo.isolation import isolate
        isolate()
        with tempfile.TemporaryDirectory(prefix='jepa_bench_') as logs:
            figures = (_node if args.bench == 'node' else _transport)(args, Path(logs))
    figures = {'command': f"jepa bench {' '.join(sys.argv[2:])}", 'host': host.describe(), **figures}
    print(f"\n{host.sentence(figures['host'])}")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + '\n')
    return 0


def _node(args, logs: Path) -> dict:
    from jepa_ros.bench.node import RATE, Listener, frame_cost, start_up
    from jepa_ros.engine.bundle import Bundle
    manifest = Bundle.load(args.bundle).manifest
    height, width = manifest.image_size
    print(f"perception_node with bundle '{manifest.name}' ({width}x{height}, a frame every "
          f'{manifest.frame_period:g} s), camera {RATE:g} Hz\n'
          'processor time per received frame, ms; peer: a bare rclpy subscriber that only receives\n')
    print(f'{"camera":<22}{"outside engine":>15}{"peer":>8}{"ratio":>8}{"engine":>9}   wall per stage (p50)')
    rows = []
    with Listener() as listener:
        for size in args.sizes:
            for compressed in (False, True):
                row = frame_cost(listener, logs, args.bundle, size, compressed, args.seconds, args.rounds)
                rows.append(row)
                stages = ', '.join(f'{name} {ms:.2f}' for name, ms in row['stages_wall_ms'].items())
                print(f'{size + " " + row["transport"]:<22}{row["outside_engine_cpu_ms"]:>15.2f}'
                      f'{row["peer_cpu_ms"]:>8.2f}{row["ratio_to_peer"]:>8.2f}{row["engine_cpu_ms"]:>9.2f}'
                      f'   {stages}', flush=True)
        starts = start_up(listener, logs, args.bundle, args.starts)
    times = ', '.join(f'{seconds:.2f}' for seconds in starts)
    print(f'\nstart-up to first published latents: {statistics.median(starts):.2f} s (median of {times})')
    return {'bundle': manifest.name, 'camera_rate_hz': RATE, 'frames': rows, 'start_up_s': starts}


def _transport(args, logs: Path) -> dict:
    from jepa_ros.bench.transport import whole_share
    print('raw camera at 30 Hz in another process, best effort\n')
    print(f'{"camera":<12}{"profile":>9}{"sent":>7}{"whole":>7}{"share":>9}')
    rows = []
    for size in args.sizes:
        for profile in (True, False):
            row = whole_share(logs, size, args.seconds, profile)
            rows.append(row)
            print(f'{size:<12}{"yes" if profile else "no":>9}{row["sent"]:>7}{row["whole"]:>7}'
                  f'{row["share"]:>9.1%}', flush=True)
    return {'camera_rate_hz': 30.0, 'transport': rows}


def _sizes(text: str) -> list[str]:
    sizes = text.split(',')
    if not all(re.fullmatch(r'[1-9]\d*x[1-9]\d*', size) for size in sizes):
        raise argparse.ArgumentTypeError(f'expected WIDTHxHEIGHT, with commas between several, found {text}')
    return sizes
