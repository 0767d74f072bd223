# SPDX-License-Identifier: Apache-2.0
"""Many recordings through one bundle or two, and the report of it: ``report.json`` and ``report.html``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from jepa_ros.evaluation import page
from jepa_ros.evaluation.replay import (
    FAILED,
    FORMAT,
    INTERRUPTED,
    ReplayError,
    Shelf,
    Subject,
    recording_key,
    replay,
    total,
)
from jepa_ros.evaluation.replay_page import replay_page

Run = Callable[[Path, Subject, Path | None], dict]


def replay_all(
    paths: Sequence[Path],
    subjects: Sequence[Subject],
    out: Path,
    *,
    again: bool = False,
    live: bool = False,
    run: Run = lambda path, subject, bag: replay(path, subject, bag=bag),
) -> list[dict]:
    """
    Replay recordings, each through every subject in turn; those that are kept are not run again.

    :param out: folder of the report; finished recordings are kept below it.
    :param again: run also those that are kept.
    :param live: whether `run` plays them in real time; of that nothing is kept.
    :param run: replays one recording.
    :returns: by subject: ``side`` ('A', 'B'; '' for a single one), ``live``, ``bundle``, ``recordings``,
        ``total`` and ``missing``, the number of recordings that were not begun because Ctrl-C came.
    """
    shelf = Shelf(out / 'recordings')
    sides = 'AB' if len(subjects) > 1 else ['']
    runs = [
        {'side': side, 'live': live, 'bundle': subject.about(), 'recordings': []}
        for side, subject in zip(sides, subjects)
    ]
    for number, path in enumerate(paths):
        # In turn, and not always the same one first: a machine that grows warm or busy must not favour one.
        turns = list(zip(subjects, runs))[:: 1 if number % 2 == 0 else -1]
        for subject, found in turns:
            bag = subject.options.mcap
            if bag is not None:
                bag = bag / found['side'] / recording_key(path)
            kept = None if again or live else shelf.get(path, subject, bag)
            result = kept or run(path, subject, bag)
            if kept is None and not live:
                shelf.put(path, subject, bag, result)
            found['recordings'].append(result)
            if result['status'] == INTERRUPTED:
                return _summed(runs, subjects, len(paths))
    return _summed(runs, subjects, len(paths))


def _summed(runs: list[dict], subjects: Sequence[Subject], count: int) -> list[dict]:
    for found, subject in zip(runs, subjects):
        found['total'] = total(found['recordings'], subject.judge())
        found['missing'] = count - len(found['recordings'])
    return runs


def exit_code(runs: list[dict]) -> int:
    """Return 130 after Ctrl-C, 1 if a recording failed, else 0."""
    if any(run['missing'] or run['total'][INTERRUPTED] for run in runs):
        return 130
    return int(any(run['total'][FAILED] for run in runs))


def write_report(out: Path, runs: list[dict], command: str, host: str, date: str, options: dict) -> dict:
    """
    Write both files.

    :param command: that made it; `host` and `date`: where and when.
    :param options: as they go into the report.
    :returns: what is in report.json.
    :raises PageError: they cannot be written.
    """
    report = {
        'format': FORMAT,
        'command': command,
        'date': date,
        'host': host,
        'options': options,
        'runs': runs,
    }
    bare = {**report, 'runs': [_without_kept(run) for run in runs]}
    page.write(out / 'report.json', _readable(bare) + '\n')
    page.write(out / 'report.html', replay_page(report))
    return bare


def _readable(values) -> str:
    """Return JSON with a line for each key, and one for each list of numbers."""
    return re.sub(
        r'\[\n[^][{}"]*\]', lambda found: re.sub(r'\s+', ' ', found[0]), json.dumps(values, indent=1)
    )


def _without_kept(run: dict) -> dict:
    """Return a run as it goes into report.json: without pictures and durations one by one."""

    def camera(found: dict) -> dict:
        moments = [
            {key: value for key, value in moment.items() if key not in ('now', 'before')}
            for moment in found['kept']['moments']
        ]
        bare = {key: value for key, value in found.items() if key != 'kept'}
        bare['probes'] = [
            {key: value for key, value in probe.items() if key != 'series'} for probe in found.get('probes', [])
        ]
        return {**bare, 'surprise': found['surprise'] and {**found['surprise'], 'moments': moments}}

    recordings = [
        {**recording, 'cameras': [camera(found) for found in recording['cameras']]}
        for recording in run['recordings']
    ]
    return {**run, 'recordings': recordings}


def writable(out: Path) -> None:
    """Make the folder of a report. :raises ReplayError: it cannot be."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ReplayError(
            f'expected a folder to write in at {out}, found: {error.strerror or error}'
        ) from error
