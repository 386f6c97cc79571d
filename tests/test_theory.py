"""Why min-max works: each way by hand, the identity on any matrix, each rule for each outcome."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aacstudy.analysis.retrieval import compete, normalise, predictions, theory
from aacstudy.analysis.retrieval.methods import Pool
from aacstudy.analysis.retrieval.predictions import CANNOT_TELL, HELD, REFUTED
from aacstudy.analysis.statistics import Interval
from aacstudy.options import StatisticsOptions

OPTIONS = StatisticsOptions(resamples=200)


def pool_of(scores, owners, tokens=None):
    """A pool whose scores per token are these."""
    scores = np.asarray(scores, dtype=float)
    tokens = np.ones(scores.shape[1], dtype=int) if tokens is None else np.asarray(tokens)
    return Pool(-scores * tokens, tokens, np.asarray(owners))


def drawn(audios=40, per_audio=2, bias=3.0, match=3.0, spread=0.0, noise=1.0, seed=0):
    """Scores: a caption's bias, a match with its audio, noise; captions may differ in spread."""
    rng = np.random.default_rng(seed)
    owners = np.repeat(np.arange(audios), per_audio)
    scores = noise * rng.normal(size=(audios, len(owners)))
    scores[owners, np.arange(len(owners))] += match
    scores *= np.exp(spread * rng.normal(size=len(owners)))
    return pool_of(scores + bias * rng.normal(size=len(owners)), owners)


def test_soft_maximum_joins_minimum_mean_prior_and_maximum():
    scores = np.log([[1.0, 4.0], [3.0, 4.0]])
    np.testing.assert_allclose(theory.soft_maximum(scores, -np.inf), np.log([1, 4]))
    np.testing.assert_allclose(theory.soft_maximum(scores, 0), [np.log(3) / 2, np.log(4)])
    np.testing.assert_allclose(theory.soft_maximum(scores, 1), np.log([2, 4]))
    np.testing.assert_allclose(theory.soft_maximum(scores, 1), compete.log_mean_exp(scores))
    np.testing.assert_allclose(theory.soft_maximum(scores, np.inf), np.log([3, 4]))
    betas = [-np.inf, -30, -1, 0, 1, 30, np.inf]
    assert np.all(np.diff([theory.soft_maximum(scores, beta)[0] for beta in betas]) > 0)
    for beta, end in ((1e-6, 0), (-1e-6, 0), (2000, np.inf), (-2000, -np.inf)):
        near, limit = theory.soft_maximum(scores, beta), theory.soft_maximum(scores, end)
        np.testing.assert_allclose(near, limit, atol=1e-3)


def test_shifts_and_scales_by_hand():
    pool = pool_of([[0.0, -5], [2, -1], [4, -3]], [0, 2], tokens=[1, 2])
    np.testing.assert_allclose(theory.WAYS["shift_by_max"](pool), [[-4, -4], [-2, 0], [0, -2]])
    np.testing.assert_allclose(theory.WAYS["shift_by_min"](pool), [[0, 0], [2, 4], [4, 2]])
    np.testing.assert_allclose(theory.WAYS["shift_by_mean"](pool), [[-2, -2], [0, 2], [2, 0]])
    wide = pool_of([[0.0, -9], [2, -1]], [0, 1])  # ranges 2 and 8, their mean 5
    np.testing.assert_allclose(theory.WAYS["scale_about_min"](wide), [[0, -9], [5, -4]])
    np.testing.assert_allclose(theory.WAYS["scale_about_max"](wide), [[-3, -6], [2, -1]])
    constant = pool_of([[1.0, 0], [1, 2]], [0, 1])
    np.testing.assert_allclose(theory.WAYS["scale_about_mean"](constant), [[1, 0.5], [1, 1.5]])
    nine = pool_of(np.arange(101.0)[:, None], [0])
    assert theory.BY_QUANTILE[0.9](nine)[90, 0] == pytest.approx(0)
    assert theory.BY_DEVIATIONS[1.0](nine)[50, 0] == pytest.approx(-np.arange(101).std())


def test_the_ends_of_the_curves_are_the_named_ways():
    pool = drawn()
    ends = [(theory.BY_QUANTILE[0.0], "shift_by_min"), (theory.BY_QUANTILE[1.0], "shift_by_max")]
    for way, name in [*ends, (theory.BY_DEVIATIONS[0.0], "shift_by_mean"), (theory.BY_BETA[1.0], "pmi")]:
        np.testing.assert_allclose(way(pool), theory.WAYS[name](pool), atol=1e-9)


def test_leave_one_out_by_hand_and_against_a_loop():
    pool = pool_of([[0.0], [1], [3], [7]], [0])
    # Without 7 the range is 0 to 3; without 0 it is 1 to 7.
    np.testing.assert_allclose(theory.leave_one_out(pool)[:, 0], [-1 / 6, 1 / 7, 3 / 7, 7 / 3])
    scores = drawn(audios=7).scores()
    for a in range(7):
        online = normalise.min_max(scores[[a]], np.delete(scores, a, axis=0))
        np.testing.assert_allclose(theory.leave_one_out(drawn(audios=7))[[a]], online)
    tied = pool_of([[2.0], [2], [0], [0]], [0])  # leaving one of two equal ends out changes nothing
    np.testing.assert_allclose(theory.leave_one_out(tied)[:, 0], [1, 1, 0, 0])
    np.testing.assert_array_equal(theory.leave_one_out(pool_of([[1.0]] * 3, [0])), [[0.5]] * 3)
    with pytest.raises(ValueError, match="2 audios: leaving one out needs at least 3"):
        theory.leave_one_out(pool_of([[1.0], [2]], [0]))


def test_an_open_pool_ranks_as_if_query_and_owner_were_left_out():
    pool = drawn(audios=12, match=1.5)
    scores, found = pool.scores(sums=True), theory.pmi_open_pool(pool)
    for a in range(12):
        slow = np.empty(len(pool.owners))
        for c, owner in enumerate(pool.owners):
            others = np.delete(scores[:, c], sorted({a, owner}))
            # p / (1 - p) is increasing in the query's share p among itself and the others.
            slow[c] = scores[a, c] - np.log(np.exp(others).sum())
        np.testing.assert_array_equal(np.argsort(found[a]), np.argsort(slow))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(3, 9), st.integers(1, 3), st.floats(0, 5))
def test_identity_of_min_max_and_text_to_audio(seed, audios, per_audio, bias):
    pool = drawn(audios, per_audio, bias, match=1.0, spread=1.0, seed=seed)
    found = theory.identity([pool, pool])
    assert found.differences == 0 and found.n + found.unsought == 2 * audios
    # The same winners as a shift by the maximum, but for audios that no caption ranks first.
    optimistic = {"tie_break": None, "ties": "optimistic"}
    by_max, by_range = (
        theory.hits([pool], theory.WAYS[name], **optimistic)[0] for name in ("shift_by_max", "min_max")
    )
    assert np.count_nonzero(by_max != by_range) <= found.unsought / 2


def test_identity_by_hand():
    # Audio 0 is best of caption 0 (its own) and 1; audio 1 is best of none.
    pool = pool_of([[3.0, 2], [1, 1]], [0, 1])
    assert theory.identity([pool]) == (0, 1, 1)


def test_identity_would_be_seen_to_fail(monkeypatch):
    monkeypatch.setattr(theory, "min_max", Pool.scores)  # raw scores have no such identity
    assert theory.identity([drawn(bias=5.0)]).differences > 0


def test_tie_breaks_order_what_min_max_ties():
    # Audio 0 is the best of captions 0 (its own) and 1, both at 1. Raw loss prefers 1, which is
    # cheap everywhere; z and PMI prefer 0, which stands out more.
    pool = pool_of([[-5.0, -1, -9], [-9, -1.5, -3], [-9, -1.2, -9]], [0, 1, 2])
    found = {
        name: theory.hits([pool], theory.min_max, tie_break=one)[0, 0]
        for name, one in theory.TIE_BREAKS.items()
    }
    assert found == {"raw": 0, "random": 0.5, "z": 1, "pmi": 1}


def test_pool_sizes_deal_every_audio_once():
    pools = [drawn(audios=20, match=1.0), drawn(audios=20, match=1.0, seed=1)]
    found = theory.by_pool_size(pools, [5, 20], OPTIONS, draws=2).set_index(["way", "audios"])
    whole = theory.hits(pools, theory.min_max).mean()
    assert found.loc[("min_max", 20), "value"] == pytest.approx(whole)
    assert found.loc[("pmi", 5), "value"] > found.loc[("pmi", 20), "value"]
    gap = found.loc[("z", 5), "value"] - found.loc[("min_max", 5), "value"]
    assert found.loc[("z − min_max", 5), "value"] == pytest.approx(gap)
    assert (found["n"] == 20).all()


def test_part_keeps_owners_in_step():
    pool = pool_of(np.arange(12.0).reshape(3, 4), [0, 1, 2, 2])
    part = theory.part(pool, np.array([0, 2]))
    np.testing.assert_array_equal(part.scores(), [[0, 2, 3], [8, 10, 11]])
    np.testing.assert_array_equal(part.owners, [0, 1, 1])


def interval(low, high):
    return Interval((low + high) / 2, low, high, 100, "audios")


def test_an_interval_without_width_leaves_room_for_three_in_n():
    few, many = (Interval(0.0, 0.0, 0.0, n, "audios") for n in (20, 200))
    assert predictions.bounds(few) == (-0.15, 0.15) and predictions.bounds(interval(0, 1)) == (0, 1)
    assert predictions.level(few) == predictions.more(few) == CANNOT_TELL
    assert predictions.level(many) == predictions.not_more(many) == HELD


def test_more():
    assert predictions.more(interval(0.01, 0.3)) == HELD
    assert predictions.more(interval(-0.1, 0.01)) == REFUTED
    assert predictions.more(interval(-0.1, 0.1)) == CANNOT_TELL


def test_not_more():
    assert predictions.not_more(interval(-0.1, 0.01)) == HELD
    assert predictions.not_more(interval(0.01, 0.1)) == REFUTED
    assert predictions.not_more(interval(-0.1, 0.1)) == CANNOT_TELL


def test_level():
    assert predictions.level(interval(-0.01, 0.015)) == HELD
    assert predictions.level(interval(0.005, 0.015)) == HELD
    assert predictions.level(interval(0.005, 0.1)) == REFUTED
    assert predictions.level(interval(-0.1, -0.005)) == REFUTED
    assert predictions.level(interval(-0.1, 0.1)) == CANNOT_TELL


def judged(pool):
    outcomes = predictions.tested(theory.measure([pool]), OPTIONS)
    return predictions.verdict({name: one.measured for name, one in outcomes.items()})


def standing_out(misfit, audios=160):
    """Own pairs stand out above an upper end that many audios reach; captions differ by a shift.

    misfit: how far below the others lie, a different depth for each caption.
    """
    rng = np.random.default_rng(0)
    fits = rng.random((audios, audios)) < 0.1
    scores = np.where(fits, 0, -misfit * rng.uniform(0, 1, audios)) + rng.normal(0, 0.2, (audios, audios))
    scores[np.diag_indices(audios)] = rng.normal(1.2, 0.4, audios)
    return pool_of(scores + 3 * rng.normal(size=audios), np.arange(audios))


def below_a_hub(bias, audios=160):
    """Audio 0 is the best of every caption; an own pair reaches 0.7 of its column's range."""
    rng = np.random.default_rng(0)
    scores = rng.uniform(0, 0.5, (audios, audios))
    scores[-1], scores[0] = 0, 1
    scores[np.diag_indices(audios)] = 0.7
    scores[0, 0] = 1
    depth = np.exp(rng.normal(size=audios))
    return pool_of((scores - 1) * depth + bias * rng.normal(size=audios), np.arange(audios))


def test_verdict_upper_tail():
    """Misfit of unequal depth moves the mean but not the upper tail."""
    assert judged(standing_out(misfit=20)) == predictions.UPPER_TAIL


def test_verdict_location():
    """Columns that are equal but for a shift: the mean is as good a location as any."""
    assert judged(standing_out(misfit=0)) == predictions.LOCATION


def test_verdict_scale():
    """All captions reach the same maximum: only their ranges differ."""
    assert judged(below_a_hub(bias=0)) == predictions.SCALE


def test_verdict_both():
    assert judged(below_a_hub(bias=5)) == predictions.BOTH


def test_verdict_cannot_tell():
    assert judged(drawn(audios=6, match=0.5)) == CANNOT_TELL


def test_results_have_every_key_with_its_interval():
    pools = [drawn(audios=10), drawn(audios=10, seed=1)]
    found = theory.measure(pools)
    outcomes = predictions.tested(found, OPTIONS)
    flat = predictions.results(found, theory.identity(pools), outcomes, OPTIONS)
    for name in ("shift_by_max", "leave_one_out", "ties.pmi"):
        key = f"minmax.{name}.a2t.hit@1"
        assert flat[f"{key}.low"] <= flat[key] <= flat[f"{key}.high"] and flat[f"{key}.n"] == 10
        assert flat[key] == pytest.approx(found[name].mean())
    assert [flat[f"minmax.identity.differences{end}"] for end in ("", ".low", ".high")] == [0, 0, 0]
    assert sum(flat[name] for name in flat if name.startswith("minmax.verdict.")) == 1
