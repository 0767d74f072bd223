# SPDX-License-Identifier: Apache-2.0
"""The clips of a run: which recordings its patterns name, how they are read, and what travels to workers."""

import pickle
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jepa_ros.data.augment import HIDDEN, NO_LABEL, OUTSIDE, VISIBLE, Augment, view
from jepa_ros.data.cache import CacheError
from jepa_ros.errors import JepaError
from jepa_ros.training import config as configuration
from jepa_ros.training.clips import BEYOND, Clips, attribute, expand, followed


def test_patterns_are_expanded_as_a_shell_does_in_the_first_root_that_has_them(tmp_path, monkeypatch):
    one, other = tmp_path / 'one', tmp_path / 'other'
    for path in (one / 'a-000.tar', one / 'a-001.tar', other / 'a-002.tar', other / 'deep' / 'b.mp4'):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    roots = (one, other)
    assert expand(['a-{000..001}.tar', '{b,deep/b}.mp4'], roots) == [
        str(one / 'a-{000..001}.tar'),
        str(other / '{b,deep/b}.mp4'),
    ]
    absolute = str(one / 'a-*.tar')
    assert expand(['**/b.mp4', absolute], roots) == [str(other / '**/b.mp4'), absolute]
    monkeypatch.setenv('HOME', str(other))
    assert expand(['~/deep'], [one]) == [str(other / 'deep')]
    with pytest.raises(JepaError, match=r'no file matches a-\{5..6\}.tar in .*one, .*other'):
        expand(['a-{5..6}.tar'], roots)


def test_one_bar_shows_all_recordings_and_is_full_at_the_end(config, videos, tmp_path, capsys):
    Clips(config, [videos], tmp_path)
    shown = [line for line in capsys.readouterr().out.splitlines() if 'recordings' in line]
    assert len(shown) == 1 and '100%' in shown[0]
    Clips(config, [videos], tmp_path)
    assert 'recordings' not in capsys.readouterr().out, 'all is cached'


def test_workers_get_the_recordings_and_not_the_clips_of_the_splits(config, videos, cache):
    clips = Clips(config, [videos], cache, progress=False)
    assert clips.splits()['validation'] and clips.splits()['train_clips']
    travelled = pickle.dumps(clips)
    assert len(travelled) < sum(clip.images.nbytes for clip in clips.validation)
    for ours, theirs in zip(clips.draw('x', 3, range(2)), pickle.loads(travelled).draw('x', 3, range(2))):
        np.testing.assert_array_equal(ours, theirs)


def test_a_point_is_told_on_its_way_out_of_the_picture():
    x = [-0.05, 0.05, 0.9, 0.98, 1.06, 1.14, 1.3, 1.4, -0.2, 0.1]
    state = [OUTSIDE, VISIBLE, NO_LABEL, HIDDEN, OUTSIDE, OUTSIDE, OUTSIDE, OUTSIDE, OUTSIDE, VISIBLE]
    told = followed(np.stack([x, np.full(len(x), 0.5)], 1), np.array(state))
    # not before it came; to 1.3 it jumps, and what comes after is another thing until that is in the picture
    assert told.tolist() == [False, True, False, True, True, True, False, False, False, True]
    far = np.stack([np.arange(1.0, 2.0, 0.1) - 0.01, np.full(10, 0.5)], 1)
    assert followed(far, np.array([VISIBLE, *[OUTSIDE] * 9])).sum() == 1 + int(BEYOND / 0.1)


def test_what_trains_and_what_validates_stay_apart(config, videos, cache):
    clips = Clips(config, [videos], cache, progress=False)
    assert {clip.name for clip in clips.validation} == {'2'}
    assert {clip.name for clip in clips.splits()['train_clips']} <= {'0', '1'}


def test_a_split_that_cannot_be_read_is_named(config, videos, tmp_path):
    (tmp_path / 'validation').mkdir()
    (tmp_path / 'validation' / 'broken.mp4').write_bytes(b'nothing')
    with pytest.raises(JepaError, match='data.validation must name recordings that can be read, found none'):
        Clips(config, [tmp_path, videos], tmp_path / 'cache', progress=False)


def test_keys_of_the_data_reach_it(values, videos, tmp_path):
    values['data'] |= {'cache_limit': 1e-6}
    with pytest.raises(CacheError, match='expected at most 1e-06 GB of cached frames'):
        Clips(configuration.from_dict(values), [videos], tmp_path / 'limited', progress=False)
    values['data'] |= {'cache_limit': 1.0, 'colour': 1.0, 'light': 0.0}
    config = configuration.from_dict(values)
    drawn = Clips(config, [videos], tmp_path / 'cache', progress=False).draw('x', 0, range(30))[0]
    grey = (drawn == drawn[..., :1]).all(axis=(1, 2, 3, 4))
    assert 0 < grey.sum() < 30, 'the distortion makes some clips grey, and none of these videos is'


@dataclass
class Labelled:
    points: dict
    vectors: dict


def test_an_attribute_is_a_vector_or_where_another_point_lies_from_the_point():
    here, there = np.float32([[0.5, 0.5], [0.6, 0.5]]), np.float32([[0.5, 0.75], [0.0, 0.0]])
    points = {
        'handle': (here, np.array([VISIBLE, HIDDEN], np.uint8)), 'foot': (there, np.array([OUTSIDE, NO_LABEL], np.uint8))
    }  # fmt: skip
    of = Labelled(points, {'grasp': np.float32([[1, 0], [0, 1]])})
    assert attribute(of, 'grasp', 'handle') is of.vectors['grasp']
    np.testing.assert_allclose(attribute(of, 'foot', 'handle'), [[0, 0.25], [np.nan, np.nan]])
    assert attribute(of, 'weight', 'handle') is attribute(of, 'foot', 'lid') is None


@given(st.integers(0, 2**32 - 1))
def test_where_another_point_lies_follows_the_crop(seed):
    """In widths and heights of the view, as what a readout sees of it."""
    rng = np.random.default_rng(seed)
    xy = {name: (rng.uniform(0.3, 0.7, (1, 2)).astype(np.float32), np.array([VISIBLE])) for name in ('handle', 'foot')}
    view_of = Augment((0.5, 1.0), False)
    _, moved = view(np.zeros((1, 100, 200, 3), np.uint8), xy, (80, 160), view_of, rng)
    before, after = (attribute(Labelled(points, {}), 'foot', 'handle') for points in (xy, moved))
    zoom = after / before
    assert zoom[0, 0] == pytest.approx(zoom[0, 1], rel=0.02) and 1 <= zoom[0, 0] <= 1.5
