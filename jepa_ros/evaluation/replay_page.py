# SPDX-License-Identifier: Apache-2.0
"""The page of a replay: what an operator wants to know first, then everything, recording by recording."""

from __future__ import annotations

import numpy as np

from jepa_ros.evaluation import page, plots
from jepa_ros.evaluation.page import Html
from jepa_ros.evaluation.plots import Series
from jepa_ros.evaluation.replay import DONE, FAILED, INTERRUPTED
from jepa_ros.evaluation.stream_faults import duration

MIN_PAIRS = 5  # comparisons below which a skill is a matter of luck
OPENED = 6  # cameras whose details are open when the page is
PLOTTED = 3  # elements of a probed vector that are drawn
SHOWN = 40  # cameras that have details at all: a page of a thousand would open nowhere

_CAUSES = {
    'duplicate': 'stamp given twice',
    'late': 'older than the frame before',
    'future': 'stamp in the future',
    'zero': 'no stamp',
    'overrun': 'encoder too slow',
    'cleared': 'history cleared',
    'failed': 'not decodable',
    'transport': 'lost in transport',
}
_STAGES = {
    'read': 'read (file, container, video codec)',
    'decode': 'decode (JPEG or pixel format, and resize)',
    'encode': 'encode (with the surprise of the slice)',
    'forecast': 'forecast (all horizons)',
    'other': 'other (judging, writing)',
}
_OFFLINE = (
    'Frames were chosen, decoded, encoded and forecast by the code of perception_node, every slice of them, '
    'as fast as it went. Latencies are of that run, one stage after the other.'
)
_LIVE = (
    'camera_replay_node played the recording in real time with its stamps and /clock; perception_node ran on '
    'that clock; this is made from what it published, and its latencies are those on /diagnostics at the end.'
)


def replay_page(report: dict) -> str:
    """Return the page. :param report: as `jepa replay` makes it, with what the recordings kept."""
    runs = report['runs']
    names = ' and '.join(_label(run) for run in runs)
    count = len(runs[0]['recordings'])
    what = runs[0]['recordings'][0]['name'] if count == 1 else f'{count} recordings'
    title = f'Replay of {what} through {names}'
    blocks = [
        page.paragraph(report['host'], 'note'),
        page.paragraph(Html(f'<code>{page.text(report["command"])}</code>'), 'note'),
        _interrupted(runs),
        *([_compared(runs)] if len(runs) > 1 else [_overview(runs[0])]),
        page.heading('In short'),
        page.bullets(line for run in runs for line in _sentences(run, len(runs) > 1)),
        *_skill(runs),
        *_latency(runs),
        *_recordings(runs),
        *_details(runs),
        *_notes(runs),
    ]
    return page.page(title, blocks)


def _label(run: dict) -> str:
    return f'{run["side"]}: {run["bundle"]["name"]}' if run['side'] else run['bundle']['name']


def _interrupted(runs: list[dict]) -> Html:
    if not any(run['total'][INTERRUPTED] for run in runs) and not any(run['missing'] for run in runs):
        return Html('')
    missing = max(run['missing'] for run in runs)
    rest = f', and {missing} recordings were not begun' if missing else ''
    return page.bullets(
        [
            f'This replay was interrupted: the figures are of what was read until then{rest}. The same '
            'command goes on with what is missing.'
        ],
        'faults',
    )


def _overview(run: dict) -> Html:
    total = run['total']
    faulty = sum(bool(_all_faults(r)) for r in run['recordings'])
    row = _middle(total['skill'])
    items = [
        ('recorded', duration(total['recorded_s']), f'{total["frames"]} frames, {total["slices"]} slices'),
        (
            'speed',
            _times(total['speed']),
            f'of real time; {total["limit"]} takes most' if total['limit'] else '',
        ),
        (
            'lost in real time',
            _percent(total['real_time_lost']),
            'measured' if run['live'] else 'simulated, at the recorded rate',
        ),
    ]
    if row:
        items.append(
            (
                f'skill at {row["horizon"]:.2g} s',
                _signed(row['skill']),
                f'{_signed(row["skill_shrunk"])} over shrunk persistence',
            )
        )
    items.append(('dropped frames', sum(total['dropped'].values()), _listed(total['dropped'])))
    items.append(
        (
            'with faults',
            f'{faulty} of {total["recordings"]}',
            f'{total[FAILED]} failed' if total[FAILED] else 'none failed',
        )
    )
    return page.cards(items)


def _compared(runs: list[dict]) -> Html:
    totals = [run['total'] for run in runs]
    rows = [
        (
            'encoder',
            *(
                f'{run["bundle"]["family"]}, {run["bundle"]["mode"]}, '
                f'{run["bundle"]["image_size"][1]}x{run["bundle"]["image_size"][0]} px'
                for run in runs
            ),
        ),
        ('a slice every', *(f'{run["bundle"]["slice_period_s"]:.3g} s' for run in runs)),
        ('slices', *(total['slices'] for total in totals)),
        ('speed, times real time', *(_times(total['speed']) for total in totals)),
        ('stage that limits it', *(total['limit'] for total in totals)),
        ('encode, ms p50 / p90 / p99', *(_ms(total['stages'].get('encode')) for total in totals)),
        ('forecast, ms p50 / p90 / p99', *(_ms(total['stages'].get('forecast')) for total in totals)),
        ('slices lost in real time (simulated)', *(_percent(total['real_time_lost']) for total in totals)),
        ('recordings that failed', *(total[FAILED] for total in totals)),
    ]
    for horizon in sorted({row['horizon'] for total in totals for row in total['skill']}):
        pair = [
            next((row for row in total['skill'] if abs(row['horizon'] - horizon) < 1e-6), None)
            for total in totals
        ]
        if all(pair):
            rows.append(
                (
                    f'skill at {horizon:.2g} s (over shrunk persistence)',
                    *(f'{_signed(row["skill"])} ({_signed(row["skill_shrunk"])})' for row in pair),
                )
            )
    for horizon in sorted({row['horizon'] for total in totals for row in total['points']}):
        pair = [
            next((row for row in total['points'] if abs(row['horizon'] - horizon) < 1e-6), {})
            for total in totals
        ]
        rows.append(
            (
                f'readout error at {horizon:.2g} s, in view / hidden',
                *(
                    page.Html(f'{page.text(row.get("visible_error"))} / {page.text(row.get("hidden_error"))}')
                    if row
                    else None
                    for row in map(_rounded, pair)
                ),
            )
        )
    note = (
        'Both ran on each recording in turn, on the same machine. Skill and readout error can be compared; '
        'the errors and surprises themselves cannot: each encoder has a space of its own.'
    )
    return page.join([page.table(['', *(_label(run) for run in runs)], rows), page.paragraph(note, 'note')])


def _rounded(row: dict) -> dict:
    return {key: Html(f'{value:.3f}') if isinstance(value, float) else value for key, value in row.items()}


def _sentences(run: dict, named: bool) -> list:
    """Say in words what the figures mean."""
    total, found = run['total'], []
    who = f'{_label(run)}: ' if named else ''
    if total['limit']:
        share = total['stages'][total['limit']]['total_s'] / max(total['wall_s'], 1e-9)
        found.append(
            f'{who}replayed at {_times(total["speed"])} real time; {total["limit"]} takes {share:.0%} of it.'
        )
    lost = total['real_time_lost']
    if lost is not None and not run['live']:
        said = 'nothing' if lost < 5e-4 else f'{_percent(lost)} of the slices'
        found.append(
            f'{who}at the recorded rate, with the latencies measured here, {said} would have been lost (a '
            'simulation: transport, publishing and shared cores are left out).'
        )
    if lost is not None and run['live']:
        found.append(
            f'{who}played through real nodes in real time: {_percent(lost)} of the slices were lost.'
        )
    rows = _judged(total['skill'])
    if rows:
        skills, shrunk = ([row[key] for row in rows] for key in ('skill', 'skill_shrunk'))
        if min(shrunk) > 0:
            verdict = 'the futures beat both persistence and shrunk persistence at every horizon'
        elif min(skills) > 0:
            verdict = (
                'the futures beat persistence at every horizon, but not shrunk persistence: here they may be '
                'no more than cautious'
            )
        elif max(skills) <= 0:
            verdict = 'the futures are no better than expecting that nothing changes'
        else:
            verdict = 'the futures beat persistence at some horizons only'
        found.append(f'{who}{verdict} (skill {_signed(min(skills))} to {_signed(max(skills))}).')
    elif total['slices']:
        found.append(
            f'{who}too few forecasts could be compared with what came later: the recordings are too short, '
            'or the bundle makes no futures in the space of its latents.'
        )
    point = _middle(total['points'])
    if point and point['visible_error'] is not None:
        better = point['visible_error'] < point['visible_hold_error']
        found.append(
            f'{who}the readout is off by {point["visible_error"]:.3f} widths of the image at '
            f'{point["horizon"]:.2g} s (median, in view), {"less" if better else "more"} than expecting the '
            f'last place seen ({point["visible_hold_error"]:.3f}).'
        )
    peak = _peak(run)
    if peak:
        recording, camera, moment = peak
        found.append(
            Html(
                f'{page.text(who)}the most surprising moment, {moment["times_median"]:.1f} times the median '
                f'of its recording, is at {moment["time_s"]:.1f} s of '
                f'{page.link(_camera_name(recording, camera), _anchor(run, recording, camera))}.'
            )
        )
    if total[FAILED]:
        found.append(
            f'{who}{total[FAILED]} of {total["recordings"]} recordings failed: nothing of them could '
            'be used, or an error ended them.'
        )
    return [
        Html(line[:1].upper() + line[1:]) if isinstance(line, Html) else line[:1].upper() + line[1:]
        for line in found
    ]


def _peak(run: dict):
    moments = [
        (recording, camera, moment)
        for recording in run['recordings']
        for camera in recording['cameras']
        for moment in camera['kept']['moments']
        if moment['times_median']
    ]
    return max(moments, key=lambda entry: entry[2]['times_median'], default=None)


def _skill(runs: list[dict]) -> list[Html]:
    if not any(run['total']['skill'] for run in runs):
        return []
    lines = [
        Series(
            ' '.join(filter(None, [run['side'], name])),
            [row['horizon'] for row in _judged(run['total']['skill'])],
            [row[key] for row in _judged(run['total']['skill'])],
        )
        for run in runs
        for key, name in (('skill', 'over persistence'), ('skill_shrunk', 'over shrunk'))
    ]
    blocks = [
        page.heading('Did the futures come true?'),
        page.paragraph(
            'Skill is 1 − error / error of a baseline: 1 is perfect, 0 no better than it. Persistence '
            'expects that nothing changes; shrunk persistence draws the newest latents towards the '
            'training mean by the factor that is best on these very recordings, and who only beats '
            'the first may have learnt no more than to be cautious.',
            'note',
        ),
        page.figure(plots.lines(lines, 'horizon, s', 'skill', dots=True, zero=True, width=7, height=2.8)),
    ]
    for run in runs:
        blocks.append(_skill_table(run['total']['skill'], _label(run) if len(runs) > 1 else ''))
        blocks.append(_points_table(run['total']['points'], _label(run) if len(runs) > 1 else ''))
    return blocks


def _skill_table(rows: list[dict], caption: str = '') -> Html:
    return page.table(
        ['horizon', 'pairs', 'error', 'persistence', 'shrunk', 'skill', 'skill over shrunk'],
        [
            (
                f'{row["horizon"]:.2f} s',
                row['count'],
                row['error'],
                row['persistence_error'],
                row['shrunk_error'],
                _signed(row['skill']),
                _signed(row['skill_shrunk']),
            )
            for row in rows
        ],
        caption,
    )


def _points_table(rows: list[dict], caption: str = '') -> Html:
    header = [
        'horizon',
        'in view',
        'median error',
        'holding the last',
        'inside 90 %',
        'hidden',
        'median error',
        'holding the last',
        'inside 90 %',
    ]
    lines = [
        (
            f'{row["horizon"]:.2f} s',
            *(
                cell
                for kind in ('visible', 'hidden')
                for cell in (
                    row[f'{kind}_count'],
                    row[f'{kind}_error'],
                    row[f'{kind}_hold_error'],
                    _percent(row[f'{kind}_inside_90']),
                )
            ),
        )
        for row in rows
    ]
    return page.table(
        header,
        lines,
        ' '.join(
            filter(
                None,
                [
                    caption,
                    'Readout against labels, in widths of the image. '
                    '"Holding the last" expects the last place seen; of honest ellipses 90 % hold the label.',
                ],
            )
        ),
    )


def _latency(runs: list[dict]) -> list[Html]:
    if not any(run['total']['stages'] for run in runs):
        return []
    blocks = [page.heading('Where does the time go?')]
    for run in runs:
        blocks.append(_stages(run['total'], _label(run) if len(runs) > 1 else ''))
    return blocks


def _stages(figures: dict, caption: str = '') -> Html:
    stages = figures['stages']
    rows = []
    for name, row in stages.items():
        ms = row['ms'] or {}
        rows.append(
            (
                _STAGES[name],
                row['count'] or None,
                *(ms.get(key) for key in ('p50', 'p90', 'p99')),
                None if row['total_s'] is None else f'{row["total_s"]:.2f}',
            )
        )
    return page.join(
        [
            page.shares([(name, row['total_s'] or 0.0) for name, row in stages.items()], caption),
            page.table(['stage', 'times', 'p50 ms', 'p90 ms', 'p99 ms', 'total s'], rows),
        ]
    )


def _recordings(runs: list[dict]) -> list[Html]:
    if _single(runs):
        return []
    shown = _shown(runs)
    rows = []
    for run in runs:
        for recording in run['recordings']:
            for camera in recording['cameras'] or [None]:
                rows.append(_recording_row(run, recording, camera, shown))
    header = [
        *(['bundle'] if len(runs) > 1 else []),
        'recording',
        '',
        'recorded',
        'Hz',
        'slices',
        'dropped',
        'speed',
        'lost in real time',
        'skill',
        'most surprising',
        'faults',
    ]
    return [page.heading('Recordings'), page.table(header, rows, words=3 if len(runs) > 1 else 2)]


def _single(runs: list[dict]) -> bool:
    """Whether there is one camera alone, so that the figures of all are its own."""
    return len(runs) == 1 and [len(recording['cameras']) for recording in runs[0]['recordings']] == [1]


def _recording_row(run: dict, recording: dict, camera: dict | None, shown: set[str]) -> list:
    state = {
        DONE: page.badge('done', 'good'),
        INTERRUPTED: page.badge('partial', 'warn'),
        FAILED: page.badge('failed', 'bad'),
    }[recording['status']]
    side = [run['side']] if run['side'] else []
    if camera is None:
        return [*side, recording['name'], state, *[None] * 8, len(_all_faults(recording))]
    anchor = _anchor(run, recording, camera)
    name = _camera_name(recording, camera)
    row, peak = _middle(camera['skill']), camera['surprise']
    return [
        *side,
        page.link(name, anchor) if anchor in shown else name,
        state,
        duration(camera['recorded_s']),
        _one_digit(camera['rate_hz']),
        camera['slices'],
        sum(camera['dropped'].values()),
        _times(camera['speed']),
        _percent(camera['real_time'] and camera['real_time']['lost']),
        row and _signed(row['skill']),
        peak and peak['median'] and f'{peak["max"] / peak["median"]:.1f}x',
        len(camera['faults']) + len(recording['faults']),
    ]


def _shown(runs: list[dict]) -> set[str]:
    """
    Return the anchors of the cameras with details: all of them, or the most surprising and the faulty ones.
    """
    every = [
        (
            bool(camera['faults'] or recording['faults'] or recording['error']),
            (camera['surprise'] or {}).get('max', 0.0) / ((camera['surprise'] or {}).get('median') or 1.0),
            _anchor(run, recording, camera),
        )
        for run in runs
        for recording in run['recordings']
        for camera in recording['cameras']
    ]
    chosen = sorted(every, key=lambda entry: -entry[1])
    faulty = [entry for entry in chosen if entry[0]][: SHOWN // 2]
    return {anchor for _, _, anchor in (faulty + [entry for entry in chosen if entry not in faulty])[:SHOWN]}


def _details(runs: list[dict]) -> list[Html]:
    shown = _shown(runs)
    blocks = [page.heading('In detail')]
    every = sum(len(r['cameras']) for run in runs for r in run['recordings'])
    if every > len(shown):
        blocks.append(
            page.paragraph(
                f'{len(shown)} of {every} cameras: those with faults and the most surprising ones. '
                'report.json has all of them.',
                'note',
            )
        )
    opened = 0
    for index in range(max(len(run['recordings']) for run in runs)):
        for run in runs:
            if index >= len(run['recordings']):
                continue
            recording = run['recordings'][index]
            about = [recording['error']] if recording['error'] else []
            about += [fault['text'] for fault in recording['faults']]
            if about or len(recording['cameras']) > 1:
                title = ' '.join(filter(None, [run['side'], recording['name']]))
                blocks += [page.heading(title, 3), page.bullets(about, 'faults')]
            for camera in recording['cameras']:
                if _anchor(run, recording, camera) in shown:
                    blocks.append(_camera(run, recording, camera, opened < OPENED, not _single(runs)))
                    opened += 1
    return blocks


def _camera(run: dict, recording: dict, camera: dict, opened: bool, tables: bool) -> Html:
    anchor = _anchor(run, recording, camera)
    title = ' '.join(filter(None, [run['side'], _camera_name(recording, camera)]))
    blocks = [
        page.bullets((fault['text'] for fault in camera['faults']), 'faults'),
        page.paragraph(_facts(camera)),
        *_surprise(camera),
        *(block for probe in camera.get('probes', []) for block in _probe(probe)),
    ]
    if tables:
        blocks += [
            _skill_table(camera['skill']),
            _points_table(camera['points']),
            _stages(camera, 'where the time went'),
        ]
    blocks.append(_real_time(camera))
    return Html(f'<div id="{anchor}">{page.details(title, blocks, opened)}</div>')


def _facts(camera: dict) -> str:
    rate = f' at {camera["rate_hz"]:.1f} Hz' if camera['rate_hz'] else ''
    facts = [
        f'{camera["frames"]} frames{rate}, {duration(camera["recorded_s"])}',
        f'{camera["slices"]} slices, {camera["forecasts"]} forecasts',
    ]
    kept = camera['counts'].get('early', 0)
    if kept:
        facts.append(f'{kept} frames between those that the bundle asks for (no fault)')
    facts.append(f'dropped: {_listed(camera["dropped"]) or "none"}')
    if camera['resets']:
        causes = {
            'jump': 'the clock jumped back',
            'gap': 'no images for a while',
            'resolution': 'other image size',
            'asked': 'asked for',
        }
        facts.append(
            'history cleared: ' + ', '.join(f'{causes[c]} ({n})' for c, n in camera['resets'].items())
        )
    if camera['speed']:
        facts.append(f'{_times(camera["speed"])} real time')
    return '; '.join(facts) + '.'


def _surprise(camera: dict) -> list[Html]:
    trace, moments = camera['surprise'], camera['kept']['moments']
    if not trace:
        return [page.paragraph('No surprise: nothing had been forecast for the time of any slice.', 'note')]
    marks = [(moment['time_s'], moment['surprise'], str(i + 1)) for i, moment in enumerate(moments)]
    plot = plots.lines(
        [Series('', trace['time_s'], trace['value'])], 'time in the recording, s', 'surprise', marks=marks
    )
    caption = (
        f'Surprise: mean squared distance of the latents from what was forecast for them. Median '
        f'{trace["median"]:.3g}, p99 {trace["p99"]:.3g}, highest {trace["max"]:.3g}.'
    )
    blocks = [page.figure(plot, caption) or page.paragraph(caption)]
    if moments:
        blocks.append(
            page.paragraph(
                'The most surprising moments. Left the frame of the slice before, right the frame '
                'that surprised, grey, with the places that did so coloured.',
                'note',
            )
        )
    shown = []
    for i, moment in enumerate(moments):
        times = f', {moment["times_median"]:.1f} times the median' if moment['times_median'] else ''
        caption = f'{i + 1}: at {moment["time_s"]:.2f} s, surprise {moment["surprise"]:.3g}{times}'
        shown.append(
            page.pair(page.picture(moment['before'], 'before'), page.picture(moment['now'], caption))
        )
    blocks.append(page.row(shown) if shown else '')
    return blocks


def _probe(probe: dict) -> list[Html]:
    rows = probe['rows']
    judged = [row for row in rows if row['count'] >= MIN_PAIRS]
    curves = []
    for name, key, first in (
        ('read', 'error', 0),
        ('now and the change read', 'change_error', 1),
        ('expecting what is now', 'hold_error', 1),
        ('the mean', 'mean_error', 0),
    ):
        curves.append(Series(name, *([row[of] for row in judged[first:]] for of in ('horizon', key))))
    blocks = [
        page.heading(f'What a linear probe reads of {probe["source"]}', 4),
        page.paragraph(
            f'Fitted on {probe["parts"] - 1} of {probe["parts"]} parts of this recording and judged on the other, each '
            f'in turn ({probe["slices"]} slices). At 0 s it reads the latents, later the futures; "now and the change read" knows '
            f'what is recorded now and reads only what will change. Errors are median distances over '
            f'{", ".join(probe["names"])}, in units of the source.',
            'note',
        ),
        page.figure(plots.lines(curves, 'horizon, s', 'median error', dots=True, width=7)),
        page.table(
            ['horizon', 'labels', 'read', 'now and the change read', 'expecting what is now', 'the mean'],
            [
                (
                    f'{row["horizon"]:.2f} s',
                    row['count'],
                    row['error'],
                    *((row['change_error'], row['hold_error']) if row['horizon'] else (None, None)),
                    row['mean_error'],
                )
                for row in rows
            ],
        ),
    ]
    for place, name in list(enumerate(probe['names']))[:PLOTTED]:
        first = probe['series'][0]
        longest = 3 * float(np.median(np.diff(first['time_s'])))  # s without a value, across which no line leads
        shown = [Series('recorded', *_broken(first['time_s'], first['told'], place, longest))]
        for series in probe['series']:
            words = f'read {series["horizon"]:.2g} s ahead' if series['horizon'] else 'read from latents'
            shown.append(Series(words, *_broken(series['time_s'], series['read'], place, longest)))
        blocks.append(page.figure(plots.lines(shown, 'time in the recording, s', name, level=True, height=2.0)))
    return blocks


def _broken(
    times: list[float], rows: list[list[float]], place: int, longest: float
) -> tuple[list[float], list[float | None]]:
    """Return one element over time, with a gap wherever a step is longer than that."""
    x, y = [], []
    for time, row in zip(times, rows):
        if x and time - x[-1] > longest:
            x.append((x[-1] + time) / 2)
            y.append(None)
        x.append(time)
        y.append(row[place])
    return x, y


def _real_time(camera: dict) -> Html:
    found = camera['real_time']
    if not found:
        return Html('')
    if 'measured' in found:
        words = 'Measured on real topics'
    else:
        words = 'Simulated at the recorded rate with the latencies above'
    facts = [
        f'{found["slices"]} of {found["offline"]} slices in time',
        f'{found["overrun"]} frames overrun',
        f'{found["transport"]} lost before they were looked at',
    ]
    if found['busy'] is not None:
        facts.append(f"the encoder's thread busy {_percent(found['busy'])} of the time")
    if found['age_ms']:
        facts.append(
            'from a frame to its results {p50:.1f} / {p90:.1f} / {p99:.1f} ms (p50 / p90 / p99)'.format(
                **found['age_ms']
            )
        )
    return page.paragraph(f'{words}: {", ".join(facts)}.')


def _notes(runs: list[dict]) -> list[Html]:
    rows = [
        (
            _label(run),
            run['bundle']['model'],
            f'{run["bundle"]["family"]}, {run["bundle"]["mode"]}',
            run['bundle']['backend'],
            run['bundle']['path'],
        )
        for run in runs
    ]
    blocks = [
        page.heading('How this was made'),
        page.table(['bundle', 'model', 'kind', 'backend', 'path'], rows, words=5),
        page.paragraph(_LIVE if runs[0]['live'] else _OFFLINE, 'note'),
    ]
    if not plots.available():
        blocks.append(
            page.paragraph(
                'There are no plots because matplotlib is not installed here (pip install '
                'matplotlib); the tables and report.json hold the figures.',
                'note',
            )
        )
    return blocks


def _all_faults(recording: dict) -> list[str]:
    own = [recording['error']] if recording['error'] else []
    own += [fault['text'] for fault in recording['faults']]
    return own + [fault['text'] for camera in recording['cameras'] for fault in camera['faults']]


def _camera_name(recording: dict, camera: dict) -> str:
    return ' '.join(filter(None, [recording['name'], camera['topic']])) if camera['topic'] else camera['name']


def _anchor(run: dict, recording: dict, camera: dict) -> str:
    place = run['recordings'].index(recording), recording['cameras'].index(camera)
    return f'r{run["side"]}-{place[0]}-{place[1]}'


def _judged(rows: list[dict]) -> list[dict]:
    """Return the rows of horizons that were compared often enough to say something."""
    return [row for row in rows if row['count'] >= MIN_PAIRS]


def _middle(rows: list[dict]) -> dict | None:
    rows = _judged(rows)
    return rows[len(rows) // 2] if rows else None


def _listed(dropped: dict[str, int]) -> str:
    return ', '.join(f'{count} {_CAUSES[cause]}' for cause, count in dropped.items())


def _ms(stage: dict | None) -> str | None:
    return ' / '.join(f'{value:.1f}' for value in stage['ms'].values()) if stage and stage['ms'] else None


def _signed(value: float) -> str:
    return f'{value:+.3f}'.replace('-', '−')


def _times(value: float | None) -> str | None:
    return None if value is None else f'{value:.1f}x' if value < 100 else f'{value:.0f}x'


def _one_digit(value: float | None) -> str | None:
    return None if value is None else f'{value:.1f}'


def _percent(value: float | None) -> str | None:
    if value is None or not np.isfinite(value):
        return None
    return f'{100 * value:.0f} %' if value in (0, 1) or 0.1 <= value <= 0.99 else f'{100 * value:.1f} %'
