# SPDX-License-Identifier: Apache-2.0
"""The heads: they find what is planted, and the same numbers give the same head."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')

from planted import SETTINGS  # noqa: E402

from jepa_ros.evaluation.probes.heads import FittedHead, Spec  # noqa: E402

RNG = np.random.default_rng(3)
TOKENS = RNG.normal(5, 20, (96, 2, 3, 8)).astype(np.float16)
TIMES = np.tile(np.array([-0.1, 0.0], np.float32), (96, 1))
PLACES = (100 + 3 * TOKENS[:, 1, :, :2].astype(np.float32).mean(1)).astype(np.float32)


def fitted(pooling='linear', steps=20, unit=1.0):
    head = FittedHead(Spec(2, False), pooling)
    return head.fit(TOKENS, TIMES, unit * PLACES, 3e-2, 0.0, replace(SETTINGS, steps=steps))


def test_a_vector_is_read_with_its_covariance():
    answers = fitted(steps=100).answer(TOKENS, TIMES)
    assert np.abs(answers.values - PLACES).mean() < 0.3 * PLACES.std()
    assert answers.covariances.shape == (96, 2, 2) and (np.linalg.eigvalsh(answers.covariances) > 0).all()


def test_answers_come_in_the_unit_of_the_labels():
    one, tenfold = (fitted(steps=3, unit=unit).answer(TOKENS, TIMES) for unit in (1.0, 10.0))
    assert tenfold.values == pytest.approx(10 * one.values, rel=1e-3)
    assert tenfold.covariances == pytest.approx(100 * one.covariances, rel=1e-2, abs=1)


def test_the_scale_of_an_encoder_does_not_matter():
    head = FittedHead(Spec(2, False), 'linear')
    head.fit(TOKENS * np.float16(0.25), TIMES, PLACES, 3e-2, 0.0, replace(SETTINGS, steps=20))
    scaled = head.answer(TOKENS * np.float16(0.25), TIMES).values
    assert scaled == pytest.approx(fitted().answer(TOKENS, TIMES).values, rel=1e-2)


@pytest.mark.parametrize('pooling', ['linear', 'attentive'])
def test_a_fit_repeats_and_leaves_the_callers_random_numbers_alone(pooling):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one, other = (fitted(pooling, 5).answer(TOKENS, TIMES).values for _ in range(2))
    assert (one == other).all() and torch.equal(before, torch.random.get_rng_state())


def test_rare_classes_count_as_much_as_frequent_ones():
    """Without anything to see, a head trained on 9 to 1 finds both classes equally likely."""
    labels = (np.arange(100) % 10 == 0).astype(np.int64)
    nothing, times = np.zeros((100, 1, 1, 4), np.float16), np.zeros((100, 1), np.float32)
    head = FittedHead(Spec(2, True), 'linear').fit(
        nothing, times, labels, 1e-2, 0.0, replace(SETTINGS, steps=200)
    )
    logits = head.answer(nothing[:1], times[:1]).values[0]
    assert abs(logits[0] - logits[1]) < 0.3 < np.log(9)
