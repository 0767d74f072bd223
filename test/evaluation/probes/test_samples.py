# SPDX-License-Identifier: Apache-2.0
"""Labels and features of sequences become what a head is trained on."""

import numpy as np
import pytest
from planted import SETTINGS, PlantedStore, Recorded, track

pytest.importorskip('torch', reason='torch is not installed (the train extra)')

from jepa_ros.evaluation.probes.probe import ClassProbe, Labels, VectorProbe  # noqa: E402
from jepa_ros.evaluation.probes.samples import gather, read_labels  # noqa: E402
from jepa_ros.evaluation.probes.tracks import Source, Track  # noqa: E402

MOMENTS = 7  # of a sequence of `planted.track`


class Kinds(ClassProbe):
    name = 'kinds'

    def labels(self, track, at, settings):
        return track.classes('/kind')[at]


class Places(VectorProbe):
    """A place that is unknown at the second horizon of the first moment."""

    name, view = 'places', 'futures'

    def labels(self, track, at, settings):
        self.asked = settings.horizons
        values = np.arange(len(at), dtype=float)[:, None, None] + np.zeros((1, len(settings.horizons), 2))
        values[0, 1] = np.nan
        groups = np.where(np.arange(len(at))[:, None] % 2, 'odd', 'even')
        return Labels(values, np.broadcast_to(groups, values.shape[:2]), {'number': values[..., 0]})


def labelled(probe, tracks, **kwargs):
    return read_labels(probe, tracks, SETTINGS, **kwargs)


def test_sequences_without_labels_are_left_out():
    kind = {'/kind': ['a'] * 20 + ['b'] * 20}
    tracks = [track('one', topics=kind), track('no topic'), track('silent', topics={'/kind': [None] * 40})]
    found = labelled(Kinds(), [*tracks, track('short', count=8, topics=kind)])
    assert [t.name for t in found.tracks] == ['one'] and found.classes() == ('a', 'b')


def test_classes_that_were_not_trained_are_left_out():
    found = labelled(Kinds(), [track('one', topics={'/kind': ['a'] * 14 + ['b'] * 12 + ['c'] * 14})])
    samples = gather(Kinds(), found, PlantedStore(), ('a', 'c'))
    assert samples.group_names == ('a', 'c') and (samples.groups == samples.labels).all()
    assert 0 < len(samples) < MOMENTS and set(samples.labels.tolist()) == {0, 1}
    assert samples.tokens.shape[:3] == (len(samples), SETTINGS.slices, 2)


def test_each_horizon_is_a_clip_of_its_own_with_the_slice_that_was_predicted():
    found = labelled(Places(), [track()])
    samples = gather(Places(), found, PlantedStore(horizons=SETTINGS.horizons), ())
    assert len(samples) == 2 * MOMENTS - 1 and samples.tokens.shape[1] == 1
    assert samples.times[:3] == pytest.approx(np.array([[0.1], [0.1], [0.2]]))  # (0, 0.2 s) is unknown
    assert samples.labels[:3, 0].tolist() == [0, 1, 1] and samples.extra['number'][:3].tolist() == [0, 1, 1]
    assert samples.group_names == ('even', 'odd') and samples.groups[:3].tolist() == [0, 1, 1]


def test_without_a_forecaster_the_past_is_offered_with_times_from_the_horizon():
    samples = gather(Places(), labelled(Places(), [track()]), PlantedStore(), ())
    assert samples.tokens.shape[:2] == (2 * MOMENTS - 1, SETTINGS.slices)
    assert samples.times[1] == pytest.approx([-0.4, -0.3, -0.2, -0.1])
    assert samples.times[2] == pytest.approx([-0.5, -0.4, -0.3, -0.2])
    assert (samples.tokens[1] == samples.tokens[2]).all()


def test_only_horizons_that_an_encoder_offers_are_asked_for():
    probe = Places()
    probe.labels = lambda track, at, settings: np.full((len(at), len(settings.horizons), 2), 1.0)
    found = labelled(probe, [track()], horizons=(0.2,))
    assert found.horizons == (0.2,) and found.labels[0]['true'].values.shape == (MOMENTS, 1, 2)


def test_cameras_of_one_moment_are_resampled_together():
    source = Source(Recorded(40, {'/kind': ['a'] * 40}))
    tracks = [Track(f'run:{camera}', 'run', source, 0, 40) for camera in 'ab']
    samples = gather(Kinds(), labelled(Kinds(), tracks), PlantedStore(), ('a',))
    assert len(samples) == 2 * MOMENTS and set(samples.names.tolist()) == {'run'}
