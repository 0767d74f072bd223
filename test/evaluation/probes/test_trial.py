# SPDX-License-Identifier: Apache-2.0
"""One probe on planted features: what is called temporal, and what the choices never see."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')

from planted import SETTINGS, PlantedStore, Up, track  # noqa: E402

from jepa_ros.evaluation.probes.result import HeldOut, ProbeResult  # noqa: E402
from jepa_ros.evaluation.probes.samples import read_labels  # noqa: E402
from jepa_ros.evaluation.probes.trial import Trial  # noqa: E402

BUNDLE = SimpleNamespace(manifest=SimpleNamespace(name='planted', mode='stream'), model_id=7)
COUNTS = {'train': 24, 'validation': 8, 'held_out': 16}


def a_trial(probe, still=False, settings=SETTINGS, raw=True):
    stores = {'': PlantedStore(settings, still)}
    if raw:
        stores['raw'] = PlantedStore(settings, still)
    trial = Trial(probe, stores, settings)
    for split, count in COUNTS.items():
        tracks = [track(f'{split}{number}') for number in range(count)]
        trial.labels[split] = read_labels(probe, tracks, settings)
    return trial, stores['']


def judged(trial) -> ProbeResult:
    fitted = list(trial.choose())
    assert len(fitted) == trial.fits
    return trial.judge(BUNDLE, 'held_out', HeldOut('held-out', 16, 1, 'now', 'abc'))


@pytest.fixture(scope='module')
def temporal():
    """The result of a task that needs order."""
    return judged(a_trial(Up())[0])


@pytest.fixture(scope='module')
def still():
    """The result of a task that one slice solves."""
    return judged(a_trial(Up(), still=True)[0])


def test_a_task_that_needs_order_is_called_temporal(temporal):
    assert temporal.scores.value() > 0.9 and temporal.linear.value() > 0.9
    assert temporal.controls['shuffled'].value() < 0.7 and temporal.controls['last'].value() < 0.7
    assert temporal.verdict == 'temporal'
    assert min(gain.low for gain in temporal.margins.values()) > 0
    assert temporal.noise.keys() == {'light', 'texture', 'sensor'}


def test_a_task_that_one_slice_solves_is_called_not_temporal(still):
    assert still.scores.value() > 0.95 and still.controls['last'].value() > 0.95
    assert still.verdict == 'not temporal'


def test_permuted_labels_give_chance(still):
    low, high = still.controls['permuted'].interval(0.99)
    assert low < 0.5 < high and still.chance.value() == 0.5


class Poisoned(Up):
    """Lies about what is held out."""

    def labels(self, track, at, settings):
        true = super().labels(track, at, settings)
        if track.name.startswith('held_out'):
            return np.where(true == 'up', 'down', 'up')
        return true


def test_choices_see_nothing_of_what_is_held_out():
    settings = replace(SETTINGS, rates=(1e-4, 3e-2))
    honest, store = a_trial(Up(), settings=settings)
    list(honest.choose())
    assert not [name for name, _ in store.loaded if name.startswith('held_out')]
    poisoned, _ = a_trial(Poisoned(), settings=settings)
    result = judged(poisoned)
    assert poisoned.choices == honest.choices and result.choice.rate == 3e-2
    assert len(result.choice.tried) == 2 and result.choice.score > 0.9 > 0.2 > result.scores.value()


def test_a_control_whose_baseline_is_missing_is_left_out(temporal):
    assert temporal.controls.keys() == {'shuffled', 'last', 'permuted', 'raw'}


def test_its_result_survives_a_file(temporal):
    again = ProbeResult.from_dict(json.loads(json.dumps(temporal.to_dict())))
    assert again.to_dict() == temporal.to_dict() and again.scores.interval() == temporal.scores.interval()


def test_what_cannot_be_answered_is_told():
    trial, _ = a_trial(Up())
    assert trial.answerable('validation')
    trial.labels['validation'] = read_labels(Up(), [], SETTINGS)
    assert not trial.answerable('validation')
