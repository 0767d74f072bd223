# SPDX-License-Identifier: Apache-2.0
"""
One picture of a run: what the camera saw, what the latents were, what had been predicted, and the figures.

Each column is one forecast. Read downwards: the frame it was made from, with the path on which the readout
expects its object; the frame that came one horizon later; the latents of that later frame as they were seen,
as they had been predicted, and as persistence would have them (the old ones). Colours are principal
components, the same for the whole picture: where the predicted row looks like the seen one and the last row
does not, the model foresaw the change.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np

from jepa_ros.demo.canvas import Canvas
from jepa_ros.latents import colour_basis, principal_components

MARGIN, LABELS, GAP, TILE, CAPTION, PLOTS, HEAD = 26, 172, 8, 210, 20, 210, 64  # px
INK, GREY, RULE = (35, 38, 45), (120, 124, 132), (222, 225, 230)
PREDICTED, OLD, MARK = (214, 84, 28), (150, 156, 166), (30, 110, 200)


@dataclass(frozen=True)
class Moment:
    """
    One forecast and what came of it.

    :param seconds: when it was made, since the start of the run; `horizon`: how far it looks (s).
    :param frame: RGB uint8 [H, W, 3], the newest frame it was made from, cropped to what the model sees;
        `later`: the frame at its time.
    :param observed: float32 [N, D], the latents of `later`; `predicted`; `now`: the latents of `frame`.
    :param path: [K, 2], where the readout expects its object at each horizon, 0..1 of `frame`; None without
        readout.
    :param deviation: [K], its standard deviation, in widths of `frame`.
    """

    seconds: float
    horizon: float
    frame: np.ndarray = field(repr=False)
    later: np.ndarray = field(repr=False)
    observed: np.ndarray = field(repr=False)
    predicted: np.ndarray = field(repr=False)
    now: np.ndarray = field(repr=False)
    path: np.ndarray | None = None
    deviation: np.ndarray | None = None


def draw(title: str, moments: list[Moment], grid: tuple[int, int], skills: list[dict], ages, facts: list[str],
         readout: str | None = None, frames: list[np.ndarray] = ()) -> np.ndarray:
    """
    Draw the contact sheet.

    :param title: what was run.
    :param moments: the columns, at most six or so; may be empty.
    :param grid: (rows, columns) of the tokens.
    :param skills: per horizon, as of Figures.skills.
    :param ages: [(arrival ns, age s)] of the futures.
    :param facts: lines of text.
    :param readout: name of what the readout finds.
    :param frames: RGB frames of one size, shown where there are no moments.
    :return: RGB uint8 [h, w, 3].
    """
    columns = max(len(moments), 4)
    tall = round(TILE * grid[0] / grid[1])
    width = 2 * MARGIN + LABELS + columns * (TILE + GAP) - GAP
    height = HEAD + (5 if moments else 1) * (tall + GAP) + CAPTION + PLOTS + 3 * MARGIN
    sheet = Canvas(width, height)
    sheet.text(title, MARGIN, 40, 21, INK, bold=True)
    y = HEAD
    if moments:
        y = _columns(sheet, moments, grid, tall, y, readout)
    else:
        sheet.text('too few futures', MARGIN, y + CAPTION + tall / 2 - 3, 13.5, INK, bold=True)
        sheet.text('to compare', MARGIN, y + CAPTION + tall / 2 + 15, 12, GREY)
        for column, frame in enumerate(frames[:columns]):
            sheet.image(frame, MARGIN + LABELS + column * (TILE + GAP), y + CAPTION, TILE, tall)
        y += CAPTION + tall
    y += MARGIN
    sheet.line([(MARGIN, y), (width - MARGIN, y)], RULE, 1)
    y += MARGIN // 2
    third = (width - 2 * MARGIN) / 3
    _skill_bars(sheet, skills, MARGIN, y, third - 40)
    _age_line(sheet, ages, MARGIN + third, y, third - 40)
    for line, fact in enumerate(facts):
        first = line == 0
        sheet.text(fact, MARGIN + 2 * third, y + 16 + 19 * line, 12.5, INK if first else GREY, bold=first)
    return sheet.picture()


def _columns(sheet, moments, grid, tall, y, readout) -> int:
    """Draw all columns with their labels; return the y below them."""
    horizon = f'{moments[0].horizon:g} s'
    labels = [('the camera', 'sees' + (f' + expected {readout}' if readout else '')),
              ('the camera', f'{horizon} later'), ('latents seen', f'{horizon} later'),
              ('latents predicted', f'{horizon} before'), ('persistence:', 'nothing changes')]
    basis = colour_basis(np.stack([tokens for m in moments for tokens in (m.observed, m.now)]))
    tops = [y + CAPTION + row * (tall + GAP) for row in range(5)]
    for (first, second), top in zip(labels, tops):
        colour = PREDICTED if 'predicted' in first else INK
        sheet.text(first, MARGIN, top + tall / 2 - 3, 13.5, colour, bold=True)
        sheet.text(second, MARGIN, top + tall / 2 + 15, 12, GREY)
    for column, moment in enumerate(moments):
        x = MARGIN + LABELS + column * (TILE + GAP)
        sheet.text(f't = {moment.seconds:.1f} s', x, y + CAPTION - 7, 12, GREY)
        for image, top in zip((moment.frame, moment.later), tops):
            sheet.image(image, x, top, TILE, tall)
        for tokens, top in zip((moment.observed, moment.predicted, moment.now), tops[2:]):
            colours = (255 * principal_components(tokens, basis).reshape(*grid, 3)).astype(np.uint8)
            sheet.image(colours, x, top, TILE, tall, smooth=False)
        if moment.path is not None:
            _path(sheet.part(x, tops[0], TILE, tall), moment, whole=True)
            _path(sheet.part(x, tops[1], TILE, tall), moment, whole=False)
        _share(sheet, moment, x, tops[3] + tall)
    return tops[-1] + tall


def _path(tile: Canvas, moment: Moment, whole: bool) -> None:
    """Draw over a frame where the path ends, and the way there if ``whole``."""
    points = moment.path * (tile.width, tile.height)
    if whole:
        tile.line(points, (255, 255, 255), 4)
        tile.line(points, PREDICTED, 2)
        for point in points[:-1]:
            tile.circle(point, 2.5, PREDICTED)
    radius = float(np.clip(moment.deviation[-1] * tile.width, 4, tile.width))
    tile.circle(points[-1], radius, (255, 255, 255), 3.5)
    tile.circle(points[-1], radius, PREDICTED, 2)


def _share(sheet, moment, x, bottom) -> None:
    """Write over the predicted latents how much of the change they foresaw."""
    change = float(np.mean((moment.now - moment.observed) ** 2))
    error = float(np.mean((moment.predicted - moment.observed) ** 2))
    if change > 1e-12:
        sheet.rectangle(x, bottom - 19, 84, 19, (255, 255, 255))
        sheet.text(f'skill {1 - error / change:+.2f}', x + 6, bottom - 5, 12, PREDICTED, bold=True)


def _skill_bars(sheet, skills, x, y, width) -> None:
    sheet.text('Skill against persistence, by horizon', x, y + 16, 14, INK, bold=True)
    if not skills:
        sheet.text('too few futures', x, y + 44, 12.5, GREY)
        return
    zero, tall = y + 128, 84
    known = [row['skill'] for row in skills if row['skill'] is not None]
    scale = tall / max([0.25, *map(abs, known)])
    step = width / len(skills)
    sheet.line([(x, zero), (x + width, zero)], GREY, 1)
    for index, row in enumerate(skills):
        centre = x + (index + 0.5) * step
        skill = row['skill']
        if skill is None:
            sheet.text('too few', centre, zero - 6, 11, GREY, 'centre')
        else:
            bar = max(-40.0, min(tall, skill * scale)) if skill < 0 else skill * scale
            sheet.rectangle(centre - step * 0.3, min(zero, zero - bar), step * 0.6, max(1, abs(bar)),
                            PREDICTED if skill > 0 else OLD)
            sheet.text(f'{skill:+.2f}', centre, zero - max(bar, 0) - 5, 12, INK, 'centre')
        sheet.text(f'{row["horizon"]:g} s', centre, y + 184, 12, GREY, 'centre')


def _age_line(sheet, ages, x, y, width) -> None:
    sheet.text('Age of the futures as they come in', x, y + 16, 14, INK, bold=True)
    if len(ages) < 2:
        sheet.text('too few', x, y + 44, 12.5, GREY)
        return
    times, values = np.array([a[0] for a in ages]) / 1e9, np.array([a[1] for a in ages]) * 1e3
    top = max(1.0, float(np.percentile(values, 99))) * 1.25
    base, tall, left = y + 168, 130, x + 44
    for share in (0, 0.5, 1):
        sheet.line([(left, base - share * tall), (x + width, base - share * tall)], RULE, 1)
        sheet.text(f'{share * top:.0f} ms', left - 6, base - share * tall + 4, 11, GREY, 'right')
    across = (times - times[0]) / max(times[-1] - times[0], 1e-9)
    points = np.stack([left + across * (x + width - left), base - np.minimum(values / top, 1) * tall], axis=1)
    sheet.line(points, MARK, 1.5)
    sheet.text('start', left, y + 184, 11, GREY)
    sheet.text(f'{times[-1] - times[0]:.0f} s', x + width, y + 184, 11, GREY, 'right')


def save(path, picture: np.ndarray) -> None:
    """Write a PNG. :param picture: RGB uint8 [h, w, 3]. :raises OSError: it cannot be written."""
    done, data = cv2.imencode('.png', cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    assert done
    path.write_bytes(data.tobytes())
