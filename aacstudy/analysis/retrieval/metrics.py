"""Retrieval metrics with exact expectations over tied scores.

Rows are audios, columns are captions, and a higher score is better (score = -loss).

A ranking with ties is a row of *tie groups*. For one group write `before` for the items that score
strictly better, `relevant_before` for the relevant ones among them, `tied` for its size and
`relevant` for the relevant items in it. Every metric here depends only on the groups that hold a
relevant item, and its mean over all orders of the tied items has a closed form in these four
counts. So no item order is ever chosen, and the index order of the input (where the ground truth
often stands first) cannot leak into a result.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

AP_DEPTH = 10
POLICIES = ("expected", "optimistic", "pessimistic")


class TieGroups(NamedTuple):
    """Tie groups that hold a relevant item, by query and then best first; each field `[groups]`."""

    query: np.ndarray
    before: np.ndarray
    relevant_before: np.ndarray
    tied: np.ndarray
    relevant: np.ndarray


def relevance_from_owners(owners, n_audios: int) -> np.ndarray:
    """Mark which captions belong to which audio: bool `[audios, captions]`.

    owners `[captions]`: row of each caption's audio. Raises ValueError for one that is not there.
    """
    owners = np.asarray(owners)
    if owners.ndim != 1 or not np.issubdtype(owners.dtype, np.integer):
        raise ValueError(
            f"owners must be [captions] of integers, got shape {owners.shape}, type {owners.dtype}"
        )
    wrong = np.flatnonzero((owners < 0) | (owners >= n_audios))
    if len(wrong):
        raise ValueError(
            f"owners[{wrong[0]}] = {owners[wrong[0]]}, expected an audio from 0 to {n_audios - 1}"
        )
    return np.arange(n_audios)[:, None] == owners


def tie_groups(scores, relevant, ties: str = "expected", tie_break=None) -> TieGroups:
    """Count, for each tie group that holds a relevant item, what stands before and in it.

    scores, tie_break `[queries, items]`, relevant bool `[queries, items]`. `tie_break` orders items
    of equal score. The optimistic policy keeps of each group only its relevant items at its head,
    the pessimistic at its tail. Time grows with relevant pairs x items. Errors as `evaluate`.
    """
    scores, relevant, tie_break = _check(scores, relevant, tie_break)
    if ties not in POLICIES:
        raise ValueError(f"unknown ties policy {ties!r}: one of {', '.join(POLICIES)}")
    items = scores.shape[1]
    query, item = np.nonzero(relevant)
    counts = np.empty((4, len(query)), dtype=np.int64)
    ends = np.searchsorted(query, np.arange(len(scores) + 1))
    for row, start, stop in zip(range(len(scores)), ends, ends[1:]):
        second = None if tie_break is None else tie_break[row]
        # What stands before a relevant item and ties with it: among all items, then among the
        # relevant ones.
        inside = item[start:stop]
        counts[::2, start:stop] = _standing(scores[row], inside, second)
        own_second = None if second is None else second[inside]
        counts[1::2, start:stop] = _standing(scores[row, inside], np.arange(len(inside)), own_second)
    # Relevant items that tie with one another describe the same group: keep it once.
    _, first = np.unique(query * (items + 1) + counts[0], return_index=True)
    query, (before, relevant_before, tied, inside) = query[first], counts[:, first]
    if ties == "pessimistic":
        before = before + tied - inside
    return TieGroups(query, before, relevant_before, tied if ties == "expected" else inside, inside)


def _standing(scores, chosen, second):
    """How many items score better than each chosen one, and how many tie with it, itself included.

    scores, second (or None) `[items]`, chosen `[some]`: indices. Returns two rows `[some]`.
    """
    counts = np.empty((2, len(chosen)), dtype=np.int64)
    for place, own in enumerate(scores[chosen]):
        counts[:, place] = np.count_nonzero(scores > own), np.count_nonzero(scores == own)
    if second is not None:
        for place in np.flatnonzero(counts[1] > 1):
            tied = second[scores == scores[chosen[place]]]
            own = second[chosen[place]]
            counts[0, place] += np.count_nonzero(tied > own)
            counts[1, place] = np.count_nonzero(tied == own)
    return counts


def evaluate(scores, relevant, ks=(1, 5, 10), ties: str = "expected", tie_break=None) -> pd.DataFrame:
    """Score each query's ranking of the items.

    scores `[queries, items]`, relevant bool of the same shape. `ties`: 'expected' is the exact mean
    over all orders of tied items, 'optimistic' and 'pessimistic' put the relevant ones first or
    last. `tie_break`: optional scores used under `scores`, such as the raw ones; what still ties
    follows `ties`.

    Returns one row per query, in order: `hit@k` (any relevant item in the top k), `recall@k` (share
    of the relevant items in the top k), `map@10` (precision summed over the hits in the top 10,
    divided by min(10, relevant items)), `rank` (of the first relevant item, from 1) and `mrr` (its
    reciprocal, without a cut). Raises ValueError for NaN (naming row and column), unequal shapes, a
    query without relevant item, a k below 1. Source: expectation over ties as McSherry and Najork,
    ECIR 2008.
    """
    if any(k < 1 for k in ks):
        raise ValueError(f"ks = {tuple(ks)}: each k must be at least 1")
    groups = tie_groups(scores, relevant, ties, tie_break)
    total = np.count_nonzero(relevant, axis=1)  # [queries]
    _, first = np.unique(groups.query, return_index=True)  # the best group of each query
    head = TieGroups(*(field[first] for field in groups))
    columns = {f"hit@{k}": _hit(head, k) for k in ks}
    columns |= {f"recall@{k}": _recall(groups, total, k) for k in ks}
    columns["map@10"] = _average_precision(groups, total)
    columns["rank"] = head.before + (head.tied + 1) / (head.relevant + 1)
    columns["mrr"] = _reciprocal_rank(head)
    return pd.DataFrame(columns)


def authors_order(scores, losses) -> np.ndarray:
    """The tie-break `[queries, items]` of the authors' released code, for each query's best items.

    That code (`scale_losses`, its version 0.2.2) means to order them by `losses` of the same shape,
    but takes an argsort for the ranks: what stands at place i is put where the i-th best stands.
    From three ties on that is another order, and it depends on the order of the items in the file.
    """
    scores, losses = np.asarray(scores), np.asarray(losses)
    order = np.zeros(scores.shape)
    for row, tied in enumerate(scores == scores.max(axis=1, keepdims=True)):
        order[row, tied] = -np.argsort(losses[row, tied], kind="stable")
    return order


def text_to_audio(scores, owners, ks=(1, 5, 10), ties: str = "expected", tie_break=None) -> pd.DataFrame:
    """Evaluate each caption as a query over all audios.

    scores, tie_break `[audios, captions]`, owners `[captions]`. Returns `evaluate`'s table, one row
    per caption, after a column `audio`: its owner, the unit to cluster by. Errors as `evaluate`.
    """
    scores, tie_break, relevant = _oriented(scores, owners, tie_break)
    turned = None if tie_break is None else np.ascontiguousarray(tie_break.T)
    table = evaluate(np.ascontiguousarray(scores.T), np.ascontiguousarray(relevant.T), ks, ties, turned)
    table.insert(0, "audio", np.asarray(owners))
    return table


def audio_to_text(scores, owners, ks=(1, 5, 10), ties: str = "expected", tie_break=None) -> pd.DataFrame:
    """Evaluate each audio as a query over all captions.

    scores, tie_break `[audios, captions]`, owners `[captions]`. Returns `evaluate`'s table, one row
    per audio, after a column `audio`: its index. Errors as `evaluate`: also without a caption.
    """
    scores, tie_break, relevant = _oriented(scores, owners, tie_break)
    table = evaluate(scores, relevant, ks, ties, tie_break)
    table.insert(0, "audio", np.arange(len(table)))
    return table


def chance(relevant, k: int) -> dict[str, float]:
    """Exact mean hit@k and recall@k of a random order of the items.

    relevant bool `[queries, items]`. Returns `{'hit@k': share, 'recall@k': share}` with k filled
    in. Source: the hypergeometric distribution.
    """
    relevant = np.asarray(relevant, dtype=bool)
    items = relevant.shape[1]
    inside = np.count_nonzero(relevant, axis=1)
    missed = _all_missed(np.full(len(inside), items), inside, np.full(len(inside), min(k, items)))
    return {f"hit@{k}": float(np.mean(1 - missed)), f"recall@{k}": min(k, items) / items}


def _all_missed(tied, relevant, places):
    """Probability that `places` draws without replacement from `tied` hit none of `relevant`."""
    missed = np.ones(len(tied))
    for i in range(int(places.max(initial=0))):
        factor = np.maximum(tied - relevant - i, 0) / np.maximum(tied - i, 1)
        missed = np.where(i < places, missed * factor, missed)
    return missed


def _hit(head: TieGroups, k: int):
    # Only the best group counts: any later one begins after it, and if that is within k, the best
    # one is whole.
    places = np.clip(k - head.before, 0, head.tied)
    return 1 - _all_missed(head.tied, head.relevant, places)


def _recall(groups: TieGroups, total, k: int):
    found = groups.relevant * np.clip(k - groups.before, 0, groups.tied) / groups.tied
    return np.bincount(groups.query, found, len(total)) / total


def _average_precision(groups: TieGroups, total):
    """Expected AP: at each position p, E[rel_p (1 + relevant items before p)] / p."""
    gain = np.zeros(len(groups.query))
    share = groups.relevant / groups.tied
    # Two positions of one group are both relevant with probability r (r - 1) / (n (n - 1)).
    both = share * (groups.relevant - 1) / np.maximum(groups.tied - 1, 1)
    for position in range(1, AP_DEPTH + 1):
        # places of the group that stand before this position
        earlier = position - 1 - groups.before
        value = (share * (1 + groups.relevant_before) + earlier * both) / position
        gain += np.where((earlier >= 0) & (earlier < groups.tied), value, 0)
    return np.bincount(groups.query, gain, len(total)) / np.minimum(AP_DEPTH, total)


def _reciprocal_rank(head: TieGroups):
    """Expected 1 / (before + m), m the place of the group's first relevant item."""
    others = head.tied - head.relevant
    value, survive = np.zeros(len(others)), np.ones(len(others))
    for place in range(1, int(others.max(initial=0)) + 2):
        after = survive * np.maximum(others - place + 1, 0) / np.maximum(head.tied - place + 1, 1)
        value += (survive - after) / (head.before + place)
        survive = after
    return value


def _oriented(scores, owners, tie_break):
    # Checked before any transpose, so that an error names the caller's row (audio) and column
    # (caption).
    scores = np.asarray(scores)
    if scores.ndim != 2 or scores.shape[1] != len(owners):
        raise ValueError(
            f"scores has shape {scores.shape}, expected [audios, {len(owners)} captions as in owners]"
        )
    relevant = relevance_from_owners(owners, len(scores))
    scores, relevant, tie_break = _check(scores, relevant, tie_break, need_relevant=False)
    return scores, tie_break, relevant


def _check(scores, relevant, tie_break, need_relevant=True):
    scores, relevant = np.asarray(scores), np.asarray(relevant)
    tie_break = None if tie_break is None else np.asarray(tie_break)
    if scores.ndim != 2 or scores.size == 0:
        raise ValueError(f"scores has shape {scores.shape}, expected a matrix with at least one element")
    if relevant.dtype != bool:
        raise ValueError(f"relevant has type {relevant.dtype}, expected bool")
    for name, matrix in (("scores", scores), ("relevant", relevant), ("tie_break", tie_break)):
        if matrix is None:
            continue
        if matrix.shape != scores.shape:
            raise ValueError(f"{name} has shape {matrix.shape}, scores {scores.shape}: they must be equal")
        bad = np.isnan(matrix)
        if bad.any():
            row, column = np.argwhere(bad)[0]
            raise ValueError(f"{name} has NaN at row {row}, column {column}: every pair needs a number")
    lonely = np.flatnonzero(~relevant.any(axis=1))
    if need_relevant and len(lonely):
        raise ValueError(f"query row {lonely[0]} has no relevant item: leave such queries out")
    return scores, relevant, tie_break
