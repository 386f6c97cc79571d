"""Hubness: sums, hand cases, zeros included, and expectations over ties by brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from aacstudy.analysis.retrieval.hubness import hubness, occurrences, robin_hood, skewness
from aacstudy.analysis.retrieval.normalise import min_max


def test_by_hand():
    scores = np.array([[3.0, 2, 1, 0], [3, 2, 1, 0], [3, 1, 2, 0]])  # [queries, items]
    assert occurrences(scores, 1).tolist() == [3, 0, 0, 0]
    assert occurrences(scores, 2).tolist() == [3, 2, 1, 0]
    assert occurrences(scores.T, 2, axis=0).tolist() == [3, 2, 1, 0]
    result = hubness(scores, 2)
    assert result["anti_hub_share"] == 1 / 4 and result["largest"] == 3
    assert result["robin_hood"] == pytest.approx((1.5 + 0.5) / 6)
    assert result["distinct_top1_share"] == pytest.approx(1 / 3)
    assert result["skewness"] == pytest.approx(0)
    assert (result["k"], result["queries"], result["items"]) == (2, 3, 4)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_occurrences_sum_to_k_times_queries(data):
    queries, items = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 8))
    scores = data.draw(arrays(int, (queries, items), elements=st.integers(0, 3)))
    k = data.draw(st.integers(1, items))
    counts = occurrences(scores, k)
    assert counts.shape == (items,) and counts.sum() == pytest.approx(k * queries)
    assert (counts >= 0).all() and (counts <= queries + 1e-12).all()
    assert hubness(scores, k) == hubness(scores.T, k, axis=0)


@settings(max_examples=30, deadline=None)
@given(arrays(int, (2, 3), elements=st.integers(0, 1)), st.integers(1, 3))
def test_ties_are_the_mean_over_all_orders(scores, k):
    """Each query breaks its ties in its own order: the mean over all pairs of orders."""

    def top(row):
        return [sorted(order, key=lambda i: -row[i])[:k] for order in itertools.permutations(range(3))]

    counts, missed, firsts = [], [], []
    for lists in itertools.product(*(top(row) for row in scores)):
        found = np.bincount(np.concatenate(lists), minlength=3)
        counts.append(found)
        missed.append(np.mean(found == 0))
        firsts.append(len({items[0] for items in lists}) / 2)
    np.testing.assert_allclose(occurrences(scores, k), np.mean(counts, axis=0))
    result = hubness(scores, k)
    assert result["anti_hub_share"] == pytest.approx(np.mean(missed))
    assert result["distinct_top1_share"] == pytest.approx(np.mean(firsts))


def test_constant_matrix_has_no_hubs():
    result = hubness(np.zeros((50, 7)), 3)
    assert result["skewness"] == 0 and result["robin_hood"] == pytest.approx(0)
    assert result["largest"] == pytest.approx(150 / 7)


def test_min_max_cannot_make_every_caption_a_top_1():
    scores = np.random.default_rng(0).normal(size=(30, 150))
    scaled = min_max(scores)  # each caption has an exact 1, tied within its best audio
    assert (occurrences(scaled, 1) > 0).all()
    result = hubness(scaled, 1)
    assert result["anti_hub_share"] >= 1 - 30 / 150 and result["distinct_top1_share"] <= 1


def test_zeros_are_included_and_moments_match_scipy():
    scores = np.random.default_rng(1).normal(size=(40, 300)) + np.random.default_rng(2).normal(size=300)
    counts = occurrences(scores, 5)
    plain = np.bincount(np.argsort(-scores, axis=1)[:, :5].ravel(), minlength=300)
    np.testing.assert_array_equal(counts, plain)
    assert (counts == 0).sum() > 100
    result = hubness(scores, 5)
    assert result["skewness"] == pytest.approx(stats.skew(plain)) and result["skewness"] > 1
    assert result["anti_hub_share"] == pytest.approx(np.mean(plain == 0))
    assert result["distinct_top1_share"] == pytest.approx(len(np.unique(scores.argmax(axis=1))) / 40)


def test_one_item_with_all_occurrences():
    assert robin_hood([10, 0, 0, 0, 0]) == pytest.approx(0.8)
    assert skewness([2, 2, 2]) == 0


def test_errors():
    scores = np.zeros((3, 4))
    with pytest.raises(ValueError, match="k = 5"):
        occurrences(scores, 5)
    with pytest.raises(ValueError, match="k = 4"):
        hubness(scores, 4, axis=0)
    with pytest.raises(ValueError, match="axis"):
        occurrences(scores, 1, axis=2)
    scores[2, 1] = np.nan
    for axis in (0, 1):
        with pytest.raises(ValueError, match="row 2, column 1"):
            occurrences(scores, 1, axis=axis)
