# SPDX-License-Identifier: Apache-2.0
"""The positions of the published networks, number by number from their formulas."""

import math

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from jepa_ros.nets import rotary as rope  # noqa: E402
from jepa_ros.nets.official import positions  # noqa: E402
from jepa_ros.nets.official.families import MODELS  # noqa: E402

grids = st.tuples(st.integers(1, 5), st.integers(1, 5))


def sine(place, index, features):
    """Feature `index` of an axis with `features`: sines first, then cosines (Vaswani et al. 2017)."""
    half = features // 2
    angle = place / 10000 ** ((index % half) / half)
    return math.sin(angle) if index < half else math.cos(angle)


@given(grid=grids, slices=st.integers(1, 3), width=st.sampled_from([8, 12, 24, 1024]), data=st.data())
@settings(max_examples=40, deadline=None)
def test_added_positions(grid, slices, width, data):
    rows, columns = grid
    time = data.draw(st.integers(0, slices - 1))
    row, column = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    feature, token = data.draw(st.integers(0, width - 1)), time * rows * columns + row * columns + column
    image = positions.added_table('sincos2d', 1, grid, width)[0, token % (rows * columns), feature]
    half = width // 2  # the column's half is the first: I-JEPA's `meshgrid` has it so
    expected = sine(column, feature, half) if feature < half else sine(row, feature - half, half)
    assert image.item() == pytest.approx(expected, abs=1e-6)
    video = positions.added_table('sincos3d', slices, grid, width)[0, token, feature]
    own = 2 * math.ceil(width / 6)
    expected = sine((time, row, column)[feature // own], feature % own, own)
    assert video.item() == pytest.approx(expected, abs=1e-6)


@given(grid=grids, token=st.integers(0, 400), head_dim=st.sampled_from([6, 16, 20, 64, 80]),
       name=st.sampled_from(['vjepa2-vitl', 'vjepa2.1-vitl']), data=st.data())
@settings(max_examples=60, deadline=None)
def test_turned_features(grid, token, head_dim, name, data):
    """A feature of a lone query, turned, against the sum that the published code computes."""
    rows, columns = grid
    query = torch.arange(1, head_dim + 1, dtype=torch.float32)
    table = positions.rotary_of(MODELS[name], torch.tensor([[token]]), grid, head_dim)
    assert table[0].shape == table[1].shape == (1, 1, 1, head_dim)
    feature = data.draw(st.integers(0, head_dim - 1))
    found = rope.rotate(query[None, None, None], table)[0, 0, 0, feature].item()

    pairs = head_dim // 3 // 2
    axis, within = divmod(feature, 2 * pairs)
    if axis > 2:
        assert found == query[feature]  # features that belong to no axis
        return
    place = (token // (rows * columns), token // columns % rows, token % columns)[axis]
    if name == 'vjepa2.1-vitl' and axis:
        place *= 15 / max((rows, columns)[axis - 1] - 1, 1)
    frequency = within // 2 if name == 'vjepa2.1-vitl' else within % pairs
    angle = place / 10000 ** (frequency / pairs)
    partner = query[feature ^ 1].item() * (1 if within % 2 else -1)
    expected = query[feature].item() * math.cos(angle) + partner * math.sin(angle)
    assert found == pytest.approx(expected, abs=1e-3)


def test_models_with_added_positions_turn_nothing():
    for name in ('ijepa-vith14', 'vjepa-vitl16'):
        assert positions.rotary_of(MODELS[name], torch.zeros(1, 1, dtype=torch.int64), (2, 2), 80) is None


def test_v_jepa_2_1_looks_alike_at_every_size():
    """First and last row and column have the places 0 and 15 at 256 px as at 384 px."""
    model = MODELS['vjepa2.1-vitl']
    corners = [positions.rotary_of(model, torch.tensor([[0, side - 1, side * side - 1]]), (side, side), 64)[0]
               for side in (16, 24)]
    torch.testing.assert_close(*corners)


def test_a_table_is_stretched_only_where_the_size_differs():
    table = positions.added_table('sincos3d', 4, (3, 3), 24)
    assert positions.resize_added(table, 4, (3, 3), 4, (3, 3)) is table
    larger = positions.resize_added(table, 4, (3, 3), 8, (6, 3))
    assert larger.shape == (1, 8 * 6 * 3, 24)
    # Means over an axis survive a stretch to twice its length; columns, which do not change, are as before.
    torch.testing.assert_close(larger.unflatten(1, (8, 6, 3)).mean((1, 2)),
                               table.unflatten(1, (4, 3, 3)).mean((1, 2)))
    image = positions.added_table('sincos2d', 1, (4, 4), 24)
    assert positions.resize_added(image, 1, (4, 4), 1, (2, 7)).shape == (1, 14, 24)


def test_tables_are_real_where_modules_are_made_without_memory():
    with torch.device('meta'):
        assert positions.added_table('sincos2d', 1, (2, 2), 8).device.type == 'cpu'
