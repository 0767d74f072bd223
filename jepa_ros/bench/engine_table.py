# SPDX-License-Identifier: Apache-2.0
"""``jepa bench engine``: arguments and the table."""

import argparse

from jepa_ros.errors import JepaError

PRECISIONS = ('fp32', 'fp16', 'bf16')


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('--models', type=_list, metavar='SIZE,...',
                        help='sizes of the encoder (default: small,base,large with a GPU, else tiny)')
    parser.add_argument('--image-size', type=int, default=256, help='side in pixels (default: %(default)s)')
    parser.add_argument('--frames', type=int, default=16, help='of one window (default: %(default)s)')
    parser.add_argument('--precision', choices=PRECISIONS,
                        help='of the graphs (default: fp16 with a GPU, else fp32)')
    parser.add_argument('--subjects', type=_list, metavar='NAME,...',
                        help='what is measured (default: everything on the GPU, or without one on the CPU)')
    parser.add_argument('--rounds', type=int, default=10,
                        help='turns of every subject (default: %(default)s)')
    parser.add_argument('--threads', type=int, default=0,
                        help='on the CPU; 0: all cores (default: %(default)s)')


def run(args: argparse.Namespace) -> dict:
    """
    Measure and print.

    :raises JepaError: frames or image size that make no whole tokens, or an unknown name
    """
    from jepa_ros.bench import engine

    if args.frames < 2 or args.frames % 2 or args.image_size < 16 or args.image_size % 16:
        raise JepaError('expected an even number of frames and an image size that is a multiple of 16, found '
                        f'{args.frames} and {args.image_size}')
    gpu = engine.has_gpu()
    precision = args.precision or ('fp16' if gpu else 'fp32')
    subjects = args.subjects or list(engine.ON_GPU if gpu else engine.ON_CPU + engine.ON_GPU)
    print(f'one window of {args.frames} frames at {args.image_size}x{args.image_size}, {precision}, random '
          'weights\nratio: how many times as fast as the first line; least cosine of a token: with torch in '
          f'float32{"" if gpu else "; matrix rate: of torch, which others may exceed on a CPU"}\n')
    print(f'{"model":<9}{"GFLOP":>8}  {"subject":<20}{"ms":>9}{"ratio":>8}{"GFLOP/s":>10}'
          f'{"of matrix rate":>16}{"least cosine":>14}')
    figures = []
    for size in args.models or (['small', 'base', 'large'] if gpu else ['tiny']):
        figures.append(engine.bench(size, args.image_size, args.frames, precision, subjects, args.rounds,
                                    args.threads))
        _print(figures[-1])
    return {'device': 'GPU' if gpu else 'CPU', 'models': figures}


def _print(found: dict) -> None:
    begin = f'{found["size"]:<9}{found["gflop"]:>8.1f}  '
    print(f'{begin}{"torch, one product":<20}{"":>17}{found["matrix_gflop_s"]:>10.0f}{1:>16.0%}')
    for row in found['subjects']:
        line = f'{begin}{row["name"]:<20}'
        if 'milliseconds' in row:
            line += (f'{row["milliseconds"]:>9.2f}{row["ratio"]:>8.2f}{row["gflop_s"]:>10.0f}'
                     f'{row["of_matrix_rate"]:>16.0%}{row["cosine"]:>14.6f}')
        else:
            line += f'not measured: {row["not_measured"]}'
        print(line, flush=True)


def _list(text: str) -> list[str]:
    return text.split(',')
