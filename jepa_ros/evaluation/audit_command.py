# SPDX-License-Identifier: Apache-2.0
"""
Which encoder should this robot run? An audit compares an image encoder and a video encoder on matched
evidence, by a rule that was written before it, and says which is accepted, or why that is pending and what is
missing.

Both encoders are frozen. The same heads are trained on their latents, for the same static and temporal
probes, on the same recordings, with the same budget; learning rate and weight decay are chosen on validation
recordings, and the held-out recordings are scored once, after that. The video encoder is accepted when
everything that the rule asks for is met: what it gains where time counts, what it may lose where it does not,
what it may cost, and how it does in closed loop. One miss decides for the image encoder. Where neither is
certain, nobody wins.

Left in the folder OUT/NAME (NAME is that of the configuration):
  record.yaml   the decision and all evidence behind it (docs/audit.md)
  report.html   the same to look at
  evidence/     what is finished; the same command goes on with what is missing
and in OUT itself held_out.yaml, the ledger of which held-out recordings were scored when, under which rule.
"""

from __future__ import annotations

import shlex
import sys
from contextlib import contextmanager
from pathlib import Path

from jepa_ros import paths
from jepa_ros.errors import JepaError

EXAMPLES = """\
examples:
  jepa audit config/audit/conveyor.yaml --data data    the pair that ships, on recordings of the simulator
  jepa audit conveyor --data data --promote            and make the winner the default bundle
  jepa audit my_audit.yaml --data bags                 your pair on your bags

To write your own, copy config/audit/conveyor.yaml: it explains every number of its rule.

--promote writes models/promoted, which nodes and launch files follow. It is refused while the winner is
pending, and where these held-out recordings were scored before under another rule.

exit codes: 0 decided, or pending with reasons; 1 nothing could be promoted; 2 a wrong configuration, argument
or recording; 130 after Ctrl-C, with what was finished kept"""


def configure(parser) -> None:
    """Declare the command's arguments."""
    parser.epilog = EXAMPLES
    parser.add_argument(
        'config', help='a YAML file, or the name of one in config/audit: ' + ', '.join(shipped())
    )
    parser.add_argument(
        '--data',
        action='append',
        metavar='DIR',
        help='folder in which recordings and rollouts are looked up (repeatable; default: here)',
    )
    parser.add_argument(
        '--out', type=Path, default=Path('jepa_audit'), metavar='DIR', help='default: ./%(default)s'
    )
    parser.add_argument(
        '--ledger', type=Path, metavar='FILE', help='of held-out recordings (default: held_out.yaml in --out)'
    )
    parser.add_argument(
        '--cache',
        type=Path,
        default=Path('.cache/probes'),
        metavar='DIR',
        help='folder of encoded clips, which may be deleted (default: %(default)s)',
    )
    parser.add_argument('--promote', action='store_true', help='make the winner the default bundle')


def shipped() -> dict[str, Path]:
    """Return the configurations that ship, by name."""
    return {path.stem: path for path in sorted((paths.share_directory() / 'config' / 'audit').glob('*.yaml'))}


def run(args) -> int:
    """Run the audit; returns the exit code."""
    from jepa_ros.evaluation import page
    from jepa_ros.evaluation.audit.audit import Place, audit
    from jepa_ros.evaluation.audit.config import load
    from jepa_ros.evaluation.audit.promotion import promote, refusal
    from jepa_ros.evaluation.audit.report import render

    config, sha256 = load(_find(args.config))
    out = args.out / config.name
    place = Place(out, args.data or ['.'], args.cache, args.ledger or args.out / 'held_out.yaml')
    command = shlex.join(['jepa', 'audit', *(sys.argv[2:] if sys.argv[1:2] == ['audit'] else [args.config])])
    try:
        with _bar() as tick:
            record = audit(config, sha256, place, command=command, tick=tick)
    except KeyboardInterrupt:
        print(
            f'jepa: interrupted; what is finished is kept in {out}, the same command goes on', file=sys.stderr
        )
        return 130
    record.write(out / 'record.yaml')
    page.write(out / 'report.html', render(record))
    _print(record)
    print(f'left in {out}: report.html, record.yaml')
    if not args.promote:
        return 0
    if why := refusal(record):
        print(f'nothing promoted: {why}')
        return 1
    print(f'promoted: {promote(record, out / "record.yaml")}')
    return 0


def _find(name_or_path: str) -> Path:
    path, known = Path(name_or_path).expanduser(), shipped()
    if path.is_file():
        return path
    if name_or_path in known:
        return known[name_or_path]
    raise JepaError(
        f'expected a configuration as a YAML file or one of {", ".join(known) or "none"}, '
        f"found '{name_or_path}'"
    )


@contextmanager
def _bar():
    """A bar for each encoder that says what is done now, and one for all else."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from jepa_ros.evaluation.audit.evidence import SIDES

    columns = (
        TextColumn('{task.description}', markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        tasks = {'': progress.add_task('audit', total=None)}

        def tick(what: str, done: int, of: int) -> None:
            side = what.partition(': ')[0] if what.startswith(SIDES) else ''
            if side not in tasks:
                tasks[side] = progress.add_task(what, total=of)
            progress.update(tasks[side], description=what, completed=done, total=of)

        yield tick


def _print(record) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 140)  # a file has no edge to wrap at
    row = record.as_row()
    table = Table(*row, title=escape(record.evidence['config']['name']))
    table.add_row(*map(escape, row.values()))
    console.print(table)
    table = Table('criterion', 'state', 'found', 'interval', 'asked')
    for item in record.evidence['criteria']:
        found, limit = item['found'], 'at_most' if 'at_most' in item else 'at_least'
        table.add_row(
            escape(item['name']),
            item['state'],
            '-' if found is None else f'{found["estimate"]:.3g}',
            '-' if found is None else f'{found["low"]:.3g} to {found["high"]:.3g}',
            f'{limit.replace("_", " ")} {item[limit]:.3g}',
        )
    console.print(table)
    decision = record.evidence['decision']
    for reason in decision['reasons']:
        console.print(reason, markup=False, highlight=False, soft_wrap=True)
    if decision['sequences_needed']:
        console.print(
            f'about {decision["sequences_needed"]} held-out sequences in all would decide what is open',
            highlight=False,
        )
