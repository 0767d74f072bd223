# SPDX-License-Identifier: Apache-2.0
"""Random views: the same for a whole clip, with the papers' statistics, and points stay on what they mark."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jepa_ros.data import augment
from jepa_ros.data.augment import NO_LABEL, OUTSIDE, VISIBLE, Augment, view

SHAPE = (60, 80)


def ramp(frames=1, size=SHAPE):
    """Images whose red is the column and whose green is the row: a view tells where it was cut."""
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]]
    image = np.stack([columns * 255 / (size[1] - 1), rows * 255 / (size[0] - 1), np.full(size, 100)], -1)
    return np.repeat(image[None].round().astype(np.uint8), frames, 0)


augments = st.builds(
    Augment,
    scale=st.tuples(st.floats(0.2, 0.6), st.floats(0.6, 1.0)),
    flip=st.booleans(),
    aspect=st.none() | st.tuples(st.floats(0.5, 1.0), st.floats(1.0, 2.0)),
    colour=st.sampled_from([0.0, 0.5]),
)
sizes = st.tuples(st.integers(16, 64), st.integers(16, 64))


@settings(max_examples=60)
@given(augments, sizes, st.integers(0, 2**32 - 1))
def test_any_view_has_the_size_is_one_for_all_frames_and_follows_from_its_generator(how, size, seed):
    images = ramp(3)
    out, _ = view(images, {}, size, how, np.random.default_rng(seed))
    again, _ = view(images, {}, size, how, np.random.default_rng(seed))
    assert out.shape == (3, *size, 3) and out.dtype == np.uint8
    np.testing.assert_array_equal(out, again)
    np.testing.assert_array_equal(out[0], out[2])
    np.testing.assert_array_equal(images, ramp(3), err_msg='the cache is not written to')


@settings(max_examples=80)
@given(augments, sizes, st.integers(0, 2**32 - 1), st.floats(0.1, 0.9), st.floats(0.1, 0.9))
def test_points_move_along(how, size, seed, x, y):
    """The colours at the moved point are those at the point: red is its column, green its row."""
    how = Augment(how.scale, how.flip, how.aspect)
    points = {
        name: (np.full((4, 2), (x, y), np.float32), np.full(4, state, np.uint8))
        for name, state in (('p', VISIBLE), ('none', NO_LABEL))
    }
    out, moved = view(ramp(4), points, size, how, np.random.default_rng(seed))
    xy, state = moved['p']
    assert xy.shape == (4, 2) and xy.dtype == np.float32 and state.dtype == np.uint8
    np.testing.assert_array_equal(state, np.where(((xy >= 0) & (xy <= 1)).all(1), VISIBLE, OUTSIDE))
    assert (moved['none'][1] == NO_LABEL).all()
    for image, place, seen in zip(out, xy, state):
        column, row = (place * size[::-1]).astype(int)
        if seen == OUTSIDE or not (2 <= column < size[1] - 2 and 2 <= row < size[0] - 2):
            continue
        assert image[row, column, 0] == pytest.approx(255 * x, abs=255 * 2.5 / min(size))
        assert image[row, column, 1] == pytest.approx(255 * y, abs=255 * 2.5 / min(size))


def boxes(how, size, count=3000, width=320, height=240):
    rng = np.random.default_rng(0)
    return np.array([augment._box(how, width, height, size, rng) for _ in range(count)])


@pytest.mark.parametrize('aspects', [(3 / 4, 4 / 3), (0.75, 1.35)])  # I-JEPA's and V-JEPA's
def test_the_crops_of_the_papers(aspects):
    drawn = boxes(Augment((0.3, 1.0), aspect=aspects), (224, 224))
    area, aspect = drawn[:, 2] * drawn[:, 3] / (320 * 240), drawn[:, 2] / drawn[:, 3]
    assert area.min() >= 0.29 and area.max() <= 1.0
    assert aspects[0] - 0.02 <= aspect.min() and aspect.max() <= aspects[1] + 0.02
    assert np.quantile(aspect, 0.02) < aspects[0] + 0.03 and np.quantile(aspect, 0.98) > aspects[1] - 0.03
    assert 0.5 < area.mean() < 0.65, 'uniform, less the large ones that do not fit'
    assert (drawn[:, 0] + drawn[:, 2] <= 320).all() and (drawn[:, 1] + drawn[:, 3] <= 240).all()
    assert drawn[:, :2].min() == 0


def test_the_aspect_is_relative_to_that_of_the_clips():
    drawn = boxes(Augment((0.3, 1.0), aspect=(1.0, 1.0)), (60, 80))
    np.testing.assert_allclose(drawn[:, 2] / drawn[:, 3], 4 / 3, rtol=0.02)


def test_where_no_crop_fits_it_is_the_largest_central_one():
    how = Augment((1.0, 1.0), aspect=(1.0, 1.0))
    assert augment._box(how, 300, 100, (64, 64), np.random.default_rng(0)) == (100, 0, 100, 100)


def test_half_are_mirrored_if_any():
    rising = {
        flip: [
            int(view(ramp(), {}, SHAPE, Augment((1.0, 1.0), flip), np.random.default_rng(s))[0][0, 0, -1, 0])
            > 128
            for s in range(200)
        ]
        for flip in (False, True)
    }
    assert all(rising[False]) and 70 < sum(rising[True]) < 130


def test_colours_change_as_they_should():
    images = ramp(2)
    drawn = [
        view(images, {}, SHAPE, Augment((1.0, 1.0), False, colour=1.0), np.random.default_rng(seed))[0]
        for seed in range(200)
    ]
    grey = [bool((out[..., 0] == out[..., 1]).all() and (out[..., 1] == out[..., 2]).all()) for out in drawn]
    same = [bool((out == images).all()) for out in drawn]
    assert 20 < sum(grey) < 65, 'a fifth, and some that lost their saturation'
    assert 15 < sum(same) < 60, 'a fifth of four fifths'


def test_each_change_of_colour_against_its_definition():
    image = np.array([[[[200, 100, 50]]]], np.uint8)
    luminance = 0.299 * 200 + 0.587 * 100 + 0.114 * 50
    np.testing.assert_allclose(augment._grey(image), luminance, rtol=1e-6)
    assert augment._blend(image, 0.0, 1.2).ravel().tolist() == [240, 120, 60]
    assert augment._blend(image, 0.0, 9.0).ravel().tolist() == [255, 255, 255]
    grey = augment._blend(image, augment._grey(image)[..., None], 0.0)
    assert grey.ravel().tolist() == [round(luminance)] * 3
    assert augment._turn(np.array([[[[255, 0, 0]]]], np.uint8), 1 / 3).ravel().tolist() == [0, 255, 0]
    np.testing.assert_allclose(augment._turn(image, 0.0).astype(int), image, atol=2)
