"""Accuracies, controls, scores of pairs and verdicts: by hand, and what must follow for listeners
without ears.
"""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aacstudy.analysis import order
from aacstudy.options import StatisticsOptions

FEW = StatisticsOptions(resamples=200, seed=1)
CELLS = ("aa", "ab", "ba", "bb")


def items(own_text, own_swap, other_text=(0.0,) * 3, other_swap=(0.0,) * 3):
    names = ("own_text", "own_swap", "other_text", "other_swap")
    return pd.DataFrame(dict(zip(names, map(list, (own_text, own_swap, other_text, other_swap)))))


def test_accuracy_counts_ties_half():
    tables = [items([1, 2, 3], [2, 2, 1]), items([1, 1, 1], [1, 2, 2])]
    assert order.accuracy(tables, "own_text", "own_swap").tolist() == [[1, 0.5, 0], [0.5, 1, 1]]


def test_corrected_takes_the_blind_preference_away():
    tables = [items([1, 1, 3], [2, 2, 4], other_text=[1, 1, 5], other_swap=[1.5, 3, 6])]
    # Gains: -1 + 0.5, -1 + 2, -1 + 1
    assert order.corrected(tables).tolist() == [[1, 0, 0.5]]


def test_deaf_captioner_is_at_half_after_correction():
    rng = np.random.default_rng(0)
    text, swap = rng.normal(3, 0.1, 40), rng.normal(4, 0.1, 40)
    tables = [items(text, swap, text, swap)]
    assert order.accuracy(tables, "own_text", "own_swap").mean() == 1
    assert order.corrected(tables).mean() == 0.5


# --- tables -------------------------------------------------------------------------------------


def scored(seed, hears, n=120):
    """A table as stages write it, of a captioner that hears the order or prefers texts by a noise
    of its own.
    """
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "test": ["order"] * (n // 2) + ["before_after"] * (n // 2),
            "clip": [f"c{i // 2 % 40}" for i in range(n)],
            "connective": rng.choice(["before", "after", "then"], n),
            "form": rng.choice(["infix", "fronted"], n),
            "majority": rng.choice([0.0, 0.5, 1.0], n),
        }
    )
    prior = rng.normal(0, 0.5, n)
    for source in ("own", "other", "permuted", "null", "ngram"):
        gain = 2.0 if source == "own" and hears else 0.0
        table[f"{source}_text"] = 3 + rng.normal(0, 0.01, n)
        table[f"{source}_swap"] = 3 + prior + gain + rng.normal(0, 0.01, n)
    return table


def test_rows():
    table = scored(0, True)
    masks = order.rows(table)
    assert masks["order", "all"].sum() == masks["before_after", "all"].sum() == 60
    strict = table["connective"].isin(["before", "after"]) & (table["test"] == "order")
    assert (masks["order", "strict"] == strict).all()
    parts = [
        mask for (test, part), mask in masks.items() if test == "order" and part not in ("all", "strict")
    ]
    assert (np.sum(parts, axis=0) == (table["test"] == "order")).all()  # every item in one row
    assert ("order", "after, fronted") in masks and ("before_after", "strict") not in masks


def test_measured_has_every_control_with_its_interval():
    tables = [scored(0, True), scored(0, True)]
    table = order.measured(tables, FEW)
    every = {*order.SOURCES, "majority", "corrected", "corrected by trigram"}
    assert table.groupby(["test", "part"])["what"].agg(set).map(lambda found: found == every).all()
    assert ((table["low"] <= table["value"]) & (table["value"] <= table["high"])).all()
    row = table[(table["test"] == "order") & (table["part"] == "all") & (table["what"] == "accuracy")].iloc[0]
    by_hand = (tables[0]["own_text"] < tables[0]["own_swap"])[tables[0]["test"] == "order"].mean()
    assert row["value"] == pytest.approx(by_hand) and row["items"] == 60 and row["n"] <= 40
    assert "2 seeds" in row["unit"]


def test_controls_that_nobody_has_are_left_out():
    table = scored(0, True).drop(columns=["ngram_text", "ngram_swap", "majority", "null_text", "null_swap"])
    assert set(order.right([table])) == {"accuracy", "blind", "permuted audio", "corrected"}


def test_verdicts_of_a_listener_and_of_a_reader():
    hears, reads = (order.verdicts([scored(seed, one) for seed in (0, 0)], FEW) for one in (True, False))
    assert hears["heard"].tolist() == ["heard", "heard"]
    # where nothing differs the interval has no width, and decides nothing
    assert (reads["over blind, low"] == reads["over blind, high"]).tolist() == [True, False]
    assert reads["heard"].tolist() == ["undecided", "not detected"]
    assert (hears["over permuted, low"] > 0).all() and (reads["over permuted, low"] <= 0).all()
    assert (hears["p"] >= 2 / 10_001 - 1e-12).all()  # Holm doubles the smallest of two


def test_results_are_flat_numbers():
    tables = [scored(0, True), scored(1, True)]
    base, variant = (order.results(tables, name, [7, 8], FEW) for name in ("base", "positions"))
    wanted = (
        "accuracy",
        "blind",
        "null_audio",
        "permuted_audio",
        "trigram",
        "majority",
        "corrected",
        "corrected_trigram",
    )
    for key in wanted:
        for suffix in ("", ".low", ".high", ".n", ".seed_7", ".seed_8"):
            assert f"bat.{key}{suffix}" in base and f"bat.strict.{key}{suffix}" in base
            assert f"bat.positions.{key}{suffix}" in variant
            assert f"perturbed.base.before_after.{key}{suffix}" in base
    assert {"bat.over_blind", "bat.over_permuted_audio.low"} <= set(base)
    assert all(isinstance(value, (int, float)) for value in base.values())
    assert not set(base) & set(variant)


# --- pairs --------------------------------------------------------------------------------------


def cells(rows, source="own"):
    return pd.DataFrame(rows, columns=[f"{source}_{cell}" for cell in CELLS])


@pytest.mark.parametrize(
    ("losses", "text", "audio", "group", "matching"),
    [
        ((1, 2, 2, 1), 1, 1, 1, 1),
        (
            (1, 3, 2, 4),
            0,
            0,
            0,
            0,
        ),  # the first caption and the first clip win everything: 1 + 4 against 3 + 2
        ((1, 3, 2, 2.5), 1, 0, 0, 1),  # clip b prefers its caption, but caption b prefers clip a
        ((1, 2, 3, 2.5), 0, 1, 0, 1),
        ((2, 1, 1, 2), 0, 0, 0, 0),
        ((1, 1, 1, 1), 0, 0, 0, 0),  # ties fail
        ((1, 2, 1, 1), 0, 0, 0, 1),
    ],
)
def test_pair_scores_by_hand(losses, text, audio, group, matching):
    found = order.pair_scores(cells([losses])).iloc[0].to_dict()
    assert found == {"text": text, "audio": audio, "group": group, "matching": matching}


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), min_size=1, max_size=20))
def test_who_hears_nothing_scores_nothing(losses):
    """A caption costs the same on both clips: no pair is told apart, ties included."""
    blind = cells([(a, a, b, b) for a, b in losses])
    assert (order.pair_scores(blind).to_numpy() == 0).all()


def test_chance_of_pairs_by_simulation():
    """Twenty thousand pairs of random losses: within four standard errors."""
    n = 20_000
    found = order.pair_scores(cells(np.random.default_rng(0).normal(size=(n, 4)))).mean()
    for what, chance in order.CHANCE.items():
        assert abs(found[what] - chance) < 4 * np.sqrt(chance * (1 - chance) / n), what


def test_pairs_are_resampled_as_pairs():
    rng = np.random.default_rng(0)
    rows = [
        {"pair": f"p{n}", "comparison": comparison, "connective": connective}
        for n in range(10)
        for connective in ("before", "after")
        for comparison in ("reversed", "overlap")
    ]
    tables = [pd.concat([pd.DataFrame(rows), cells(rng.normal(size=(40, 4)))], axis=1) for _ in range(2)]
    found = order.pairs(tables, "own", FEW)
    assert set(found["part"]) == {"all", "before", "after"} and set(found["what"]) == set(order.CHANCE)
    whole = found[found["part"] == "all"]
    assert (
        (whole["n"] == 10).all() and (whole["items"] == 20).all() and set(whole["unit"]) == {"pairs, 2 seeds"}
    )
    row = whole[(whole["comparison"] == "overlap") & (whole["what"] == "text")].iloc[0]
    by_hand = np.mean([order.pair_scores(t)["text"][t["comparison"] == "overlap"].mean() for t in tables])
    assert row["value"] == pytest.approx(by_hand)
