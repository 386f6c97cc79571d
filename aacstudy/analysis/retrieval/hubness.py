"""Hubness: how unevenly a ranking spreads its top places over the items.

N_k(j) is how many queries have item j in their top k. Items that no query retrieves count with 0:
leaving them out hides the anti-hubs. Items tied at the k-th place share the places that remain
equally, so N_k is the expectation over a random order of tied items and always sums to k x queries.
"""

import numpy as np
from scipy.stats import skew

_BLOCK = 2_000_000


def occurrences(scores, k: int, axis: int = 1) -> np.ndarray:
    """Count for each item the queries that have it in their top k.

    scores `[queries, items]` for axis=1, `[items, queries]` for axis=0: `axis` is where the items
    lie, so on `[audios, captions]` axis=1 counts captions (audio-to-text) and axis=0 audios
    (text-to-audio). Returns N_k, float `[items]`, zeros included, of sum k x queries. Raises
    ValueError for NaN, for k below 1 and for k above the number of items.
    """
    return sum(share.sum(axis=0) for share in _top_shares(scores, k, axis))


def hubness(scores, k: int, axis: int = 1) -> dict[str, float]:
    """Describe the distribution of N_k over the items.

    scores and axis as `occurrences`. Returns `k`, `queries`, `items`, and
    `skewness`: third standardised moment of N_k (population; 0 if all are equal);
    `robin_hood`: share of all occurrences that would have to move to make them equal, in [0, 1);
    `anti_hub_share`: share of the items in no query's top k, expected over tie orders;
    `largest`: largest N_k, in queries;
    `distinct_top1_share`: items that come first for some query, expected over tie orders, as a
    share of min(queries, items).
    With ties N_k > 0 would not do: after min-max every caption ties for a first place, yet only
    one per audio can have it.
    Source: Radovanovic et al., JMLR 2010 (skewness); Feldbauer et al., 2018 (Robin Hood index).
    """
    counts, missed = 0.0, 1.0
    queries = 0
    for share in _top_shares(scores, k, axis):
        counts = counts + share.sum(axis=0)
        missed = missed * np.prod(1 - share, axis=0)
        queries += len(share)
    first_missed = missed
    if k > 1:
        first_missed = 1.0
        for share in _top_shares(scores, 1, axis):
            first_missed = first_missed * np.prod(1 - share, axis=0)
    items = len(counts)
    return {
        "k": k,
        "queries": queries,
        "items": items,
        "skewness": skewness(counts),
        "robin_hood": robin_hood(counts),
        "anti_hub_share": float(np.mean(missed)),
        "largest": float(counts.max()),
        "distinct_top1_share": float(np.sum(1 - first_missed) / min(queries, items)),
    }


def skewness(counts) -> float:
    """Third standardised moment of `counts [items]`, population form; 0 where all are equal."""
    # shares of tied places are sums of fractions: equal up to rounding
    return 0.0 if np.allclose(counts - np.mean(counts), 0) else float(skew(counts))


def robin_hood(counts) -> float:
    """Share of `counts [items]` above the mean: 0 if all are equal, near 1 if one has all."""
    counts = np.asarray(counts, dtype=float)
    return float(np.abs(counts - counts.mean()).sum() / (2 * counts.sum()))


def _top_shares(scores, k, axis):
    """Yield blocks `[some queries, items]` of each item's probability to be in the top k."""
    scores = np.asarray(scores)
    if scores.ndim != 2 or axis not in (0, 1):
        raise ValueError(
            f"scores has shape {scores.shape}, axis is {axis}: expected a matrix and axis 0 or 1"
        )
    bad = np.isnan(scores)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise ValueError(f"scores has NaN at row {row}, column {column}: every pair needs a number")
    items = scores.shape[axis]
    if not 1 <= k <= items:
        raise ValueError(f"k = {k}, expected 1 to the number of items, {items}")
    queries_first = scores if axis == 1 else scores.T
    step = max(1, _BLOCK // items)
    for start in range(0, len(queries_first), step):
        block = np.ascontiguousarray(queries_first[start : start + step])
        # the k-th best, [queries, 1]
        threshold = np.partition(block, items - k, axis=1)[:, items - k, None]
        better, equal = block > threshold, block == threshold
        left = k - np.count_nonzero(better, axis=1, keepdims=True)
        yield better + equal * (left / np.count_nonzero(equal, axis=1, keepdims=True))
