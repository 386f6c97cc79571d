"""Intervals and tests whose unit is the audio.

An audio's captions are dependent, so resampling draws whole audios (clusters), never single
captions. Seeds, where several exist, and audios are both resampled, crossed. `seed` decides all.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests

from aacstudy.options import StatisticsOptions

_BLOCK = 1000  # resamples at a time: 1000 x 1045 audios are 8 MB


class Interval(NamedTuple):
    """A value with its confidence interval, the number of units and what the unit is."""

    value: float
    low: float
    high: float
    n: int
    unit: str

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] (n = {self.n} {self.unit})"

    def percent(self, digits: int = 1) -> str:
        """Write a share as percent: `37.1 % [35.0, 39.2] (n = 1045 audios)`."""
        value, low, high = (f"{100 * number:.{digits}f}" for number in self[:3])
        return f"{value} % [{low}, {high}] (n = {self.n} {self.unit})"

    def points(self, digits: int = 1) -> str:
        """Write a difference of shares as percentage points: `+3.1 points [+1.0, +5.2]`."""
        value, low, high = (f"{100 * number:+.{digits}f}" for number in self[:3])
        return f"{value} points [{low}, {high}]"


class Difference(NamedTuple):
    """A paired difference: its interval and the two-sided sign-flip p-value."""

    interval: Interval
    p_value: float


def keyed(
    prefix: str, found: Interval | None, per_seed: Sequence[float] = (), seeds: Sequence[int] = ()
) -> dict[str, float]:
    """Flat results: ``prefix`` (the mean), ``.low``, ``.high``, ``.n``, ``.seed_<seed>`` of each.

    ``found`` has an Interval's fields, as a row of a table may; None leaves the first four out.
    """
    flat = {}
    if found is not None:
        flat = {prefix: found.value} | {
            f"{prefix}.{end}": getattr(found, end) for end in ("low", "high", "n")
        }
    return flat | {f"{prefix}.seed_{seed}": float(value) for seed, value in zip(seeds, per_seed)}


def bootstrap_over_seeds(
    values, clusters, resamples: int = 1000, seed: int = 0, confidence: float = 0.95
) -> Interval:
    """Percentile interval of the mean, resampling seeds and audios crossed.

    values `[seeds, n]`, clusters `[n]`: the audio of each row, any labels of one type. With one
    seed (or values `[n]`) only audios are resampled, and the unit says so: such an interval leaves
    out the variation between training runs. With few seeds that variation is estimated roughly.
    Raises ValueError for unequal lengths or values that are not finite. Source: Owen, "The
    pigeonhole bootstrap", Annals of Applied Statistics 2007.
    """
    values = np.atleast_2d(np.asarray(values, dtype=float))
    return bootstrap_table(values[None], clusters, resamples, seed, confidence)[0]


def over_seeds(values: np.ndarray, clusters, options: StatisticsOptions) -> Interval:
    """`bootstrap_over_seeds` with a study's options."""
    return bootstrap_over_seeds(values, clusters, options.resamples, options.seed, options.confidence)


def bootstrap_table(
    values, clusters, resamples: int = 1000, seed: int = 0, confidence: float = 0.95
) -> list[Interval]:
    """`bootstrap_over_seeds` of many metrics at once, all on the same draws.

    values `[metrics, seeds, n]`, clusters `[n]`. One interval per metric, each as if it were alone.
    """
    values = np.asarray(values, dtype=float)
    n_metrics, n_seeds = values.shape[:2]
    by_row, code, n_clusters = _check(values.reshape(-1, values.shape[2]).T, clusters)
    sums, sizes = _cluster_sums(by_row, code, n_clusters)  # [clusters, metrics * seeds], [clusters]
    rng = np.random.default_rng(seed)
    draws = []
    for weights in _weights(rng, n_clusters, resamples):
        means = (weights @ sums) / (weights @ sizes)[:, None]
        # One seed gets weight 1 in every resample: only the audios vary.
        (seed_weights,) = _weights(rng, n_seeds, len(weights))
        draws.append(np.einsum("rms,rs->rm", means.reshape(-1, n_metrics, n_seeds), seed_weights) / n_seeds)
    low, high = np.quantile(np.concatenate(draws), _tails(confidence), axis=0)  # [metrics] each
    points, unit = values.mean(axis=(1, 2)), _unit(n_seeds)
    return [Interval(float(p), float(a), float(b), n_clusters, unit) for p, a, b in zip(points, low, high)]


def bootstrap_of_sums(
    sums, value, resamples: int = 1000, seed: int = 0, confidence: float = 0.95
) -> Interval:
    """Percentile interval of a value that is no mean but made of sums over audios, as BLEU is.

    sums `[seeds, audios, k]`: what each audio adds. `value` takes rows of sums `[m, k]` and returns
    `[m]`. The point is the mean over seeds; the draws are those of `bootstrap_over_seeds`.
    """
    sums = np.asarray(sums, dtype=float)
    if sums.ndim != 3 or 0 in sums.shape or not np.isfinite(sums).all():
        raise ValueError(f"sums has shape {sums.shape}, expected [seeds, audios, k] of finite numbers")
    n_seeds, n = sums.shape[:2]
    rng = np.random.default_rng(seed)
    draws = []
    for weights in _weights(rng, n, resamples):
        per_seed = np.stack([np.asarray(value(weights @ one), dtype=float) for one in sums], axis=1)
        (seed_weights,) = _weights(rng, n_seeds, len(weights))
        draws.append((per_seed * seed_weights).sum(axis=1) / n_seeds)
    low, high = np.quantile(np.concatenate(draws), _tails(confidence))
    point = np.mean([np.asarray(value(one.sum(axis=0, keepdims=True)), dtype=float)[0] for one in sums])
    return Interval(float(point), float(low), float(high), n, _unit(n_seeds))


def resampled_sums(
    rows, clusters, resamples: int = 1000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, int]:
    """Sums over all rows, and over each bootstrap sample of whole clusters.

    rows `[n, k]`, clusters `[n]`. Returns `[k]`, `[resamples, k]` and the number of clusters.
    """
    rows, code, n_clusters = _check(np.asarray(rows, dtype=float), clusters)
    sums, _ = _cluster_sums(rows, code, n_clusters)  # [clusters, k]
    rng = np.random.default_rng(seed)
    draws = [weights @ sums for weights in _weights(rng, n_clusters, resamples)]
    return rows.sum(axis=0), np.concatenate(draws), n_clusters


def paired_difference(
    a, b, clusters, resamples: int = 1000, seed: int = 0, confidence: float = 0.95, permutations: int = 10_000
) -> Difference:
    """Interval and sign-flip test of mean(a - b) on the same rows and seeds.

    a, b `[seeds, n]` (or `[n]`: one seed), clusters `[n]`. Interval as `bootstrap_over_seeds` of a
    - b. The p-value is two-sided; each permutation flips the sign of whole clusters, averaged over
    the seeds, and the observed one counts as one of them, so the smallest possible is 1 /
    (permutations + 1). Its null is of audios, given these seeds. ValueError for unequal shapes.
    """
    a, b = (np.atleast_2d(np.asarray(one, dtype=float)) for one in (a, b))
    if a.shape != b.shape:
        raise ValueError(f"a has shape {a.shape}, b {b.shape}: the rows and seeds must be paired")
    return difference_table((a - b)[None], clusters, resamples, seed, confidence, permutations)[0]


def difference_table(
    differences,
    clusters,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
    permutations: int = 10_000,
) -> list[Difference]:
    """`paired_difference` of many comparisons at once, all on the same draws and sign flips.

    differences `[comparisons, seeds, n]`, already a − b; clusters `[n]`.
    """
    differences = np.asarray(differences, dtype=float)
    intervals = bootstrap_table(differences, clusters, resamples, seed, confidence)
    rows, code, n_clusters = _check(differences.mean(axis=1).T, clusters)  # [n, comparisons]
    sums, _ = _cluster_sums(rows, code, n_clusters)  # [clusters, comparisons]
    # Sums in another order round differently: an equal permutation must count as equal.
    limit = np.abs(sums.sum(axis=0)) - 1e-12 * np.abs(sums).sum(axis=0)
    rng = np.random.default_rng([seed, 1])
    extreme = np.zeros(len(differences), dtype=int)
    for start in range(0, permutations, _BLOCK):
        signs = 2.0 * rng.integers(0, 2, (min(_BLOCK, permutations - start), n_clusters)) - 1
        extreme += np.count_nonzero(np.abs(signs @ sums) >= limit, axis=0)
    p_values = (1 + extreme) / (1 + permutations)
    return [Difference(interval, float(p)) for interval, p in zip(intervals, p_values)]


def holm(pvalues) -> np.ndarray:
    """Adjust p-values for their number, step-down; order kept, values capped at 1.

    pvalues `[tests]`. Raises ValueError outside [0, 1]. Source: Holm, Scand. J. Statistics 1979.
    """
    pvalues = np.asarray(pvalues, dtype=float)
    if pvalues.ndim != 1 or not np.all((pvalues >= 0) & (pvalues <= 1)):
        raise ValueError("pvalues must be a list of numbers from 0 to 1")
    return multipletests(pvalues, method="holm")[1] if len(pvalues) else pvalues


def student_interval(values, confidence: float = 0.95) -> Interval:
    """Student's t interval of the mean over seeds.

    values `[seeds]`, one number per training run. One seed has no interval: its bounds are NaN.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
        raise ValueError(f"values has shape {values.shape}, expected [seeds] of finite numbers")
    mean, n = float(values.mean()), len(values)
    if n == 1:
        return Interval(mean, float("nan"), float("nan"), 1, "seed")
    half = float(stats.t.ppf(_tails(confidence)[1], n - 1) * stats.sem(values))
    return Interval(mean, mean - half, mean + half, n, "seeds")


def variance_shares(matrix) -> dict[str, float]:
    """Split a matrix's variance into what captions, audios and their pairing explain.

    matrix `[audios, captions]` (losses or scores). Returns shares of the total sum of squares,
    summing to 1: `caption` (column means), `audio` (row means), `interaction` (the rest: the
    matching signal and noise). Raises ValueError for a constant matrix or values that are not
    finite. Source: two-way analysis of variance without replication; no correction of any kind.
    """
    matrix = np.asarray(matrix, dtype=float)
    if matrix.ndim != 2 or matrix.size == 0 or not np.isfinite(matrix).all():
        raise ValueError(f"matrix has shape {matrix.shape}, expected [audios, captions] of finite numbers")
    if matrix.min() == matrix.max():
        raise ValueError("matrix is constant: there is no variance to share")
    centred = matrix - matrix.mean()
    audio = centred.mean(axis=1, keepdims=True)  # [audios, 1]
    caption = centred.mean(axis=0, keepdims=True)  # [1, captions]
    parts = {
        "caption": np.mean(caption**2),
        "audio": np.mean(audio**2),
        "interaction": np.mean((centred - audio - caption) ** 2),
    }
    total = sum(parts.values())
    return {name: float(part / total) for name, part in parts.items()}


def _unit(n_seeds: int) -> str:
    return "audios, one seed" if n_seeds == 1 else f"audios, {n_seeds} seeds"


def _tails(confidence: float) -> tuple[float, float]:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence = {confidence}, expected a share between 0 and 1, as 0.95")
    return (1 - confidence) / 2, (1 + confidence) / 2


def _weights(rng, n: int, resamples: int):
    """Yield blocks `[some resamples, n]` of how often each of n units is drawn in n draws with
    replacement."""
    for start in range(0, resamples, _BLOCK):
        rows = min(_BLOCK, resamples - start)
        drawn = rng.integers(0, n, (rows, n)) + n * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(float)


def _cluster_sums(table, code, n_clusters: int):
    """Sum rows `[n, metrics]` by cluster: `[clusters, metrics]`, and count them: `[clusters]`."""
    sums = np.stack([np.bincount(code, column, n_clusters) for column in table.T], axis=1)
    return sums, np.bincount(code, minlength=n_clusters).astype(float)


def _check(values, clusters):
    clusters = np.asarray(clusters)
    if clusters.ndim != 1 or len(values) != len(clusters) or len(clusters) == 0:
        raise ValueError(
            f"{len(values)} rows of values, clusters of shape {clusters.shape}: one cluster per row"
        )
    if not np.isfinite(values).all():
        row = np.argwhere(~np.isfinite(values))[0][0]
        raise ValueError(f"values has a number that is not finite at row {row}")
    unique, code = np.unique(clusters, return_inverse=True)
    return values, code, len(unique)
