# SPDX-License-Identifier: Apache-2.0
"""The report page of an audit, made of its record alone: the decision first, then what stands behind it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from jepa_ros import host
from jepa_ros.evaluation import page, plots
from jepa_ros.evaluation.audit.decision import IMAGE, MET, MISSED, OPEN, PENDING, VIDEO
from jepa_ros.evaluation.audit.evidence import SIDES
from jepa_ros.evaluation.audit.promotion import changed
from jepa_ros.evaluation.audit.record import TransferAudit
from jepa_ros.evaluation.page import Html
from jepa_ros.evaluation.plots import Estimate, Series, Strip
from jepa_ros.evaluation.probes.scores import Scores

_TONES = {MET: 'good', MISSED: 'bad', OPEN: 'warn'}
_COLOURS = {IMAGE: 0, VIDEO: 1}
_CONTROLS = {
    'shuffled': 'frames in random order',
    'last': 'newest frame, repeated',
    'permuted': 'permuted labels',
    'raw': 'pixels in place of tokens',
    'random': 'untrained encoder',
}
_VERDICTS = {'temporal': 'good', 'not temporal': 'bad', 'undecided': 'warn', 'static': 'good'}


def render(record: TransferAudit) -> str:
    """Return the page."""
    evidence = record.evidence
    return page.page(
        f'Transfer audit: {evidence["config"]["name"]}',
        [
            _decision(record),
            _criteria(evidence),
            *(_probe(name, evidence) for name in evidence['probes']),
            _costs(evidence['costs'], evidence['rule']['cost']['training_unit']),
            _closed_loop(evidence['closed_loop']),
            _held_out(evidence['held_out']),
            _made(evidence),
        ],
    )


def _decision(record: TransferAudit) -> Html:
    decision = record.evidence['decision']
    tone = 'warn' if decision['winner'] == PENDING else 'good'
    needed = decision['sequences_needed']
    return page.join(
        [
            page.cards(
                [
                    ('accepted winner', page.badge(record.accepted_winner, tone), decision['winner']),
                    ('image encoder', record.image_encoder, _how(record.evidence, IMAGE)),
                    ('video encoder', record.video_encoder, _how(record.evidence, VIDEO)),
                ]
            ),
            page.table(record.as_row(), [list(record.as_row().values())], words=len(record.as_row())),
            page.heading('Why'),
            page.bullets(decision['reasons']),
            page.paragraph(f'About {needed} held-out sequences in all would decide what is open.')
            if needed
            else '',
            page.bullets(map(_changed, record.evidence['held_out']['changed']), 'faults'),
        ]
    )


def _how(evidence: Mapping, side: str) -> str:
    about = evidence['bundles'][side]
    return f'{about["family"]}, {about["mode"]} mode, model {about["model_id"]:08x}'


def _changed(look: dict) -> str:
    return f'{changed(look)}: what was seen then may have made this one, and nothing is promoted by it.'


def _criteria(evidence: Mapping) -> Html:
    rows, drawn = [], []
    for item in evidence['criteria']:
        below = 'at_most' in item
        limit, found = item['at_most' if below else 'at_least'], item['found']
        rows.append(
            [
                item['name'],
                page.badge(item['state'], _TONES[item['state']]),
                '–' if found is None else found['estimate'],
                '–' if found is None else _interval(found),
                f'{"at most" if below else "at least"} {limit:.3g}',
                '–' if found is None else found['count'],
            ]
        )
        if found is not None:
            drawn.append(
                Strip(
                    f'{item["name"]}: {item["state"]}',
                    *(found[key] for key in ('low', 'estimate', 'high')),
                    limit,
                    below,
                    float(item['kind'] == 'cost'),
                )
            )
    confidence = 100 * evidence['rule']['confidence']
    return page.join(
        [
            page.heading('The rule, and what was found'),
            page.paragraph(
                'The video encoder is accepted when every criterion is met, the image encoder when one is '
                'missed. Either needs the whole interval on one side of the limit; shaded is where it has to '
                'lie.'
            ),
            page.figure(plots.strips(drawn)),
            page.table(
                ['criterion', 'state', 'found', f'{confidence:g} % interval', 'asked', 'from'],
                rows,
                words=2,
                caption="Intervals of probes: paired bootstrap over sequences; of rollouts: Newcombe's for paired proportions.",
            ),
        ]
    )


def _probe(name: str, evidence: Mapping) -> Html:
    sides = evidence['probes'][name]
    about = next(iter(sides.values()))
    better = 'higher' if about['higher'] else 'lower'
    verdicts = [
        page.badge(f'{side}: {values["verdict"]}', _VERDICTS.get(values['verdict'], 'warn'))
        for side, values in sides.items()
        if about['temporal']
    ]
    return page.join(
        [
            page.heading(f'{name} ({"temporal" if about["temporal"] else "static"})'),
            page.paragraph(f'{about["task"]}. Metric: {about["metric"]}; {better} is better.'),
            page.paragraph(Html(' '.join(verdicts))) if verdicts else '',
            page.row(
                [
                    page.figure(
                        plots.estimates(list(_estimates(sides)), about['metric']),
                        'Blue: image encoder, orange: video encoder. Heads of controls were trained anew, '
                        'those under noise were not.',
                    ),
                    _by_sequence(name, evidence),
                ]
            ),
            page.details('all scores', [_scores(sides)]),
        ]
    )


def _rows(values: Mapping) -> Iterable[tuple[str, dict | None]]:
    yield 'attentive head', values['scores']
    yield 'linear head', values['linear']
    yield from ((_CONTROLS.get(kind, kind), found) for kind, found in values['controls'].items())
    yield from ((f'noise: {kind}', found) for kind, found in values['noise'].items())
    yield 'best blind answer', values['chance']
    yield from values['details'].items()


def _estimates(sides: Mapping) -> Iterable[Estimate]:
    columns = {side: dict(_rows(values)) for side, values in sides.items()}
    for row in dict.fromkeys(row for column in columns.values() for row in column):
        shown = row  # once is enough: the colour says whose it is
        for side, column in columns.items():
            if found := column.get(row):
                yield Estimate(shown, found['low'], found['value'], found['high'], _COLOURS[side])
                shown = ''


def _scores(sides: Mapping) -> Html:
    columns = {side: dict(_rows(values)) for side, values in sides.items()}
    rows = []
    for row in dict.fromkeys(row for column in columns.values() for row in column):
        cells = []
        for column in columns.values():
            found = column.get(row)
            cells += ['–', '–'] if not found else [found['value'], _interval(found)]
        rows.append([row, *cells])
    for words, key in (('learning rate, weight decay', 'choice'), ('the same, linear head', 'linear_choice')):
        cells = []
        for values in sides.values():
            choice = values[key]
            cells += [f'{choice["rate"]}, {choice["decay"]}', 'on validation'] if choice else ['–', '']
        rows.append([words, *cells])
    for split in next(iter(sides.values()))['clips']:
        cells = []
        for values in sides.values():
            cells += [values['clips'].get(split), f'in {values["sequences"].get(split)} sequences']
        rows.append([f'clips, {split}', *cells])
    return page.table(['', *(column for side in sides for column in (side, '95 % interval'))], rows)


def _by_sequence(name: str, evidence: Mapping) -> Html:
    """Draw the gain of the video encoder on each held-out sequence, for what the rule looks at."""
    rule, sides = evidence['rule'], evidence['probes'][name]
    if set(sides) != set(SIDES):
        return Html('')
    series = []
    for wanted in (*rule['temporal'], *rule['static']):
        if wanted['probe'] != name:
            continue
        pair = [_whole(sides[side], wanted['metric'], rule['head']) for side in SIDES]
        if None in pair:
            continue
        image, video = (scores.by_sequence() for scores in pair)
        sign = 1 if sides[IMAGE]['higher'] else -1
        gains = np.sort([sign * (video[key] - image[key]) for key in image if key in video])
        series.append(Series(wanted['metric'], list(range(1, len(gains) + 1)), gains.tolist()))
    drawn = plots.lines(
        series,
        'held-out sequences, in this order',
        'gain of the video encoder',
        dots=True,
        zero=True,
        width=5.4,
    )
    return page.figure(drawn, 'Of each held-out sequence; above 0 the video encoder does better.')


def _whole(values: Mapping, metric: str, head: str) -> Scores | None:
    """Return the scores by sequence that the rule looks at."""
    found = values['details'].get(metric) or values['linear' if head == 'linear' else 'scores']
    if not found or 'sums' not in found:
        return None
    scores = Scores.from_dict(found)
    return scores.only(metric) if metric in scores.groups else scores


def _costs(costs: Mapping, unit: str) -> Html:
    def middle(values):
        return float(np.median(values)) if values else None

    image, video = (costs[side] for side in SIDES)
    rows = [
        [name, *((key(side) if callable(key) else side[key]) for side in (image, video))]
        for name, key in (
            ('mode', 'mode'),
            ('backend', 'backend'),
            ('new frames in a step', 'new_frames'),
            ('encoder, ms per new frame', lambda c: middle(c['encode_ms'])),
            ('forecaster, ms per new frame', lambda c: middle(c['forecast_ms'])),
            ('computing time per second of camera, s', lambda c: middle(c['load'])),
            ('memory, MB', 'memory_mb'),
            (f'training, {unit}', 'training_hours'),
        )
    ]
    drawn = plots.lines(
        [
            Series(side, list(range(1, len(values['encode_ms']) + 1)), _sums(values))
            for side, values in zip(SIDES, (image, video))
        ],
        'round',
        'ms per new frame',
        dots=True,
        width=5.4,
    )
    return page.join(
        [
            page.heading('What they cost on this machine'),
            page.row(
                [
                    page.table(['', 'image', 'video'], rows, caption='Medians over the rounds.'),
                    page.figure(drawn, 'Encoder and forecaster; the two took turns, in either order.'),
                ]
            ),
        ]
    )


def _sums(values: Mapping) -> list[float]:
    return [encode + forecast for encode, forecast in zip(values['encode_ms'], values['forecast_ms'])]


def _closed_loop(outcomes: Mapping | None) -> Html:
    if not outcomes:
        return Html('')
    image, video = (np.array(outcomes[side], bool) for side in SIDES)
    return page.join(
        [
            page.heading('Closed loop'),
            page.table(
                ['seeds', 'image picked', 'video picked', 'only image', 'only video'],
                [
                    [
                        image.size,
                        *map(int, (image.sum(), video.sum(), (image & ~video).sum(), (video & ~image).sum())),
                    ]
                ],
                words=0,
                caption='Bins that the arm took off the belt, of the same seeds (jepa evaluate rollout).',
            ),
        ]
    )


def _held_out(held_out: Mapping) -> Html:
    touched = held_out['touched']
    others = [
        f'{look["sequences"]} of them were scored on {look["date"]} in the audit {look["audit"]}, '
        + ('of another pair' if 'pair' in look['differs'] else 'together with others, or without some')
        for look in held_out['others']
    ]
    return page.join(
        [
            page.heading('Held-out recordings'),
            page.paragraph(
                f'{len(held_out["sequences"])} recordings. Under this rule and these settings they were '
                f'scored first on {touched}, after everything had been chosen on validation.'
            ),
            page.bullets(others),
            page.details(
                'recordings and their sha256',
                [page.table(['recording', 'sha256'], held_out['sequences'].items(), words=2)],
            ),
        ]
    )


def _made(evidence: Mapping) -> Html:
    made, rule = evidence['made'], evidence['rule']
    return page.join(
        [
            page.heading('How it was made'),
            page.paragraph(Html(f'<code>{page.text(made["command"])}</code>')) if made['command'] else '',
            page.paragraph(f'jepa_ros {made["version"]}; {host.sentence(made["host"])}', 'note'),
            page.paragraph(f'rule sha256 {rule["sha256"]}', 'note'),
            page.paragraph(f'configuration sha256 {evidence["config"]["sha256"]}', 'note'),
            page.details('rule', [_mapping(rule)]),
            page.details('settings of the probes', [_mapping(evidence['settings'])]),
            page.details(
                'bundles',
                [
                    page.join([page.heading(side, 3), _mapping(of)])
                    for side, of in evidence['bundles'].items()
                ],
            ),
        ]
    )


def _mapping(values: Mapping) -> Html:
    rows = [[key, value if isinstance(value, str) else str(value)] for key, value in values.items()]
    return page.table(['', ''], rows, words=2)


def _interval(found: Mapping) -> str:
    low, high = found['low'], found['high']
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return 'unknown'
    if found.get('confidence') == 1:
        return '–'  # counted or stated, not estimated
    return f'{low:.3g} to {high:.3g}'.replace('-', '−')
