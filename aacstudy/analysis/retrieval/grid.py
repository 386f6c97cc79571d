"""From loss matrices of several seeds to numbers of each query, intervals, paired differences.

First of matrices as they are and as the paper scales them, then of every normalisation (`cell`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import pandas as pd

from aacstudy.analysis.retrieval import metrics
from aacstudy.analysis.retrieval.methods import DIRECTIONS, METHODS, ONLINE, TRANSDUCTIVE, Method, Pool, tune
from aacstudy.analysis.retrieval.normalise import NORMALISERS, raw
from aacstudy.analysis.statistics import (
    Difference,
    Interval,
    differences_of,
    holm,
    intervals_of,
    keyed,
    left_out,
    over_seeds,
    variance_shares,
)
from aacstudy.options import StatisticsOptions

KS = (1, 5, 10)
CURVE = (1, 2, 5, 10, 20, 50)  # k of the curves
METRICS = ("hit@1", "hit@5", "hit@10", "recall@10", "map@10", "rank", "mrr")
SHOWN = ("hit@1", "hit@5", "hit@10", "map@10")
KEPT = ("hit@1", "hit@10")  # what goes into results.json of each cell
WIDE = 0.005  # a band of tie orders that is reported: half a point
Pools = Sequence[tuple[Pool, Pool | None]]  # of each seed the scored pool and the one for tuning


class Matrix(Protocol):
    """Sums of −log p `[audios, captions]`, tokens, owners `[captions]`: as Losses, as a Pool."""

    nll: np.ndarray
    tokens: np.ndarray
    owners: np.ndarray


def mean_loss(matrix: Matrix) -> np.ndarray:
    """The paper's loss, float64 `[audios, captions]`: nats per token."""
    return matrix.nll.astype(np.float64) / matrix.tokens


def evaluate(scores, matrix: Matrix, direction: str, ties: str = "raw") -> pd.DataFrame:
    """Retrieval numbers of each query, by scores `[audios, captions]` of a matrix.

    direction: ``t2a`` (captions search audios) or ``a2t``. ties: ``raw`` breaks them by the raw
    loss, ``authors`` as `metrics.authors_order`, which is for comparing with their numbers alone;
    both take the expected value over what is still tied. The others are those of metrics.py.
    """
    search = {"t2a": metrics.text_to_audio, "a2t": metrics.audio_to_text}[direction]
    if ties not in ("raw", "authors"):
        return search(scores, matrix.owners, ks=KS, ties=ties)
    tie_break = -mean_loss(matrix)
    if ties == "authors":
        turn = np.transpose if direction == "t2a" else np.asarray
        tie_break = turn(metrics.authors_order(turn(scores), turn(-tie_break)))
    return search(scores, matrix.owners, ks=KS, tie_break=tie_break)


def queries(matrix: Matrix, direction: str, normaliser: str = "raw", ties: str = "raw") -> pd.DataFrame:
    """`evaluate` of minus the mean loss per token, normalised per caption."""
    return evaluate(NORMALISERS[normaliser](-mean_loss(matrix)), matrix, direction, ties)


def values(tables: Sequence[pd.DataFrame], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """A metric of every query `[seeds, queries]` and the audios `[queries]` that cluster them."""
    found = np.stack([table[metric].to_numpy(dtype=float) for table in tables])
    return found, tables[0]["audio"].to_numpy()


def interval(tables: Sequence[pd.DataFrame], metric: str, options: StatisticsOptions) -> Interval:
    """Mean of a metric over seeds and queries with its interval; the unit is the audio."""
    return over_seeds(*values(tables, metric), options)


def curves(tables: dict[str, Sequence[pd.DataFrame]], options: StatisticsOptions) -> pd.DataFrame:
    """hit@k by normaliser and k with intervals, for the curve."""
    return pd.DataFrame(
        {"normaliser": normaliser, "k": k} | interval(of_seeds, f"hit@{k}", options)._asdict()
        for normaliser, of_seeds in tables.items()
        for k in CURVE
        if f"hit@{k}" in of_seeds[0]
    )


def chance(matrix: Matrix, direction: str, ks: Sequence[int] = CURVE) -> pd.Series:
    """hit@k of a random order, by k; exact."""
    relevant = metrics.relevance_from_owners(matrix.owners, len(matrix.nll))
    relevant = relevant.T if direction == "t2a" else relevant
    return pd.Series({k: metrics.chance(relevant, k)[f"hit@{k}"] for k in ks if k <= relevant.shape[1]})


def variance(matrices: Sequence[Matrix], options: StatisticsOptions) -> pd.DataFrame:
    """Shares of the loss variance from captions, audios and their interaction, with intervals.

    Means over seeds; the interval is that of pseudo-values, each without an audio and its captions.
    """
    owners = matrices[0].owners
    whole = pd.DataFrame([variance_shares(mean_loss(one)) for one in matrices])
    without = np.stack([_shares_without(mean_loss(one), owners) for one in matrices])
    found = [left_out(whole[name], without[:, :, i], options) for i, name in enumerate(whole)]
    table = pd.DataFrame([one._asdict() for one in found], index=whole.columns)
    return table[["value", "low", "high"]].clip(0, 1)


def _shares_without(loss: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """`variance_shares` without each audio and its captions `[audios, 3]`, by three products."""
    loss = loss - loss.mean()
    of_audio = np.eye(len(loss))[owners]  # [captions, audios]
    by_owner, squares = loss @ of_audio, loss**2 @ of_audio  # [audios, audios]
    rows, columns = loss.sum(axis=1), loss.sum(axis=0)
    audios, captions = len(loss) - 1, len(owners) - np.bincount(owners, minlength=len(loss))
    size = audios * captions  # of what is left without each
    mean = (loss.sum() - rows - by_owner.sum(axis=0) + by_owner.diagonal()) / size
    square = (loss**2).sum(axis=1)
    total = (square.sum() - square - squares.sum(axis=0) + squares.diagonal()) / size - mean**2
    own = (columns - loss[owners, np.arange(len(owners))]) ** 2
    left = (columns**2).sum() - 2 * loss @ columns + square - np.bincount(owners, own, len(loss))
    caption = left / (captions * audios**2) - mean**2
    left = (rows[:, None] - by_owner) ** 2
    audio = (left.sum(axis=0) - left.diagonal()) / (audios * captions**2) - mean**2
    return np.stack([caption, audio, total - caption - audio], axis=1) / total[:, None]


def retrieval_results(
    direction: str,
    tables: dict[str, Sequence[pd.DataFrame]],
    seeds: Sequence[int],
    options: StatisticsOptions,
) -> dict[str, float]:
    """Results of one direction by normaliser, such as ``a2t.min_max.hit@1``.

    Text-to-audio, which no normaliser of captions changes, is ``t2a.hit@1``.
    """
    flat: dict[str, float] = {}
    for normaliser, of_seeds in tables.items():
        if direction == "t2a" and normaliser != "raw":
            continue
        prefix = direction if direction == "t2a" else f"{direction}.{normaliser}"
        for metric in (name for name in METRICS if name in of_seeds[0]):
            means = [table[metric].mean() for table in of_seeds]
            flat |= keyed(f"{prefix}.{metric}", interval(of_seeds, metric, options), means, seeds)
        medians = [table["rank"].median() for table in of_seeds]
        flat[f"{prefix}.median_rank"] = float(np.mean(medians))
        flat |= keyed(f"{prefix}.median_rank", None, medians, seeds)
    return flat


@dataclass(frozen=True)
class Cell:
    """One normalisation used in one way, on all seeds.

    values: the parameter of each seed. tables: `evaluate`'s rows of each seed, ties broken by the
    raw loss. band: hit@1 when all ties fall against and for the system, mean over the seeds.
    tuning: mean reciprocal rank on the pool for tuning, mean over the seeds; None without one.
    """

    method: Method
    mark: str
    values: tuple[float | None, ...]
    tables: tuple[pd.DataFrame, ...]
    band: tuple[float, float]
    tuning: float | None

    @property
    def key(self) -> tuple[str, str]:
        return self.method.name, self.mark

    def numbers(self, metric: str) -> np.ndarray:
        """A metric of every query `[seeds, queries]`."""
        return values(self.tables, metric)[0]


def run(pools: Pools, direction: str, methods: Sequence[Method] = METHODS) -> dict[tuple[str, str], Cell]:
    """Cells by (method, mark): all ways in which the first seed's pool lets each method be used."""
    cells = [
        cell(pools, direction, method, mark)
        for method in methods
        for mark in method.marks(pools[0][0], direction)
    ]
    return {one.key: one for one in cells}


def cell(pools: Pools, direction: str, method: Method, mark: str) -> Cell:
    """One normalisation on all seeds, its parameter chosen for each on the pool for tuning."""
    chosen = tuple(tune(method, other, direction, mark) for _, other in pools)
    tables, bands, tuning = [], [], []
    for (pool, other), value in zip(pools, chosen):
        scores = method.apply(pool, direction, mark, value)
        tables.append(evaluate(scores, pool, direction))
        bands.append(tie_band(scores, pool.owners, direction))
        if other is not None and mark in method.marks(other, direction):
            tuned = method.apply(other, direction, mark, value)
            tuning.append(evaluate(tuned, other, direction)["mrr"].mean())
    known = float(np.mean(tuning)) if len(tuning) == len(pools) else None
    return Cell(method, mark, chosen, tuple(tables), tuple(np.mean(bands, axis=0)), known)


def best(cells: dict[tuple[str, str], Cell], mark: str) -> tuple[str, str]:
    """The cell of a mark that is best on the pool for tuning, or without one best by hit@1."""
    marked = [one for one in cells.values() if one.mark == mark]
    chosen = [one for one in marked if one.tuning is not None]
    if chosen:
        return max(chosen, key=lambda one: one.tuning).key
    return max(marked, key=lambda one: one.numbers("hit@1").mean()).key


def tie_band(scores, owners, direction: str) -> tuple[float, float]:
    """Mean hit@1 when every tie falls against and when it falls for the system."""
    pairs = owners, np.arange(len(owners))
    own, others = scores[pairs], scores.copy()  # [captions], [audios, captions]
    others[pairs] = -np.inf
    if direction == "a2t":
        mine = np.full(len(scores), -np.inf)
        np.maximum.at(mine, owners, own)
        own = mine  # [audios]
    rest = others.max(axis=0 if direction == "t2a" else 1)
    return float(np.mean(own > rest)), float(np.mean(own >= rest))


def table(cells: dict[tuple[str, str], Cell], options: StatisticsOptions) -> pd.DataFrame:
    """One row per cell: method, mark, parameters, metrics with intervals, n, a wide band."""
    found = intervals(cells, SHOWN, options)
    rows = []
    for key, one in cells.items():
        row = {"method": key[0], "mark": key[1], "parameter": _chosen(one)}
        for metric in SHOWN:
            interval = found[key, metric]
            row |= {metric: interval.value, f"{metric} low": interval.low, f"{metric} high": interval.high}
        low, high = one.band
        row["ties"] = f"{100 * low:.1f}–{100 * high:.1f}" if high - low > WIDE else ""
        rows.append(row | {"n": interval.n})
    return pd.DataFrame(rows)


def intervals(
    cells: dict[tuple[str, str], Cell], shown: Sequence[str], options: StatisticsOptions
) -> dict[tuple[tuple[str, str], str], Interval]:
    """Intervals by cell and metric."""
    keys = [(key, metric) for key in cells for metric in shown]
    each = np.stack([cells[key].numbers(metric) for key, metric in keys])
    found = intervals_of(each, _clusters(cells), options)
    return dict(zip(keys, found))


def differences(
    cells: dict[tuple[str, str], Cell],
    pairs: Sequence[tuple[tuple[str, str], tuple[str, str]]],
    options: StatisticsOptions,
    metric: str = "hit@1",
) -> list[Difference]:
    """Paired differences a − b of pairs of cells, all on the same sign flips."""
    each = np.stack([cells[a].numbers(metric) - cells[b].numbers(metric) for a, b in pairs])
    return differences_of(each, _clusters(cells), options)


def compared(
    cells: dict[tuple[str, str], Cell],
    references: Sequence[tuple[str, str]],
    options: StatisticsOptions,
    metric: str = "hit@1",
) -> pd.DataFrame:
    """Each cell minus each reference: value, low, high, p and Holm's p over the whole table."""
    pairs = [(key, reference) for reference in references for key in cells if key != reference]
    found = differences(cells, pairs, options, metric)
    adjusted = holm([one.p_value for one in found])
    return pd.DataFrame(
        {"method": a[0], "mark": a[1], "minus": b[0], "minus mark": b[1]}
        | dict(zip(("value", "low", "high", "n"), one.interval[:4]))
        | {"p": one.p_value, "p (Holm)": p}
        for (a, b), one, p in zip(pairs, found, adjusted)
    )


def honesty(
    cells: dict[tuple[str, str], Cell], options: StatisticsOptions, metric: str = "hit@1"
) -> pd.DataFrame:
    """Online minus transductive of every method that is both: the cost of not knowing the pool."""
    names = [name for name, mark in cells if mark == ONLINE and (name, TRANSDUCTIVE) in cells]
    pairs = [((name, ONLINE), (name, TRANSDUCTIVE)) for name in names]
    found = differences(cells, pairs, options, metric) if pairs else []
    return pd.DataFrame(
        {
            "method": name,
            TRANSDUCTIVE: cells[b].numbers(metric).mean(),
            ONLINE: cells[a].numbers(metric).mean(),
        }
        | dict(zip(("cost", "low", "high", "n"), one.interval[:4]))
        for name, (a, b), one in zip(names, pairs, found)
    )


def by_bank_size(
    pools: Pools, names: Sequence[str], sizes: Sequence[int], options: StatisticsOptions, draws: int = 3
) -> pd.DataFrame:
    """A2T hit@1 of online methods with ever larger banks: ``method``, ``audios``, value, low, high.

    Each size is drawn ``draws`` times from the bank (once where it is all of it) and averaged; the
    parameter is chosen for each with the same bank on the pool for tuning. The interval is over
    test audios and seeds, at these draws.
    """
    rng = np.random.default_rng(options.seed)
    whole = len(pools[0][0].audio_bank)
    rows, hits = [], []
    chosen = [method for method in METHODS if method.name in names]
    for size in sorted({min(size, whole) for size in sizes}):
        samples = [rng.permutation(whole)[:size] for _ in range(1 if size == whole else draws)]
        smaller = [[(_cut(a, sample), b and _cut(b, sample)) for a, b in pools] for sample in samples]
        for method in chosen:
            found = [cell(one, "a2t", method, ONLINE).numbers("hit@1") for one in smaller]
            rows.append({"method": method.name, "audios": size})
            hits.append(np.mean(found, axis=0))
    clusters = np.arange(hits[0].shape[1])
    found = intervals_of(np.stack(hits), clusters, options)
    return pd.DataFrame([row | one._asdict() for row, one in zip(rows, found)])


def rank_changes(pools: Pools, methods: Sequence[Method] = METHODS) -> pd.DataFrame:
    """Largest change of any query's rank by each method, in both directions, over all seeds.

    Columns: ``method``; ``normalises`` captions, audios or both; ``a2t``, ``t2a``: against the
    unnormalised scores of the method's unit. Parameters are defaults; the raw loss breaks ties.
    """
    rows = []
    before = {
        (sums, d): [evaluate(pool.scores(sums), pool, d)["rank"] for pool, _ in pools]
        for sums in (False, True)
        for d in DIRECTIONS
    }
    for method in methods:
        for axis, what in zip(DIRECTIONS, ("captions", "audios")):
            mark = next(iter(method.marks(pools[0][0], axis)), None)
            if mark is None or method.function is raw or (method.both and axis == "t2a"):
                continue
            scores = [method.apply(pool, axis, mark, method.default) for pool, _ in pools]
            row = {"method": method.name, "normalises": "both" if method.both else what}
            for direction in DIRECTIONS:
                after = [evaluate(one, pool, direction)["rank"] for one, (pool, _) in zip(scores, pools)]
                pairs = zip(after, before[method.sums, direction])
                row[direction] = max(float((a - b).abs().max()) for a, b in pairs)
            rows.append(row)
    return pd.DataFrame(rows)


def held(changes: pd.DataFrame) -> list[bool]:
    """Of `rank_changes`' rows of one axis: whether the direction that must not change did not."""
    spared = {"captions": "t2a", "audios": "a2t"}
    one_axis = changes[changes["normalises"] != "both"]
    return [row[spared[row["normalises"]]] == 0 for row in one_axis.to_dict("records")]


def smallest_bank(grown: pd.DataFrame, method: str, target: float) -> int | None:
    """The fewest bank audios with which a method of `by_bank_size` reaches a hit@1, or None."""
    enough = grown[(grown["method"] == method) & (grown["value"] >= target)]
    return None if enough.empty else int(enough["audios"].min())


def results(prefix: str, cells: dict[tuple[str, str], Cell], options: StatisticsOptions) -> dict[str, float]:
    """Flat numbers of every cell: ``a2t.grid.min_max.transductive.hit@1`` with its interval."""
    flat = {}
    for ((name, mark), metric), found in intervals(cells, KEPT, options).items():
        flat |= keyed(f"{prefix}.grid.{name}.{mark}.{metric}", found)
    return flat


def _cut(pool: Pool, sample: np.ndarray) -> Pool:
    return replace(pool, audio_bank=pool.audio_bank[sample])


def _clusters(cells: dict[tuple[str, str], Cell]) -> np.ndarray:
    return next(iter(cells.values())).tables[0]["audio"].to_numpy()


def _chosen(one: Cell) -> str:
    if not one.method.parameter:
        return ""
    chosen = sorted({f"{value:g}" for value in one.values}, key=float)
    return f"{one.method.parameter} = {', '.join(chosen)}"
