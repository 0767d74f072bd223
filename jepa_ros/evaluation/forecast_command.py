# SPDX-License-Identifier: Apache-2.0
"""`jepa evaluate forecast`."""

import json
import sys
from pathlib import Path

from jepa_ros import host

DESCRIPTION = """\
Run recordings through a bundle as the perception node would and compare every forecast with what the encoder
sees later. Skill is 1 - error / error of a baseline; baselines are the newest latent unchanged (persistence)
and the same drawn towards the training mean by the factor that is best on these very recordings (shrunk)."""
EXAMPLES = """\
Examples:
  jepa evaluate forecast conveyor_vjepa data/sim/heldout --labels /sim/handle
  jepa evaluate forecast models/mine my.mp4 --json figures.json"""


def configure(parser):
    """Declare the command's arguments."""
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.add_argument('bundle', help='an engine bundle: path, or name of one that ships')
    parser.add_argument('recordings', nargs='+', help='videos, bags, folders or globs')
    parser.add_argument('--topic', help='camera topic of the bags, where they have several')
    parser.add_argument(
        '--labels', metavar='TOPIC', help="topic with the readout's true point (PointStamped or PoseStamped)"
    )
    parser.add_argument('--threads', type=int, default=0, help='threads of the backend (default: all cores)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the figures here too')


def run(args):
    """Evaluate; returns the exit code."""
    from rich.console import Console
    from rich.progress import track

    from jepa_ros.evaluation.forecast import evaluate

    console = Console(width=None if sys.stdout.isatty() else 140)  # a file has no edge to wrap at
    reports = evaluate(
        args.bundle,
        args.recordings,
        args.topic,
        args.labels,
        args.threads,
        lambda items: track(items, 'recordings', transient=True, console=console),
    )
    for report in reports:
        _print(console, report, reports[-1]['skill'])
    machine = host.describe()
    console.print(host.sentence(machine), highlight=False)
    if args.json:
        args.json.write_text(
            json.dumps({'bundle': str(args.bundle), 'host': machine, 'reports': reports}, indent=1) + '\n'
        )
    return 0


def _print(console, report, comparable):
    from rich.table import Table

    title = f'{report["recording"]}: {report["slices"]} slices'
    if not report['skill']:
        why = 'too short for a forecast to be compared'
        if not comparable and report['points']:
            why = 'no skill: the futures are not of the space of the latents'
        console.print(f'{title}, {why}')
    else:
        table = Table(
            'horizon s', 'pairs', 'error', 'persistence', 'shrunk', 'skill', 'skill over shrunk', title=title
        )
        for row in report['skill']:
            table.add_row(
                f'{row["horizon"]:.2f}',
                str(row['count']),
                f'{row["error"]:.4f}',
                f'{row["persistence_error"]:.4f}',
                f'{row["shrunk_error"]:.4f}',
                f'{row["skill"]:+.3f}',
                f'{row["skill_shrunk"]:+.3f}',
            )
        console.print(table)
    if report['points']:
        table = Table(
            'horizon s',
            'in view',
            'median error',
            'hold last',
            'in 90 % ellipse',
            'hidden',
            'median error',
            'hold last',
            'in 90 % ellipse',
            title='readout, in widths of the image',
        )
        for row in report['points']:
            table.add_row(
                f'{row["horizon"]:.2f}',
                *(
                    '-'
                    if row[f'{kind}_{key}'] is None
                    else (f'{row[f"{kind}_{key}"]:d}' if key == 'count' else f'{row[f"{kind}_{key}"]:.3f}')
                    for kind in ('visible', 'hidden')
                    for key in ('count', 'error', 'hold_error', 'inside_90')
                ),
            )
        console.print(table)
