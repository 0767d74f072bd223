# SPDX-License-Identifier: Apache-2.0
"""The whole suite on tiny bundles and real bags."""

import logging
from dataclasses import replace

import pytest

pytest.importorskip('torch', reason='torch is not installed (the train extra)')

from planted import SETTINGS  # noqa: E402

from jepa_ros.evaluation.probes import suite  # noqa: E402
from jepa_ros.evaluation.probes.probe import ClassProbe, ProbeError  # noqa: E402
from jepa_ros.evaluation.probes.scores import difference  # noqa: E402
from jepa_ros.evaluation.probes.temporal import ActionAnticipation  # noqa: E402
from jepa_ros.evaluation.probes.tracks import Splits, load_splits  # noqa: E402

QUICK = replace(SETTINGS, steps=8)  # what heads find is for test_trial.py


class Way(ClassProbe):
    """Where the square goes: no single frame tells."""

    name, task, metric = 'way', 'where does it go', 'share told right'
    told = ()

    def labels(self, track, at, settings):
        if 'held_out' in str(track.path):
            assert any(what.startswith('heads: way, control') for what in self.told)
        return track.classes('/way')[at]


@pytest.fixture(scope='module')
def splits(moving):
    return load_splits([moving / 'train'], [moving / 'validation'], [moving / 'held_out'])


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp('cache')


@pytest.fixture(scope='module')
def video(tiny, splits, cache):
    """Results and what was told of a run on a video encoder."""
    told, probe = [], Way()
    probe.told = told
    found = suite.run(
        tiny, splits, [probe, 'temporal_ordering', 'depth'], QUICK, cache, lambda what, *_: told.append(what)
    )
    return found, told


def test_held_out_is_read_and_encoded_after_all_choices(video):
    """`Way.labels` asserts it for the labels."""
    found, told = video
    heads = max(i for i, what in enumerate(told) if what.startswith('heads'))
    assert min(i for i, what in enumerate(told) if 'held-out' in what) > heads
    touched = found['way'].held_out
    assert touched.split == 'held-out' and touched.sequences == 6 and touched.touched == 1
    assert touched.choices == found['temporal_ordering'].held_out.choices


def test_what_has_no_labels_is_left_out(video):
    assert video[0].keys() == {'way', 'temporal_ordering'}


def test_evidence_is_complete(video):
    result = video[0]['way']
    assert result.controls.keys() == {
        'shuffled',
        'last',
        'permuted',
        'raw',
    }  # tiny bundles say no architecture
    assert result.noise.keys() == {'light', 'texture', 'sensor'} and result.linear is not None
    assert result.clips['held_out'] == result.scores.clips > 0 and result.sequences['train'] == 10
    assert result.chance.value() == 0.5 and result.mode == 'stream'
    ordering = video[0]['temporal_ordering']
    assert ordering.controls['last'].value() == 0.5  # the same picture for both answers
    assert ordering.clips['train'] == 2 * result.clips['train']


def test_two_encoders_are_judged_on_the_same_clips(video, tiny_frame, splits, cache):
    probe = Way()
    probe.told = ['heads: way, control']
    image = suite.run(tiny_frame, splits, [probe], QUICK, cache)['way']
    assert difference(video[0]['way'].scores, image.scores).sequences == 6
    assert image.clips == video[0]['way'].clips and image.mode == 'frame'


def test_the_same_run_gives_the_same_numbers_from_the_cache(video, tiny, splits, cache, monkeypatch):
    monkeypatch.setattr(suite.FeatureStore, '_compute', None)
    probe = Way()
    probe.told = ['heads: way, control']
    again = suite.run(tiny, splits, [probe, 'temporal_ordering'], QUICK, cache)
    for name, result in again.items():
        assert result.scores.to_dict() == video[0][name].scores.to_dict()
        assert result.held_out.choices == video[0][name].held_out.choices


def test_without_held_out_recordings_validation_is_judged_and_said(tiny_frame, splits, cache):
    probe = Way()
    result = suite.run(tiny_frame, Splits(splits.train, splits.validation), [probe], QUICK, cache)['way']
    assert result.held_out.split == 'validation' and result.scores.value() == result.choice.score


def test_what_cannot_be_probed_is_told(tiny_frame, splits, cache, caplog):
    with pytest.raises(ProbeError, match='with labels for depth, found none'), caplog.at_level(logging.INFO):
        suite.run(tiny_frame, splits, ['depth'], QUICK, cache)
    assert 'depth is left out' in caplog.text and '/camera/depth/image_raw/compressedDepth' in caplog.text
    with pytest.raises(ProbeError, match='go on for 0.5 s .* action_anticipation, found a reach of 0.3 s'):
        suite.run(tiny_frame, splits, [ActionAnticipation()], QUICK, cache)
