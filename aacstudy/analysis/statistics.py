"""Intervals and tests whose unit is the audio: how audios and how trainings vary, estimated apart.

A value's error has two sources. That of the audios is known well, from hundreds of them; that of
the trainings from two or three seeds, so Student's t widens it, or it is pooled over several
variants. Bootstrapping seeds and audios together counts the noise that they share twice, and takes
three seeds for all there are (``python -m benchmarks.coverage``). An audio's captions are
dependent, so they count as one.

Not covered: another encoder, another draw of the corpus, other candidates in the pool. Source: the
two-way table of Searle, Casella and McCulloch 1992, chapter 4; each half-width recovered and joined
as in Zou and Donner, Statistics in Medicine 2008.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats
from scipy.special import stdtrit
from statsmodels.stats.multitest import multipletests

from aacstudy.options import StatisticsOptions

_BLOCK = 1000  # sign flips or resamples at a time: 1000 x 1045 audios are 8 MB
PERMUTATIONS = 10_000


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
            f"{prefix}.{end}": getattr(found, end)
            for end in ("low", "high", "n")
            if not np.isnan(getattr(found, end))
        }
    return flat | {f"{prefix}.seed_{seed}": float(value) for seed, value in zip(seeds, per_seed)}


class SeedPart(NamedTuple):
    """Mean square between seeds (``audios`` times the variance of their means) and its freedom."""

    mean_square: float
    df: int


def linearised(values, clusters) -> np.ndarray:
    """Values [..., seeds, rows], clusters [rows] -> [..., seeds, audios] with the mean of the rows.

    An audio counts by its rows: where audios have unequal numbers, the mean is a ratio of sums, and
    this its first-order form. ValueError for unequal lengths and for values that are not finite.
    """
    values, clusters = np.asarray(values, dtype=float), np.asarray(clusters)
    if values.ndim < 2 or clusters.ndim != 1 or values.shape[-1] != len(clusters) or 0 in values.shape:
        raise ValueError(f"values {values.shape} and clusters {clusters.shape} must be [seeds, n] and [n]")
    if not np.isfinite(values).all():
        raise ValueError(f"values has a number that is not finite at {np.argwhere(~np.isfinite(values))[0]}")
    unique, code = np.unique(clusters, return_inverse=True)
    order = np.argsort(code, kind="stable")
    sizes = np.bincount(code)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    sums = np.add.reduceat(values[..., order], starts, axis=-1)  # [..., seeds, audios]
    mean = values.mean(axis=-1, keepdims=True)
    return mean + (sums - sizes * mean) * len(unique) / len(clusters)


def pseudo_values(whole, without) -> np.ndarray:
    """The same for a value that is no mean, by leaving out each audio: [seeds, audios].

    whole: the value of each seed; without: the value without each audio. Source: the jackknife,
    Tukey 1958.
    """
    whole, without = np.asarray(whole, dtype=float), np.asarray(without, dtype=float)
    return whole[:, None] + (without.shape[1] - 1) * (without.mean(axis=1, keepdims=True) - without)


def pooled(variants) -> SeedPart:
    """The seed part of a value, from all variants' linearised values [variants, seeds, audios]."""
    variants = np.asarray(variants, dtype=float)
    means = variants.mean(axis=2)  # [variants, seeds]
    n_seeds, n = variants.shape[1:]
    return SeedPart(float(n * means.var(axis=1, ddof=1).mean()), len(variants) * (n_seeds - 1))


def pooled_difference(variants) -> SeedPart:
    """The seed part of a difference of two variants [variants, seeds, audios], base included.

    From how variants and seeds interact: what a seed does to all variants alike is in no difference
    of theirs.
    """
    variants = np.asarray(variants, dtype=float)
    means = variants.mean(axis=2)  # [variants, seeds]
    rest = means - means.mean(axis=0) - means.mean(axis=1, keepdims=True) + means.mean()
    df = (means.shape[0] - 1) * (means.shape[1] - 1)
    return SeedPart(float(2 * variants.shape[2] * (rest**2).sum() / df), df)


def interval(table, confidence: float = 0.95, seed_part: SeedPart | None = None) -> Interval:
    """Interval of the mean of linearised values [seeds, audios].

    half² = t²(audios − 1) (MS_audio − MS_rest)₊ / SA + t²(df) MS_seed / SA. ``seed_part`` stands in
    for the table's own S − 1 degrees of freedom. One seed leaves the trainings out, and the unit
    says so; one audio has NaN for bounds.
    """
    table = np.atleast_2d(np.asarray(table, dtype=float))
    if not 0 < confidence < 1:
        raise ValueError(f"confidence = {confidence}, expected a share between 0 and 1, as 0.95")
    n_seeds, n = table.shape
    mean, of_audio, of_seed = table.mean(), table.mean(axis=0), table.mean(axis=1)
    unit = _unit(n_seeds)
    if n == 1:
        return Interval(float(mean), float("nan"), float("nan"), n, unit)
    between = n_seeds * of_audio.var(ddof=1)  # MS_audio
    within, trainings = 0.0, 0.0
    if n_seeds > 1:
        noise = table - of_audio - of_seed[:, None] + mean
        within = (noise**2).sum() / ((n_seeds - 1) * (n - 1))  # MS_rest
        square, df = seed_part or SeedPart(n * of_seed.var(ddof=1), n_seeds - 1)
        trainings = _t(df, confidence) ** 2 * square
    half2 = (_t(n - 1, confidence) ** 2 * max(between - within, 0.0) + trainings) / table.size
    half = float(np.sqrt(half2))
    return Interval(float(mean), float(mean) - half, float(mean) + half, n, unit)


def over_seeds(values, clusters, options: StatisticsOptions, seed_part: SeedPart | None = None) -> Interval:
    """Interval of the mean of values `[seeds, n]` whose rows belong to audios, clusters `[n]`.

    Values that are never negative have no negative bound, shares none above 1. ValueError for
    unequal lengths or values that are not finite.
    """
    values = np.atleast_2d(np.asarray(values, dtype=float))
    made = interval(linearised(values, clusters), options.confidence, seed_part)
    low = max(made.low, 0.0) if values.min() >= 0 else made.low
    high = min(made.high, 1.0) if values.min() >= 0 and values.max() <= 1 else made.high
    return made._replace(low=low, high=high)


def intervals_of(values, clusters, options: StatisticsOptions) -> list[Interval]:
    """`over_seeds` of each of values `[metrics, seeds, n]`."""
    return [over_seeds(one, clusters, options) for one in np.asarray(values, dtype=float)]


def interval_of_sums(sums, value, options: StatisticsOptions) -> Interval:
    """Interval of a value that is no mean but made of sums over audios, as BLEU is.

    sums `[seeds, audios, k]`: what each audio adds. `value` takes rows of sums `[m, k]` and returns
    `[m]`. The point is the mean over seeds, the interval that of its pseudo-values.
    """
    sums = np.asarray(sums, dtype=float)
    if sums.ndim != 3 or 0 in sums.shape or not np.isfinite(sums).all():
        raise ValueError(f"sums has shape {sums.shape}, expected [seeds, audios, k] of finite numbers")
    total = sums.sum(axis=1, keepdims=True)  # [seeds, 1, k]
    whole = [value(one)[0] for one in total]
    return left_out(whole, [value(one) for one in total - sums], options)


def left_out(whole, without, options: StatisticsOptions) -> Interval:
    """Interval of a value that is no mean: of each seed, and without each audio `[seeds, audios]`.

    The point is the mean over seeds; pseudo-values have a mean of their own, a little beside it.
    """
    point, n_audios = float(np.mean(whole)), np.shape(without)[1]
    if n_audios == 1:
        return Interval(point, float("nan"), float("nan"), 1, _unit(len(whole)))
    made = interval(pseudo_values(whole, without), options.confidence)
    return made._replace(value=point, low=made.low - made.value + point, high=made.high - made.value + point)


def paired(a, b, clusters, options: StatisticsOptions, seed_part: SeedPart | None = None) -> Difference:
    """Interval and sign-flip test of mean(a - b) on the same rows and seeds.

    a, b `[seeds, n]` (or `[n]`: one seed), clusters `[n]`. ValueError for unequal shapes.
    """
    a, b = (np.atleast_2d(np.asarray(one, dtype=float)) for one in (a, b))
    if a.shape != b.shape:
        raise ValueError(f"a has shape {a.shape}, b {b.shape}: the rows and seeds must be paired")
    (found,) = differences_of((a - b)[None], clusters, options)
    if seed_part is None:
        return found
    return found._replace(interval=interval(linearised(a - b, clusters), options.confidence, seed_part))


def differences_of(values, clusters, options: StatisticsOptions) -> list[Difference]:
    """`paired` of many comparisons, values `[comparisons, seeds, n]` already a − b.

    The p-value is two-sided; each permutation flips the sign of whole audios, averaged over the
    seeds, and the observed one counts as one of them, so the smallest possible is 1 / (PERMUTATIONS
    + 1). Its null is of audios, given these seeds. All comparisons share the sign flips.
    """
    tables = linearised(np.asarray(values, dtype=float), clusters)  # [comparisons, seeds, audios]
    rows = tables.mean(axis=1)
    # Sums in another order round differently: an equal permutation must count as equal.
    limit = np.abs(rows.sum(axis=1)) - 1e-12 * np.abs(rows).sum(axis=1)
    rng = np.random.default_rng([options.seed, 1])
    extreme = np.zeros(len(rows), dtype=int)
    for start in range(0, PERMUTATIONS, _BLOCK):
        signs = 2.0 * rng.integers(0, 2, (min(_BLOCK, PERMUTATIONS - start), rows.shape[1])) - 1
        extreme += np.count_nonzero(np.abs(signs @ rows.T) >= limit, axis=0)
    p_values = (1 + extreme) / (1 + PERMUTATIONS)
    return [Difference(interval(one, options.confidence), float(p)) for one, p in zip(tables, p_values)]


def resampled_sums(rows, clusters, options: StatisticsOptions) -> tuple[np.ndarray, np.ndarray, int]:
    """Sums over all rows, and over each bootstrap sample of whole clusters.

    rows `[n, k]`, clusters `[n]`. Returns `[k]`, `[resamples, k]` and the number of clusters.
    """
    rows = np.asarray(rows, dtype=float)
    unique, code = np.unique(np.asarray(clusters), return_inverse=True)
    if len(rows) != len(code) or not np.isfinite(rows).all():
        raise ValueError(f"{len(rows)} rows of finite numbers wanted, {len(code)} clusters: one for each")
    sums = np.stack([np.bincount(code, column, len(unique)) for column in rows.T], axis=1)
    rng = np.random.default_rng(options.seed)
    draws = rng.multinomial(len(unique), np.full(len(unique), 1 / len(unique)), options.resamples)
    return rows.sum(axis=0), draws @ sums, len(unique)


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
    half = _t(n - 1, confidence) * float(stats.sem(values))
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


def _t(df: int, confidence: float) -> float:
    return float(stdtrit(df, (1 + confidence) / 2))
