# SPDX-License-Identifier: Apache-2.0
"""``jepa info`` tells what a bundle is."""

import argparse
import dataclasses
import json
import os

import pytest
from bundles import make_bundle

from jepa_ros.engine import command
from jepa_ros.engine.bundle import read_manifest, write_manifest
from jepa_ros.engine.manifest import BundleError


def info(*arguments):
    parser = argparse.ArgumentParser()
    command.configure(parser)
    return command.run(parser.parse_args([str(a) for a in arguments]))


@pytest.mark.parametrize('mode', ['frame', 'clip', 'stream'])
def test_the_table_tells_what_it_is_and_needs(tmp_path, capsys, mode):
    path = make_bundle(tmp_path / 'bundle', mode)
    manifest = read_manifest(path)
    write_manifest(path, dataclasses.replace(manifest, metrics={'skill': {'0.1 s': 0.4321}},
                                             parity={'tokens': 3e-6}))
    assert info(path) == 0
    out = capsys.readouterr().out
    for words in (f'tiny_{mode}', 'any of 0.1..0.5 s', '6x8 tokens of 16', 'handle (image_point)',
                  'Apache-2.0', '128x96', 'one every 50 ms', 'skill.0.1 s', '0.4321', '3e-06'):
        assert words in out
    assert ('4 slices, 0.4 s' in out) == (mode == 'stream')


def test_what_a_bundle_lacks_is_said(tmp_path, capsys):
    info(make_bundle(tmp_path / 'bundle', 'frame', forecaster=False))
    assert 'futures    none' in capsys.readouterr().out


def test_discrete_horizons(tmp_path, capsys):
    info(make_bundle(tmp_path / 'bundle', horizons={'kind': 'discrete', 'values': [0.2, 0.4]}))
    assert '0.2, 0.4 s, from 3 slices' in ' '.join(capsys.readouterr().out.split())


def test_text_of_the_manifest_is_not_markup(tmp_path, capsys):
    info(make_bundle(tmp_path / 'bundle', name='[red]tiny[/]'))
    assert '[red]tiny[/]' in capsys.readouterr().out


def test_json(tmp_path, capsys):
    path = make_bundle(tmp_path / 'bundle')
    info(path, '--json')
    assert json.loads(capsys.readouterr().out) == read_manifest(path).to_dict()


def test_a_damaged_bundle_is_an_error(tmp_path):
    path = make_bundle(tmp_path / 'bundle')
    os.truncate(path / 'encoder.onnx', 5)
    with pytest.raises(BundleError, match='encoder.onnx'):
        info(path)


def test_how_near_the_graphs_are_is_told_with_what_it_was_measured_on(tmp_path, capsys):
    path = make_bundle(tmp_path / 'bundle')
    write_manifest(path, dataclasses.replace(
        read_manifest(path), parity={'encoder.tokens': 2e-3, 'readout.cov': 1e-4},
        cosine={'encoder.tokens': 0.99991}, parity_inputs='12 windows of cups'))
    info(path)
    out = ' '.join(capsys.readouterr().out.split())
    assert 'on 12 windows of cups encoder.tokens max abs error 0.002, mean cosine similarity 0.9999100' in out
    assert 'readout.cov max abs error 0.0001 ' in out and 'token grid 4x6x8 = 192 tokens a window' in out
