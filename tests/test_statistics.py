"""Intervals and tests: against scipy, by hand, and their coverage by simulation."""

import numpy as np
import pytest
from scipy import stats

from aacstudy.analysis.statistics import (
    Interval,
    SeedPart,
    differences_of,
    holm,
    interval_of_sums,
    intervals_of,
    keyed,
    over_seeds,
    paired,
    resampled_sums,
    student_interval,
    variance_shares,
)
from aacstudy.options import StatisticsOptions

OPTIONS = StatisticsOptions(resamples=400)


def clustered_values(rng, audios=40, mean=0.0):
    """Rows of 1 to 5 captions per audio that share the audio's effect."""
    clusters = np.repeat(np.arange(audios), rng.integers(1, 6, audios))
    return mean + rng.normal(size=audios)[clusters] + 0.5 * rng.normal(size=len(clusters)), clusters


def test_interval_prints_n_and_unit():
    interval = Interval(0.3712, 0.35, 0.392, 1045, "audios")
    assert str(interval) == "0.371 [0.350, 0.392] (n = 1045 audios)"
    assert interval.percent() == "37.1 % [35.0, 39.2] (n = 1045 audios)"
    assert interval.percent(digits=0) == "37 % [35, 39] (n = 1045 audios)"


# Means


def test_one_seed_of_single_rows_is_students_interval():
    values = np.random.default_rng(0).exponential(size=80) - 0.5
    ours, theirs = over_seeds(values, np.arange(80), OPTIONS), student_interval(values)
    assert ours[:3] == pytest.approx(theirs[:3]) and ours[3:] == (80, "audios, one seed")


def test_copies_of_a_row_do_not_narrow_the_interval():
    values = np.random.default_rng(2).normal(size=60)
    once = over_seeds(values, np.arange(60), OPTIONS)
    five = over_seeds(np.repeat(values, 5), np.repeat(np.arange(60), 5), OPTIONS)
    np.testing.assert_allclose(once[:3], five[:3])
    assert five.n == 60
    naive = over_seeds(np.repeat(values, 5), np.arange(300), OPTIONS)
    assert naive.high - naive.low < 0.6 * (five.high - five.low)


def test_labels_and_confidence():
    values, clusters = clustered_values(np.random.default_rng(3))
    names = np.array([f"{c:03}.wav" for c in clusters])
    assert over_seeds(values, names, OPTIONS) == over_seeds(values, clusters, OPTIONS)
    wide, narrow = (over_seeds(values, clusters, StatisticsOptions(confidence=c)) for c in (0.99, 0.8))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_a_share_stays_a_share():
    hits = np.array([0.0, 0, 0, 0, 0, 0, 1])
    few = over_seeds(hits, np.arange(7), OPTIONS)
    most = over_seeds(1 - hits, np.arange(7), OPTIONS)
    assert few.low == 0 < few.value < few.high < 1 and most.high == 1 > most.low > 0
    signed = over_seeds(hits - 0.1, np.arange(7), OPTIONS)
    assert signed.low < 0 and signed.high == pytest.approx(few.high - 0.1)
    losses = over_seeds(3 * hits, np.arange(7), OPTIONS)
    assert losses.low == 0 and losses.high == pytest.approx(3 * few.high) and losses.high > 1


def test_seeds_that_differ_widen_the_interval():
    values, clusters = clustered_values(np.random.default_rng(6))
    same = over_seeds(np.stack([values] * 3), clusters, OPTIONS)
    apart = over_seeds(np.stack([values - 1, values, values + 1]), clusters, OPTIONS)
    assert same.unit == apart.unit == "audios, 3 seeds" and same.value == pytest.approx(apart.value)
    assert apart.high - apart.low > 1.5 * (same.high - same.low)
    np.testing.assert_allclose(same[1:3], over_seeds(values, clusters, OPTIONS)[1:3], atol=1e-9)
    known = over_seeds(np.stack([values - 1, values, values + 1]), clusters, OPTIONS, SeedPart(0.0, 14))
    np.testing.assert_allclose(known[1:3], same[1:3])


def test_coverage_of_captions_in_audios_and_seeds():
    rng = np.random.default_rng(7)
    covered = []
    for _ in range(300):
        values, clusters = clustered_values(rng)
        seeds = values + 0.2 * rng.normal(size=(5, 1)) + 0.3 * rng.normal(size=(5, len(values)))
        found = (over_seeds(values, clusters, OPTIONS), over_seeds(seeds, clusters, OPTIONS))
        covered.append([one.low <= 0 <= one.high for one in found])
    print(f"coverage of 95 % intervals, one seed and five: {np.mean(covered, axis=0)}")
    assert (np.abs(np.mean(covered, axis=0) - 0.945) < 0.04).all()


def test_values_made_of_sums():
    """A mean as a ratio of sums has the mean's interval; another agrees with its bootstrap."""
    rng = np.random.default_rng(5)
    values = rng.normal(1, 1, (3, 50))
    ones = np.stack([values, np.ones_like(values)], axis=2)
    found = interval_of_sums(ones, lambda rows: rows[:, 0] / rows[:, 1], OPTIONS)
    assert found == pytest.approx(over_seeds(values, np.arange(50), OPTIONS))
    sums = np.stack([rng.exponential(2, (1, 200)), rng.exponential(1, (1, 200))], axis=2)
    found = interval_of_sums(sums, lambda rows: np.sqrt(rows[:, 0] / rows[:, 1]), OPTIONS)
    once, draws, _ = resampled_sums(sums[0], np.arange(200), StatisticsOptions(resamples=4000))
    assert found.value == pytest.approx(np.sqrt(once[0] / once[1]))
    low, high = np.quantile(np.sqrt(draws[:, 0] / draws[:, 1]), [0.025, 0.975])
    assert found.low == pytest.approx(low, abs=0.02) and found.high == pytest.approx(high, abs=0.02)


def test_one_audio_has_no_interval():
    for one in (
        over_seeds(np.ones((3, 2)), [0, 0], OPTIONS),
        interval_of_sums(np.ones((3, 1, 1)), lambda rows: rows[:, 0], OPTIONS),
    ):
        assert one.value == 1 and np.isnan([one.low, one.high]).all() and one.n == 1
        assert keyed("key", one) == {"key": 1.0, "key.n": 1}


# Paired differences


def test_paired_difference_matches_scipy():
    rng = np.random.default_rng(8)
    a = rng.normal(size=60)
    b = a + 0.25 + rng.normal(size=60)
    result = paired(a, b, np.arange(60), OPTIONS)
    reference = stats.ttest_rel(a, b)
    assert result.p_value == pytest.approx(reference.pvalue, abs=0.02)
    assert result.interval[:3] == pytest.approx((np.mean(a - b), *reference.confidence_interval()))
    test = stats.permutation_test((a - b,), np.mean, permutation_type="samples", n_resamples=9999, rng=0)
    assert result.p_value == pytest.approx(test.pvalue, abs=0.02)


def test_sign_flips_of_few_clusters_by_hand():
    # Cluster sums 3 and 1: of the four sign pairs, two reach |4|. Single rows would give another
    # answer.
    result = paired([1.0, 2.0, 1.0], [0.0, 0.0, 0.0], [0, 0, 1], OPTIONS)
    assert result.p_value == pytest.approx(0.5, abs=0.03)
    same = paired([1.0, 2.0], [1.0, 2.0], [0, 1], OPTIONS)
    assert same.p_value == 1 and same.interval[:3] == (0, 0, 0)


def test_sign_flip_keeps_its_level(monkeypatch):
    monkeypatch.setattr("aacstudy.analysis.statistics.PERMUTATIONS", 400)
    rng = np.random.default_rng(9)
    rejected = []
    for i in range(300):
        values, clusters = clustered_values(rng, audios=25)
        rejected.append(paired(values, 0 * values, clusters, StatisticsOptions(seed=i)).p_value <= 0.05)
    print(f"share of p <= 0.05 without a difference: {np.mean(rejected):.3f}")
    assert 0.01 <= np.mean(rejected) <= 0.09


def test_paired_difference_is_stronger_than_two_intervals():
    rng = np.random.default_rng(10)
    base, clusters = clustered_values(rng, audios=100)
    a = base + 0.05 * rng.normal(size=(3, len(base))) + 0.1
    b = base + 0.05 * rng.normal(size=(3, len(base)))
    result = paired(a, b, clusters, OPTIONS)
    assert result.interval.low > 0 and result.p_value < 0.001 and result.interval.unit == "audios, 3 seeds"
    assert over_seeds(a, clusters, OPTIONS).low < over_seeds(b, clusters, OPTIONS).high
    wider = paired(a, b, clusters, OPTIONS, SeedPart(10.0, 2)).interval
    assert wider.low < 0 < wider.high and wider.value == result.interval.value


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
    with pytest.raises(ValueError, match=r"values \(1, 2\) and clusters \(1,\)"):
        over_seeds([1.0, 2.0], [0], OPTIONS)
    with pytest.raises(ValueError, match=r"values \(2, 3\) and clusters"):
        over_seeds(np.zeros((2, 3)), [0, 1], OPTIONS)
    with pytest.raises(ValueError, match="not finite"):
        over_seeds([1.0, np.nan], [0, 1], OPTIONS)
    with pytest.raises(ValueError, match=r"a has shape \(2, 3\), b \(1, 3\)"):
        paired(np.zeros((2, 3)), np.zeros((1, 3)), [0, 1, 2], OPTIONS)
    with pytest.raises(ValueError, match="expected"):
        interval_of_sums(np.zeros((2, 3)), None, OPTIONS)
    with pytest.raises(ValueError, match="one for each"):
        resampled_sums(np.zeros((2, 3)), [0], OPTIONS)
    with pytest.raises(ValueError, match="constant"):
        variance_shares(np.ones((2, 2)))
    with pytest.raises(ValueError, match="from 0 to 1"):
        holm([0.5, 1.5])
    with pytest.raises(ValueError, match="finite"):
        student_interval([])


def test_tables_give_each_metric_what_it_gets_alone():
    rng = np.random.default_rng(12)
    base, clusters = clustered_values(rng)
    many = np.stack([np.stack([base] * 3) + 0.1 * rng.normal(size=(3, len(base))) for _ in range(4)])
    for values, one in zip(many, intervals_of(many, clusters, OPTIONS)):
        assert one == over_seeds(values, clusters, OPTIONS)
    for values, one in zip(many, differences_of(many - base, clusters, OPTIONS)):
        assert one == paired(values, np.stack([base] * 3), clusters, OPTIONS)


def test_resampled_sums_are_of_whole_clusters():
    rows = np.array([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]])
    once, draws, n = resampled_sums(rows, ["a", "a", "b"], StatisticsOptions(resamples=50))
    assert n == 2 and once.tolist() == [7.0, 70.0] and draws.shape == (50, 2)
    assert set(draws[:, 0]) == {6.0, 7.0, 8.0}
    np.testing.assert_allclose(draws[:, 1], 10 * draws[:, 0])


def test_points():
    assert Interval(0.031, 0.01, 0.052, 9, "audios").points() == "+3.1 points [+1.0, +5.2]"
    assert Interval(-0.2, -0.25, 0.0, 9, "audios").points(0) == "-20 points [-25, +0]"
