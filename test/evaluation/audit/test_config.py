# SPDX-License-Identifier: Apache-2.0
"""A configuration says what is wrong with it, and a rule has a hash of its own."""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from jepa_ros.errors import JepaError
from jepa_ros.evaluation.audit.config import ClosedLoop, Config, build, load
from jepa_ros.evaluation.probes.catalogue import PROBES

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = ROOT / 'config' / 'audit' / 'conveyor.yaml'


@pytest.fixture
def values():
    return yaml.safe_load(SHIPPED.read_text())


@pytest.fixture
def copied():
    """The suite for a bin-picking robot, as the page offers it to be copied."""
    page = (ROOT / 'docs' / 'which_encoder.md').read_text()
    return yaml.safe_load(re.search(r'```yaml\n(name: bin_picking.*?)```', page, re.DOTALL).group(1))


def test_the_shipped_configuration_compares_a_pair_on_probes_that_there_are(values):
    config, sha256 = load(SHIPPED)
    assert (config.image.bundle, config.video.bundle) == ('conveyor_ijepa', 'conveyor_vjepa')
    assert set(config.probe_names()) <= set(PROBES) and len(config.probe_names()) == 9
    assert all(PROBES[gain.probe].temporal for gain in config.rule.temporal)
    assert not any(PROBES[loss.probe].temporal for loss in config.rule.static)
    assert len(sha256) == 64 and config == build(Config, values)


def test_the_suite_of_the_page_is_one_static_and_one_temporal_probe_with_one_head(copied):
    config = build(Config, copied)
    assert [PROBES[name].temporal for name in config.probe_names()] == [True, False]
    assert config.rule.head == 'attentive' and config.rule.tie == 'image'


@pytest.mark.parametrize(
    'path, value, words',
    [
        ('rule.temporal', [], 'expected at least one probe in rule.temporal'),
        ('rule.static', [], 'expected at least one probe in rule.temporal and in rule.static'),
        ('rule.temporal.0.minimum_gain', 0.0, "expected above 0 for 'rule.temporal.minimum_gain', found 0.0"),
        ('rule.static.0.largest_loss', -0.1, "expected from 0 for 'rule.static.largest_loss'"),
        ('rule.static.0.largest_loss', '1 cm', r"expected a number for 'rule.static\[0\].largest_loss', found 1 cm"),
        ('rule.cost.memory', 0, 'expected a ratio above 0'),
        ('rule.confidence', 1.0, 'from 0.5 to below 1'),
        ('rule.least_sequences', 1, "expected 2 or more for 'rule.least_sequences'"),
        ('rule.head', 'mlp', 'expected attentive or linear'),
        ('rule.tie', 'video', "expected image or pending for 'rule.tie', found video"),
        ('rule.temporel', [], "unknown key 'rule.temporel': did you mean 'temporal'"),
        ('timing.rounds', 1, 'expected 3 or more'),
        ('data.held_out', [], "expected recordings for 'data.held_out'"),
        ('probes', {'coarse': [3]}, "expected a list of 2 for 'probes.coarse'"),
        ('name', '../elsewhere', 'expected a name that a folder can have'),
        ('image', {'name': 'x'}, "expected a value for 'image.bundle', found none"),
    ],
)
def test_a_wrong_key_is_named_with_what_was_expected(values, tmp_path, path, value, words):
    *parents, last = path.split('.')
    inner = values
    for key in parents:
        inner = inner[int(key) if key.isdigit() else key]
    inner[last] = value
    (tmp_path / 'audit.yaml').write_text(yaml.safe_dump(values))
    with pytest.raises(JepaError, match='audit.yaml: .*' + words):
        load(tmp_path / 'audit.yaml')


@pytest.mark.parametrize('text', ['{', '- a list', ''])
def test_what_is_no_configuration_is_named(tmp_path, text):
    (tmp_path / 'audit.yaml').write_text(text)
    with pytest.raises(JepaError, match='audit.yaml: expected'):
        load(tmp_path / 'audit.yaml')


def test_the_hash_of_a_rule_changes_with_every_number_and_not_with_where_a_result_lies(values):
    rule = build(Config, values).rule
    moved = dataclasses.replace(rule, closed_loop=dataclasses.replace(rule.closed_loop, result='elsewhere'))
    assert moved.sha256() == rule.sha256()
    others = [
        dataclasses.replace(rule, closed_loop=ClosedLoop(0.1)),
        dataclasses.replace(rule, confidence=0.9),
        dataclasses.replace(rule, temporal=[dataclasses.replace(rule.temporal[0], minimum_gain=0.01)]),
    ]
    assert len({rule.sha256(), *(other.sha256() for other in others)}) == 4
