# SPDX-License-Identifier: Apache-2.0
"""The configuration: what is wrong is named with what would be right."""

from pathlib import Path

import pytest
import yaml

from jepa_ros.errors import JepaError
from jepa_ros.training import config as configuration

SHIPPED = sorted((Path(__file__).parents[2] / 'config' / 'train').glob('*.yaml'))


@pytest.mark.parametrize('path', SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_configuration_is_valid(path):
    assert configuration.load(path).encoder.image_size[0] > 0


@pytest.mark.parametrize('values, message', [
    ({'pretrain': {'steps': 3}}, 'unknown configuration key pretrain, nearest is pretraining'),
    ({'heads': {'step': 3}}, 'unknown configuration key heads.step, nearest is heads.steps'),
    ({'heads': {'steps': 2.5}}, 'heads.steps takes int, found 2.5'),
    ({'heads': {'steps': True}}, 'heads.steps takes int, found True'),
    ({'data': {'train': 'videos'}}, "data.train takes .*list.*found 'videos'"),
    ({'data': {'crop': [0.5, 'all']}}, "data.crop takes float, found 'all'"),
    ({'data': {'train': ['a', 'b'], 'weights': [1.0]}}, 'one number for each entry of data.train .2.'),
    ({'data': {'train': ['a', 'b'], 'weights': [0.0, 0.0]}}, 'not all 0'),
    ({'encoder': 3}, 'encoder. must be a table of keys, found 3'),
    ({'data': {'slices': 4}}, 'data.slices .4. must hold forecaster.context'),
    ({'encoder': {'window': 0}}, 'would read latents that have seen the future'),
    ({'readout': {'name': 'handle'}}, "readout.name must be a key of data.labels .*found 'handle'"),
])
def test_a_wrong_key_or_value_is_named(values, message):
    with pytest.raises(JepaError, match=message):
        configuration.from_dict(values)


def test_overrides_and_round_trip(tmp_path, values):
    path = tmp_path / 'run.yaml'
    path.write_text(yaml.safe_dump(values))
    config = configuration.load(path, ['heads.steps=9', 'data.stretch=[1.0, 1.2]'])
    assert config.heads.steps == 9 and config.data.stretch == [1.0, 1.2]
    assert configuration.from_dict(configuration.to_dict(config)) == config
    with pytest.raises(JepaError, match="--set takes section.key=value, found 'heads.steps'"):
        configuration.load(path, ['heads.steps'])


def test_the_reference_names_every_key_once():
    lines = configuration.reference()
    names = [line.split()[0] for line in lines]
    assert len(names) == len(set(names)) and 'heads.rate' in names and 'data.train' in names
    assert all(len(line.split()) > 3 for line in lines)


def test_an_unreadable_file_is_one_sentence(tmp_path):
    with pytest.raises(JepaError, match='cannot read the configuration'):
        configuration.load(tmp_path / 'none.yaml')
