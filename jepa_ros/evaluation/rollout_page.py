# SPDX-License-Identifier: Apache-2.0
"""The report of a run as one page: rates, errors, comparisons, and pictures of a success and a failure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jepa_ros import host
from jepa_ros.evaluation import page, plots
from jepa_ros.evaluation.rollout_summary import HIDDEN, KINDS
from jepa_ros.evaluation.rollout_table import centimetres, interval, percent

WORDS = {
    'visible': 'in view',
    'hidden': 'hidden at the newest frame',
    'disturbed': 'within a second after an intervention',
}
INTERRUPTED = 'The run was interrupted: not every contender has an episode of every seed. The same command goes on.'


def render(report: Mapping, episodes: Mapping[str, Sequence[dict]]) -> str:
    """
    Return the page.

    :param report: of `rollout_summary.summarise`, with 'command', 'host', 'latency', 'interrupted' and 'bundles'.
    :param episodes: name of a contender to its episodes, with their strips.
    """
    seeds = report['seeds']
    return page.page(
        'Rollouts in the picking cell',
        [
            page.paragraph(
                f'{len(seeds)} seeds ({seeds[0]} to {seeds[-1]}), each with one bin for every contender, at belt '
                'speeds of 0.05 to 0.30 m/s. The control law, the scenes and what happens in them are the same; '
                + (
                    'the paths come late by the latency that was measured.'
                    if report['latency'] == 'measured'
                    else f'the paths come late by {report["latency"]}, as was asked.'
                )
            ),
            *([page.paragraph(INTERRUPTED, 'note')] if report['interrupted'] else []),
            page.cards(
                (name, percent(found['all']['rate']), interval(found['all']))
                for name, found in report['success'].items()
            ),
            _success(report),
            _errors(report),
            _pairs(report),
            _strips(episodes),
            page.heading('How it was measured'),
            page.paragraph(f'Command: {report["command"]}'),
            page.paragraph(f'Host: {host.sentence(report["host"])}', 'note'),
        ],
    )


def _success(report) -> page.Html:
    speeds = next(iter(report['speeds'].values()))
    header = ['contender', *(f'{row["from"]:.2f} to {row["to"]:.2f} m/s' for row in speeds)]
    return page.join(
        [
            page.heading('Picked'),
            page.row(
                [
                    page.figure(_intervals(report, subset), f'{subset}: picked, with the 95 % interval')
                    for subset in ('all', 'hidden or disturbed')
                ]
            ),
            page.table(
                [
                    'contender', 'picked', '% (95 %)', 'hidden or disturbed', 'neither', 's to pick', 'attempts',
                    'hidden before the grasp', 'latency, ms', 'lost because',
                ],
                [_row(report, name, found) for name, found in report['success'].items()],
                caption=f'Hidden: for at least {HIDDEN:g} s of the last second before the grasp. Which seeds are '
                f'hidden or disturbed is taken from {report["reference"]}, for all alike. Intervals are Wilson\'s.',
            ),
            page.figure(
                plots.lines(
                    [
                        plots.Series(name, [_middle(r) for r in rows], [_hundred(r['rate']) for r in rows])
                        for name, rows in report['speeds'].items()
                    ],
                    'belt, m/s',
                    'picked, %',
                    dots=True,
                )
            ),
            page.table(
                header,
                [[name, *map(interval, rows)] for name, rows in report['speeds'].items()],
                caption='picked by speed of the belt, %',
            ),
            page.table(
                header,
                [
                    [name, *('–' if r['seconds'] is None else f'{r["seconds"]:.1f}' for r in rows)]
                    for name, rows in report['speeds'].items()
                ],
                caption='median time from the first sight of the handle until the bin counts as taken, s',
            ),
        ]
    )  # fmt: skip


def _intervals(report, subset: str) -> str | None:
    return plots.estimates(
        [
            plots.Estimate(name, *(_hundred(found[subset][key]) for key in ('low', 'rate', 'high')), series)
            for series, (name, found) in enumerate(report['success'].items())
        ],
        'picked, %',
    )


def _row(report, name: str, found: dict) -> list:
    every = found['all']
    why = ', '.join(f'{reason} {count}' for reason, count in sorted(report['why'][name].items()))
    return [
        name,
        f'{every["picked"]} of {every["episodes"]}',
        interval(every),
        interval(found['hidden or disturbed']),
        interval(found['neither']),
        every['seconds'] and f'{every["seconds"]:.1f}',
        f'{every["attempts"]:.2f}',
        percent(report['hidden_share'][name]),
        f'{1000 * report["latencies"][name]:.0f}',
        why or '–',
    ]


def _errors(report) -> page.Html:
    drawn = []
    for kind in KINDS:
        series = [
            plots.Series(name, [r['horizon'] for r in rows], [r['median'] for r in rows])
            for name, every in report['errors'].items()
            if (rows := [row for row in every if row['kind'] == kind])
        ]
        drawn.append(
            page.figure(
                plots.lines(series, 'horizon, s', 'median error, cm', dots=True, width=5.4), WORDS[kind]
            )
        )
    header = ['contender', 'kind', 'horizon, s', 'instants', 'median, cm', '90th percentile', 'along', 'across', 'up',
              'turn, degrees', 'over 45', 'in 90 % ellipse', 'of the picture']  # fmt: skip
    return page.join(
        [
            page.heading('Handle error of the published path'),
            page.row(drawn),
            *(
                page.details(
                    title,
                    [page.table(header, _error_rows(report[key]), words=2)],
                )
                for title, key in (
                    ('on belts of 0.15 to 0.25 m/s', 'errors_at_0.2'),
                    ('on all belts', 'errors'),
                )
            ),
            page.table(
                ['contender', 'kind', *(f'{r["from"]:.2f} to {r["to"]:.2f} m/s' for r in _first(report))],
                [
                    [name, WORDS[kind], *(centimetres(row[kind]) for row in rows)]
                    for name, rows in report['error_speeds'].items()
                    for kind in KINDS
                ],
                caption='median error 400 ms ahead, cm, by speed of the belt',
                words=2,
            ),
        ]
    )


def _error_rows(errors: Mapping[str, list[dict]]):
    for name, rows in errors.items():
        for row in sorted(rows, key=lambda r: (KINDS.index(r['kind']), r['horizon'])):
            yield [
                name,
                WORDS[row['kind']],
                f'{row["horizon"]:.2f}',
                row['count'],
                *(centimetres(row[key]) for key in ('median', 'p90', 'along', 'across', 'up')),
                f'{row["turn"]:.0f}',
                percent(row['crossed']),
                percent(row['inside']),
                percent(row['read_inside']),
            ]


def _pairs(report) -> page.Html:
    return page.join(
        [
            page.heading('Compared on the same seeds'),
            page.table(
                ['first', 'second', 'seeds', 'which', 'only first', 'only second', 'p'],
                [
                    [p['first'], p['second'], p['seeds'], p['subset'], p['only_first'], p['only_second'],
                     f'{p["p"]:.3g}']
                    for p in report['pairs']
                ],
                caption='seeds that one of two picked and the other did not; p of the exact test of McNemar',
                words=2,
            ),
        ]
    )  # fmt: skip


def _strips(episodes) -> page.Html:
    """Show the first success and failure of each contender that looks through a camera."""
    blocks = []
    for name, ran in episodes.items():
        for picked, words in ((True, 'picked'), (False, 'lost')):
            shown = next((e for e in ran if e['strip'] and (e['outcome'] == 'picked') is picked), None)
            if shown is not None:
                times = ', '.join(f'{t:+.1f}' for t in shown['strip']['times'])
                since = 'the grasp' if shown['grasp'] is not None else 'the end'
                why = f': {shown["why"]}' if shown['why'] else ''
                blocks.append(
                    page.picture(
                        shown['strip']['jpeg'],
                        f'{name}, seed {shown["seed"]}, belt {shown["speed"]:.2f} m/s, {words}{why}; '
                        f'{times} s from {since}',
                    )
                )
    if not blocks:
        return page.Html('')
    note = 'Green: where the handle is. Orange: where it is expected 0.4 s later, with the 90 % ellipse.'
    return page.join([page.heading('What they saw'), page.paragraph(note, 'note'), *blocks])


def _first(report) -> list[dict]:
    return next(iter(report['error_speeds'].values()))


def _middle(row: dict) -> float:
    return (row['from'] + row['to']) / 2


def _hundred(value: float | None) -> float | None:
    return None if value is None else 100 * value
