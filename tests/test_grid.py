"""The grid of normalisations: cells, tuning, marks, paired differences, banks and what may not be
known.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from aacstudy.analysis.retrieval import grid, methods, metrics
from aacstudy.analysis.retrieval.methods import METHODS, ONLINE, TRANSDUCTIVE, Pool
from aacstudy.analysis.statistics import paired
from aacstudy.options import StatisticsOptions

FEW = StatisticsOptions(resamples=200, seed=1)
BY_NAME = {one.name: one for one in METHODS}


def pool(seed, audios=20, each=2, bank=12, captions=15, match=0.8, bias=1.0, spread=0.3, banks=True):
    """Losses with a caption bias, a match, and captions of unequal scale; banks and a prior of the
    same captions.
    """
    rng = np.random.default_rng(seed)
    owners = np.repeat(np.arange(audios), each)
    tokens, bank_tokens = rng.integers(4, 12, len(owners)), rng.integers(4, 12, captions)
    mean, scale = 4 + bias * rng.normal(size=len(owners)), spread * rng.gamma(4, 0.25, len(owners))
    loss = mean + scale * rng.normal(size=(audios, len(owners)))
    loss[owners, np.arange(len(owners))] -= match
    heard = mean + scale * rng.normal(size=(bank, len(owners)))
    across = 4 + bias * rng.normal(size=captions) + spread * rng.normal(size=(audios, captions))
    one = Pool((loss * tokens).astype(np.float32), tokens, owners)
    if not banks:
        return one
    return replace(
        one,
        audio_bank=(heard * tokens).astype(np.float32),
        caption_bank=(across * bank_tokens).astype(np.float32),
        caption_bank_tokens=bank_tokens,
        priors={"trigram": -mean * tokens, "silence": rng.normal(-30, 5, len(owners))},
    )


@pytest.fixture(scope="module")
def both():
    return [(pool(seed), pool(seed + 100)) for seed in (0, 1)]


@pytest.fixture(scope="module")
def a2t(both):
    return grid.run(both, "a2t")


@pytest.fixture(scope="module")
def t2a(both):
    return grid.run(both, "t2a")


def test_every_method_of_the_sheet_is_there_with_its_marks(a2t, t2a):
    # no such prior here
    assert {name for name, _ in a2t} == set(BY_NAME) - {"pmi_noise", "pmi_mean_frame"}
    both_ways = {name for name, mark in a2t if mark == TRANSDUCTIVE and (name, ONLINE) in a2t}
    assert {
        "min_max",
        "z",
        "robust_z",
        "percentile",
        "pmi",
        "inverted_softmax",
        "csls",
        "qb_norm",
    } <= both_ways
    for name in ("raw", "raw_sum", "pmi_trigram", "pmi_silence"):
        assert (name, TRANSDUCTIVE) not in a2t and (name, ONLINE) in a2t
    for name in ("dual_softmax", "sinkhorn"):
        assert (name, ONLINE) not in a2t and (name, TRANSDUCTIVE) in a2t
    assert not any(name.startswith("pmi_") for name, _ in t2a)  # those priors are of captions


def test_without_banks_only_what_needs_none():
    cells = grid.run([(pool(0, banks=False), None)], "a2t")
    assert {name for name, mark in cells if mark == ONLINE} == {"raw", "raw_sum"}
    assert cells["pmi", TRANSDUCTIVE].values == (1.0,) and cells["pmi", TRANSDUCTIVE].tuning is None
    assert grid.honesty(cells, FEW).empty


def test_a_cell_is_the_method_and_the_metric(both, a2t):
    one = a2t["min_max", TRANSDUCTIVE]
    scored = both[0][0]
    scores = methods.normalise.min_max(scored.scores())
    expected = metrics.audio_to_text(scores, scored.owners, ks=grid.KS, tie_break=scored.scores())
    pd.testing.assert_frame_equal(one.tables[0], expected)
    assert one.numbers("hit@1").shape == (2, 20)
    high, low = (
        np.mean(
            [
                metrics.audio_to_text(methods.normalise.min_max(p.scores()), p.owners, (1,), ties)[
                    "hit@1"
                ].mean()
                for p, _ in both
            ]
        )
        for ties in ("optimistic", "pessimistic")
    )
    assert one.band == pytest.approx((low, high)) and high > low
    assert a2t["z", TRANSDUCTIVE].band[0] == a2t["z", TRANSDUCTIVE].band[1]


def test_band_of_text_to_audio_is_the_metrics():
    scores, owners = (
        np.random.default_rng(0).integers(0, 3, (6, 12)).astype(float),
        np.repeat(np.arange(6), 2),
    )
    for direction, search in (("t2a", metrics.text_to_audio), ("a2t", metrics.audio_to_text)):
        ends = [search(scores, owners, (1,), ties)["hit@1"].mean() for ties in ("pessimistic", "optimistic")]
        assert grid.tie_band(scores, owners, direction) == pytest.approx(tuple(ends))


def test_scored_pool_is_not_tuned_on(both):
    """Another scored pool with the same tuning pool gets the same parameters; other labels change
    nothing of scores.
    """
    for method in METHODS:
        for mark in method.marks(both[0][0], "a2t"):
            found = grid.cell([both[0]], "a2t", method, mark).values
            assert found == grid.cell([(pool(77), both[0][1])], "a2t", method, mark).values
            value = method.default
            shuffled = replace(both[0][0], owners=both[0][0].owners[::-1].copy())
            first, second = (method.apply(p, "a2t", mark, value) for p in (both[0][0], shuffled))
            np.testing.assert_array_equal(first, second)  # no bonus that looks at the ground truth


def test_online_cells_do_not_look_at_the_other_audios(both):
    scored = both[0][0]
    half = replace(scored, nll=scored.nll[:10], caption_bank=scored.caption_bank[:10])
    for method in METHODS:
        for direction in methods.DIRECTIONS:
            if ONLINE in method.marks(scored, direction) and not (
                direction == "t2a" and method.name == "qb_norm"
            ):
                whole, part = (method.apply(p, direction, ONLINE, method.default) for p in (scored, half))
                np.testing.assert_allclose(whole[:10], part, err_msg=f"{method.name}, {direction}")


def test_tuning_finds_the_best_of_the_choices(both):
    tune_pool = both[0][1]
    method = BY_NAME["pmi"]
    ranks = {
        v: methods.reciprocal_rank(method.apply(tune_pool, "a2t", ONLINE, v), tune_pool.owners, "a2t")
        for v in method.choices
    }
    assert ranks[methods.tune(method, tune_pool, "a2t", ONLINE)] == max(ranks.values())
    assert methods.tune(BY_NAME["z"], tune_pool, "a2t", ONLINE) is None
    assert methods.tune(method, None, "a2t", ONLINE) == method.default
    assert methods.tune(method, pool(0, banks=False), "a2t", ONLINE) == method.default


@pytest.mark.parametrize("direction", methods.DIRECTIONS)
def test_quick_reciprocal_rank_is_the_metrics(direction):
    scored = pool(3)
    search = {"t2a": metrics.text_to_audio, "a2t": metrics.audio_to_text}[direction]
    expected = search(scored.scores(), scored.owners)["mrr"].mean()
    assert methods.reciprocal_rank(scored.scores(), scored.owners, direction) == pytest.approx(expected)


def test_best_is_chosen_on_the_other_pool(both, a2t):
    key = grid.best(a2t, ONLINE)
    assert key[1] == ONLINE
    assert a2t[key].tuning == max(one.tuning for one in a2t.values() if one.mark == ONLINE)
    blind = grid.run([(pool(0), None)], "a2t", METHODS[:3])
    found = {k: one.numbers("hit@1").mean() for k, one in blind.items() if k[1] == TRANSDUCTIVE}
    assert grid.best(blind, TRANSDUCTIVE) == max(found, key=found.get)


def test_table_and_differences(a2t):
    table = grid.table(a2t, FEW)
    assert len(table) == len(a2t) and (table["n"] == 20).all()
    assert ((table["hit@1 low"] <= table["hit@1"]) & (table["hit@1"] <= table["hit@1 high"])).all()
    row = table[(table["method"] == "min_max") & (table["mark"] == TRANSDUCTIVE)].iloc[0]
    assert "–" in row["ties"] and row["parameter"] == ""
    assert table[table["method"] == "pmi"]["parameter"].str.startswith("alpha = ").all()
    reference = ("raw", ONLINE)
    compared = grid.compared(a2t, [reference], FEW)
    assert len(compared) == len(a2t) - 1 and (compared["p (Holm)"] >= compared["p"]).all()
    one = compared[(compared["method"] == "z") & (compared["mark"] == TRANSDUCTIVE)].iloc[0]
    alone = paired(
        a2t["z", TRANSDUCTIVE].numbers("hit@1"), a2t[reference].numbers("hit@1"), np.arange(20), FEW
    )
    assert (one["value"], one["low"], one["high"], one["p"]) == pytest.approx(
        (*alone.interval[:3], alone.p_value)
    )
    assert one["low"] > 0  # the bias was made for it


def test_honesty_is_online_minus_transductive(a2t):
    costs = grid.honesty(a2t, FEW).set_index("method")
    assert {"min_max", "z", "pmi"} <= set(costs.index) and "raw" not in costs.index
    for name, row in costs.iterrows():
        assert row["cost"] == pytest.approx(row[ONLINE] - row[TRANSDUCTIVE])
        assert row[ONLINE] == pytest.approx(a2t[name, ONLINE].numbers("hit@1").mean())


def test_bank_sizes_end_at_the_whole_bank(both, a2t):
    grown = grid.by_bank_size(both, ["z", "centre"], [2, 4, 99], FEW)
    assert sorted(set(grown["audios"])) == [2, 4, 12] and len(grown) == 6
    last = grown[(grown["audios"] == 12) & (grown["method"] == "z")].iloc[0]
    assert last["value"] == pytest.approx(a2t["z", ONLINE].numbers("hit@1").mean())
    again = grid.by_bank_size(both, ["z", "centre"], [2, 4, 99], FEW)
    pd.testing.assert_frame_equal(grown, again)
    assert grid.smallest_bank(grown, "z", 2.0) is None
    assert grid.smallest_bank(grown, "z", 0.0) == 2


def test_rank_changes_show_the_identities(both):
    changes = grid.rank_changes(both)
    assert all(grid.held(changes)) and len(grid.held(changes)) > 20
    both_axes = changes[changes["normalises"] == "both"].set_index("method")
    assert set(both_axes.index) == {"csls", "double_centre", "sinkhorn"}
    assert (both_axes[["a2t", "t2a"]] > 0).all(axis=None)  # the measurement can see a change
    captions = changes[changes["normalises"] == "captions"].set_index("method")
    assert captions.loc["z", "a2t"] > 0
    broken = changes.copy()
    broken.loc[broken["normalises"] == "captions", "t2a"] = 1.0
    assert not all(grid.held(broken))


def test_results_are_flat(a2t):
    flat = grid.results("a2t", a2t, FEW)
    key = "a2t.grid.pmi.online.hit@1"
    assert flat[key] == pytest.approx(a2t["pmi", ONLINE].numbers("hit@1").mean())
    assert flat[f"{key}.low"] <= flat[key] <= flat[f"{key}.high"] and flat[f"{key}.n"] == 20
    assert len(flat) == len(a2t) * len(grid.KEPT) * 4
