"""From loss matrices of several seeds to the numbers that notebooks tell; arithmetic only, no files, no figures."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from aacstudy.analysis.retrieval import metrics
from aacstudy.analysis.retrieval.normalise import NORMALISERS
from aacstudy.analysis.statistics import Interval, bootstrap_over_seeds, paired_difference, variance_shares
from aacstudy.options import StatisticsOptions
from aacstudy.scoring.matrix import Losses

KS = (1, 2, 5, 10, 20, 50)
METRICS = ("hit@1", "hit@5", "hit@10", "recall@10", "map@10", "rank", "mrr")


def queries(losses: Losses, direction: str, normaliser: str, ties: str = "raw") -> pd.DataFrame:
    """Retrieval numbers of each query of one loss matrix.

    direction: ``t2a`` (captions search audios) or ``a2t``. ties: ``raw`` breaks them by the raw loss and takes the
    expected value over what is still tied; ``expected``, ``optimistic`` and ``pessimistic`` are those of
    retrieval/metrics.py. The score is minus the mean loss per token, normalised per caption.
    """
    scores = -losses.mean.astype(np.float64)
    search = {"t2a": metrics.text_to_audio, "a2t": metrics.audio_to_text}[direction]
    tie_break = scores if ties == "raw" else None
    ks = tuple(k for k in KS if k <= scores.shape[0 if direction == "t2a" else 1])
    policy = "expected" if ties == "raw" else ties
    return search(NORMALISERS[normaliser](scores), losses.owners, ks=ks, ties=policy, tie_break=tie_break)


def retrieval(matrices: Sequence[Losses], direction: str, ties: str = "raw") -> dict[str, list[pd.DataFrame]]:
    """Per-query tables by normaliser, one per seed."""
    return {name: [queries(one, direction, name, ties) for one in matrices] for name in NORMALISERS}


def interval(tables: Sequence[pd.DataFrame], metric: str, options: StatisticsOptions) -> Interval:
    """Mean of a metric over seeds and queries with its interval; the unit is the audio."""
    values = np.stack([table[metric].to_numpy(dtype=float) for table in tables])
    return over_seeds(values, tables[0]["audio"].to_numpy(), options)


def difference(a: Sequence[pd.DataFrame], b: Sequence[pd.DataFrame], metric: str, options: StatisticsOptions):
    """Paired difference a − b of a metric, with interval and sign-flip p-value."""
    values = [np.stack([table[metric].to_numpy(dtype=float) for table in tables]) for tables in (a, b)]
    clusters = a[0]["audio"].to_numpy()
    return paired_difference(*values, clusters, options.resamples, options.seed, options.confidence)


def over_seeds(values: np.ndarray, clusters, options: StatisticsOptions) -> Interval:
    """Interval of the mean of values [seeds, n], clustered by audio [n], with a study's statistics options."""
    return bootstrap_over_seeds(values, clusters, options.resamples, options.seed, options.confidence)


def summary(tables: dict[str, list[pd.DataFrame]], options: StatisticsOptions) -> pd.DataFrame:
    """One row per normaliser and metric: value, low, high, n."""
    rows = []
    for normaliser, of_seeds in tables.items():
        for metric in (name for name in METRICS if name in of_seeds[0]):
            rows.append(
                {"normaliser": normaliser, "metric": metric} | interval(of_seeds, metric, options)._asdict()
            )
    return pd.DataFrame(rows)


def curves(tables: dict[str, list[pd.DataFrame]], options: StatisticsOptions) -> pd.DataFrame:
    """hit@k by normaliser and k with intervals, for the curve."""
    rows = []
    for normaliser, of_seeds in tables.items():
        for k in KS:
            if f"hit@{k}" in of_seeds[0]:
                found = interval(of_seeds, f"hit@{k}", options)
                rows.append({"normaliser": normaliser, "k": k} | found._asdict())
    return pd.DataFrame(rows)


def chance(losses: Losses, direction: str, ks: Sequence[int] = KS) -> pd.Series:
    """hit@k of a random order, by k; exact."""
    relevant = metrics.relevance_from_owners(losses.owners, len(losses.audios))
    relevant = relevant.T if direction == "t2a" else relevant
    return pd.Series({k: metrics.chance(relevant, k)[f"hit@{k}"] for k in ks if k <= relevant.shape[1]})


def variance(matrices: Sequence[Losses], options: StatisticsOptions) -> pd.DataFrame:
    """Shares of the loss variance from captions, audios and their interaction: mean over seeds with intervals.

    The interval resamples audios (rows) with their captions, and seeds, both with replacement. It is centred on the
    value: a resample holds matching pairs about twice as often as the sample, which shifts its interaction.
    """
    rng = np.random.default_rng(options.seed)
    shares = pd.DataFrame([variance_shares(one.mean) for one in matrices])
    draws = []
    for _ in range(min(options.resamples, 200)):  # 200 are enough for shares whose interval is narrow
        one = matrices[rng.integers(len(matrices))]
        audios = rng.integers(len(one.audios), size=len(one.audios))
        captions = np.concatenate([np.flatnonzero(one.owners == audio) for audio in audios])
        draws.append(variance_shares(one.mean[np.ix_(audios, captions)]))
    tail = (1 - options.confidence) / 2
    around = pd.DataFrame(draws) - pd.DataFrame(draws).mean() + shares.mean()
    low, high = (around.quantile(q).clip(0, 1) for q in (tail, 1 - tail))
    return pd.DataFrame({"value": shares.mean(), "low": low, "high": high})


def keyed(
    prefix: str, found: Interval | None, per_seed: Sequence[float] = (), seeds: Sequence[int] = ()
) -> dict[str, float]:
    """Flat results: ``prefix`` (the mean), ``.low``, ``.high``, ``.n`` and ``.seed_<seed>`` for each seed."""
    flat = (
        {}
        if found is None
        else {
            prefix: found.value,
            f"{prefix}.low": found.low,
            f"{prefix}.high": found.high,
            f"{prefix}.n": found.n,
        }
    )
    return flat | {f"{prefix}.seed_{seed}": float(value) for seed, value in zip(seeds, per_seed)}


def retrieval_results(
    direction: str, tables: dict[str, list[pd.DataFrame]], seeds: Sequence[int], options: StatisticsOptions
) -> dict[str, float]:
    """Results of one direction: ``a2t.min_max.hit@1`` and so on; text-to-audio, which no normaliser changes, as ``t2a.hit@1``."""
    flat: dict[str, float] = {}
    for normaliser, of_seeds in tables.items():
        if direction == "t2a" and normaliser != "raw":
            continue
        prefix = direction if direction == "t2a" else f"{direction}.{normaliser}"
        for metric in (name for name in METRICS if name in of_seeds[0]):
            means = [table[metric].mean() for table in of_seeds]
            flat |= keyed(f"{prefix}.{metric}", interval(of_seeds, metric, options), means, seeds)
        medians = [table["rank"].median() for table in of_seeds]
        flat |= {f"{prefix}.median_rank": float(np.mean(medians))} | keyed(
            f"{prefix}.median_rank", None, medians, seeds
        )
    return flat
