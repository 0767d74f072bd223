# SPDX-License-Identifier: Apache-2.0
"""The live table: rich on a terminal, one line every other second elsewhere."""

import sys
import time

from rich.console import Console
from rich.live import Live
from rich.table import Table

from jepa_ros.demo.figures import CONTROLLER, PERCEPTION, Figures

TOO_FEW = 'too few futures have come true'
PLAIN_PERIOD = 2.0  # s
RATE = 4.0  # Hz on a terminal


def summary_rows(figures: Figures) -> list[tuple[str, str]]:
    """Put the figures of a whole run into words. :return: (label, text) pairs."""
    age = figures.age()
    on_arrival = f'{1e3 * age["p50"]:.0f} ms, 99 % within {1e3 * age["p99"]:.0f} ms' if age else 'none'
    drops = ', '.join(f'{name} {count}' for name, count in figures.drops().items()) or 'none'
    early = figures.frame_counts().get('early', 0)
    return [
        ('frames in', f'{len(figures.camera_stamps)} ({figures.rate():.1f} Hz)'),
        ('latents out', str(figures.latents_count)),
        ('futures out', str(figures.futures_count)),
        ('age on arrival', on_arrival),
        ('dropped', drops + (f' (and {early} between asked frames)' if early else '')),
        ('skill', skill_line(figures.skills())),
        ('controller', f'{figures.targets} points followed, {figures.moving} of {figures.commands} commands '
                       'moved'),
    ]


def live_rows(figures: Figures, now_ns: int) -> list[tuple[str, str]]:
    """Put the figures as they are now into words. :param now_ns: now, on the clock of the stamps."""
    found = dict(summary_rows(figures))
    if figures.newest_future_ns is not None:
        found['age on arrival'] += f' (newest now {(now_ns - figures.newest_future_ns) / 1e9:.2f} s)'
    found['controller'] = _controller(figures)
    status = figures.diagnostics.get(PERCEPTION)
    if status and status['level'] and figures.camera_stamps:  # before the camera starts, it is missed
        found['warning'] = status['message']
    return list(found.items())


def skill_line(skills: list[dict]) -> str:
    """Return the skill against persistence of every horizon in one line."""
    known = [row for row in skills if row['skill'] is not None]
    return ', '.join(f'{row["horizon"]:g} s {row["skill"]:+.2f}' for row in known) or TOO_FEW


def _controller(figures: Figures) -> str:
    values = figures.diagnostics.get(CONTROLLER, {}).get('values')
    if not values:
        return 'not running'
    text = values.get('phase', values.get('state', 'starting'))
    if text == 'stopped':
        text += f": {values.get('reason', '')}"
    elif figures.target:
        text += f' the point at ({figures.target[0]:.2f}, {figures.target[1]:.2f})'
    return text


class Display:
    """
    Shows the figures while they come in; use it in a ``with`` block.

    :param title: what is being run.
    :param figures: shown; to be read within ``lock``.
    :param rows: puts them into words, given them and the time (ns), as (label, text) pairs.
    """

    def __init__(self, title: str, figures: Figures, lock, rows=live_rows):
        self._title, self._figures, self._lock, self._rows = title, figures, lock, rows
        self._live = Live(console=Console(), auto_refresh=False) if sys.stdout.isatty() else None
        self._due = 0.0

    def __enter__(self) -> 'Display':
        if self._live:
            self._live.start()
        else:
            print(self._title, flush=True)
        return self

    def __exit__(self, *_) -> None:
        if self._live:
            self._live.stop()

    def update(self, last: bool = False) -> None:
        """Show the figures as they are now, unless that was done just before. :param last: in any case."""
        now = time.monotonic()
        if now < self._due and not last:
            return
        self._due = now + (1 / RATE if self._live else PLAIN_PERIOD)
        with self._lock:
            found = self._rows(self._figures, time.time_ns())
        if self._live:
            self._live.update(table(self._title, found), refresh=True)
        elif not last:  # the summary follows at once
            print(' | '.join(f'{label} {text}' for label, text in found), flush=True)


def table(title: str, found: list[tuple[str, str]]) -> Table:
    """Return a rich table of (label, text) pairs."""
    view = Table(title=title, title_justify='left', show_header=False, min_width=72)
    view.add_column(style='bold cyan', no_wrap=True)
    view.add_column()
    for label, text in found:
        view.add_row(label, text)
    return view
