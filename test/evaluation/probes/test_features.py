# SPDX-License-Identifier: Apache-2.0
"""Features of clips: computed once, kept, and the same for whoever asks."""

from dataclasses import replace

import numpy as np
import pytest
from planted import SETTINGS

from jepa_ros.engine.bundle import Bundle
from jepa_ros.evaluation.probes.encoders import BundleEncoder, RawPixels
from jepa_ros.evaluation.probes.features import FeatureStore
from jepa_ros.evaluation.probes.scores import ProbeError
from jepa_ros.evaluation.probes.tracks import tracks_of

WIDE = replace(SETTINGS, coarse=(4, 4), fine=(4, 4))  # nothing is averaged


class Counted(BundleEncoder):
    """Counts the clips that it encodes."""

    clips = 0

    def encode(self, *args):
        self.clips += 1
        return super().encode(*args)


@pytest.fixture(scope='module')
def track(moving):
    return tracks_of(moving / 'train' / 'run0')[0]


@pytest.fixture
def store(tiny_frame, tmp_path):
    return FeatureStore(Counted(Bundle.load(tiny_frame), (0.1, 0.2)), WIDE, tmp_path)


def test_a_clip_is_encoded_once_and_only_what_is_missing_later(store, track, tiny_frame, tmp_path):
    moments, ticks = len(store.moments(track)), []
    store.prepare([track], ['true'], ticks.append)
    assert store.encoder.clips == moments > 2 and ticks == [1]
    store.prepare([track], ['true', 'last'])
    assert store.encoder.clips == 2 * moments
    again = FeatureStore(Counted(Bundle.load(tiny_frame), (0.1, 0.2)), WIDE, tmp_path)
    again.prepare([track], ['true', 'last'])
    assert again.encoder.clips == 0
    assert again.load([track], 'true', 'context').shape == (moments, 4, 6, 16)
    assert again.load([track], 'true', 'newest').shape == (moments, 1, 6, 16)
    assert again.load([track], 'true', 'futures').shape == (moments, 2, 6, 16)
    assert again.load([track], 'true', 'times')[0] == pytest.approx([-0.3, -0.2, -0.1, 0], abs=0.011)


def test_orders_show_the_same_frames_at_other_places(store, track):
    variants = ('true', 'shuffled', 'last', 'swapped')
    store.prepare([track], variants)
    true, shuffled, last, swapped = (store.load([track], v, 'context') for v in variants)
    assert (last == last[:, -1:]).all() and (last[:, -1] == true[:, -1]).all()
    assert (swapped[:, -1] != true[:, -1]).any() and (shuffled != true).any()
    # 8 frames, every second of which is looked at; the other half of the clip is 4 frames away
    assert (swapped[:, :2] == true[:, 2:]).all() and (swapped[:, 2:] == true[:, :2]).all()


def test_noise_is_the_same_for_every_encoder_and_each_frame_keeps_its_own(track, tiny_frame, tiny, tmp_path):
    manifest = Bundle.load(tiny_frame).manifest
    store = FeatureStore(RawPixels(manifest), WIDE, tmp_path)
    store.prepare([track], ['true', 'true+sensor', 'swapped+sensor'])
    true, noisy, swapped = (
        store.load([track], v, 'context') for v in ('true', 'true+sensor', 'swapped+sensor')
    )
    assert 0.01 < np.abs(true - noisy).mean() < 1 and (swapped[:, :2] == noisy[:, 2:]).all()
    other = FeatureStore(RawPixels(manifest), WIDE, tmp_path / 'other')
    other.prepare([track], ['true+sensor'])
    assert (
        other.load([track], 'true+sensor', 'newest') == store.load([track], 'true+sensor', 'newest')
    ).all()


def test_tokens_are_averaged_to_blocks(store, track, tiny_frame, tmp_path):
    small = FeatureStore(
        BundleEncoder(Bundle.load(tiny_frame)), replace(SETTINGS, coarse=(1, 1), fine=(2, 3)), tmp_path
    )
    for one in (store, small):
        one.prepare([track], ['true'])
    mean = store.load([track], 'true', 'context').astype(np.float32).mean(2, keepdims=True)
    assert small.load([track], 'true', 'context') == pytest.approx(mean, abs=2e-3)


def test_a_damaged_file_is_named(store, track, tmp_path):
    store.prepare([track], ['true'])
    (file,) = tmp_path.rglob('*.npz')
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ProbeError, match=f'{file.name}.*delete the file'):
        store.load([track], 'true', 'context')


def test_sequences_that_are_too_short_are_told(store, track):
    short = replace(track, stop=track.first + 6)
    with pytest.raises(ProbeError, match='longer than 0.7 s, found none'):
        store.load([short], 'true', 'context')
