# SPDX-License-Identifier: Apache-2.0
"""A whole audit with nothing planted: tiny bundles, tiny labelled bags, the probes as they are."""

import dataclasses

import pytest
from recorded import CAMERA, START_NS, STEP_NS, camera, write_bag
from rosbags.typesys import Stores, get_typestore

from jepa_ros.evaluation.audit.audit import Place, audit
from jepa_ros.evaluation.audit.config import Gain, Loss, Rule
from jepa_ros.evaluation.audit.report import render
from jepa_ros.evaluation.probes.settings import Settings

pytest.importorskip('torch', reason='the heads of probes are trained with PyTorch')
SETTINGS = Settings(
    span=0.4, slices=4, coarse=(1, 2), fine=(2, 3), stride=0.2, reach=0.1, steps=4, rates=(1e-2,), decays=(0.01,)
)  # fmt: skip


@pytest.fixture(scope='module')
def labelled(tmp_path_factory):
    """A folder with `train`, `val` and `heldout`: two bags in each, in which the number of bins changes."""
    integer = get_typestore(Stores.ROS2_HUMBLE).types['std_msgs/msg/Int32']
    folder = tmp_path_factory.mktemp('labelled')
    for number, split in enumerate(('train', 'val', 'heldout')):
        for run in (0, 1):
            count = 38 + 2 * number + run
            bins = [(START_NS + i * STEP_NS, integer(data=1 + i // 6 % 2)) for i in range(count)]
            write_bag(folder / split / f'{split}_{run}', {CAMERA: camera(count), '/sim/bins': bins})
    return folder


@pytest.fixture
def run(config, labelled, timed, tmp_path):
    def run(**values):
        rule = Rule([Gain('temporal_ordering', 0.02)], [Loss('counting', 0.03)])
        chosen = dataclasses.replace(config, rule=rule, probes=SETTINGS, **values)
        return audit(chosen, 'abc', Place(tmp_path / 'out', [labelled], tmp_path / 'cache', tmp_path / 'ledger.yaml'))

    return run


def test_a_real_audit_of_little_data_is_pending_with_all_its_evidence(run):
    record = run()
    assert record.accepted_winner == 'pending' and record.probe_task == 'temporal_ordering'
    probes = record.evidence['probes']
    assert list(probes) == ['temporal_ordering', 'counting']
    for sides in probes.values():
        assert list(sides) == ['image', 'video']
        image, video = sides.values()
        assert image['held_out']['touched'] == video['held_out']['touched'] == 1
        assert image['scores']['sequences'] == video['scores']['sequences'] == ['heldout_0', 'heldout_1']
        assert {'permuted', 'raw'} <= set(image['controls']) and {'light', 'texture', 'sensor'} <= set(image['noise'])
    assert record.evidence['held_out']['touched']
    page = render(record)
    assert 'temporal_ordering (temporal)' in page and 'counting (static)' in page


def test_the_same_encoder_against_itself_is_pending(run, config):
    record = run(video=config.image)
    assert record.accepted_winner == 'pending'
    assert record.evidence['decision']['reasons'] == [
        'both bundles hold the same encoder, which cannot win against itself'
    ]
    same = [side['scores']['value'] for side in record.evidence['probes']['counting'].values()]
    assert same[0] == same[1], 'nothing but the encoder makes a difference'
