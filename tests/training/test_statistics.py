"""Intervals against published worked examples, closed forms and simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from fermo.training.statistics import bootstrap, newcombe_paired, paired_difference, wilson

counts = st.tuples(*[st.integers(0, 40)] * 4).filter(lambda cells: sum(cells) > 0)


@pytest.mark.parametrize(("successes", "trials", "low", "high"), [
    (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718),
])  # fmt: skip
def test_wilson_gives_the_limits_of_newcombe_1998_table_one(successes, trials, low, high):
    interval = wilson(successes, trials)
    assert (round(float(interval.low), 4), round(float(interval.high), 4)) == (low, high)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.8, 0.99]))
def test_wilson_equals_scipys_and_holds_its_estimate(sample, confidence):
    successes, trials = sample
    ours = wilson(successes, trials, confidence)
    theirs = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    np.testing.assert_allclose([ours.low, ours.high], [theirs.low, theirs.high], atol=1e-12)
    assert 0 <= ours.low <= ours.value <= ours.high <= 1


def test_wilson_takes_arrays():
    rates = wilson([[0, 5], [10, 7]], 10)
    assert rates.low.shape == (2, 2)
    assert rates.low[1, 1] == wilson(7, 10).low


@pytest.mark.parametrize(("table", "low", "high", "digits"), [
    ((1, 1, 7, 12), -0.507, -0.026, 3),  # Bentur 2009, in Fagerland, Lydersen, Laake, Stat. Med. 33 (2014) 2850
    ((14, 5, 0, 22), 0.011, 0.226, 3),  # Altman, Machin, Bryant, Gardner, Statistics with Confidence (2000), table 6.2
    ((36, 12, 2, 0), 0.0569, 0.3404, 4),  # Newcombe, Stat. Med. 17 (1998) 2635, method 10
])  # fmt: skip
def test_paired_interval_gives_published_limits(table, low, high, digits):
    interval = newcombe_paired(*table)
    assert (round(float(interval.low), digits), round(float(interval.high), digits)) == (low, high)


@settings(max_examples=50, deadline=None)
@given(counts)
def test_paired_interval_is_antisymmetric_bounded_and_holds_the_difference(cells):
    both, first, second, neither = cells
    interval, mirrored = newcombe_paired(*cells), newcombe_paired(both, second, first, neither)
    np.testing.assert_allclose([mirrored.low, mirrored.high], [-interval.high, -interval.low], atol=1e-12)
    assert -1 - 1e-12 <= interval.low <= interval.value <= interval.high <= 1 + 1e-12


def test_paired_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    cells = rng.multinomial(60, [0.55, 0.2, 0.1, 0.15], size=4000)
    interval = newcombe_paired(*cells.T)
    covered = np.mean((interval.low <= 0.1) & (interval.high >= 0.1))
    assert 0.94 <= covered <= 0.97


def test_pairing_narrows_the_interval_when_outcomes_agree():
    rng = np.random.default_rng(1)
    first = rng.random(200) < 0.8
    second = first ^ (rng.random(200) < 0.05)
    paired, shuffled = paired_difference(first, second), paired_difference(first, rng.permutation(second))
    assert sum(paired.table) == 200
    assert paired.difference.high - paired.difference.low < shuffled.difference.high - shuffled.difference.low


@pytest.mark.parametrize(("first", "second", "says"), [
    ([1, 0], [1], "one shape"), ([], [], "n >= 1"), ([0, 2], [0, 1], "0 or 1"),
])  # fmt: skip
def test_paired_difference_refuses_what_is_not_paired_outcomes(first, second, says):
    with pytest.raises(ValueError, match=says):
        paired_difference(first, second)


def test_wilson_refuses_impossible_counts():
    with pytest.raises(ValueError, match="trials >= 1"):
        wilson(0, 0)
    with pytest.raises(ValueError, match="confidence"):
        wilson(1, 2, 1.0)


def test_bootstrap_of_a_mean_nears_the_normal_interval_and_repeats_with_its_seed():
    x = np.random.default_rng(2).normal(3.0, 2.0, size=(400, 2))
    interval = bootstrap(x, seed=5)
    half = 1.96 * x.std(axis=0) / 20
    np.testing.assert_allclose(interval.low, x.mean(axis=0) - half, atol=0.25 * half.max())
    np.testing.assert_allclose(interval.high, x.mean(axis=0) + half, atol=0.25 * half.max())
    np.testing.assert_array_equal(interval.low, bootstrap(x, seed=5).low)


def test_bootstrap_takes_any_statistic_that_reduces_an_axis():
    interval = bootstrap(np.arange(101.0), np.median, seed=0, resamples=500)
    assert interval.low < 50 == interval.value < interval.high
