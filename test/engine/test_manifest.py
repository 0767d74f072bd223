# SPDX-License-Identifier: Apache-2.0
"""Every wrong key of a manifest is named."""

import copy
import json

import pytest
import yaml
from bundles import make_bundle
from hypothesis import given
from hypothesis import strategies as st

from jepa_ros.engine.manifest import BundleError, Manifest


@pytest.fixture(scope='module')
def manifests(tmp_path_factory):
    """The manifests of tiny bundles, by mode, as YAML gives them."""
    found = {}
    for mode in ('frame', 'clip', 'stream'):
        path = make_bundle(tmp_path_factory.mktemp(mode) / 'bundle', mode)
        found[mode] = yaml.safe_load((path / 'manifest.yaml').read_text())
    return found


def changed(data, key, value):
    """Return a copy of ``data`` with one dotted key set, or removed if ``value`` is Ellipsis."""
    data = copy.deepcopy(data)
    *sections, last = key.split('.')
    target = data
    for name in sections:
        target = target[name]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return data


@pytest.mark.parametrize('mode', ['frame', 'clip', 'stream'])
def test_there_and_back(manifests, mode):
    manifest = Manifest.from_dict(manifests[mode])
    assert manifest.to_dict() == manifests[mode]
    assert Manifest.from_dict(json.loads(json.dumps(manifest.to_dict()))) == manifest


def test_properties(manifests):
    manifest = Manifest.from_dict(manifests['stream'])
    assert manifest.tokens == 48 and manifest.slice_period == pytest.approx(0.1)


def test_model_id_follows_every_value(manifests):
    data = manifests['stream']
    ids = {Manifest.from_dict(d).model_id() for d in (
        data, changed(data, 'name', 'other'), changed(data, 'metrics', {'skill': 0.5}),
        changed(data, 'files', {**data['files'], 'encoder.onnx': 'a' * 64}))}
    assert len(ids) == 4 and all(0 <= number < 2 ** 32 for number in ids)
    assert Manifest.from_dict(copy.deepcopy(data)).model_id() == Manifest.from_dict(data).model_id()


WRONG = [
    # missing, unknown, of a wrong type
    ('name', ..., 'expected a value for name .* found none'),
    ('stream.slices', ..., 'expected a value for stream.slices .* found none'),
    ('colour', 'red', 'expected no other keys than format, .* in the manifest, found colour'),
    ('stream.width', 3, 'in stream, found width'),
    ('name', 3, 'expected text for name .* found 3'),
    ('patch', '16', "expected a whole number for patch .* found '16'"),
    ('patch', 16.0, 'expected a whole number for patch .* found 16.0'),
    ('patch', True, 'expected a whole number for patch .* found True'),
    ('frame_period', '50 ms', "expected a number for frame_period .* found '50 ms'"),
    ('frame_period', float('nan'), 'expected a number for frame_period .* found nan'),
    ('image_size', 96, 'expected a list of 2 for image_size .* found 96'),
    ('image_size', [96], 'expected a list of 2'),
    ('image_size', [96, 'x'], r'expected a whole number for image_size\[1\]'),
    ('stream', [], 'expected a mapping for stream'),
    ('files', ['encoder.onnx'], 'expected a mapping for files'),
    ('files', {'encoder.onnx': 7}, 'expected text for files.encoder.onnx'),
    ('metrics', {'skill': {'0.1': float('inf')}}, 'finite number.* for metrics.skill.0.1 .* found inf'),
    ('training', {'seen': {1: 'x'}}, 'expected text for training.seen .* found 1'),
    ('training', {'date': object()}, 'for training.date'),
    # possible, but not this
    ('format', 2, 'expected format 1 .* found 2: the bundle was written by another version'),
    ('name', '', 'expected a name for name'),
    ('family', 'dino', "one of ijepa, vjepa, vjepa2, vjepa2.1 for family .* found 'dino'"),
    ('mode', 'batch', 'one of frame, clip, stream for mode'),
    ('precision', 'fp8', 'for precision'),
    ('output_norm', 'batch_norm', 'for output_norm'),
    ('patch', 0, 'a number above 0 for patch'),
    ('frame_period', -0.05, 'a number above 0 for frame_period'),
    ('latent_dim', 0, 'a number above 0 for latent_dim'),
    ('grid', [6, 6], r'expected \[6, 8\], image_size over patch for grid .* found \[6, 6\]'),
    ('image_size', [100, 128], 'multiples of the patch 16 for image_size'),
    ('normalisation.mean', [0.5], 'expected 3 numbers for normalisation.mean'),
    ('frames', 4, 'expected 2 in mode stream for frames .* found 4'),
    ('mode', 'clip', 'expected none in mode clip for stream'),
    ('stream', None, 'expected a section in mode stream for stream'),
    ('stream.slices', 1, 'at least 2 for stream.slices'),
    ('stream.heads', 0, 'above 0 for stream.heads'),
    ('stream.frequencies', [1.0] * 5, 'at most half of head_dim 8 for stream.frequencies .* 5 of them'),
    ('stream.frequencies', [], 'at least one'),
    ('forecaster.context', 0, 'above 0 for forecaster.context'),
    ('forecaster.horizons.kind', 'some', 'one of continuous, discrete for forecaster.horizons.kind'),
    ('forecaster.horizons.kind', 'discrete', 'none for kind discrete'),
    ('forecaster.horizons.values', [0.1], 'none for kind continuous'),
    ('forecaster.horizons.default', None, 'a value for kind continuous for forecaster.horizons.default'),
    ('forecaster.horizons.default', [], 'ascending positive times'),
    ('forecaster.horizons.default', [0.2, 0.1], 'ascending positive times within min..max'),
    ('forecaster.horizons.default', [0.1, 0.6], 'within min..max'),
    ('forecaster.horizons.min', 0.0, 'for forecaster.horizons.min'),
    ('forecaster.horizons.min', 0.6, r'a time in 0..max \(0.5 s\)'),
    ('forecaster', None, 'expected none without a forecaster for readout'),
    ('readout', None, 'expected none for files.readout.onnx .* found one'),
    ('readout.publish', 'pooled', 'one of dense, grid for readout.publish'),
    ('readout.quantity', 'pose', 'one of image_point for readout.quantity'),
    ('readout.offsets', ['foot'], r'attributes of length 2 \(not foot\) for readout.offsets'),
    ('weights.which', 'student', 'one of encoder, target_encoder, ema_encoder for weights.which'),
    ('weights.sha256', 'abc', '64 hexadecimal digits of a sha256 for weights.sha256'),
    ('files', {}, 'expected an entry for files.encoder.onnx .* found none'),
]


@pytest.mark.parametrize('key, value, words', WRONG, ids=[f'{key}={value!r:.20}' for key, value, _ in WRONG])
def test_what_is_wrong_is_named(manifests, key, value, words):
    with pytest.raises(BundleError, match=words):
        Manifest.from_dict(changed(manifests['stream'], key, value))


@pytest.mark.parametrize('name', ['../secret', 'a/b', '..', '', 'manifest.yaml', 'a\\b'])
def test_files_are_plain_names(manifests, name):
    files = {**manifests['stream']['files'], name: '0' * 64}
    with pytest.raises(BundleError, match='plain names of files'):
        Manifest.from_dict(changed(manifests['stream'], 'files', files))


def test_modes_have_rules_of_their_own(manifests):
    with pytest.raises(BundleError, match='1 in mode frame for frames'):
        Manifest.from_dict(changed(manifests['frame'], 'frames', 2))
    with pytest.raises(BundleError, match='1 in mode frame for tubelet'):
        Manifest.from_dict(changed(manifests['frame'], 'tubelet', 2))
    with pytest.raises(BundleError, match='a multiple of the tubelet 2 for frames'):
        Manifest.from_dict(changed(manifests['clip'], 'frames', 7))
    with pytest.raises(BundleError, match='at most 4, the slices of a clip for forecaster.context'):
        Manifest.from_dict(changed(manifests['clip'], 'forecaster.context', 5))


def test_discrete_horizons(manifests):
    values = {'kind': 'discrete', 'values': [0.5, 1]}
    manifest = Manifest.from_dict(changed(manifests['clip'], 'forecaster.horizons', values))
    assert manifest.forecaster.horizons.values == (0.5, 1.0)
    with pytest.raises(BundleError, match='ascending positive times for forecaster.horizons.values'):
        Manifest.from_dict(changed(manifests['clip'], 'forecaster.horizons', {**values, 'values': [0, 1]}))


def test_a_readout_needs_two_rows_and_columns(tmp_path):
    with pytest.raises(BundleError, match='at least 2 rows and 2 columns with a readout for grid'):
        make_bundle(tmp_path / 'bundle', size=(16, 128))


@pytest.mark.parametrize('data', [None, [], 'text', 3])
def test_a_manifest_is_a_mapping(data):
    with pytest.raises(BundleError, match='expected a mapping for the manifest'):
        Manifest.from_dict(data)


JSON = st.recursive(st.none() | st.booleans() | st.integers(-2, 99) | st.floats() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner,
                                                                                max_size=3), max_leaves=5)
KEYS = ['format', 'name', 'image_size', 'patch', 'tubelet', 'grid', 'frames', 'normalisation',
        'normalisation.std', 'stream', 'stream.slices', 'stream.frequencies', 'forecaster',
        'forecaster.horizons',
        'forecaster.horizons.default', 'readout', 'weights', 'files', 'training', 'metrics', 'parity']


@given(key=st.sampled_from(KEYS), value=JSON)
def test_any_value_is_accepted_or_named(manifests, key, value):
    try:
        manifest = Manifest.from_dict(changed(manifests['stream'], key, value))
    except BundleError as error:
        assert 'expected' in str(error) and 'found' in str(error)
    else:
        assert Manifest.from_dict(manifest.to_dict()) == manifest
