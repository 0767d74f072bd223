# SPDX-License-Identifier: Apache-2.0
"""Clips are chosen by stamp, as at run time, and never cross a break in time."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jepa_ros.clip import ClipWindow, Verdict, WindowRequest
from jepa_ros.data.clips import Augment, ClipError, ClipSampler, choose, view
from jepa_ros.data.sequences import HIDDEN, NO_LABEL, OUTSIDE, VISIBLE, Sequence

MS = 1_000_000
PERIOD = 0.05


def sequence(stamps_ms, size=(12, 16), points=None, name='s'):
    """A sequence whose images hold their index in every pixel."""
    stamps = np.array(stamps_ms) * MS
    images = np.zeros((len(stamps), *size, 3), np.uint8)
    images[:] = np.arange(len(stamps))[:, None, None, None] % 256
    return Sequence(name, Path(name), stamps.astype(np.int64), images, points or {})


def indices(clip):
    return clip.images[:, 0, 0, 0].tolist()


def test_a_30_hz_camera_and_a_period_of_50_ms():
    stamps = np.arange(20) * 33_333_333
    assert choose(stamps, 5, PERIOD).tolist() == [0, 2, 3, 5, 6]  # 0, 67, 100, 167, 200 ms


stamps_of_a_camera = st.lists(st.integers(1, 120), min_size=2, max_size=60).map(
    lambda steps: 10**9 + np.cumsum(steps) * MS
)


@settings(deadline=None)
@given(stamps_of_a_camera)
def test_the_choice_is_that_of_the_run_time_window(stamps):
    window = ClipWindow(WindowRequest(PERIOD, frames=1, new_frames=1, max_gap=60.0))
    taken = [i for i, stamp in enumerate(stamps.tolist()) if window.offer(stamp, None) is Verdict.TAKE]
    assert choose(stamps, len(taken), PERIOD).tolist() == taken
    assert choose(stamps, len(taken) + 1, PERIOD) is None


@settings(deadline=None)
@given(stamps_of_a_camera, st.integers(1, 12), st.data())
def test_any_choice_ascends(stamps, frames, data):
    shifts = np.array(data.draw(st.lists(st.floats(-0.05, 0.05), min_size=frames, max_size=frames)))
    drops = np.array(data.draw(st.lists(st.booleans(), min_size=frames, max_size=frames)))
    chosen = choose(stamps, frames, PERIOD, shifts, drops)
    if chosen is not None:
        assert len(chosen) == frames and chosen[0] == 0
        assert (np.diff(chosen) > 0).all() and chosen[-1] < len(stamps)
        for number in np.flatnonzero(drops[1:]) + 1:
            assert chosen[number] >= chosen[number - 1] + 2, (
                'the next real frame is not the one after the last'
            )


def test_a_start_that_fails_before_one_that_does_not_is_left_out():
    """Of a camera that lost frames: what is due begins anew with a frame that is very late, and a later start has more."""
    lost = sequence([0, 33, 133, 167])
    assert choose(lost.stamps_ns, 3, PERIOD) is None and choose(lost.stamps_ns[1:], 3, PERIOD) is not None
    sampler = ClipSampler([lost], (12, 16), 3, PERIOD)
    assert {tuple(indices(sampler.sample())) for _ in range(30)} == {(1, 2, 3)}
    assert [indices(clip) for clip in sampler.clips(0.01)] == [[1, 2, 3]]


def test_every_possible_start_is_drawn_and_none_beyond_the_end():
    sampler = ClipSampler([sequence(range(0, 500, 50))], (12, 16), 4, PERIOD)
    starts = {indices(sampler.sample())[0] for _ in range(300)}
    assert starts == set(range(7)) and len(sampler) == 7


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.floats(0, 0.4), st.floats(0, 0.5), st.floats(1.0, 1.6))
def test_perturbed_clips_stay_in_their_segment_and_tell_true_times(seed, jitter, drop, stretch):
    stamps = [*range(0, 900, 33), *range(5000, 5900, 33), *range(100, 800, 33)]  # a gap and a jump back
    whole = sequence(stamps)
    sampler = ClipSampler(
        [whole], (12, 16), 6, PERIOD, jitter, drop, (1 / stretch, stretch), max_gap=1.0, seed=seed
    )
    segment_of = np.repeat([0, 1, 2], [28, 28, 22])
    for _ in range(5):
        clip = sampler.sample()
        chosen = indices(clip)
        assert len(set(segment_of[chosen])) == 1 and clip.images.shape == (6, 12, 16, 3)
        assert clip.times[0] == 0 and (np.diff(clip.times) > 0).all()
        np.testing.assert_allclose(clip.times, (whole.stamps_ns[chosen] - whole.stamps_ns[chosen[0]]) / 1e9)


def test_perturbations_do_perturb():
    camera = sequence(range(0, 6000, 10))

    def steps(**how):
        sampler = ClipSampler([camera], (12, 16), 8, PERIOD, **how)
        return np.concatenate([np.diff(sampler.sample().times) for _ in range(100)])

    assert steps().tolist() == pytest.approx([PERIOD] * 700, abs=0.011)
    assert steps(jitter=0.3).std() > steps().std() + 0.003
    assert steps(drop=0.5).mean() > steps().mean()
    assert steps(stretch=(2.0, 2.0)).mean() == pytest.approx(2 * PERIOD, rel=0.1)


def test_the_generator_decides_everything():
    sampler = ClipSampler(
        [sequence(range(0, 3000, 33))], (6, 8), 4, PERIOD, 0.2, 0.2, (0.8, 1.2), Augment(), seed=3
    )
    a, b = (sampler.sample(np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(a.images, b.images)
    np.testing.assert_array_equal(a.times, b.times)
    assert indices(sampler.sample()) != indices(sampler.sample())


def test_validation_clips_are_the_same_each_time_in_order_and_stride_apart():
    stamps = [*range(0, 1000, 25), *range(9000, 10000, 25)]
    sampler = ClipSampler([sequence(stamps)], (12, 16), 4, PERIOD, 0.3, 0.3, (0.5, 2.0), Augment())
    starts = [stamps[indices(clip)[0]] for clip in sampler.clips(stride=0.3)]
    assert starts == [0, 300, 600, 9000, 9300, 9600]
    assert [indices(clip) for clip in sampler.clips(0.3)] == [indices(clip) for clip in sampler.clips(0.3)]


def test_short_sequences_are_named_and_skipped(caplog):
    long, short = sequence(range(0, 1000, 33), name='long'), sequence(range(0, 100, 33), name='short')
    sampler = ClipSampler([short, long, sequence([0], name='single')], (12, 16), 6, PERIOD)
    assert sampler.skipped == ['short', 'single'] and 'short, single' in caplog.text
    with pytest.raises(ClipError, match='expected sequences of at least 6 frames'):
        ClipSampler([short], (12, 16), 6, PERIOD)


def test_slow_cameras_give_every_frame_with_its_true_time():
    sampler = ClipSampler([sequence(range(0, 2000, 200))], (12, 16), 4, PERIOD)
    clip = next(sampler.clips(1.0))
    assert indices(clip) == [0, 1, 2, 3]
    np.testing.assert_allclose(clip.times, [0, 0.2, 0.4, 0.6])


def test_labels_of_some_sequences_only():
    xy = np.full((30, 2), 0.5, np.float32)
    labelled = sequence(range(0, 1000, 34), points={'handle': (xy, np.full(30, HIDDEN, np.uint8))})
    sampler = ClipSampler([sequence(range(0, 1000, 34)), labelled], (12, 16), 4, PERIOD)
    states = [clip.points['handle'][1].tolist() for clip in sampler.clips(10.0)]
    assert states == [[NO_LABEL] * 4, [HIDDEN] * 4]


def spot(x, y, size=(60, 80)):
    """An image with a bright spot at a place in 0..1."""
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]]
    distance = np.hypot((columns + 0.5) / size[1] - x, ((rows + 0.5) / size[0] - y) * size[0] / size[1])
    return np.repeat((255 * np.exp(-((distance / 0.05) ** 2))).astype(np.uint8)[..., None], 3, 2)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.floats(0.3, 0.7), st.floats(0.3, 0.7))
def test_points_stay_on_what_they_mark(seed, x, y):
    images = np.stack([spot(x, y)] * 2)
    points = {'spot': (np.full((2, 2), (x, y), np.float32), np.full(2, VISIBLE, np.uint8))}
    out, moved = view(images, points, (60, 80), Augment((0.4, 1.0), flip=True), np.random.default_rng(seed))
    xy, state = moved['spot']
    assert out.shape == (2, 60, 80, 3)
    np.testing.assert_array_equal(out[0], out[1])
    inside = np.all((xy > 0.1) & (xy < 0.9))
    if inside:
        row, column = np.unravel_index(out[0, :, :, 0].argmax(), (60, 80))
        np.testing.assert_allclose([(column + 0.5) / 80, (row + 0.5) / 60], xy[0], atol=0.03)
        assert state.tolist() == [VISIBLE] * 2


def test_points_outside_the_view_are_known_as_such():
    points = {'near the corner': (np.full((1, 2), 0.8, np.float32), np.array([VISIBLE], np.uint8))}
    states = {
        int(
            view(
                np.zeros((1, 60, 80, 3), np.uint8),
                points,
                (30, 40),
                Augment((0.3, 0.4)),
                np.random.default_rng(seed),
            )[1]['near the corner'][1][0]
        )
        for seed in range(40)
    }
    assert states == {OUTSIDE, VISIBLE}


def test_without_augmentation_the_view_is_the_whole_image():
    image = spot(0.2, 0.7)[None]
    same, points = view(
        image, {'p': (np.array([[0.2, 0.7]], np.float32), np.array([1], np.uint8))}, (60, 80), None, None
    )
    np.testing.assert_array_equal(same, image)
    np.testing.assert_allclose(points['p'][0], [[0.2, 0.7]], atol=1e-6)


def marked(value, count, name, source=0):
    """A sequence all of whose frames hold one value."""
    whole = sequence(range(0, 50 * count, 50), name=name)
    whole.images[:] = value
    return Sequence(name, Path(name), whole.stamps_ns, whole.images, source=source)


def share_of(sampler, draws=600):
    """How often each sequence is drawn, by its value."""
    values = [indices(sampler.sample(np.random.default_rng([0, index])))[0] for index in range(draws)]
    return {value: values.count(value) / draws for value in set(values)}


def test_every_frame_is_equally_likely_unless_told_otherwise():
    sequences = [marked(1, 12, 'short'), marked(2, 102, 'long')]
    assert share_of(ClipSampler(sequences, (12, 16), 3, PERIOD))[1] == pytest.approx(0.09, abs=0.04)
    assert share_of(ClipSampler(sequences, (12, 16), 3, PERIOD, balance=0.0))[1] == pytest.approx(
        0.5, abs=0.07
    )
    assert share_of(ClipSampler(sequences, (12, 16), 3, PERIOD, balance=0.5))[1] == pytest.approx(
        0.24, abs=0.06
    )


def test_weights_of_sources():
    sequences = [marked(1, 12, 'a'), marked(2, 102, 'b', 1), marked(3, 52, 'c', 1), marked(4, 22, 'd', 2)]
    shares = share_of(ClipSampler(sequences, (12, 16), 3, PERIOD, weights=[2, 1, 1], balance=0.0), 900)
    assert [round(shares[v], 2) for v in (1, 2, 3, 4)] == pytest.approx([0.5, 0.125, 0.125, 0.25], abs=0.05)
    assert set(share_of(ClipSampler(sequences, (12, 16), 3, PERIOD, weights=[0, 0, 5]))) == {4}
    for weights, match in (
        ([1.0], 'for each of 3 sources'),
        ([1, -1, 1], '0 or more'),
        ([0, 0, 0], 'above 0'),
    ):
        with pytest.raises(ClipError, match=match):
            ClipSampler(sequences, (12, 16), 3, PERIOD, weights=weights)


def test_a_source_without_clips_is_named(caplog):
    shares = share_of(ClipSampler([marked(1, 20, 'a')], (12, 16), 3, PERIOD, weights=[1, 9]))
    assert shares == {1: 1.0} and 'no clips come from source [1]' in caplog.text


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(4, 60), st.integers(0, 3)), min_size=1, max_size=8),
    st.lists(st.floats(0.01, 10), min_size=4, max_size=4),
    st.floats(0, 1.5),
)
def test_chances_add_up_to_the_weights(lengths, weights, balance):
    sequences = [marked(0, length, str(i), source) for i, (length, source) in enumerate(lengths)]
    sampler = ClipSampler(sequences, (12, 16), 3, PERIOD, weights=weights, balance=balance)
    chances = np.diff(sampler._chances, prepend=0.0)
    present = sorted({source for _, source in lengths})
    total = sum(weights[source] for source in present)
    for source in present:
        of_source = [chance for chance, (_, s) in zip(chances, lengths) if s == source]
        assert sum(of_source) == pytest.approx(weights[source] / total)


def test_the_clips_of_a_seed_stay_what_they_were():
    """Runs under way, and their resumption, depend on it."""
    sampler = ClipSampler(
        [sequence(range(0, 9000, 33)), sequence(range(0, 3000, 50))],
        (6, 8),
        4,
        PERIOD,
        0.2,
        0.2,
        (0.8, 1.2),
        Augment(),
    )
    assert [indices(sampler.sample(np.random.default_rng([0, step]))) for step in range(4)] == [
        [8, 9, 10, 11],
        [169, 172, 173, 174],
        [50, 51, 52, 53],
        [163, 165, 167, 169],
    ]
