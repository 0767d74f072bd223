# SPDX-License-Identifier: Apache-2.0
"""A pair of tiny bundles, tiny recordings, and a configuration of both."""

import dataclasses

import pytest
from bundles import make_bundle
from recorded import CAMERA, camera, write_bag

from jepa_ros.evaluation.audit import audit as module
from jepa_ros.evaluation.audit.audit import Place
from jepa_ros.evaluation.audit.config import (
    Config,
    Cost,
    Data,
    Gain,
    Loss,
    Rule,
    Side,
    Timing,
)
from jepa_ros.evaluation.audit.costs import Costs
from jepa_ros.evaluation.probes.tracks import load_splits

RULE = Rule(
    temporal=[Gain('action_anticipation', 0.02)],
    static=[Loss('depth', 0.05)],
    cost=Cost(inference=3.0),
)


@pytest.fixture(scope='session')
def pair(tmp_path_factory):
    """Directories of an image and a video bundle."""
    folder = tmp_path_factory.mktemp('pair')
    return [
        make_bundle(folder / name, mode, (32, 48), name=name)
        for name, mode in (('tiny_ijepa', 'frame'), ('tiny_vjepa', 'stream'))
    ]


@pytest.fixture(scope='session')
def recordings(tmp_path_factory):
    """A folder with `train`, `val` and `heldout`, two bags of a good second in each."""
    folder = tmp_path_factory.mktemp('recordings')
    for number, split in enumerate(('train', 'val', 'heldout')):
        for run in (0, 1):
            # The fingerprint of a recording is that of its bytes: no two are alike.
            write_bag(folder / split / f'{split}_{run}', {CAMERA: camera(38 + 2 * number + run)})
    return folder


@pytest.fixture(scope='session')
def opened(recordings):
    """The recordings, opened."""
    return load_splits(*([recordings / name] for name in ('train', 'val', 'heldout')))


@pytest.fixture
def timed(monkeypatch):
    """Costs that do not depend on what else the machine does: video takes twice the time of image."""

    def measure(bundles, *_):
        return [
            Costs(bundle.manifest.mode, 'planted', 1, 0.05, [ms] * 3, [1.0] * 3, [ms / 50] * 3, 100.0, None)
            for bundle, ms in zip(bundles, (3.0, 7.0))
        ]

    monkeypatch.setattr(module.costs, 'measure', measure)


@pytest.fixture
def config(pair):
    image, video = map(str, pair)
    return Config(
        name='tiny',
        split='held_out_tiny_sequences',
        image=Side(image),
        video=Side(video),
        data=Data(['train'], ['val'], ['heldout']),
        rule=RULE,
        timing=Timing(rounds=3, seconds=0.2, threads=1),
    )


@pytest.fixture
def place(tmp_path, recordings):
    return Place(tmp_path / 'tiny', [recordings], tmp_path / 'cache', tmp_path / 'held_out.yaml')


@pytest.fixture
def with_rule(config):
    """Returns the configuration with a rule that differs in some values."""
    return lambda **values: dataclasses.replace(config, rule=dataclasses.replace(config.rule, **values))
