# SPDX-License-Identifier: Apache-2.0
"""The picture: what is where, and that nothing it may be given breaks it."""

import numpy as np
import pytest

from jepa_ros.demo import contact_sheet
from jepa_ros.demo.canvas import Canvas
from jepa_ros.demo.contact_sheet import CAPTION, GAP, HEAD, LABELS, MARGIN, PREDICTED, TILE, Moment
from jepa_ros.images import decode_compressed

GRID = (6, 8)
TALL = round(TILE * 6 / 8)


def moment(seconds=1.0, colour=(200, 30, 30), path=None) -> Moment:
    rng = np.random.default_rng(round(seconds))
    now, observed = rng.normal(size=(2, 48, 8)).astype(np.float32)
    frame = np.full((96, 128, 3), colour, np.uint8)
    deviation = None if path is None else np.full(len(path), 0.02)
    return Moment(seconds, 0.5, frame, frame, observed, 0.5 * (now + observed), now, path, deviation)


def draw(moments, skills=(), ages=(), facts=('tiny',), **more):
    return contact_sheet.draw('numbers through tiny', list(moments), GRID, list(skills), list(ages),
                              list(facts), **more)


def tile(sheet, column, row):
    """The middle of a tile, without its borders."""
    x, y = MARGIN + LABELS + column * (TILE + GAP), HEAD + CAPTION + row * (TALL + GAP)
    return sheet[y + 4:y + TALL - 24, x + 4:x + TILE - 4]


def test_each_column_shows_its_moment():
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30)]
    sheet = draw(moment(i, colour) for i, colour in enumerate(colours))
    for column, colour in enumerate(colours):
        for row in (0, 1):
            assert np.abs(tile(sheet, column, row).reshape(-1, 3).mean(0) - colour).max() < 3


def test_equal_latents_have_equal_colours():
    """Predicted exactly as seen: both rows are the same picture; persistence is another."""
    one = moment()
    sheet = draw([Moment(1.0, 0.5, one.frame, one.later, one.observed, one.observed, one.now)] * 4)
    assert np.array_equal(tile(sheet, 0, 2), tile(sheet, 0, 3))
    assert not np.array_equal(tile(sheet, 0, 2), tile(sheet, 0, 4))


def test_the_path_is_drawn_where_the_readout_expects_it():
    sheet = draw([moment(colour=(0, 0, 0), path=np.array([[0.2, 0.5], [0.8, 0.5]]))] * 4, readout='handle')
    reddish = np.abs(tile(sheet, 0, 0).astype(int) - PREDICTED).sum(-1) < 30
    rows, columns = np.nonzero(reddish)
    assert reddish.sum() > 100
    assert 0.15 * TILE < columns.min() < 0.25 * TILE and 0.75 * TILE < columns.max() < 0.9 * TILE
    assert abs(rows.mean() - 0.5 * TALL) < 8


@pytest.mark.parametrize('path', [[[-3.0, 0.5], [7.0, 9.0]], [[0.0, 0.0], [1.0, 1.0]], [[0.5, 0.5]]])
def test_a_path_that_leaves_the_frame_stays_inside_the_picture(path):
    moments = [moment(path=np.array(path)), moment()]
    sheets = [draw([one] * 4, readout='handle') for one in moments]
    for sheet in sheets:
        for column in range(4):
            for row in (0, 1):
                x, y = MARGIN + LABELS + column * (TILE + GAP), HEAD + CAPTION + row * (TALL + GAP)
                sheet[y:y + TALL, x:x + TILE] = 0
    assert np.array_equal(*sheets)


@pytest.mark.parametrize('skills', [
    [], [None, None], [0.3, 0.2, None], [-0.01, -30.0], [1e-9], [0.9, -0.9]])
@pytest.mark.parametrize('ages', [
    [], [(5, 0.1)], [(5, 0.1), (5, 0.1)], [(10**18 + i * 10**8, 0.01 * i) for i in range(9)]])
def test_any_figures_can_be_drawn(skills, ages):
    rows = [{'horizon': 0.1 * (i + 1), 'skill': skill} for i, skill in enumerate(skills)]
    frame = np.zeros((96, 128, 3), np.uint8)
    for moments in ([], [moment()]):
        sheet = draw(moments, rows, ages, frames=[frame])
        assert sheet.dtype == np.uint8 and sheet.shape[2] == 3


def test_saved_as_png(tmp_path):
    sheet = draw([moment()])
    contact_sheet.save(tmp_path / 'sheet.png', sheet)
    data = np.frombuffer((tmp_path / 'sheet.png').read_bytes(), np.uint8)
    assert np.array_equal(decode_compressed(data), sheet)


def test_canvas_coordinates_are_those_of_the_picture():
    canvas = Canvas(40, 30, (0, 0, 0))
    canvas.rectangle(10, 5, 20, 10, (255, 255, 255))
    white = np.nonzero(canvas.picture()[..., 0] > 250)
    assert (white[0].min(), white[0].max(), white[1].min(), white[1].max()) == (5, 14, 10, 29)
