"""Normalisations: ranges, moments, constant columns, banks and errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aacstudy.retrieval.normalise import NORMALISERS, min_max, raw, z_score


def random_scores(seed, audios=12, captions=20):
    return -np.random.default_rng(seed).gamma(3, 1, (audios, captions))


def test_by_hand():
    scores = np.array([[-3.0, 2.0], [-1.0, 2.0], [-2.0, 2.0]])
    assert min_max(scores).tolist() == [[0, 0.5], [1, 0.5], [0.5, 0.5]]
    np.testing.assert_allclose(z_score(scores), [[-np.sqrt(1.5), 0], [np.sqrt(1.5), 0], [0, 0]], atol=1e-15)
    np.testing.assert_array_equal(raw(scores), scores)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 15), st.integers(1, 8))
def test_ranges_and_moments(seed, audios, captions):
    scores = random_scores(seed, audios, captions)
    scaled = min_max(scores)
    assert ((scaled == 0).sum(axis=0) == 1).all() and ((scaled == 1).sum(axis=0) == 1).all()
    assert scaled.min() == 0 and scaled.max() == 1
    standard = z_score(scores)
    np.testing.assert_allclose(standard.mean(axis=0), 0, atol=1e-10)
    np.testing.assert_allclose(standard.std(axis=0), 1)


@pytest.mark.parametrize("name", NORMALISERS)
def test_online_result_of_an_audio_ignores_the_others(name):
    scores, bank = random_scores(0), random_scores(1, audios=30)
    whole = NORMALISERS[name](scores, bank)
    np.testing.assert_array_equal(whole[3:4], NORMALISERS[name](scores[3:4], bank))
    np.testing.assert_array_equal(NORMALISERS[name](scores), NORMALISERS[name](scores, bank=scores))
    # Increasing per caption: the order of the audios stays, inside and outside of the bank's range.
    np.testing.assert_array_equal(np.argsort(whole, axis=0), np.argsort(scores, axis=0))


def test_values_outside_the_bank_are_not_clipped():
    bank = np.array([[0.0], [2.0]])
    assert min_max([[-1.0], [3.0]], bank).tolist() == [[-0.5], [1.5]]


def test_constant_bank_column_carries_no_information():
    bank = np.full((3, 1), 0.1)  # its deviation rounds to 1e-17, not 0
    scores = np.array([[0.1], [0.7]])
    assert min_max(scores, bank).tolist() == [[0.5], [0.5]]
    assert z_score(scores, bank).tolist() == [[0], [0]]
    assert min_max(bank).tolist() == [[0.5]] * 3 and z_score(bank).tolist() == [[0]] * 3


@pytest.mark.parametrize("name", NORMALISERS)
def test_input_is_left_alone_and_float32_keeps_its_order(name):
    scores = random_scores(2).astype(np.float32)
    before = scores.copy()
    result = NORMALISERS[name](scores)
    assert result.dtype == np.float64 and not np.shares_memory(result, scores)
    np.testing.assert_array_equal(scores, before)
    np.testing.assert_array_equal(np.argsort(result, axis=0), np.argsort(scores, axis=0))


@pytest.mark.parametrize("name", NORMALISERS)
def test_errors(name):
    scores = random_scores(3)
    for bad in (np.nan, np.inf):
        broken = scores.copy()
        broken[4, 7] = bad
        with pytest.raises(ValueError, match=f"scores has {bad} at row 4, column 7"):
            NORMALISERS[name](broken)
        with pytest.raises(ValueError, match=f"bank has {bad} at row 4, column 7"):
            NORMALISERS[name](scores, broken)
    with pytest.raises(ValueError, match="same captions"):
        NORMALISERS[name](scores, scores[:, :5])
    with pytest.raises(ValueError, match="shape"):
        NORMALISERS[name](scores[0])
