# SPDX-License-Identifier: Apache-2.0
"""The figures of a run in a terminal."""

from __future__ import annotations

from jepa_ros.evaluation.rollout_summary import KINDS


def percent(value: float | None) -> str:
    """Return a share as '97 %', or a dash."""
    return '-' if value is None else f'{100 * value:.0f} %'


def interval(found: dict) -> str:
    """Return a rate with its interval: '97 % (91..99)'."""
    if not found['episodes']:
        return '-'
    return f'{100 * found["rate"]:.0f} % ({100 * found["low"]:.0f}..{100 * found["high"]:.0f})'


def centimetres(value: float | None) -> str:
    """Return '1.2', or a dash."""
    return '-' if value is None else f'{value:.2f}'


def show(console, report: dict) -> None:
    """Print success, comparisons and errors."""
    from rich.table import Table

    success = report['success']
    table = Table(
        'contender',
        'picked',
        '% (95 %)',
        'hidden or disturbed',
        'neither',
        's to pick',
        'attempts',
        'hidden before the grasp',
        'latency ms',
        title=f'{len(report["seeds"])} seeds',
    )
    for name, found in success.items():
        every = found['all']
        table.add_row(
            name,
            f'{every["picked"]} of {every["episodes"]}',
            interval(every),
            interval(found['hidden or disturbed']),
            interval(found['neither']),
            '-' if every['seconds'] is None else f'{every["seconds"]:.1f}',
            f'{every["attempts"]:.2f}',
            percent(report['hidden_share'][name]),
            f'{1000 * report["latencies"][name]:.0f}',
        )
    console.print(table)
    speeds = next(iter(report['speeds'].values()))
    table = Table(
        'contender',
        *(f'{row["from"]:.2f}..{row["to"]:.2f}' for row in speeds),
        title='picked, by m/s of the belt',
    )
    for name, rows in report['speeds'].items():
        table.add_row(name, *(f'{row["picked"]} of {row["episodes"]}' for row in rows))
    console.print(table)
    for name, why in report['why'].items():
        said = ', '.join(f'{reason} {count}' for reason, count in sorted(why.items()))
        if said:
            console.print(f'{name} lost: {said}', highlight=False)
    _show_errors(console, report)
    for pair in report['pairs']:
        if pair['only_first'] + pair['only_second']:
            console.print(
                f'{pair["first"]} against {pair["second"]}, {pair["subset"]}: {pair["only_first"]} seeds to '
                f'{pair["only_second"]} where they differ, of {pair["seeds"]} (McNemar, exact: p {pair["p"]:.3g})',
                highlight=False,
            )


def _show_errors(console, report: dict) -> None:
    from rich.table import Table

    table = Table(
        'contender',
        'horizon s',
        *(f'{kind} cm' for kind in KINDS),
        *(f'in 90 %, {kind}' for kind in KINDS),
        'direction, visible',
        title='error of the published path, medians; share in its 90 % ellipse; direction of the bar, and share over 45°',
    )
    for name, rows in report['errors'].items():
        horizons = sorted({row['horizon'] for row in rows})
        for horizon in horizons:
            found = {row['kind']: row for row in rows if row['horizon'] == horizon}
            table.add_row(
                name,
                f'{horizon:.2f}',
                *(centimetres(found[kind]['median']) if kind in found else '-' for kind in KINDS),
                *(percent(found[kind]['inside']) if kind in found else '-' for kind in KINDS),
                _direction(found.get('visible')),
            )
    console.print(table)


def _direction(row: dict | None) -> str:
    return '-' if row is None else f'{row["turn"]:.0f}°, {percent(row["crossed"])}'
