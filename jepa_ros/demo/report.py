# SPDX-License-Identifier: Apache-2.0
"""What a run leaves behind: figures.json, the contact sheet, a summary in words, and the exit code."""

import json
import math
import sys
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from jepa_ros import host
from jepa_ros.data.recordings import Recording, open_recording
from jepa_ros.demo import contact_sheet
from jepa_ros.demo.display import summary_rows
from jepa_ros.demo.figures import Figures, longest_run
from jepa_ros.demo.moments import cropped, find_moments
from jepa_ros.demo.recorder import BagRecorder
from jepa_ros.demo.topics import Topics
from jepa_ros.engine.bundle import Bundle
from jepa_ros.engine.readout import Readout
from jepa_ros.engine.session import open_session
from jepa_ros.images import ImageError


@dataclass(frozen=True)
class Run:
    """A run that has ended: where its files go, what was played through what, its figures and its bag."""

    out: Path
    recording: Recording
    bundle: Bundle
    figures: Figures
    recorder: BagRecorder


def conclude(run: Run, code: int, failure: str = '') -> int:
    """
    Write figures and contact sheet, and print the summary.

    :param code: exit code so far; `failure`: what went wrong, for code 1.
    :return: the exit code.
    """
    note = ''
    if code == 0 and not run.figures.futures_count:
        code, note = without_futures(run)
    found = summary(run)
    (run.out / 'figures.json').write_text(json.dumps(found, indent=2) + '\n')
    contact_sheet.save(run.out / 'contact_sheet.png', _sheet(run, found))
    print(f'\n{_title(run)}')
    left = f'{run.out}: bag/ (MCAP), contact_sheet.png, figures.json, logs/'
    rows = [*summary_rows(run.figures), ('host', host.sentence(found['host'])), ('left in', left)]
    for label, text in rows:
        print(f'  {label:<16}{text}')
    if note:
        print(note)
    for warning in run.recording.warnings:
        print(f'jepa: warning: {warning}', file=sys.stderr)
    if failure:
        print(f'jepa: error: {failure}', file=sys.stderr)
    return code


def without_futures(run: Run) -> tuple[int, str]:
    """Say why there were no futures, and whether that is a fault (exit code 1)."""
    manifest, stamps = run.bundle.manifest, run.figures.camera_stamps
    if manifest.forecaster is None:
        return 0, f"No futures: the bundle '{manifest.name}' has no forecaster."
    horizons = manifest.forecaster.horizons
    context = 1 if manifest.mode == 'clip' else manifest.forecaster.context
    needed = context + math.ceil((horizons.default or horizons.values)[0] / manifest.slice_period)
    found = longest_run(stamps, open_session(run.bundle).request)
    if found < needed:
        return 0, (f'No futures: they take {needed} slices of {manifest.slice_period:g} s in a row, and this '
                   f"recording ({len(stamps)} frame{'s' * (len(stamps) != 1)}) has {found}.")
    return 1, (f'No futures although {found} slices came in a row and {needed} are enough: see what '
               'perception says in logs/ and on /diagnostics.')


def summary(run: Run) -> dict:
    """Return all figures as they go into figures.json."""
    figures = run.figures
    return {
        'command': ' '.join(['jepa', *sys.argv[1:]]),
        'recording': run.recording.name,
        'bundle': run.bundle.manifest.name,
        'model': f'{run.bundle.model_id:08x}',
        'host': host.describe(),
        'frames': {'delivered': len(figures.camera_stamps), 'rate_hz': figures.rate(),
                   **figures.frame_counts()},
        'latents': figures.latents_count,
        'futures': figures.futures_count,
        'unreadable': figures.unreadable,
        'future_age_s': figures.age(),
        'skill_against_persistence': figures.skills(),
        'matched': f'with latents within {figures.tolerance:g} s of header.stamp + horizon',
        'controller': {'commands': figures.commands, 'moving': figures.moving,
                       'targets': figures.targets},
        'recorded': run.recorder.counts,
        'diagnostics': figures.diagnostics,
    }


def _title(run: Run) -> str:
    return f'{run.recording.name} through {run.bundle.manifest.name}'


def _sheet(run: Run, found: dict) -> np.ndarray:
    """Draw the contact sheet from what is in the bag: RGB uint8 [h, w, 3]."""
    manifest, skills = run.bundle.manifest, found['skill_against_persistence']
    readout = Readout(run.bundle) if manifest.readout else None
    came_true = [row['horizon'] for row in skills if row['pairs']]
    moments = []
    if came_true:
        moments = find_moments(run.recorder.path, Topics(), manifest, came_true[-1], readout)
    return contact_sheet.draw(_title(run), moments, manifest.grid, skills, run.figures.ages,
                              _facts(run, found), readout.name if readout else None,
                              [] if moments else _first_frames(run))


def _facts(run: Run, found: dict) -> list[str]:
    """Return the lines of text on the contact sheet."""
    figures, manifest, machine = run.figures, run.bundle.manifest, found['host']
    rows = dict(summary_rows(figures))
    return [
        f"{manifest.name} ({manifest.mode}), model {found['model']}",
        f"frames in: {rows['frames in']}",
        f'{figures.latents_count} latents, {figures.futures_count} futures',
        f"dropped: {rows['dropped']}",
        f"futures on arrival: {rows['age on arrival']}",
        machine['processor'],
        f"{machine['cores']} cores, {machine['ros']}",
        machine['date'],
    ]


def _first_frames(run: Run, count: int = 4) -> list[np.ndarray]:
    """Return the first frames of the bag that decode, as the model sees them."""
    camera, found = Topics().camera, []
    if run.recorder.counts.get(camera):
        for frame in islice(open_recording(run.recorder.path, camera).frames(), count):
            try:
                found.append(cropped(frame, run.bundle.manifest)[0])
            except ImageError:
                continue
    return found
