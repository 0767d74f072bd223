# SPDX-License-Identifier: Apache-2.0
"""
Draw how training runs went: loss, effective rank and skill over the steps, from their `metrics.jsonl`.

Training and validation recordings are drawn apart: thin lines are of clips that were trained on, thick ones
of validation clips, dots the mean loss of the training batches between two lines of the log.

  jepa curves runs/conveyor_vjepa --out docs/curves.png
  jepa curves runs/conveyor_vjepa runs/conveyor_ijepa --out comparison.png
"""

import json
from pathlib import Path

from jepa_ros.errors import JepaError

TRAIN, VALIDATION = 'train_clips', 'validation'


def configure(parser):
    """Declare the command's arguments."""
    parser.add_argument('runs', nargs='+', type=Path, metavar='RUN', help='folder of a run of jepa train')
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('curves.png'),
        metavar='FIGURE',
        help='picture to write, png or svg (default: %(default)s)',
    )


def run(args):
    """Draw; returns the exit status."""
    draw({path.name: read(path) for path in args.runs}, args.out)
    print(args.out)
    return 0


def read(folder):
    """
    The log of a run.

    :returns: list of dicts, one for each line of `metrics.jsonl`.
    :raises JepaError: when there is none.
    """
    path = Path(folder) / 'metrics.jsonl'
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
        # The first version wrote validation lines alone, without saying so.
        return [{'split': VALIDATION, 'stage': 'run', **json.loads(line)} for line in lines]
    except (OSError, ValueError) as error:
        raise JepaError(f'expected the log of a run of jepa train, {path}; {error}') from error


def curve(lines, split, name):
    """Steps and values of a figure, as two lists. :param lines: as `read` gives them."""
    points = [(line['step'], line[name]) for line in lines if line['split'] == split and name in line]
    return [list(axis) for axis in zip(*points)] or [[], []]


def panels(lines):
    """
    What is drawn of a run.

    :returns: dict of panel title to list of (split, name of the figure, label), panels without points left
        out.
    """
    names = list(dict.fromkeys(name for line in lines for name in line))
    staged = _by_stage(lines)
    found = {
        title: [
            (split, title, label)
            for split, label in (
                ('train', 'training batches'),
                (TRAIN, 'training clips'),
                (VALIDATION, 'validation'),
            )
        ]
        for title in _losses(lines)
    }
    for title in dict.fromkeys(name for line in staged for name in line):
        if title.startswith(('readout_error: ', 'attribute_error: ')):
            found[title] = [(TRAIN, title, 'training clips'), (VALIDATION, title, 'validation')]
    found['effective rank of the latents'] = [
        (TRAIN, 'rank', 'training clips'),
        (VALIDATION, 'rank', 'validation'),
    ]
    for kind, title in (
        ('skill_shrunk_', 'skill over shrunk persistence'),
        ('skill_', 'skill over persistence'),
    ):
        horizons = [
            name
            for name in names
            if name.startswith(kind) and name[len(kind) : -1].replace('.', '').isdigit()
        ]
        found[title] = [
            (split, name, f'{name[len(kind) : -1]} s' if split == VALIDATION else None)
            for name in horizons
            for split in (TRAIN, VALIDATION)
        ]
    known = {(line['split'], name) for line in staged for name in line}
    return {
        title: curves
        for title, curves in found.items()
        if any((split, name) in known for split, name, _ in curves)
    }


def _losses(lines):
    """
    What training batches and validation clips both have, by stage, as losses of two stages do not compare:
    'loss: heads'.
    """
    of_split = {
        split: dict.fromkeys(
            f'{name}: {line["stage"]}'
            for line in lines
            if line['split'] == split
            for name in line
            if name not in ('step', 'stage', 'split')
        )
        for split in ('train', VALIDATION)
    }
    return [title for title in of_split['train'] if title in of_split[VALIDATION]]


def _by_stage(lines):
    """The lines, with every figure under the name that it has in `_losses` as well."""
    return [{**line, **{f'{name}: {line["stage"]}': value for name, value in line.items()}} for line in lines]


def draw(runs, out):
    """
    Draw runs, one row of panels for each.

    :param runs: dict of name to lines, as `read` gives them.
    :param out: picture to write.
    :raises JepaError: when it cannot be written.
    """
    from matplotlib.figure import Figure

    rows = {name: panels(lines) for name, lines in runs.items()}
    columns = max(map(len, rows.values()))
    if not columns:
        raise JepaError(f'expected a run that was validated once, found none yet: {", ".join(runs)}')
    figure = Figure(figsize=(4.2 * columns, 3.2 * len(rows)), layout='constrained')
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes, (name, found) in zip(grid, rows.items()):
        for panel, (title, curves) in zip(axes, found.items()):
            _panel(panel, title, curves, _by_stage(runs[name]))
        for panel in axes[len(found) :]:
            panel.axis('off')
        axes[0].set_ylabel(name)
    try:
        figure.savefig(out, dpi=110)
    except (OSError, ValueError) as error:
        raise JepaError(f'cannot write the figure {out}: {error}') from error


def _panel(axes, title, curves, lines):
    colours = {}
    for split, name, label in curves:
        colour = colours.setdefault(name if name.startswith('skill') else split, f'C{len(colours)}')
        steps, values = curve(lines, split, name)
        if split == 'train':
            axes.plot(steps, values, '.', markersize=2, color=colour, alpha=0.6, label=label)
        else:
            axes.plot(
                steps,
                values,
                '.-',
                markersize=3,
                color=colour,
                linewidth=2.0 if split == VALIDATION else 0.8,
                label=label,
            )
    if title.startswith('skill'):
        axes.axhline(0, color='grey', linewidth=0.8, linestyle=':')
    axes.set_title(title, fontsize=10)
    axes.set_xlabel('step')
    axes.grid(alpha=0.25)
    axes.legend(fontsize=7)
