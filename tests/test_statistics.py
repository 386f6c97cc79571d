"""Intervals and tests: against scipy, by hand, and their coverage by simulation."""

import numpy as np
import pytest
from scipy import stats

from aacstudy.analysis.statistics import (
    Interval,
    bootstrap_over_seeds,
    bootstrap_table,
    difference_table,
    holm,
    paired_difference,
    resampled_sums,
    student_interval,
    variance_shares,
)


def clustered_values(rng, audios=40, mean=0.0):
    """Rows of 1 to 5 captions per audio that share the audio's effect."""
    clusters = np.repeat(np.arange(audios), rng.integers(1, 6, audios))
    return mean + rng.normal(size=audios)[clusters] + 0.5 * rng.normal(size=len(clusters)), clusters


def test_interval_prints_n_and_unit():
    interval = Interval(0.3712, 0.35, 0.392, 1045, "audios")
    assert str(interval) == "0.371 [0.350, 0.392] (n = 1045 audios)"
    assert interval.percent() == "37.1 % [35.0, 39.2] (n = 1045 audios)"
    assert interval.percent(digits=0) == "37 % [35, 39] (n = 1045 audios)"


# Bootstrap


def test_single_row_clusters_match_scipy_bootstrap():
    values = np.random.default_rng(0).exponential(size=80)
    ours = bootstrap_over_seeds(values, np.arange(80), resamples=4000)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", rng=1
    ).confidence_interval
    assert ours.value == pytest.approx(values.mean()) and ours.n == 80 and ours.unit == "audios, one seed"
    assert ours.low == pytest.approx(theirs.low, abs=0.03) and ours.high == pytest.approx(
        theirs.high, abs=0.03
    )


def test_copies_of_a_row_do_not_narrow_the_interval():
    values = np.random.default_rng(2).normal(size=60)
    once = bootstrap_over_seeds(values, np.arange(60))
    five = bootstrap_over_seeds(np.repeat(values, 5), np.repeat(np.arange(60), 5))
    np.testing.assert_allclose(once[:3], five[:3])
    assert five.n == 60
    naive = bootstrap_over_seeds(np.repeat(values, 5), np.arange(300))
    assert naive.high - naive.low < 0.6 * (five.high - five.low)


def test_seed_and_labels():
    values, clusters = clustered_values(np.random.default_rng(3))
    assert bootstrap_over_seeds(values, clusters) == bootstrap_over_seeds(values, clusters)
    assert bootstrap_over_seeds(values, clusters) != bootstrap_over_seeds(values, clusters, seed=1)
    names = np.array([f"{c:03}.wav" for c in clusters])
    assert bootstrap_over_seeds(values, names) == bootstrap_over_seeds(values, clusters)
    wide, narrow = (bootstrap_over_seeds(values, clusters, confidence=c) for c in (0.99, 0.8))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_coverage_with_one_seed():
    rng = np.random.default_rng(4)
    intervals = [bootstrap_over_seeds(*clustered_values(rng), resamples=500, seed=i) for i in range(300)]
    share = np.mean([i.low <= 0 <= i.high for i in intervals])
    print(f"coverage of 95 % intervals in 300 simulations: {share:.3f}")
    assert 0.90 <= share <= 0.98


def test_seeds_that_differ_widen_the_interval():
    values, clusters = clustered_values(np.random.default_rng(6))
    same = bootstrap_over_seeds(np.stack([values] * 3), clusters)
    apart = bootstrap_over_seeds(np.stack([values - 1, values, values + 1]), clusters)
    assert same.unit == apart.unit == "audios, 3 seeds" and same.value == pytest.approx(apart.value)
    assert apart.high - apart.low > 1.5 * (same.high - same.low)
    np.testing.assert_allclose(same[1:3], bootstrap_over_seeds(values, clusters)[1:3], atol=0.1)


def test_coverage_over_seeds_and_audios():
    rng = np.random.default_rng(7)
    covered = []
    for i in range(300):
        values, clusters = clustered_values(rng)
        seeds = values + 0.2 * rng.normal(size=(5, 1)) + 0.3 * rng.normal(size=(5, len(values)))
        interval = bootstrap_over_seeds(seeds, clusters, resamples=500, seed=i)
        covered.append(interval.low <= 0 <= interval.high)
    print(f"coverage of 95 % intervals over 5 seeds in 300 simulations: {np.mean(covered):.3f}")
    assert 0.90 <= np.mean(covered) <= 0.98


# Paired differences


def test_paired_difference_matches_scipy():
    rng = np.random.default_rng(8)
    a = rng.normal(size=60)
    b = a + 0.25 + rng.normal(size=60)
    result = paired_difference(a, b, np.arange(60))
    reference = stats.ttest_rel(a, b)
    limits = reference.confidence_interval()
    assert result.p_value == pytest.approx(reference.pvalue, abs=0.02)
    assert result.interval.value == pytest.approx(np.mean(a - b))
    assert result.interval.low == pytest.approx(limits.low, abs=0.05)
    assert result.interval.high == pytest.approx(limits.high, abs=0.05)
    test = stats.permutation_test((a - b,), np.mean, permutation_type="samples", n_resamples=9999, rng=0)
    assert result.p_value == pytest.approx(test.pvalue, abs=0.02)


def test_sign_flips_of_few_clusters_by_hand():
    # Cluster sums 3 and 1: of the four sign pairs, two reach |4|. Single rows would give another
    # answer.
    result = paired_difference([1.0, 2.0, 1.0], [0.0, 0.0, 0.0], [0, 0, 1])
    assert result.p_value == pytest.approx(0.5, abs=0.03)
    same = paired_difference([1.0, 2.0], [1.0, 2.0], [0, 1])
    assert same.p_value == 1 and same.interval[:3] == (0, 0, 0)


def test_sign_flip_keeps_its_level():
    rng = np.random.default_rng(9)
    rejected = []
    for i in range(300):
        values, clusters = clustered_values(rng, audios=25)
        p = paired_difference(values, 0 * values, clusters, resamples=10, permutations=400, seed=i).p_value
        rejected.append(p <= 0.05)
    print(f"share of p <= 0.05 without a difference: {np.mean(rejected):.3f}")
    assert 0.01 <= np.mean(rejected) <= 0.09


def test_paired_difference_is_stronger_than_two_intervals():
    rng = np.random.default_rng(10)
    base, clusters = clustered_values(rng, audios=100)
    a = base + 0.05 * rng.normal(size=(3, len(base))) + 0.1
    b = base + 0.05 * rng.normal(size=(3, len(base)))
    result = paired_difference(a, b, clusters)
    assert result.interval.low > 0 and result.p_value < 0.001 and result.interval.unit == "audios, 3 seeds"
    assert bootstrap_over_seeds(a, clusters).low < bootstrap_over_seeds(b, clusters).high


# Holm, Student, variance shares


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    np.testing.assert_allclose(holm([0.9, 0.6]), [1, 1])
    np.testing.assert_allclose(holm([0.02]), [0.02])
    assert len(holm([])) == 0


def test_student_matches_scipy():
    values = np.array([30.1, 29.4, 30.8, 30.0, 29.9])
    ours = student_interval(values)
    theirs = stats.t.interval(0.95, 4, loc=values.mean(), scale=stats.sem(values))
    np.testing.assert_allclose(ours[1:3], theirs)
    assert ours.n == 5 and ours.unit == "seeds"
    alone = student_interval([30.0])
    assert alone.value == 30 and np.isnan(alone.low) and np.isnan(alone.high) and alone.unit == "seed"


def test_variance_shares_by_hand():
    assert variance_shares([[1, 2], [3, 4]]) == pytest.approx(
        {"caption": 0.2, "audio": 0.8, "interaction": 0}
    )
    assert variance_shares([[1, 0], [0, 1]]) == pytest.approx({"caption": 0, "audio": 0, "interaction": 1})
    assert variance_shares([[1, 5, 3]] * 4)["caption"] == pytest.approx(1)
    shares = variance_shares(np.random.default_rng(0).normal(size=(30, 50)) + np.arange(50))
    assert sum(shares.values()) == pytest.approx(1) and shares["caption"] > 0.9


def test_errors():
    with pytest.raises(ValueError, match="one cluster per row"):
        bootstrap_over_seeds([1.0, 2.0], [0])
    with pytest.raises(ValueError, match="one cluster per row"):
        bootstrap_over_seeds(np.zeros((2, 3)), [0, 1])
    with pytest.raises(ValueError, match="not finite at row 1"):
        bootstrap_over_seeds([1.0, np.nan], [0, 1])
    with pytest.raises(ValueError, match="paired"):
        paired_difference(np.zeros((2, 3)), np.zeros((1, 3)), [0, 1, 2])
    with pytest.raises(ValueError, match="from 0 to 1"):
        holm([0.5, np.nan])
    with pytest.raises(ValueError, match="confidence"):
        bootstrap_over_seeds([1.0, 2.0], [0, 1], confidence=95)
    with pytest.raises(ValueError, match="constant"):
        variance_shares(np.ones((2, 2)))
    with pytest.raises(ValueError, match="finite"):
        variance_shares([[1, np.inf]])


# Many at once


def test_tables_give_each_metric_what_it_gets_alone():
    rng = np.random.default_rng(11)
    base, clusters = clustered_values(rng)
    many = base + rng.normal(size=(4, 3, len(base))) + np.arange(4)[:, None, None] / 5
    together = bootstrap_table(many, clusters, resamples=300, seed=5)
    for one, values in zip(together, many):
        alone = bootstrap_over_seeds(values, clusters, resamples=300, seed=5)
        np.testing.assert_allclose(one[:4], alone[:4])
        assert one.unit == alone.unit == "audios, 3 seeds"
    compared = difference_table(many - base, clusters, resamples=300, seed=5, permutations=500)
    for one, values in zip(compared, many):
        alone = paired_difference(values, np.stack([base] * 3), clusters, 300, 5, permutations=500)
        np.testing.assert_allclose(one.interval[:3], alone.interval[:3])
        assert one.p_value == alone.p_value


def test_resampled_sums_are_of_whole_clusters():
    rows, clusters = np.array([[1.0, 1], [2, 1], [10, 1]]), np.array(["a", "a", "b"])
    once, draws, n = resampled_sums(rows, clusters, resamples=50)
    assert once.tolist() == [13, 3] and n == 2 and draws.shape == (50, 2)
    # Two clusters drawn twice: both of a (6, 4), one of each (13, 3), or both of b (20, 2).
    assert {tuple(row) for row in draws.tolist()} == {(6, 4), (13, 3), (20, 2)}


def test_resampled_sums_give_the_bootstrap_of_the_mean():
    values, clusters = clustered_values(np.random.default_rng(12))
    _, draws, _ = resampled_sums(np.stack([values, np.ones(len(values))], axis=1), clusters, 400, seed=3)
    low, high = np.quantile(draws[:, 0] / draws[:, 1], [0.025, 0.975])
    found = bootstrap_over_seeds(values, clusters, resamples=400, seed=3)
    assert (found.low, found.high) == pytest.approx((low, high))


def test_points():
    assert Interval(0.031, 0.01, 0.052, 9, "audios").points() == "+3.1 points [+1.0, +5.2]"
    assert Interval(-0.2, -0.25, 0.0, 9, "audios").points(0) == "-20 points [-25, +0]"
