"""Intervals of seeds × audios: how audios vary and how trainings vary, estimated apart.

A value's error has two sources. That of the audios is known well, from hundreds of them; that of
the trainings from two or three seeds, so Student's t widens it, or it is pooled over several
variants. Bootstrapping seeds and audios together counts the noise that they share twice, and takes
three seeds for all there are.

Not covered: another encoder, another draw of the corpus, other candidates in the pool. Source: the
two-way table of Searle, Casella and McCulloch 1992, chapter 4; each half-width recovered and joined
as in Zou and Donner, Statistics in Medicine 2008.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from aacstudy.analysis.statistics import Interval


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
    unit = "audios, one seed" if n_seeds == 1 else f"audios, {n_seeds} seeds"
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


def _t(df: int, confidence: float) -> float:
    return float(stdtrit(df, (1 + confidence) / 2))
