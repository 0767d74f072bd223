# SPDX-License-Identifier: Apache-2.0
"""The page of a violation of expectation: what was noticed, and the pairs to look at."""

from __future__ import annotations

import numpy as np

from jepa_ros.evaluation import page, plots
from jepa_ros.evaluation.page import Html
from jepa_ros.evaluation.plots import Estimate, Series
from jepa_ros.evaluation.surprise import marked
from jepa_ros.evaluation.violations import ALL, Clip, Pair

_HOW = (
    'The clips of a pair are the same until something happens that cannot. A clip’s surprise is the squared distance '
    'of the latents from what was forecast for them, the mean over all places of the picture. '
    'Relative: in which share of the pairs the impossible clip is the more surprising one, by the mean over time. '
    'Area under the curve: how likely any impossible clip is more surprising than any possible one, by its highest '
    'moment. Both are 0.5 for a network that notices nothing. Intervals of 95 %: '
    'Wilson’s of the first, of the second a bootstrap over pairs, which says nothing where all pairs agree.'
)
_HIDDEN = (
    'Vanish and appear belong together: where something ends up missing, less happens in the picture, and less '
    'surprises; where something comes, more. A network that does not remember what is behind the screen is below '
    '0.5 in the one and above it in the other, and near 0.5 in both together.'
)


class Gallery:
    """Keeps of each kind the pair that was told apart most clearly, and the least."""

    def __init__(self):
        self._pairs: dict[str, list[tuple[float, Pair, Clip, Clip]]] = {}

    def see(self, pair: Pair, possible: Clip, impossible: Clip) -> None:
        """Take the next pair."""
        one, other = (np.nanmean(clip.live) for clip in (possible, impossible))
        entry = float((other - one) / max(other + one, 1e-12)), pair, possible, impossible
        found = sorted([*self._pairs.get(pair.kind, []), entry], key=lambda entry: -entry[0])
        self._pairs[pair.kind] = [found[0], found[-1]] if len(found) > 2 else found

    def blocks(self, grid: tuple[int, int]) -> list[Html]:
        """Return the pairs for a page. :param grid: (rows, columns) of the tokens."""
        blocks = []
        for kind, found in self._pairs.items():
            blocks.append(page.heading(kind, 3))
            words = ['most clearly told apart', 'least clearly'] if len(found) > 1 else ['the only pair']
            blocks += [_pair(text, grid, *entry) for text, entry in zip(words, found)]
        return blocks


def violations_page(report: dict, gallery: Gallery) -> str:
    """Return the page. :param report: as `jepa evaluate violations` writes it."""
    bundle, rows = report['bundle'], report['summary']
    first = report['settings'][0]
    live = [row for row in rows if (row['context'], row['horizon']) == (first['context'], first['horizon'])]
    others = [row for row in rows if row not in live]
    last = live[-1]
    blocks = [
        page.paragraph(report['host'], 'note'),
        page.paragraph(Html(f'<code>{page.text(report["command"])}</code>'), 'note'),
        page.cards(
            [
                ('pairs of clips', last['pairs'], f'{len({pair["kind"] for pair in report["pairs"]})} kinds'),
                ('relative', f'{last["relative"]["value"]:.2f}', _interval(last['relative'])),
                ('area under the curve', f'{last["area"]["value"]:.2f}', _interval(last['area'])),
            ]
        ),
        page.paragraph(_HOW, 'note'),
        page.heading('As perception_node has it'),
        page.paragraph(
            f'All of the past as context, {first["horizon"]:g} s ahead: what the node publishes as surprise.',
            'note',
        ),
        page.bullets(_sentence(row) for row in live),
        page.figure(
            plots.estimates(
                [Estimate(f'{row["kind"]} ({row["pairs"]})', *_ends(row['area'])) for row in live],
                'area under the curve, 95 %',
                width=7,
            )
        ),
        page.table(['kind', 'pairs', 'relative', '95 %', 'area', '95 %'], [_cells(row) for row in live]),
        page.paragraph(_HIDDEN, 'note') if any('+' in row['kind'] for row in live) else '',
    ]
    if others:
        blocks += [
            page.heading('Over contexts and horizons'),
            page.paragraph(
                'Context: how many slices the encoder was shown before the forecast. Horizon: how far it looked ahead.',
                'note',
            ),
            *(_settings(rows, kind) for kind in dict.fromkeys(row['kind'] for row in reversed(rows))),
        ]
    blocks += [
        page.heading('Pairs to look at'),
        page.paragraph(
            'Where the two clips differ most in surprise: left possible, right impossible, grey, with the surprising '
            'places coloured on one scale for both.',
            'note',
        ),
        *gallery.blocks(bundle['grid']),
        page.heading('How this was made'),
        page.table(
            ['bundle', 'model', 'kind', 'backend'],
            [(bundle['name'], bundle['model'], f'{bundle["family"]}, {bundle["mode"]}', bundle['backend'])],
            words=4,
        ),
    ]
    return page.page(f'Violation of expectation: {bundle["name"]}', blocks)


def _sentence(row: dict) -> str:
    low, high = row['relative']['low'], row['relative']['high']
    if low > 0.5:
        verdict = 'noticed'
    elif high < 0.5:
        verdict = 'the possible clip surprises more'
    else:
        verdict = 'cannot be told from chance'
    return f'{row["kind"]}: {verdict} (relative {row["relative"]["value"]:.2f}, {row["pairs"]} pairs)'


def _settings(rows: list[dict], kind: str) -> Html:
    chosen = [row for row in rows if row['kind'] == kind]
    lines = [(context_words(row['context']), f'{row["horizon"]:g} s', *_cells(row)[1:]) for row in chosen]
    table = page.table(['context', 'horizon', 'pairs', 'relative', '95 %', 'area', '95 %'], lines)
    return page.details(kind, [table], opened=kind == rows[-1]['kind'])


def _cells(row: dict) -> tuple:
    cells = [row['kind'], row['pairs']]
    for name in ('relative', 'area'):
        cells += [f'{row[name]["value"]:.2f}', _interval(row[name])]
    return tuple(cells)


def _interval(found: dict) -> str:
    return '' if found['low'] is None else f'{found["low"]:.2f} to {found["high"]:.2f}'


def _ends(found: dict) -> tuple:
    return found['low'], found['value'], found['high']


def context_words(context: int) -> str:
    """Say how much of the past an encoder was shown."""
    return 'all' if context == ALL else f'{context} slices'


def _pair(
    words: str, grid: tuple[int, int], margin: float, pair: Pair, possible: Clip, impossible: Clip
) -> Html:
    at = int(np.nanargmax(np.abs(impossible.live - possible.live)))
    hottest = float(max(np.nanmax(clip.tokens[at]) for clip in (possible, impossible)))
    pictures = [
        page.picture(
            marked(clip.frames[at], clip.tokens[at].reshape(grid), hottest),
            f'{name}, at {clip.times[at]:.2f} s, surprise {clip.live[at]:.3g}',
        )
        for name, clip in (('possible', possible), ('impossible', impossible))
    ]
    marks = []
    if impossible.violation is not None:
        slice_ = int(np.abs(impossible.times - impossible.violation).argmin())
        value = np.nan_to_num(impossible.live[slice_])
        marks = [(float(impossible.times[slice_]), float(value), 'it happens')]
    lines = [
        Series(name, clip.times, [None if np.isnan(v) else float(v) for v in clip.live])
        for name, clip in (('possible', possible), ('impossible', impossible))
    ]
    plot = plots.lines(lines, 'time in the clip, s', 'surprise', marks=marks)
    return page.join(
        [
            page.paragraph(f'{words}: {pair.name}, (impossible − possible) / both = {margin:+.2f}'),
            page.figure(plot),
            page.pair(*pictures),
        ]
    )
