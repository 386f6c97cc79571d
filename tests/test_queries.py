"""Numbers of queries by hand on three audios and four captions, and what is told of them."""

import numpy as np
import pandas as pd
import pytest

from aacstudy.analysis.retrieval import grid, metrics
from aacstudy.analysis.retrieval.normalise import NORMALISERS
from aacstudy.analysis.statistics import Interval, keyed, variance_shares
from aacstudy.options import StatisticsOptions
from aacstudy.scoring.matrix import Losses

FEW = StatisticsOptions(resamples=200, seed=1)


def losses(mean, tokens, owners):
    mean, tokens = np.array(mean, dtype=np.float32), np.array(tokens)
    audios, captions = mean.shape
    return Losses(
        mean * tokens,
        tokens,
        np.array(owners),
        [f"a{i}" for i in range(audios)],
        [f"c{i}" for i in range(captions)],
    )


# Nats per token; the first audio owns two captions. Sums rank otherwise: tokens differ.
HAND = losses(
    [[1.0, 2.0, 0.5, 3.0], [2.0, 3.0, 0.25, 2.5], [3.0, 1.0, 0.75, 2.0]],
    tokens=[2, 1, 8, 2],
    owners=[0, 0, 1, 2],
)
# Min-max scores of HAND: [[1, .5, .5, 0], [.5, 0, 1, .5], [0, 1, 0, 1]]: the last audio has a tie
# of two ones.


def made(seed, audios=30, each=2, shift=-1.0, caption=0.8, noise=0.3):
    rng = np.random.default_rng(seed)
    owners = np.repeat(np.arange(audios), each)
    mean = 4 + rng.normal(0, caption, len(owners)) + rng.normal(0, noise, (audios, len(owners)))
    mean[owners, np.arange(len(owners))] += shift
    return losses(mean, rng.integers(3, 12, len(owners)), owners)


def tables_of(matrices, direction):
    return {name: [grid.queries(one, direction, name) for one in matrices] for name in NORMALISERS}


# Retrieval


def test_text_to_audio_by_hand():
    table = grid.queries(HAND, "t2a", "raw")
    assert table["audio"].tolist() == [0, 0, 1, 2]
    assert table["rank"].tolist() == [1, 2, 1, 1]
    assert table["hit@1"].tolist() == [1, 0, 1, 1] and table["hit@5"].tolist() == [1, 1, 1, 1]
    assert table["mrr"].tolist() == table["map@10"].tolist() == [1, 0.5, 1, 1]


def test_audio_to_text_by_hand():
    table = grid.queries(HAND, "a2t", "raw")
    assert table["audio"].tolist() == [0, 1, 2]
    assert table["rank"].tolist() == [2, 1, 3]
    assert table["hit@1"].tolist() == [0, 1, 0] and table["recall@1"].tolist() == [0, 1, 0]
    assert table["map@10"].tolist() == pytest.approx([(1 / 2 + 2 / 3) / 2, 1, 1 / 3])


@pytest.mark.parametrize(
    ("ties", "hits", "ranks"),
    [
        ("raw", [1, 1, 0], [1, 1, 2]),  # of the tie the other caption is cheaper
        ("expected", [1, 1, 0.5], [1, 1, 1.5]),
        ("optimistic", [1, 1, 1], [1, 1, 1]),
        ("pessimistic", [1, 1, 0], [1, 1, 2]),
    ],
)
def test_min_max_ties_by_hand(ties, hits, ranks):
    table = grid.queries(HAND, "a2t", "min_max", ties)
    assert table["hit@1"].tolist() == hits and table["rank"].tolist() == ranks


@pytest.mark.parametrize("direction", ["t2a", "a2t"])
def test_raw_ties_are_a_sort_by_two_keys(direction):
    one = made(3)
    rng = np.random.default_rng(0)
    coarse = losses(np.round(one.mean + rng.normal(0, 0.01, one.nll.shape), 3), [1] * 60, one.owners)
    table = grid.queries(coarse, direction, "min_max", "raw")
    raw = -coarse.mean.astype(float)
    scaled = NORMALISERS["min_max"](raw)
    relevant = coarse.owners[None, :] == np.arange(30)[:, None]
    if direction == "t2a":
        raw, scaled, relevant = raw.T, scaled.T, relevant.T
    order = np.lexsort((-raw, -scaled), axis=1)
    ranks = [int(np.flatnonzero(hit[row])[0]) + 1 for hit, row in zip(relevant, order)]
    assert table["rank"].tolist() == ranks
    if direction == "a2t":
        expected = grid.queries(coarse, direction, "min_max", "expected")
        assert expected["hit@1"].mean() != table["hit@1"].mean()  # the policy matters here


@pytest.mark.parametrize("direction", ["t2a", "a2t"])
def test_the_authors_order_is_their_arithmetic(direction):
    """Their scaling of losses [queries, items] once more: steps by argsort for tied minima."""
    one = made(3)
    loss = one.mean.astype(float)
    scaled = (loss - loss.min(axis=0)) / (loss.max(axis=0) - loss.min(axis=0))
    own = np.arange(30)[:, None] == one.owners[None, :]
    if direction == "t2a":
        loss, scaled, own = loss.T, scaled.T, own.T
    policy = grid.queries(one, direction, "min_max", "authors")
    theirs = scaled.copy()
    for row in range(len(theirs)):
        tied = theirs[row] == theirs[row].min()
        argsort = np.argsort(loss[row, tied], kind="stable")
        theirs[row, tied] = theirs[row].min() + 1e-5 * (argsort - tied.sum())
    best = theirs.argmin(axis=1)
    assert policy["hit@1"].tolist() == own[np.arange(len(own)), best].astype(float).tolist()
    if direction == "a2t":
        assert (scaled == scaled.min(axis=1, keepdims=True)).sum(axis=1).max() > 2


def test_the_authors_order_by_hand():
    # argsort of 3, 1, 2 is 1, 2, 0: the last of the three, not the best, comes first
    order = metrics.authors_order([[1.0, 1.0, 0.0, 1.0]], [[3.0, 1.0, 0.5, 2.0]])
    assert order.tolist() == [[-1.0, -2.0, 0.0, 0.0]]


def test_what_normalising_changes():
    one = made(0)
    tables = tables_of([one], "t2a")
    for name in ("min_max", "z"):
        pd.testing.assert_series_equal(tables[name][0]["rank"], tables["raw"][0]["rank"])
    turned = tables_of([one], "a2t")
    # the caption bias
    assert turned["min_max"][0]["hit@1"].mean() > turned["raw"][0]["hit@1"].mean()


def test_chance_is_exact():
    assert grid.chance(HAND, "t2a").to_dict() == pytest.approx({1: 1 / 3, 2: 2 / 3})
    two_of_four = (5 / 6 + 1 / 2 + 1 / 2) / 3
    assert grid.chance(HAND, "a2t").to_dict() == pytest.approx({1: (2 + 1 + 1) / 12, 2: two_of_four})
    many = made(0, audios=50, each=5)
    found = grid.chance(many, "a2t")
    assert found.index.tolist() == list(grid.CURVE) and found.is_monotonic_increasing
    flat = losses(np.ones((50, 250)), [1] * 250, many.owners)
    tied = grid.queries(flat, "a2t", "raw")
    assert found[list(grid.KS)].tolist() == pytest.approx([tied[f"hit@{k}"].mean() for k in grid.KS])


def test_curves():
    tables = tables_of([made(0), made(1)], "a2t")
    curves = grid.curves(tables, FEW)
    assert set(curves.columns) == {"normaliser", "k", "value", "low", "high", "n", "unit"}
    row = curves[(curves["normaliser"] == "min_max") & (curves["k"] == 1)].iloc[0]
    assert row["value"] == pytest.approx(np.mean([t["hit@1"].mean() for t in tables["min_max"]]))
    assert (curves["low"] <= curves["value"]).all() and (curves["value"] <= curves["high"]).all()
    assert (curves["n"] == 30).all() and curves["unit"].str.contains("2 seeds").all()
    for _, rows in curves.groupby("normaliser"):
        assert rows["k"].tolist() == [1, 5, 10] and rows["value"].is_monotonic_increasing


def test_unit_of_text_to_audio_is_the_audio():
    (table,) = tables_of([made(0, audios=30, each=2)], "t2a")["raw"]
    found = grid.interval([table], "hit@1", FEW)
    assert len(table) == 60 and found.n == 30 and "one seed" in found.unit


def test_results_are_flat_numbers():
    tables = tables_of([made(0), made(1)], "a2t")
    flat = grid.retrieval_results("a2t", tables, [1234, 1235], FEW)
    for name in NORMALISERS:
        key = f"a2t.{name}.hit@1"
        seeds = [t["hit@1"].mean() for t in tables[name]]
        assert [flat[f"{key}.seed_{s}"] for s in (1234, 1235)] == pytest.approx(seeds)
        assert flat[key] == pytest.approx(np.mean(seeds))
        assert flat[f"{key}.low"] <= flat[key] <= flat[f"{key}.high"] and flat[f"{key}.n"] == 30
        medians = [t["rank"].median() for t in tables[name]]
        assert flat[f"a2t.{name}.median_rank"] == np.mean(medians)
        assert flat[f"a2t.{name}.median_rank.seed_1235"] == medians[1]
    assert all(isinstance(value, (int, float)) for value in flat.values())
    other = grid.retrieval_results("t2a", tables_of([made(0)], "t2a"), [7], FEW)
    assert "t2a.hit@1" in other and "t2a.hit@1.seed_7" in other
    assert not any("raw" in key or "min_max" in key for key in other)


def test_keyed():
    flat = keyed("x", Interval(0.5, 0.25, 0.75, 9, "audios"), [0.25, 0.75], [1, 2])
    assert flat == {
        "x": 0.5,
        "x.low": 0.25,
        "x.high": 0.75,
        "x.n": 9,
        "x.seed_1": 0.25,
        "x.seed_2": 0.75,
    }
    assert keyed("x", None, [3.0], [1]) == {"x.seed_1": 3.0}
    assert list(keyed("x", Interval(1, 1, 1, 1, "a"))) == ["x", "x.low", "x.high", "x.n"]


# Variance


@pytest.mark.parametrize("shift", [0.0, -1.0, -3.0])  # a strong match is most of the interaction
@pytest.mark.parametrize("audios", [30, 120])
def test_variance_shares(shift, audios):
    matrices = [made(seed, audios=audios, shift=shift) for seed in (0, 1)]
    shares = grid.variance(matrices, FEW)
    assert shares.index.tolist() == ["caption", "audio", "interaction"]
    assert shares["value"].sum() == pytest.approx(1)
    assert ((shares["low"] <= shares["value"]) & (shares["value"] <= shares["high"])).all()
    assert (shares["low"] < shares["high"]).all()
    assert shares[["low", "high"]].to_numpy().min() >= 0 and shares[["low", "high"]].to_numpy().max() <= 1
    by_hand = np.mean([variance_shares(one.mean)["caption"] for one in matrices])
    assert shares.loc["caption", "value"] == pytest.approx(by_hand)


def test_variance_finds_the_cause():
    captions = grid.variance([made(0, caption=2.0, noise=0.1, shift=0)], FEW)["value"]
    pairs = grid.variance([made(0, caption=0.1, noise=2.0, shift=0)], FEW)["value"]
    assert captions["caption"] > 0.9 and pairs["interaction"] > 0.8


def test_unknown_names_are_errors():
    with pytest.raises(KeyError):
        grid.queries(HAND, "sideways", "raw")
    with pytest.raises(KeyError):
        grid.queries(HAND, "t2a", "rwa")
    with pytest.raises(ValueError, match="unknown ties policy"):
        grid.queries(HAND, "t2a", "raw", "lucky")
