# SPDX-License-Identifier: Apache-2.0
"""Finding the package's own files in a source tree and in installations."""

import sys
from pathlib import Path

import pytest

import jepa_ros.paths as paths
from jepa_ros.errors import JepaError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def share(tmp_path, monkeypatch):
    """A share directory with one bundle, one configuration and one recording in it."""
    for name in ('models/belt/manifest.yaml', 'models/README.md', 'config/perception.yaml',
                 'recordings/belt.mp4', 'recordings/README.md'):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.setattr(paths, 'share_directory', lambda: tmp_path)
    return tmp_path


def test_the_source_tree_is_its_own_share():
    assert paths.share_directory() == ROOT


@pytest.fixture
def site(tmp_path, monkeypatch):
    """An installed module: no source tree around it, and nothing in the index or the Python prefix yet."""
    monkeypatch.setattr(paths, '__file__', str(tmp_path / 'site' / 'jepa_ros' / 'paths.py'))
    monkeypatch.setattr(sys, 'prefix', str(tmp_path / 'python'))
    monkeypatch.setenv('AMENT_PREFIX_PATH', f"{tmp_path / 'nothing'}:{tmp_path / 'workspace'}")
    return tmp_path


@pytest.mark.parametrize('prefix', ['workspace', 'python'])
def test_an_installation_is_found(site, prefix):
    share = site / prefix / 'share' / 'jepa_ros'
    share.mkdir(parents=True)
    (share / 'package.xml').touch()
    assert paths.share_directory() == share


def test_a_missing_installation_is_named(site):
    with pytest.raises(JepaError, match='expected the installed files of jepa_ros .* install'):
        paths.share_directory()


def test_by_name_or_by_path(share, tmp_path):
    assert paths.find_bundle('belt') == share / 'models' / 'belt'
    for name in ('perception', 'perception.yaml'):
        assert paths.find_config(name) == share / 'config' / 'perception.yaml'
    assert paths.find_recording('belt') == share / 'recordings' / 'belt.mp4'
    own = tmp_path / 'own'
    own.mkdir()
    assert paths.find_bundle(str(own)) == own


@pytest.mark.parametrize('find, words', [
    (paths.find_bundle, r'an engine bundle .* \(belt\), found .nothing.'),
    (paths.find_config, r'a configuration .* \(perception.yaml\)'),
    (paths.find_recording, r'a recording .* \(belt.mp4\)'),
])
def test_what_is_not_there_is_named_with_what_is(share, find, words):
    with pytest.raises(JepaError, match=words):
        find('nothing')


def test_an_empty_name_finds_nothing(share):
    with pytest.raises(JepaError, match="found ''"):
        paths.find_bundle('')


POINTER = 'format: 1\nbundle: belt\nmodel_id: 7\naudit: audit.yaml\naudit_sha256: abc\ndate: 2026-11-23\n'


def test_what_is_promoted_is_found_by_that_name_and_by_its_path(share):
    pointer = share / 'models' / 'promoted'
    pointer.write_text(POINTER)
    for name in ('promoted', pointer, str(pointer)):
        assert paths.find_bundle(name) == share / 'models' / 'belt'
    assert paths.find_promotion().model_id == 7 and paths.find_promotion('belt') is None


def test_a_default_stands_in_until_something_is_promoted(share, monkeypatch):
    monkeypatch.setattr(paths, 'DEFAULT_BUNDLE', 'belt')
    assert paths.find_promotion() is None
    assert paths.find_bundle('promoted') == share / 'models' / 'belt'


def test_a_promoted_bundle_may_lie_anywhere(share, tmp_path):
    mine = tmp_path / 'elsewhere' / 'mine'
    mine.mkdir(parents=True)
    (mine / 'manifest.yaml').touch()
    (share / 'models' / 'promoted').write_text(POINTER.replace('bundle: belt', f'bundle: {mine}'))
    assert paths.find_bundle('promoted') == mine


@pytest.mark.parametrize('text, words', [
    (POINTER.replace('belt', 'gone'), r'promoted: expected the promoted bundle .*gone, found none there'),
    ('belt', 'promoted: expected a promoted bundle as `jepa audit --promote` writes it, found'),
    (POINTER.replace('model_id: 7\n', ''), "found 'model_id'"),
    ('{', 'promoted: expected a promoted bundle'),
])
def test_a_promotion_that_dangles_or_is_none_is_named(share, text, words):
    (share / 'models' / 'promoted').write_text(text)
    with pytest.raises(JepaError, match=words):
        paths.find_bundle('promoted')
