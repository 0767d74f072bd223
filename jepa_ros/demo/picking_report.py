# SPDX-License-Identifier: Apache-2.0
"""What a run of the picking cell leaves behind: figures.json, the film, a page, a summary, the exit code."""

from __future__ import annotations

import base64
import html
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jepa_ros import host
from jepa_ros.data.bags import Bag
from jepa_ros.demo import film
from jepa_ros.demo.figures import PERCEPTION
from jepa_ros.demo.picking import CELL, PickingFigures, summary_rows
from jepa_ros.demo.recorder import BagRecorder
from jepa_ros.demo.topics import PickingTopics
from jepa_ros.engine.bundle import Bundle
from jepa_ros.engine.readout import Readout
from jepa_ros.errors import JepaError
from jepa_ros.evaluation import page
from jepa_ros.sim import seeds

TARGETS = {'camera_hz': 20.0, 'future_age_p99_s': 0.060}
FILM = 'conveyor.mp4'


@dataclass(frozen=True)
class Run:
    """A run that has ended: a `conveyor.ConveyorOptions`, the bundle, its figures and its bag."""

    options: object
    bundle: Bundle
    figures: PickingFigures
    recorder: BagRecorder


def conclude(run: Run, code: int, failure: str = '') -> int:
    """
    Write figures, film and page, and print the summary.

    :param code: exit code so far; `failure`: what went wrong, for code 1.
    :return: the exit code.
    """
    out = run.options.out
    if code == 0 and not run.figures.futures_count:
        code, failure = 1, 'no futures came: see what perception says in logs/ and on /diagnostics'
    found = summary(run)
    (out / 'figures.json').write_text(json.dumps(found, indent=2) + '\n')
    (out / FILM).unlink(missing_ok=True)  # of an earlier run
    poster = None
    if run.options.video and run.figures.camera_stamps and code != 130:
        poster = _film(run, found)
    page.write(out / 'index.html', page.page('Conveyor picking', blocks(found, _video(out / FILM, poster), failure)))
    files = ', '.join(name for name in ('index.html', FILM, 'figures.json') if (out / name).exists())
    print(f'\npicking cell through {run.bundle.manifest.name}')
    for label, text in (*summary_rows(run.figures), ('host', host.sentence(found['host'])),
                        ('left in', f'{out}: {files}, bag/ (MCAP), logs/')):
        print(f'  {label:<16}{text}')
    if failure:
        print(f'jepa: error: {failure}', file=sys.stderr)
    return code


def summary(run: Run) -> dict:
    """Return all figures as they go into figures.json."""
    figures, options = run.figures, run.options
    times = [pick['seconds'] for pick in figures.picks if pick['seconds'] is not None]
    seed = seed_of(run)
    return {
        'command': ' '.join(['jepa', *sys.argv[1:]]),
        'bundle': run.bundle.manifest.name,
        'model': f'{run.bundle.model_id:08x}',
        'host': host.describe(),
        'seed': seed,
        'seed_range': next((name for name, range_ in _RANGES.items() if seed in range_), 'other'),
        'speed': options.speed,
        'simulated_s': round(figures.now, 2),
        'real_time_factor': round(figures.real_time_factor(), 3),
        'picked': figures.taken,
        'bins': figures.entered_count,
        'attempts': figures.attempts,
        'picks': figures.picks,
        'time_to_pick_s': round(float(np.median(times)), 2) if times else None,
        'handle_error': figures.errors.rows(),
        'camera_hz': round(figures.camera_rate(), 2),
        'frames': {'delivered': len(figures.camera_stamps), **figures.frame_counts()},
        'futures': figures.futures_count,
        'unreadable': figures.unreadable,
        'future_age_s': figures.age(),
        'age_is': 'from the /clock message of the exposure, before the frame is drawn, to its futures, both received',
        'targets': {**TARGETS, 'met': met(figures)},
        'skill_against_persistence': figures.skills(),
        'states': _shares(figures),
        'commands': figures.commands,
        'recorded': run.recorder.counts,
        'diagnostics': figures.diagnostics,
    }


def met(figures: PickingFigures) -> bool | None:
    """Return whether camera and futures were in time; None where there is nothing to say so by."""
    age = figures.age()
    if age is None:
        return None
    # a rate of 20 is 19.9x on the wall now and then
    in_time = figures.camera_rate() > 0.99 * TARGETS['camera_hz']
    return bool(in_time and age['p99'] < TARGETS['future_age_p99_s'])


def blocks(found: dict, video: page.Html, failure: str = '') -> list[page.Html]:
    """Return the page's contents. :param found: as of :func:`summary`."""
    age, error = found['future_age_s'], _nearest(found['handle_error'], 0.4)
    top = page.cards([
        ('picked', f'{found["picked"]} of {found["bins"]}', f'{found["attempts"]} attempts'),
        ('time to pick', _unit(found['time_to_pick_s'], 's'), 'median, from entering to taken'),
        ('handle error', _unit(error and 100 * error['median_m'], 'cm'),
         f'median, {error["horizon"]:g} s ahead, in view' if error else 'no path to judge'),
        ('age of the futures', _unit(age and 1e3 * age['p99'], 'ms'), '99 % are younger'),
        ('camera', _unit(found['camera_hz'], 'Hz'), f'real time x {found["real_time_factor"]:.2f}'),
    ])
    errors = page.table(
        ('ahead', '', 'paths', 'median, cm', '90 % within, cm'),
        [(f'{row["horizon"]:g} s', 'in view' if row['in_view'] else 'hidden', row['count'], 100 * row['median_m'],
          100 * row['p90_m']) for row in found['handle_error']],
        "distance on the belt between the controller's path and where the handle then was", words=2)
    picks = page.table(('taken at, s', 'after entering, s'),
                       [(pick['time'], pick['seconds']) for pick in found['picks']], 'bins taken', words=0)
    ages = page.table(('', 'ms'), [(name.replace('p', '') + ' % within', 1e3 * value)
                                   for name, value in (age or {}).items()], found['age_is'])
    skill = page.table(('ahead', 'skill', 'pairs'),
                       [(f'{row["horizon"]:g} s', row['skill'], row['pairs'])
                        for row in found['skill_against_persistence']], 'futures against persistence, in latents')
    reports = page.bullets(
        f'{name[1:]}: {found["diagnostics"][name]["message"]}'
        # the controller outlives the camera, and says that it stopped
        for name in (CELL, PERCEPTION) if name in found['diagnostics'])
    machine = found['host']
    return [
        page.bullets([failure] if failure else [], 'faults'), top, video,
        page.heading('What the controller did'), page.shares(found['states'].items(), 'share of the time'), picks,
        page.heading('Was the handle where it was expected?'), errors or page.paragraph('No path could be judged.'),
        page.heading('In time?'), ages, page.heading('Futures'), skill,
        page.heading('Last reports'), reports,
        page.paragraph(f'{found["command"]}; bundle {found["bundle"]} ({found["model"]}), seed {found["seed"]} '
                       f'({found["seed_range"]}), {found["simulated_s"]:g} simulated s; {host.sentence(machine)}', 'note'),
    ]


_RANGES = {'training': seeds.TRAIN, 'validation': seeds.VALIDATION, 'held out': seeds.HELD_OUT}


def seed_of(run: Run) -> int | None:
    """Return the seed that the simulator says it ran."""
    said = run.figures.value(CELL, 'seed')
    return int(said) if said else run.options.seed


def _film(run: Run, found: dict) -> bytes | None:
    """Make the film. :return: the picture to show of it, JPEG; None where it cannot be made."""
    from rich.progress import track

    topics, path = PickingTopics(), run.recorder.path
    if found['seed'] is None or topics.physics not in {topic.name for topic in Bag(path).topics}:
        return None
    stamps = np.array(run.figures.camera_stamps)
    seconds = ((stamps - stamps[0]) / 1e9).tolist()
    first, last = film.chosen(seconds, [pick['time'] for pick in found['picks']])
    shown = [second for second in seconds if first <= second <= last]
    if len(shown) < 2:
        return None
    fps = (len(shown) - 1) / (shown[-1] - shown[0])
    best, best_at = None, (False, -1)
    try:
        painter = film.Painter(found['seed'], f'{found["bundle"]}, seed {found["seed"]}')
        try:
            run_ = (m for m in film.moments(path, Readout(run.bundle)) if first <= m.seconds <= last)
            seen = []
            frames = film.write_film(run.options.out / FILM, _kept(run_, seen), painter, fps)
            for number, picture in enumerate(track(frames, 'film', total=len(shown), transient=True)):
                # the last frame in which a bin is lifted, else the last with an expectation
                rank = seen[-1].bin_state == 'held', number if len(seen[-1].points) else -1
                if rank > best_at:
                    best, best_at = picture, rank
        finally:
            painter.close()
    except JepaError as error:
        print(f'jepa: warning: there is no film: {error}', file=sys.stderr)
        return None
    return None if best is None else film.poster(best)


def _kept(run, seen: list):
    for moment in run:
        seen[:] = [moment]
        yield moment


def _video(path: Path, poster: bytes | None) -> page.Html:
    """Return the film as part of the page, which needs nothing else then."""
    if poster is None or not path.exists():
        return page.Html('')
    data = base64.b64encode(path.read_bytes()).decode()
    picture = base64.b64encode(poster).decode()
    caption = html.escape('Left: the cell, drawn again with shadows from the recorded physics. Right: what perception '
                          'saw, and what it expected. The true handle is for the eye alone.')
    return page.Html(
        f'<figure><video controls muted playsinline style="max-width:100%" poster="data:image/jpeg;base64,{picture}" '
        f'src="data:video/mp4;base64,{data}"></video><figcaption>{caption}</figcaption></figure>')


def _shares(figures: PickingFigures) -> dict[str, float]:
    whole = sum(figures.states.values())
    return {state: round(seconds / whole, 4) for state, seconds in figures.states.most_common() if seconds}


def _nearest(rows: list[dict], horizon: float) -> dict | None:
    known = [row for row in rows if row['in_view']]
    return min(known, key=lambda row: abs(row['horizon'] - horizon)) if known else None


def _unit(value: float | None, unit: str) -> str:
    return 'none' if value is None else f'{value:.3g} {unit}'
