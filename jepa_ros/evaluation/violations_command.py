# SPDX-License-Identifier: Apache-2.0
"""`jepa evaluate violations`."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path

DESCRIPTION = """\
Violation of expectation: show pairs of clips that differ in one thing that cannot happen, and ask whether the
impossible one surprises the forecaster more. Surprise is the distance of the latents from what was forecast for
them, over how far ahead the forecast was and over how much of the past the encoder was shown.

Left in the folder of the report:
  report.html   to look at: what was noticed, by kind, and the pairs told apart most and least clearly
  report.json   the same figures for programs, and the surprise of every clip"""
EXAMPLES = """\
examples:
  jepa sim record --violations --seeds 20000:20060 --seconds 6 --rate 20 --out data/violations
  jepa evaluate violations conveyor_vjepa data/violations
  jepa evaluate violations models/mine data/violations --contexts 4,16,all --out report"""
FORMAT = 1


def configure(parser):
    """Declare the command's arguments."""
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.add_argument('bundle', help='an engine bundle: path, or name of one that ships')
    parser.add_argument(
        'recordings',
        nargs='+',
        help='bags, videos, folders or globs: NAME_KIND_possible and NAME_KIND_impossible',
    )
    parser.add_argument(
        '--contexts',
        type=_contexts,
        default=(),
        metavar='N,N',
        help='slices of the past that the encoder is shown, or all (default: all, and the '
        'least that the forecaster takes)',
    )
    parser.add_argument('--topic', help='camera topic of the bags, where they have several')
    parser.add_argument('--threads', type=int, default=0, help='threads of the backend (default: all cores)')
    parser.add_argument(
        '--out', type=Path, default=Path('jepa_violations'), metavar='DIR', help='default: ./%(default)s'
    )


def run(args) -> int:
    """Evaluate; returns the exit code."""
    from rich.console import Console
    from rich.progress import track

    from jepa_ros import host
    from jepa_ros.evaluation import page
    from jepa_ros.evaluation.replay_report import writable
    from jepa_ros.evaluation.violations import Expectation, find_pairs, watch_all
    from jepa_ros.evaluation.violations_page import Gallery, violations_page
    from jepa_ros.evaluation.violations_statistics import summary

    console = Console(width=None if sys.stdout.isatty() else 140)  # a file has no edge to wrap at
    pairs = find_pairs(args.recordings)
    expectation, gallery = Expectation(args.bundle, args.contexts, args.threads), Gallery()
    writable(args.out)
    watched = watch_all(
        pairs,
        expectation,
        gallery.see,
        args.topic,
        lambda items: track(items, 'pairs', transient=True, console=Console(stderr=True)),
    )
    manifest, machine = expectation.bundle.manifest, host.describe()
    report = {
        'format': FORMAT,
        'command': shlex.join(['jepa', *sys.argv[1:]]),
        'date': machine['date'],
        'host': host.sentence(machine),
        'bundle': {
            'name': manifest.name,
            'model': f'{expectation.bundle.model_id:08x}',
            'family': manifest.family,
            'mode': manifest.mode,
            'grid': list(manifest.grid),
            'backend': expectation.description,
        },
        'settings': [{'context': context, 'horizon': horizon} for context, horizon in expectation.settings],
        'summary': summary(watched),
        'pairs': watched,
    }
    page.write(args.out / 'report.json', json.dumps(report, indent=1) + '\n')
    page.write(args.out / 'report.html', violations_page(report, gallery))
    _print(console, report)
    console.print(f'left in {args.out}: report.html, report.json', highlight=False)
    return 0


def _print(console, report: dict) -> None:
    from rich.table import Table

    from jepa_ros.evaluation.violations_page import context_words

    table = Table(
        'kind',
        'context',
        'horizon s',
        'pairs',
        'relative',
        '95 %',
        'area',
        '95 %',
        title=report['bundle']['name'],
    )
    shortest = report['settings'][0]['horizon']
    for row in (row for row in report['summary'] if row['horizon'] == shortest):
        cells = []
        for name in ('relative', 'area'):
            found = row[name]
            ends = '-' if found['low'] is None else f'{found["low"]:.2f}..{found["high"]:.2f}'
            cells += [f'{found["value"]:.2f}', ends]
        context, horizon = context_words(row['context']), f'{row["horizon"]:g}'
        table.add_row(row['kind'], context, horizon, str(row['pairs']), *cells)
    console.print(table)
    console.print('further horizons are in the report', highlight=False)
    console.print(report['host'], highlight=False)


def _contexts(words: str) -> tuple[int, ...]:
    from jepa_ros.evaluation.violations import ALL

    try:
        found = tuple(ALL if word == 'all' else int(word) for word in words.split(','))
    except ValueError:
        found = ()
    if not found or any(
        value < 0 or (value == 0 and word != 'all') for value, word in zip(found, words.split(','))
    ):
        raise argparse.ArgumentTypeError(f'expected numbers of slices or all, as 4,8,all, found {words}')
    return found
