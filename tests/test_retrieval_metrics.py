"""Retrieval metrics: hand cases, chance, exact tie expectations by brute force, invariances and two
oracles.
"""

import itertools
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pandas.testing import assert_frame_equal

from aacstudy.analysis.retrieval.metrics import (
    audio_to_text,
    chance,
    evaluate,
    relevance_from_owners,
    text_to_audio,
)
from aacstudy.analysis.retrieval.normalise import min_max, z_score

KS = (1, 2, 3, 5)
HIGHER_IS_BETTER = ["hit@1", "hit@5", "recall@1", "recall@5", "map@10", "mrr"]


def one_order(order, relevant, ks=KS):
    """Plain reference: the metrics of one query whose items are retrieved in `order`."""
    found = np.asarray(relevant)[list(order)]
    total, places = found.sum(), np.flatnonzero(found) + 1
    values = {f"hit@{k}": float(found[:k].any()) for k in ks}
    values |= {f"recall@{k}": found[:k].sum() / total for k in ks}
    precisions = [np.sum(places <= place) / place for place in places if place <= 10]
    values["map@10"] = sum(precisions) / min(10, total)
    return values | {"rank": float(places[0]), "mrr": 1 / places[0]}


def all_orders(keys, relevant):
    """Plain reference: one row per order of the items, ties in that order. keys: best item first
    when sorted.
    """
    orders = (
        sorted(order, key=lambda item: keys[item]) for order in itertools.permutations(range(len(keys)))
    )
    return pd.DataFrame([one_order(order, relevant) for order in orders])


@st.composite
def tied_query(draw):
    items = draw(st.integers(1, 6))
    scores = draw(arrays(int, items, elements=st.integers(0, 2)))
    relevant = draw(arrays(bool, items).filter(np.any))
    return scores, relevant


@st.composite
def tied_matrix(draw):
    audios, captions = draw(st.integers(1, 5)), draw(st.integers(0, 4))
    # Each audio has a caption; further ones fall to any audio, so the number per audio differs.
    extra = draw(st.lists(st.integers(0, audios - 1), min_size=captions, max_size=captions))
    owners = np.array(list(range(audios)) + extra)
    return draw(arrays(int, (audios, len(owners)), elements=st.integers(-3, 3))), owners


def random_case(seed=0, audios=40):
    """Tie-free scores with 1 to 7 captions per audio."""
    rng = np.random.default_rng(seed)
    owners = np.repeat(np.arange(audios), rng.integers(1, 8, audios))
    scores = rng.normal(size=(audios, len(owners)))
    scores[owners, np.arange(len(owners))] += 1
    return scores, owners


# Hand cases


def test_three_by_three_by_hand():
    scores = np.array([[0.9, 0.2, 0.4], [0.8, 0.5, 0.3], [0.3, 0.6, 0.1]])
    for direction in (text_to_audio, audio_to_text):
        table = direction(scores, np.arange(3), ks=(1, 2))
        assert table["audio"].tolist() == [0, 1, 2]
        assert table["rank"].tolist() == [1, 2, 3]
        assert table["hit@1"].tolist() == [1, 0, 0]
        assert table["hit@2"].tolist() == table["recall@2"].tolist() == [1, 1, 0]
        np.testing.assert_allclose(table["map@10"], [1, 1 / 2, 1 / 3])
        assert table["mrr"].mean() == pytest.approx(11 / 18)


def test_hit_and_recall_differ_with_two_captions_by_hand():
    scores = np.array([[0.5, 0.1, 0.3], [0.2, 0.4, 0.3]])
    table = audio_to_text(scores, [0, 0, 1], ks=(1, 2, 3))
    first = table.iloc[0]
    assert (first["hit@1"], first["recall@1"], first["recall@2"], first["recall@3"]) == (1, 0.5, 0.5, 1)
    np.testing.assert_allclose(table["map@10"], [(1 + 2 / 3) / 2, 1 / 2])


def test_ties_by_hand():
    # One item ahead, then four tied of which two are relevant: the first of them stands at 2, 3 or
    # 4.
    table = evaluate([[2, 1, 1, 1, 1]], np.array([[0, 1, 1, 0, 0]], bool), ks=(1, 2, 3))
    row = table.iloc[0]
    chances = {2: 3 / 6, 3: 2 / 6, 4: 1 / 6}
    assert row["hit@1"] == 0 and row["hit@2"] == pytest.approx(1 / 2) and row["hit@3"] == pytest.approx(5 / 6)
    assert row["rank"] == pytest.approx(sum(rank * p for rank, p in chances.items()))
    assert row["mrr"] == pytest.approx(sum(p / rank for rank, p in chances.items()))


def test_average_precision_divides_by_ten_at_most():
    relevant = np.ones((1, 12), bool)
    assert evaluate(np.arange(12.0)[None], relevant)["map@10"].item() == pytest.approx(1)
    assert evaluate(np.zeros((1, 12)), relevant)["map@10"].item() == pytest.approx(1)


def test_average_precision_counts_hits_in_the_order_of_their_ranks():
    """Precision at unsorted ranks (here 3 and 1 instead of 1 and 3) would be (1 / 3 + 2 / 1) / 2,
    above 1.
    """
    row = evaluate([[1.0, 2.0, 3.0]], np.array([[True, False, True]])).iloc[0]
    assert row["map@10"] == pytest.approx((1 / 1 + 2 / 3) / 2)


# Chance


def test_constant_matrix_gives_exactly_chance():
    owners = np.array([0, 1, 1, 2, 2, 2, 3, 4, 4, 5])
    relevant = relevance_from_owners(owners, 6)
    for direction, mask in ((text_to_audio, relevant.T), (audio_to_text, relevant)):
        result = direction(np.full((6, 10), 0.3), owners, ks=(1, 5, 10)).mean()
        for k in (1, 5, 10):
            for name, value in chance(mask, k).items():
                assert result[name] == pytest.approx(value, abs=1e-12)


def test_chance_by_hand():
    relevant = np.array([[1, 1, 0, 0, 0]], bool)
    assert chance(relevant, 2) == pytest.approx({"hit@2": 1 - (3 * 2) / (5 * 4), "recall@2": 2 / 5})
    assert chance(relevant, 9) == {"hit@9": 1, "recall@9": 1}


@pytest.mark.parametrize("ties", ["expected", "optimistic", "pessimistic"])
def test_shuffled_labels_give_chance(ties):
    rng = np.random.default_rng(1)
    owners = np.repeat(np.arange(300), 4)
    scores = rng.normal(size=(300, 1200))
    scores[owners, np.arange(1200)] += 2
    shuffled = rng.permutation(owners)
    relevant = relevance_from_owners(shuffled, 300)
    for direction, mask in ((text_to_audio, relevant.T), (audio_to_text, relevant)):
        table = direction(scores, shuffled, ks=(10,), ties=ties)
        for name, expected in chance(mask, 10).items():
            error = np.sqrt(expected * (1 - expected) / len(table))
            assert abs(table[name].mean() - expected) < 4 * error, (direction.__name__, name)


# Ties


@settings(max_examples=60, deadline=None)
@given(tied_query())
def test_expected_ties_are_the_mean_over_all_orders(query):
    scores, relevant = query
    orders = all_orders(-scores, relevant)
    exact = {
        ties: evaluate([scores], relevant[None], KS, ties).iloc[0] for ties in ("optimistic", "pessimistic")
    }
    expected = evaluate([scores], relevant[None], KS).iloc[0]
    np.testing.assert_allclose(expected[orders.columns], orders.mean(), atol=1e-12)
    best, worst = orders.max(), orders.min()
    best["rank"], worst["rank"] = worst["rank"], best["rank"]
    np.testing.assert_allclose(exact["optimistic"][orders.columns], best, atol=1e-12)
    np.testing.assert_allclose(exact["pessimistic"][orders.columns], worst, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(tied_query(), st.integers(0, 10**6))
def test_tie_break_orders_only_equal_scores(query, seed):
    scores, relevant = query
    second = np.random.default_rng(seed).integers(0, 2, len(scores))
    orders = all_orders([(-a, -b) for a, b in zip(scores, second)], relevant)
    row = evaluate([scores], relevant[None], KS, tie_break=[second]).iloc[0]
    np.testing.assert_allclose(row[orders.columns], orders.mean(), atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(tied_matrix())
def test_bounds_and_order_of_the_policies(case):
    scores, owners = case
    for direction in (text_to_audio, audio_to_text):
        high, mean, low = (
            direction(scores, owners, ties=t) for t in ("optimistic", "expected", "pessimistic")
        )
        better = HIGHER_IS_BETTER
        assert (high[better] >= mean[better] - 1e-12).all(axis=None)
        assert (mean[better] >= low[better] - 1e-12).all(axis=None)
        assert (high["rank"] <= mean["rank"] + 1e-12).all() and (mean["rank"] <= low["rank"] + 1e-12).all()
        assert (high[better] <= 1 + 1e-12).all(axis=None) and (low[better] >= 0).all(axis=None)


def test_index_order_does_not_favour_the_ground_truth_on_ties():
    scores = np.zeros((4, 12))
    tables = []
    for columns in ([0, 1, 2], [5, 6, 7], [9, 10, 11]):
        relevant = np.zeros((4, 12), bool)
        relevant[:, columns] = True
        tables.append(evaluate(scores, relevant))
    assert_frame_equal(tables[0], tables[1])
    assert_frame_equal(tables[0], tables[2])
    assert tables[0]["hit@1"].tolist() == pytest.approx([1 / 4] * 4)


def test_raw_tie_break_after_min_max():
    # Audio 0 is the best of all three captions, so min-max ties them at 1; only caption 1 is its
    # own.
    raw = np.array([[-1.0, -2.0, -3.0], [-4.0, -5.0, -6.0], [-5.0, -3.0, -6.5]])
    owners = np.array([1, 0, 2])
    scaled = min_max(raw)
    assert scaled[0].tolist() == [1, 1, 1]
    assert audio_to_text(scaled, owners).loc[0, "hit@1"] == pytest.approx(1 / 3)
    assert audio_to_text(scaled, owners, ties="optimistic").loc[0, "hit@1"] == 1
    by_raw = audio_to_text(scaled, owners, tie_break=raw).loc[0]
    assert by_raw["hit@1"] == 0 and by_raw["rank"] == 2
    # The second key is turned with the scores: tied audios of one caption.
    table = text_to_audio(np.zeros((3, 3)), owners, tie_break=raw)
    assert table["rank"].tolist() == [2, 1, 3]


# Invariances


@settings(max_examples=40, deadline=None)
@given(tied_matrix(), st.integers(0, 10**6))
def test_order_of_the_captions_does_not_matter(case, seed):
    scores, owners = case
    shuffle = np.random.default_rng(seed).permutation(len(owners))
    assert_frame_equal(audio_to_text(scores, owners), audio_to_text(scores[:, shuffle], owners[shuffle]))
    turned = text_to_audio(scores[:, shuffle], owners[shuffle])
    assert_frame_equal(text_to_audio(scores, owners).iloc[shuffle].reset_index(drop=True), turned)


@settings(max_examples=60, deadline=None)
@given(tied_matrix(), st.integers(0, 10**6))
def test_increasing_maps_per_caption_or_audio(case, seed):
    scores, owners = case
    rng = np.random.default_rng(seed)
    for axis, direction in ((0, text_to_audio), (1, audio_to_text)):
        shape = [1, 1]
        shape[1 - axis] = scores.shape[1 - axis]
        slope, shift = rng.integers(1, 5, shape), rng.integers(-50, 50, shape)
        assert_frame_equal(direction(scores, owners), direction(slope * scores**3 + shift, owners))


@pytest.mark.parametrize("normalise", [min_max, z_score])
def test_normalising_captions_changes_audio_to_text_only(normalise):
    scores, owners = random_case()
    scaled = normalise(scores)
    assert_frame_equal(text_to_audio(scores, owners), text_to_audio(scaled, owners))
    assert not audio_to_text(scores, owners).equals(audio_to_text(scaled, owners))


# Captions per audio, identical texts, errors


def test_relevance_with_any_number_of_captions():
    relevant = relevance_from_owners([0, 2, 2, 2, 1, 0], 4)
    assert relevant.dtype == bool and relevant.sum(axis=1).tolist() == [2, 1, 3, 0]
    assert (relevant.sum(axis=0) == 1).all()


def test_errors_name_what_is_wrong():
    scores, owners = np.zeros((2, 3)), np.array([0, 1, 1])
    broken = scores.copy()
    broken[1, 2] = np.nan
    for direction in (text_to_audio, audio_to_text):
        with pytest.raises(ValueError, match="NaN at row 1, column 2"):
            direction(broken, owners)
        with pytest.raises(ValueError, match="tie_break has NaN at row 1, column 2"):
            direction(scores, owners, tie_break=broken)
        with pytest.raises(ValueError, match="shape"):
            direction(scores, owners[:2])
        with pytest.raises(ValueError, match="tie_break has shape"):
            direction(scores, owners, tie_break=scores.T)
    with pytest.raises(ValueError, match="relevant has shape"):
        evaluate(scores, np.ones((3, 2), bool))
    with pytest.raises(ValueError, match="bool"):
        evaluate(scores, np.ones((2, 3)))
    with pytest.raises(ValueError, match="row 1 has no relevant"):
        audio_to_text(scores, [0, 0, 0])
    with pytest.raises(ValueError, match=r"owners\[2\] = 7"):
        text_to_audio(scores, [0, 1, 7])
    with pytest.raises(ValueError, match="unknown ties policy"):
        text_to_audio(scores, owners, ties="average")
    with pytest.raises(ValueError, match="at least 1"):
        text_to_audio(scores, owners, ks=(0,))


# Oracles on matrices without ties


def oracle_case():
    rng = np.random.default_rng(3)
    scores = rng.permuted(
        np.tile(np.arange(1.0, 41), (25, 1)), axis=1
    )  # above 0: torchmetrics drops the others
    # up to 14 relevant items: more than 10
    relevant = np.arange(40) < rng.integers(1, 15, 25)[:, None]
    return scores, rng.permuted(relevant, axis=1)


def test_against_torchmetrics():
    torch = pytest.importorskip("torch")
    retrieval = pytest.importorskip("torchmetrics.functional.retrieval")
    scores, relevant = oracle_case()
    table = evaluate(scores, relevant)
    for row, score, target in zip(table.to_dict("records"), torch.tensor(scores), torch.tensor(relevant)):
        for k in (1, 5, 10):
            assert row[f"hit@{k}"] == pytest.approx(
                retrieval.retrieval_hit_rate(score, target, top_k=k).item()
            )
            assert row[f"recall@{k}"] == pytest.approx(
                retrieval.retrieval_recall(score, target, top_k=k).item()
            )
        assert row["mrr"] == pytest.approx(retrieval.retrieval_reciprocal_rank(score, target).item())
        # torchmetrics divides by the hits within 10, here it is min(10, relevant).
        hits = round(row["recall@10"] * int(target.sum()))
        average = retrieval.retrieval_average_precision(score, target, top_k=10).item()
        assert row["map@10"] == pytest.approx(average * hits / min(10, int(target.sum())))


def test_against_ranx(monkeypatch):
    # compiling ranx takes a minute, running it here a moment
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    ranx = pytest.importorskip("ranx")
    scores, relevant = oracle_case()
    table = evaluate(scores, relevant)
    qrels = {f"q{q:02}": {f"d{i:02}": 1 for i in np.flatnonzero(row)} for q, row in enumerate(relevant)}
    run = {f"q{q:02}": {f"d{i:02}": float(s) for i, s in enumerate(row)} for q, row in enumerate(scores)}
    names = {f"hit@{k}": f"hit_rate@{k}" for k in (1, 5, 10)} | {
        f"recall@{k}": f"recall@{k}" for k in (1, 5, 10)
    }
    names |= {"map@10": "map@10", "mrr": "mrr"}
    theirs = ranx.evaluate(ranx.Qrels(qrels), ranx.Run(run), list(names.values()), return_mean=False)
    total = relevant.sum(axis=1)
    for ours, name in names.items():
        # ranx divides AP by all relevant items, here it is min(10, relevant).
        factor = total / np.minimum(10, total) if ours == "map@10" else 1
        np.testing.assert_allclose(table[ours], theirs[name] * factor, err_msg=ours)


def test_time_of_both_directions_on_clotho_size():
    rng = np.random.default_rng(0)
    owners = np.repeat(np.arange(1045), 5)
    scores = min_max(rng.normal(size=(1045, 5225)).astype(np.float32))
    start = time.perf_counter()
    text_to_audio(scores, owners)
    audio_to_text(scores, owners)
    seconds = time.perf_counter() - start
    print(f"both directions, 1045 x 5225: {seconds:.2f} s")
    assert seconds < 10  # about 0.3 s alone; a shared machine may be slow
