# SPDX-License-Identifier: Apache-2.0
"""
Plots as SVG to be put into a page, drawn by matplotlib. Their colours are the page's, so that they are light
or dark as it is. Where matplotlib is not installed there are none, and the tables say the same.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

POINTS = 1200  # that a line of a plot is made of at most
# Colours that stand for the page's: matplotlib knows no CSS variables.
_INK, _RULE = '#010203', '#010204'
_SERIES = [f'#0102{i:02x}' for i in range(0xA0, 0xA5)]
_STYLE = {
    'svg.fonttype': 'none',
    'svg.hashsalt': 'jepa_ros',
    'font.family': 'sans-serif',
    'font.size': 10,
    'text.color': _INK,
    'axes.labelcolor': _INK,
    'axes.edgecolor': _RULE,
    'xtick.color': _INK,
    'ytick.color': _INK,
    'grid.color': _RULE,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.grid': True,
    'grid.linewidth': 0.6,
    'legend.frameon': False,
    'figure.facecolor': 'none',
    'axes.facecolor': 'none',
}


class Series(NamedTuple):
    """
    One line of a plot: a name for the legend ('' for none), x and y; the line is broken where y is None.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]


def available() -> bool:
    """Whether plots can be drawn here."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


def lines(
    series: Sequence[Series],
    x: str,
    y: str,
    *,
    marks: Sequence[tuple[float, float, str]] = (),
    dots: bool = False,
    zero: bool = False,
    level: bool = False,
    width: float = 9.0,
    height: float = 2.6,
) -> str | None:
    """
    Draw lines.

    :param series: those without points are left out; long ones are thinned so that their peaks stay.
    :param x: label of the axis; `y` likewise.
    :param marks: points to be marked: x, y, text.
    :param dots: mark every point.
    :param zero: draw the line y = 0.
    :param level: y is a level, whose axis need not begin at 0.
    :param width: inches at 100 px; `height` likewise.
    :returns: an SVG element, or None without matplotlib or points.
    """
    series = [line for line in series if len(line.x)]
    if not series or not available():
        return None
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        drawn = Figure(figsize=(width, height), layout='constrained')
        axes = drawn.add_subplot()
        if zero:
            axes.axhline(0, color=_INK, linewidth=0.9)
        for number, line in enumerate(series):
            few = len(line.x) < 200  # then a point between two gaps is seen only with a marker
            axes.plot(
                *thinned(line.x, line.y),
                color=_SERIES[number % len(_SERIES)],
                label=line.name or None,
                linewidth=1.6 if dots else 1.2,
                marker='o' if dots or few else None,
                markersize=4 if dots else 2,
            )
        for at, value, words in marks:
            axes.plot([at], [value], 'o', color=_SERIES[1], markersize=5)
            axes.annotate(words, (at, value), xytext=(0, 5), textcoords='offset points', ha='center')
        if not zero and not dots and not level:
            axes.set_ylim(bottom=0)
        if marks:
            axes.margins(y=0.18)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        if any(line.name for line in series):
            axes.legend(loc='upper left', bbox_to_anchor=(1, 1))
        buffer = io.StringIO()
        drawn.savefig(buffer, format='svg', metadata={'Date': None, 'Creator': None})
    return _for_page(buffer.getvalue(), width)


class Strip(NamedTuple):
    """
    An estimate on an axis of its own.

    :param name: above it.
    :param low, value, high: interval and estimate; infinite ends are drawn to the edge.
    :param limit: where the shaded side begins; `below`: it is the lower one.
    :param nothing: where there is no difference, which is always shown: 0, or 1 of a ratio.
    """

    name: str
    low: float
    value: float
    high: float
    limit: float
    below: bool = False
    nothing: float = 0.0


def strips(rows: Sequence[Strip], *, width: float = 9.0, height: float = 0.8) -> str | None:
    """
    Draw estimates with their intervals below each other, each with the side that it should lie on.

    :param width: inches at 100 px; `height`: of each.
    :returns: an SVG element, or None without matplotlib or rows.
    """
    if not rows or not available():
        return None
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        drawn = Figure(figsize=(width, height * len(rows)), layout='constrained')
        for axes, row in zip(np.ravel(drawn.subplots(len(rows), squeeze=False)), rows):
            shown = [x for x in (row.low, row.value, row.high, row.limit, row.nothing) if np.isfinite(x)]
            margin = 0.1 * (max(shown) - min(shown) or 1.0)
            edges = min(shown) - margin, max(shown) + margin
            axes.axvspan(
                *((edges[0], row.limit) if row.below else (row.limit, edges[1])), color=_SERIES[2], alpha=0.2
            )
            axes.axvline(row.limit, color=_SERIES[2], linewidth=1.2)
            axes.plot(np.clip((row.low, row.high), *edges), [0, 0], color=_SERIES[0], linewidth=3)
            axes.plot([row.value], [0], 'o', color=_SERIES[0], markersize=7)
            axes.set_xlim(*edges)
            axes.set_ylim(-1, 1)
            axes.set_yticks([])
            axes.spines['left'].set_visible(False)
            axes.set_title(row.name, loc='left', fontsize=10)
        buffer = io.StringIO()
        drawn.savefig(buffer, format='svg', metadata={'Date': None, 'Creator': None})
    return _for_page(buffer.getvalue(), width)


class Estimate(NamedTuple):
    """
    An estimate among others in the same unit.

    :param name: beside it.
    :param low, value, high: interval and estimate; infinite or None: not known.
    :param series: number of its colour.
    """

    name: str
    low: float | None
    value: float | None
    high: float | None
    series: int = 0


def estimates(rows: Sequence[Estimate], x: str, *, width: float = 5.4, height: float = 0.3) -> str | None:
    """
    Draw estimates with their intervals below each other on one axis.

    :param x: label of the axis.
    :param width: inches at 100 px; `height`: of each row.
    :returns: an SVG element, or None without matplotlib or rows.
    """
    if not rows or not available():
        return None
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        drawn = Figure(figsize=(width, 0.7 + height * len(rows)), layout='constrained')
        axes = drawn.add_subplot()
        axes.grid(False, axis='y')
        for at, row in enumerate(rows):
            colour = _SERIES[row.series % len(_SERIES)]
            low, value, high = (np.nan if v is None or not np.isfinite(v) else v for v in row[1:4])
            axes.plot([low, high], [at, at], color=colour, linewidth=3, solid_capstyle='butt')
            axes.plot([value], [at], 'o', color=colour, markersize=6)
        axes.set_yticks(range(len(rows)), [row.name for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlabel(x)
        buffer = io.StringIO()
        drawn.savefig(buffer, format='svg', metadata={'Date': None, 'Creator': None})
    return _for_page(buffer.getvalue(), width)


def thinned(x, y, points: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Return at most about `points` points of a line: of each stretch the lowest, the highest and a gap."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    if len(x) <= points:
        return x, y
    edges = np.linspace(0, len(x), points // 2 + 1).astype(int)
    kept: set[int] = set()
    for a, b in zip(edges[:-1], edges[1:]):
        gaps = np.isnan(y[a:b])
        kept.update(a + np.flatnonzero(gaps)[:1])
        if not gaps.all():
            kept.update((a + np.nanargmin(y[a:b]), a + np.nanargmax(y[a:b])))
    order = np.array(sorted(kept))
    return x[order], y[order]


def _for_page(svg: str, width: float) -> str:
    svg = svg[svg.index('<svg') :]
    svg = re.sub(r'<metadata>.*?</metadata>', '', svg, flags=re.DOTALL)
    colours = {_INK: 'var(--ink)', _RULE: 'var(--rule)'}
    colours.update({colour: f'var(--s{i})' for i, colour in enumerate(_SERIES)})
    for colour, variable in colours.items():
        svg = svg.replace(colour, variable)
    style = f'max-width:{100 * width:.0f}px'
    return re.sub(
        r'<svg[^>]*viewBox="([^"]*)"[^>]*>', rf'<svg viewBox="\1" role="img" style="{style}">', svg, count=1
    )
