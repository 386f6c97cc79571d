"""Normalisations: by hand, ranges, moments, constant columns, banks, identities and errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from aacstudy.analysis.retrieval import normalise
from aacstudy.analysis.retrieval.compete import (
    csls,
    double_centre,
    dual_softmax,
    inverted_softmax,
    log_mean_exp,
    pmi,
    qb_norm,
    sinkhorn,
)
from aacstudy.analysis.retrieval.metrics import audio_to_text, text_to_audio
from aacstudy.analysis.retrieval.normalise import (
    NORMALISERS,
    centre,
    divide_range,
    min_max,
    per_audio,
    percentile,
    raw,
    robust_z,
    scale,
    shift_min,
    z_score,
)

# Increasing maps of each caption's column, so they cannot touch text-to-audio.
OF_COLUMNS = {
    **NORMALISERS,
    **{f.__name__: f for f in (centre, scale, shift_min, divide_range, robust_z, pmi, inverted_softmax)},
}
OF_POOL = {"dual_softmax": dual_softmax, "sinkhorn": sinkhorn}
OF_BOTH = {"csls": csls, "double_centre": double_centre}
ALL = {**OF_COLUMNS, **OF_BOTH, "percentile": percentile, "qb_norm": qb_norm}


def random_scores(seed, audios=12, captions=20):
    return -np.random.default_rng(seed).gamma(3, 1, (audios, captions))


def case(seed, audios=12, each=2):
    """Tie-free scores of a weak match under a strong caption bias, and owners."""
    rng = np.random.default_rng(seed)
    owners = np.repeat(np.arange(audios), each)
    scores = rng.normal(size=(audios, len(owners))) + 2 * rng.normal(size=len(owners)) - 9
    scores[owners, np.arange(len(owners))] += 1
    return scores, owners


def ranks(scores, owners, direction):
    return direction(scores, owners, ks=(1,))["rank"].tolist()


# By hand


def test_by_hand():
    scores = np.array([[-3.0, 2.0], [-1.0, 2.0], [-2.0, 2.0]])
    assert min_max(scores).tolist() == [[0, 0.5], [1, 0.5], [0.5, 0.5]]
    np.testing.assert_allclose(z_score(scores), [[-np.sqrt(1.5), 0], [np.sqrt(1.5), 0], [0, 0]], atol=1e-15)
    np.testing.assert_array_equal(raw(scores), scores)
    assert centre(scores).tolist() == [[-1, 0], [1, 0], [0, 0]]
    assert shift_min(scores).tolist() == [[0, 0], [2, 0], [1, 0]]
    # the constant column stays
    assert divide_range(scores).tolist() == [[-1.5, 2], [-0.5, 2], [-1, 2]]
    np.testing.assert_allclose(scale(scores)[:, 0], np.array([-3, -1, -2]) * np.sqrt(1.5))
    assert percentile(scores).tolist() == [[0, 0], [2 / 3, 0], [1 / 3, 0]]
    assert double_centre(scores).tolist() == [[-0.5, 0.5], [0.5, -0.5], [0, 0]]


def test_robust_z_by_hand():
    # median 2, deviations 2 1 0 1 98: their median 1
    bank = np.array([[0.0], [1], [2], [3], [100]])
    np.testing.assert_allclose(robust_z([[4.0]], bank), 2 / 1.4826022185056018)
    half = np.array([[1.0], [1], [1], [5]])  # no absolute deviation: the standard one stands in
    np.testing.assert_allclose(robust_z(half)[:, 0], (half[:, 0] - 1) / half.std())
    normal = np.random.default_rng(0).normal(size=(20_000, 1))
    assert robust_z(normal).std() == pytest.approx(1, abs=0.03)


def test_robust_z_matches_scipy():
    scores = random_scores(1, 31, 5)
    expected = (scores - np.median(scores, axis=0)) / stats.median_abs_deviation(scores, scale="normal")
    np.testing.assert_allclose(robust_z(scores), expected)


def test_soft_maxes_match_scipy():
    scores, bank = random_scores(2), random_scores(3, audios=30)
    np.testing.assert_allclose(
        inverted_softmax(scores, bank, 3.0), scores - special.logsumexp(3 * bank, axis=0) / 3
    )
    np.testing.assert_allclose(log_mean_exp(bank), np.log(np.exp(bank).mean(axis=0)))
    product = np.exp(scores) * special.softmax(scores / 0.5, axis=0)
    np.testing.assert_allclose(np.exp(dual_softmax(scores, tau=0.5)), product)
    np.testing.assert_allclose(pmi(scores, bank, 0.5), scores - 0.5 * log_mean_exp(bank))
    prior = np.arange(20.0)
    np.testing.assert_allclose(pmi(scores, alpha=0.25, prior=prior), scores - prior / 4)


def test_csls_by_hand():
    scores = np.array([[4.0, 1.0, 0.0], [2.0, 3.0, 1.0]])
    # k = 2: r(a) = 2.5, 2.5; r(c) = 3, 2, 0.5
    assert csls(scores, k=2).tolist() == [[2.5, -2.5, -3], [-1.5, 1.5, -1]]
    # k = 1 with banks of other audios and captions
    bank, across = np.array([[0.0, 0, 0], [1, 2, 3]]), np.array([[5.0, 6], [7, 0]])
    assert csls(scores, bank, across, k=1).tolist() == [[1, -6, -9], [-4, -3, -8]]


def test_qb_norm_by_hand():
    bank = np.array([[1.0, 0.0, 0.0]])  # caption 0 alone is a bank audio's best
    scores = np.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
    found = qb_norm(scores, bank, beta=1.0)
    np.testing.assert_array_equal(found[0], inverted_softmax(scores, bank, 1.0)[0])
    np.testing.assert_array_equal(found[1], scores[1])  # its best caption is no hub of the bank
    np.testing.assert_array_equal(qb_norm(scores, bank, 1.0, k=3), inverted_softmax(scores, bank, 1.0))


def test_sinkhorn_balances_both_sides():
    scores = random_scores(4, 8, 24)
    transport = np.exp(sinkhorn(scores, tau=0.5, rounds=500))
    np.testing.assert_allclose(transport.sum(axis=0), 1)
    np.testing.assert_allclose(transport.sum(axis=1), 3, rtol=1e-6)
    sharp = sinkhorn(1e3 * scores, tau=0.02)  # what would underflow without care
    assert np.isfinite(sharp).all()


# Ranges and moments


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
    np.testing.assert_allclose(z_score(scores), centre(scale(scores)), atol=1e-9)
    np.testing.assert_allclose(scaled, shift_min(divide_range(scores)), atol=1e-9)
    assert (np.sort(percentile(scores), axis=0) == np.arange(audios)[:, None] / audios).all()


# Identities


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_pmi_with_the_banks_prior_ranks_like_inverted_softmax(seed):
    """With alpha = 1 and beta = 1, on sums: they differ by the logarithm of the bank's size."""
    scores, owners = case(seed)
    bank = random_scores(seed + 1, audios=7, captions=len(owners))
    for given_bank in (None, bank):
        first, second = pmi(scores, given_bank, 1.0), inverted_softmax(scores, given_bank, 1.0)
        size = len(scores if given_bank is None else bank)
        np.testing.assert_allclose(first - second, np.log(size))
        for direction in (audio_to_text, text_to_audio):
            assert ranks(first, owners, direction) == ranks(second, owners, direction)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_captions_leave_text_to_audio_and_audios_audio_to_text(seed):
    scores, owners = case(seed)
    bank = random_scores(seed + 1, audios=9, captions=len(owners))
    across = random_scores(seed + 2, audios=len(scores), captions=15)
    before = {direction: ranks(scores, owners, direction) for direction in (audio_to_text, text_to_audio)}
    for function in OF_COLUMNS.values():
        for given_bank in (None, bank):
            assert ranks(function(scores, given_bank), owners, text_to_audio) == before[text_to_audio]
        for given_bank in (None, across):
            turned = per_audio(function)(scores, given_bank)
            assert ranks(turned, owners, audio_to_text) == before[audio_to_text]
    assert ranks(dual_softmax(scores), owners, text_to_audio) == before[text_to_audio]
    tied = text_to_audio(percentile(scores, bank), owners, ks=(1,), tie_break=scores)["rank"].tolist()
    assert tied == before[text_to_audio]


def test_scales_are_of_the_unit_and_locations_not():
    """What is divided by its own spread does not care for sums or means per token; a difference
    does.
    """
    scores = random_scores(5)
    tokens = np.arange(1, 21)
    for function in (min_max, z_score, robust_z):
        np.testing.assert_allclose(function(scores * tokens), function(scores), atol=1e-12)
    np.testing.assert_allclose(centre(scores * tokens), centre(scores) * tokens)


def test_inverted_softmax_goes_to_the_maximum():
    scores = random_scores(6)
    np.testing.assert_allclose(inverted_softmax(scores, beta=1e5), scores - scores.max(axis=0), atol=1e-3)


def test_transductive_qb_norm_is_inverted_softmax():
    scores, _ = case(7)
    np.testing.assert_array_equal(qb_norm(scores, None, 2.0), inverted_softmax(scores, None, 2.0))


def test_double_centring_ranks_like_centring_on_either_axis():
    scores, owners = case(8)
    both = double_centre(scores)
    assert ranks(both, owners, audio_to_text) == ranks(centre(scores), owners, audio_to_text)
    assert ranks(both, owners, text_to_audio) == ranks(per_audio(centre)(scores), owners, text_to_audio)


def test_per_audio_is_the_transposition():
    scores, bank = random_scores(9), random_scores(10, captions=5)
    np.testing.assert_array_equal(per_audio(min_max)(scores), min_max(scores.T).T)
    np.testing.assert_array_equal(per_audio(pmi)(scores, bank, alpha=0.5), pmi(scores.T, bank.T, 0.5).T)


# Banks


@pytest.mark.parametrize("name", ALL)
def test_online_result_of_an_audio_ignores_the_others(name):
    """Also: the same input gives the same output, every time."""
    scores, bank, across = random_scores(0), random_scores(1, audios=30), random_scores(2, captions=15)
    more = {"across": across} if name in OF_BOTH else {}
    alone = {"across": across[3:4]} if name in OF_BOTH else {}
    whole = ALL[name](scores, bank, **more)
    np.testing.assert_array_equal(whole[3:4], ALL[name](scores[3:4], bank, **alone))
    np.testing.assert_array_equal(whole, ALL[name](scores, bank, **more))
    np.testing.assert_array_equal(ALL[name](scores), ALL[name](scores, bank=scores))
    if name in OF_COLUMNS:
        # Increasing per caption: the order of the audios stays, inside and outside of the bank's
        # range.
        np.testing.assert_array_equal(np.argsort(whole, axis=0), np.argsort(scores, axis=0))


@pytest.mark.parametrize("name", OF_POOL)
def test_what_needs_the_pool_refuses_a_bank(name):
    scores = random_scores(0)
    with pytest.raises(ValueError, match="no use for a bank"):
        OF_POOL[name](scores, scores)


def test_values_outside_the_bank_are_not_clipped():
    bank = np.array([[0.0], [2.0]])
    assert min_max([[-1.0], [3.0]], bank).tolist() == [[-0.5], [1.5]]


def test_constant_bank_column_carries_no_information():
    bank = np.full((3, 1), 0.1)  # its deviation rounds to 1e-17, not 0
    scores = np.array([[0.1], [0.7]])
    assert min_max(scores, bank).tolist() == [[0.5], [0.5]]
    assert z_score(scores, bank).tolist() == robust_z(scores, bank).tolist() == [[0], [0]]
    assert scale(scores, bank).tolist() == divide_range(scores, bank).tolist() == scores.tolist()
    assert min_max(bank).tolist() == [[0.5]] * 3 and z_score(bank).tolist() == [[0]] * 3


# Input


@pytest.mark.parametrize("name", [*ALL, *OF_POOL])
def test_input_is_left_alone_and_float32_keeps_its_order(name):
    scores = random_scores(2).astype(np.float32)
    before = scores.copy()
    result = (ALL | OF_POOL)[name](scores)
    assert result.dtype == np.float64 and not np.shares_memory(result, scores)
    np.testing.assert_array_equal(scores, before)
    if name in OF_COLUMNS:
        np.testing.assert_array_equal(np.argsort(result, axis=0), np.argsort(scores, axis=0))


@pytest.mark.parametrize("name", ALL)
def test_errors(name):
    scores = random_scores(3)
    for bad in (np.nan, np.inf):
        broken = scores.copy()
        broken[4, 7] = bad
        with pytest.raises(ValueError, match=f"scores has {bad} at row 4, column 7"):
            ALL[name](broken)
        with pytest.raises(ValueError, match=f"bank has {bad} at row 4, column 7"):
            ALL[name](scores, broken)
    with pytest.raises(ValueError, match="same captions"):
        ALL[name](scores, scores[:, :5])
    with pytest.raises(ValueError, match="shape"):
        ALL[name](scores[0])
    if name in OF_BOTH:
        with pytest.raises(ValueError, match="same audios"):
            ALL[name](scores, across=scores[:5])


def test_priors_must_fit():
    with pytest.raises(ValueError, match=r"prior has shape \(3,\), expected \(20,\)"):
        pmi(random_scores(0), prior=np.zeros(3))
    with pytest.raises(ValueError, match="finite"):
        pmi(random_scores(0), prior=np.full(20, np.nan))


def test_module_lists_what_the_paper_compares():
    assert {"raw", "min_max", "z"} == set(NORMALISERS) and normalise.min_max is NORMALISERS["min_max"]
