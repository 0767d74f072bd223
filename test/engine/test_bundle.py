# SPDX-License-Identifier: Apache-2.0
"""Loading checks all of a bundle and names what is wrong with it."""

import dataclasses
import os

import pytest
from bundles import make_bundle

import jepa_ros.engine.bundle as bundles_module
from jepa_ros.engine.bundle import Bundle, file_sha256, read_manifest, write_manifest
from jepa_ros.engine.manifest import BundleError
from jepa_ros.errors import JepaError


@pytest.fixture
def path(tmp_path):
    return make_bundle(tmp_path / 'bundle')


def test_a_good_bundle(path):
    bundle = Bundle.load(str(path))
    assert bundle.path == path and bundle.manifest.name == 'tiny_stream'
    assert bundle.model_id == Bundle.load(path).model_id == bundle.manifest.model_id()
    assert [p.name for p in (bundle.encoder, bundle.forecaster, bundle.readout)] == [
        'encoder.onnx', 'forecaster.onnx', 'readout.onnx']


def test_optional_graphs(tmp_path):
    bundle = Bundle.load(make_bundle(tmp_path / 'bundle', forecaster=False))
    assert bundle.forecaster is None and bundle.readout is None


def test_the_same_bundle_made_twice_is_the_same_model(path, tmp_path):
    assert Bundle.load(make_bundle(tmp_path / 'again')).model_id == Bundle.load(path).model_id
    assert Bundle.load(make_bundle(tmp_path / 'other', seed=1)).model_id != Bundle.load(path).model_id


def test_a_damaged_file_is_named(path):
    data = bytearray((path / 'forecaster.onnx').read_bytes())
    data[len(data) // 2] ^= 1
    (path / 'forecaster.onnx').write_bytes(data)
    with pytest.raises(BundleError, match=r'forecaster.onnx: expected sha256 \w{64}, found \w{64}'):
        Bundle.load(path)


def test_a_truncated_file_is_named(path):
    os.truncate(path / 'encoder.onnx', 100)
    with pytest.raises(BundleError, match='encoder.onnx: expected sha256'):
        Bundle.load(path)


def test_a_missing_file_is_named(path):
    (path / 'readout.onnx').unlink()
    with pytest.raises(BundleError, match='readout.onnx: expected a file .* found none'):
        Bundle.load(path)


def test_a_foreign_file_is_named(path):
    (path / 'action_forecaster.onnx').touch()
    with pytest.raises(BundleError, match='only the files .* found also action_forecaster.onnx'):
        Bundle.load(path)


def test_caches_and_hidden_files_are_left_alone(path):
    (path / 'plans').mkdir()
    (path / 'plans' / 'encoder.plan').touch()
    (path / '.directory').touch()
    Bundle.load(path)


def test_a_foreign_directory_is_named(tmp_path):
    with pytest.raises(BundleError, match='expected an engine bundle with manifest.yaml, found none in'):
        Bundle.load(tmp_path)


def test_a_file_is_no_bundle(path):
    with pytest.raises(BundleError, match='expected an engine bundle'):
        Bundle.load(path / 'encoder.onnx')


def test_nothing_there(tmp_path):
    with pytest.raises(JepaError, match='expected an engine bundle'):
        Bundle.load(tmp_path / 'nothing')


@pytest.mark.parametrize('text, words', [
    ('{', 'manifest.yaml: expected YAML, found'),
    ('', 'manifest.yaml: expected a mapping for the manifest'),
    ('format: 7', 'manifest.yaml: expected format 1 in the manifest, found 7'),
    ('!!python/object/apply:os.system ["true"]', 'expected YAML, found could not determine a constructor'),
    ('name: \x00', 'expected YAML'),
])
def test_a_wrong_manifest_is_named(path, text, words):
    (path / 'manifest.yaml').write_text(text)
    with pytest.raises(BundleError, match=words):
        Bundle.load(path)


def test_a_manifest_that_is_no_text_is_named(path):
    (path / 'manifest.yaml').write_bytes(b'\xff\xfe\x80')
    with pytest.raises(BundleError, match='manifest.yaml: expected YAML'):
        Bundle.load(path)


def test_what_is_written_can_be_read(path):
    manifest = dataclasses.replace(read_manifest(path), name='Stetigförderer', parity={'tokens': 1e-07})
    write_manifest(path, manifest)
    assert read_manifest(path) == manifest
    assert (path / 'manifest.yaml').stat().st_mode & 0o777 == 0o644


def test_only_a_bundle_that_can_be_loaded_is_written(path):
    before = (path / 'manifest.yaml').read_bytes()
    manifest = read_manifest(path)
    with pytest.raises(BundleError, match='for patch'):
        write_manifest(path, dataclasses.replace(manifest, patch=0))
    with pytest.raises(BundleError, match='expected sha256'):
        files = {**manifest.files, 'encoder.onnx': 'f' * 64}
        write_manifest(path, dataclasses.replace(manifest, files=files))
    assert (path / 'manifest.yaml').read_bytes() == before


def test_a_write_that_fails_leaves_the_old_manifest(path, monkeypatch):
    before = (path / 'manifest.yaml').read_bytes()

    def fail(*arguments):
        raise OSError('disk full')

    monkeypatch.setattr(bundles_module.os, 'replace', fail)
    with pytest.raises(OSError, match='disk full'):
        write_manifest(path, read_manifest(path))
    assert (path / 'manifest.yaml').read_bytes() == before
    assert len(list(path.iterdir())) == 4  # no temporary file stays


def test_hash_of_a_file(tmp_path):
    (tmp_path / 'file').write_bytes(b'abc')
    assert file_sha256(tmp_path / 'file').startswith('ba7816bf8f01cfea')


def test_a_promoted_bundle_that_is_not_the_audited_one_is_named(path, tmp_path):
    pointer = tmp_path / 'promoted'
    said = f'bundle: {path}\nmodel_id: %d\naudit: a\naudit_sha256: b\ndate: c\n'
    model_id = Bundle.load(path).model_id
    pointer.write_text(said % model_id)
    assert Bundle.load(pointer).path == path
    pointer.write_text(said % (model_id ^ 1))
    with pytest.raises(BundleError, match=f'expected model {model_id ^ 1:08x}, .* found {model_id:08x}'):
        Bundle.load(pointer)
