# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jepa_ros.evaluation.rollout_statistics import mcnemar, paired, paired_difference, wilson


@given(st.integers(0, 200), st.integers(0, 200))
def test_an_interval_holds_its_rate_and_stays_within_0_and_1(successes, failures):
    trials = successes + failures
    low, high = wilson(successes, trials)
    assert 0 <= low <= high <= 1
    if trials:
        assert low <= successes / trials + 1e-12 and high >= successes / trials - 1e-12
        assert low > 0 or successes == 0
        assert high < 1 or failures == 0


def test_against_published_values():
    # Newcombe, Statistics in Medicine 17, 1998, table I
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    # the same volume, paper on paired data, table II, method 10
    assert paired_difference(36, 12, 2, 0) == pytest.approx((0.0569, 0.3404), abs=1e-4)


@pytest.mark.parametrize('successes', [-1, 11])
def test_more_successes_than_trials_are_refused(successes):
    with pytest.raises(ValueError, match='expected 0 to 10'):
        wilson(successes, 10)


def test_mcnemar_is_a_fair_coin():
    assert mcnemar(0, 0) == mcnemar(3, 3) == 1.0
    assert mcnemar(5, 0) == mcnemar(0, 5) == 2 / 2**5
    assert mcnemar(1, 7) == 2 * (1 + 8) / 2**8


def test_only_seeds_that_both_ran_are_compared():
    found = paired({1: True, 2: True, 3: False, 4: True}, {1: False, 2: True, 3: True, 9: False})
    assert found == (3, 1, 1, 1.0)


COUNTS = st.integers(0, 60)


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_a_difference_lies_in_its_interval_which_turns_round_with_the_pair(both, first, second, neither):
    low, high = paired_difference(both, first, second, neither)
    seeds = both + first + second + neither
    if seeds:
        assert low - 1e-9 <= (first - second) / seeds <= high + 1e-9
        assert high - low > 0.01, 'no number of seeds that agree makes a difference certain'
    assert paired_difference(both, second, first, neither) == pytest.approx((-high, -low), abs=1e-9)


def test_the_interval_of_a_difference_covers_what_it_promises():
    # outcomes of pairs that are alike, as those of two bundles on one seed are
    rng, chances = np.random.default_rng(0), np.array([0.85, 0.08, 0.03, 0.04])
    true = chances[1] - chances[2]
    found = [paired_difference(*rng.multinomial(100, chances)) for _ in range(1000)]
    assert 0.93 < np.mean([low <= true <= high for low, high in found]) < 0.985


def test_twelve_seeds_that_agree_do_not_tell_two_bundles_alike():
    low, high = paired_difference(12, 0, 0, 0)
    assert low < -0.2 and high > 0.2
