# SPDX-License-Identifier: Apache-2.0
"""The codec of the clouds: exact there and back, as PCL would read it, strict with everything else."""

import array
import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jepa_ros.clouds import CloudError, Field, decode_futures, decode_latents, encode_futures, encode_latents
from jepa_ros.latents import Futures, Latents

STAMP = 1_700_000_000_123_456_789


def make_latents(count=4, dim=3, seed=0):
    rng = np.random.default_rng(seed)
    surprise = rng.random(count, np.float32)
    surprise[0] = np.nan
    return Latents(STAMP, rng.normal(size=(count, dim)).astype(np.float32),
                   rng.random((count, 2), np.float32), -rng.random(count, np.float32), surprise, 0xfedcba98)


def make_futures(horizons=2, count=4, dim=3, seed=0):
    rng = np.random.default_rng(seed)
    return Futures(STAMP, np.cumsum(0.1 + rng.random(horizons), dtype=np.float32),
                   rng.normal(size=(horizons, count, dim)).astype(np.float32),
                   rng.random((count, 2), np.float32), 0xfedcba98)


def decode(function, cloud, stamp=STAMP, big=False, **changes):
    cloud = replace(cloud, **changes)
    return function(cloud.height, cloud.width, cloud.fields, cloud.point_step, cloud.row_step, big,
                    cloud.data, stamp)


def same(first, second):
    for name, value in vars(first).items():
        np.testing.assert_array_equal(getattr(second, name), value)
        assert np.asarray(getattr(second, name)).dtype == np.asarray(value).dtype


@given(count=st.integers(1, 60), dim=st.integers(1, 200), seed=st.integers(0, 9))
def test_latents_there_and_back(count, dim, seed):
    latents = make_latents(count, dim, seed)
    same(latents, decode(decode_latents, encode_latents(latents)))


@given(horizons=st.integers(1, 6), count=st.integers(1, 30), dim=st.integers(1, 60), seed=st.integers(0, 9))
def test_futures_there_and_back(horizons, count, dim, seed):
    futures = make_futures(horizons, count, dim, seed)
    cloud = encode_futures(futures)
    assert (cloud.height, cloud.width) == (horizons, count)
    same(futures, decode(decode_futures, cloud))


def test_bytes_are_those_of_the_fields():
    latents = make_latents()
    cloud = encode_latents(latents)
    assert isinstance(cloud.data, array.array) and cloud.data.typecode == 'B'
    assert cloud.fields == (
        Field('x', 0, 7, 1), Field('y', 4, 7, 1), Field('z', 8, 7, 1), Field('t', 12, 7, 1),
        Field('surprise', 16, 7, 1), Field('model', 20, 6, 1), Field('descriptor', 24, 7, 3))
    assert (cloud.height, cloud.width, cloud.point_step, cloud.row_step) == (1, 4, 36, 144)
    x, y, z, t, surprise, model, *descriptor = struct.unpack_from('<5fI3f', cloud.data, 2 * 36)
    assert [x, y] == latents.positions[2].tolist() and z == 0 and t == latents.times[2]
    assert surprise == latents.surprise[2] and model == 0xfedcba98
    assert descriptor == latents.tokens[2].tolist()


def test_futures_have_their_horizon_in_t_and_no_surprise():
    futures = make_futures()
    cloud = encode_futures(futures)
    t, surprise = struct.unpack_from('<2f', cloud.data, cloud.row_step + 12)
    assert t == futures.horizons[1] and np.isnan(surprise)


def test_decoded_arrays_do_not_hang_on_the_message():
    cloud = encode_latents(make_latents())
    latents = decode(decode_latents, cloud)
    before = latents.tokens.copy()
    cloud.data[:] = array.array('B', bytes(len(cloud.data)))
    np.testing.assert_array_equal(latents.tokens, before)


@pytest.mark.parametrize('changes, words', [
    ({'stamp': 0}, 'expected a header stamp, found 0'),
    ({'big': True}, 'little-endian'),
    ({'height': 0}, 'at least one point'),
    ({'width': 3}, 'row step'),
    ({'point_step': 32}, 'point step of 36'),
    ({'row_step': 145}, 'row step'),
    ({'data': bytes(143)}, 'expected 144 bytes, found 143'),
    ({'data': b''}, 'expected 144 bytes, found 0'),
    ({'fields': ()}, 'expected the fields .* found none'),
])
def test_wrong_sizes_are_named(changes, words):
    with pytest.raises(CloudError, match=words):
        decode(decode_latents, encode_latents(make_latents()), **changes)


@pytest.mark.parametrize('change', [lambda f: f[:-1], lambda f: f[::-1],
                                    lambda f: (*f, Field('rgb', 36, 7, 1)),
                                    lambda f: (replace(f[0], datatype=8), *f[1:]),
                                    lambda f: (replace(f[0], name='u'), *f[1:]),
                                    lambda f: (*f[:-1], replace(f[-1], count=0))])
def test_other_fields_are_named(change):
    cloud = encode_latents(make_latents())
    with pytest.raises(CloudError, match='expected the fields x@0:7x1'):
        decode(decode_latents, cloud, fields=change(cloud.fields))


@pytest.mark.parametrize('field', ['tokens', 'positions', 'times'])
@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_what_is_not_finite_is_refused(field, value):
    latents = make_latents()
    getattr(latents, field)[1] = value
    with pytest.raises(CloudError, match='finite numbers in field'):
        decode(decode_latents, encode_latents(latents))


def test_surprise_may_be_unknown_but_not_infinite():
    latents = make_latents()
    latents.surprise[:] = np.nan
    assert np.isnan(decode(decode_latents, encode_latents(latents)).surprise).all()
    latents.surprise[1] = np.inf
    with pytest.raises(CloudError, match="'surprise', found infinity"):
        decode(decode_latents, encode_latents(latents))


def test_latents_from_the_future_and_futures_from_the_past_are_refused():
    with pytest.raises(CloudError, match='in one row, found 2'):
        decode(decode_latents, encode_futures(make_futures()))
    with pytest.raises(CloudError, match='at or before their stamp'):
        decode(decode_latents, encode_futures(make_futures(1)))
    with pytest.raises(CloudError, match='positive and ascending'):
        decode(decode_futures, encode_latents(make_latents()))
    descending = replace(make_futures(), horizons=np.array([0.2, 0.1], np.float32))
    with pytest.raises(CloudError, match='positive and ascending, found 0.2, 0.1 s'):
        decode(decode_futures, encode_futures(descending))


def test_one_model_and_one_place_per_token():
    cloud = encode_futures(make_futures())
    struct.pack_into('<I', cloud.data, 20 + 36, 5)
    with pytest.raises(CloudError, match='one model'):
        decode(decode_futures, cloud)
    cloud = encode_futures(make_futures())
    struct.pack_into('<f', cloud.data, cloud.row_step, 0.5)
    with pytest.raises(CloudError, match="another in field 'x'"):
        decode(decode_futures, cloud)


@given(data=st.binary(min_size=36 * 4, max_size=36 * 4), futures=st.booleans())
def test_any_bytes_decode_or_raise_cloud_error(data, futures):
    cloud = encode_latents(make_latents())
    function = decode_futures if futures else decode_latents
    try:
        decoded = decode(function, cloud, data=data)
    except CloudError:
        return
    assert np.isfinite(decoded.tokens).all()
