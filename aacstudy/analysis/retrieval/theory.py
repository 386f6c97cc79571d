"""Why min-max scaling works: what it does to a caption's losses, and predictions that can fail.

Bayes' rule: in text-to-audio p(c) is the same for all audios and cancels. In audio-to-text over a
closed pool the question is who owns caption c: P(owner = a | c) = p(c|a) / Σ p(c|a'), that is
s − log Σ exp(s) on sums, which ranks as `compete.pmi` with α = 1. So a caption needs a shift of its
column, its location, and the location follows the audios that fit it, the upper tail. Min-max uses
its maximum. Every way here is `(pool) -> scores [audios, captions]`; values are of audio-to-text.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from aacstudy.analysis.retrieval import compete, metrics, normalise
from aacstudy.analysis.retrieval.methods import Pool
from aacstudy.analysis.statistics import Interval, intervals_of
from aacstudy.options import StatisticsOptions

Way = Callable[[Pool], np.ndarray]
MARGIN = 0.02  # two points of hit@1: a smaller difference is called none
QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 1.0)
DEVIATIONS = (0.0, 1.0, 2.0, 3.0)
BETAS = (-np.inf, -10.0, 0.0, 0.5, 1.0, 2.0, 10.0, np.inf)  # per nat of a sum
HELD, REFUTED, CANNOT_TELL = "held", "refuted", "cannot tell"


def soft_maximum(scores, beta: float) -> np.ndarray:
    """(1/β) log mean over audios of exp(β s): `[audios, captions]` to `[captions]`.

    It joins the minimum (β = −∞), the mean (0), the prior of PMI (1, on sums) and the maximum (∞).
    """
    if np.isinf(beta):
        return scores.max(axis=0) if beta > 0 else scores.min(axis=0)
    return compete.log_mean_exp(beta * scores) / beta if beta else scores.mean(axis=0)


def shift_by(location: Callable, sums: bool = False) -> Way:
    """Subtract each column's location, a function from `[audios, captions]` to `[captions]`."""

    def way(pool: Pool) -> np.ndarray:
        scores = pool.scores(sums)
        return scores - location(scores)

    return way


def scale_about(location: Callable) -> Way:
    """Give every column the mean range of all columns and leave its location where it is."""

    def way(pool: Pool) -> np.ndarray:
        scores = pool.scores()
        at, spread = location(scores), np.ptp(scores, axis=0)  # [captions] each
        return at + (scores - at) * (spread.mean() / np.where(spread > 0, spread, 1))

    return way


def leave_one_out(pool: Pool) -> np.ndarray:
    """Min-max whose minimum and maximum are those of all other audios: no exact ties at the top.

    Raises ValueError for fewer than three audios: another one alone has no range.
    """
    scores = pool.scores()
    if len(scores) < 3:
        raise ValueError(f"{len(scores)} audios: leaving one out needs at least 3")
    (low, lower), (higher, high) = np.sort(scores, axis=0)[[0, 1]], np.sort(scores, axis=0)[[-2, -1]]
    low, high = np.where(scores == low, lower, low), np.where(scores == high, higher, high)
    spread = high - low
    return np.where(spread == 0, 0.5, (scores - low) / np.where(spread == 0, 1, spread))


def pmi_open_pool(pool: Pool) -> np.ndarray:
    """PMI whose prior leaves out each other caption's owner: nobody in the bank fits the caption.

    An audio's own captions keep the whole pool, which ranks as leaving the query out everywhere.
    """
    scores = pool.scores(sums=True)
    own = metrics.relevance_from_owners(pool.owners, len(scores))  # [audios, captions]
    top = scores.max(axis=0)
    weights = np.exp(scores - top)
    everyone = weights.sum(axis=0)
    others = np.where(own, 0, weights).sum(axis=0)
    smallest = np.finfo(float).tiny  # where all others underflow beside the owner
    return scores - top - np.log(np.where(own, everyone, np.maximum(others, smallest)))


def pmi(pool: Pool) -> np.ndarray:
    return compete.pmi(pool.scores(sums=True))


def z_score(pool: Pool) -> np.ndarray:
    return normalise.z_score(pool.scores())


def min_max(pool: Pool) -> np.ndarray:
    return normalise.min_max(pool.scores())


def _quantile(q: float) -> Callable:
    return lambda scores: np.quantile(scores, q, axis=0)


def _deviations(k: float) -> Callable:
    return lambda scores: scores.mean(axis=0) + k * scores.std(axis=0)


def _soft(beta: float) -> Callable:
    return lambda scores: soft_maximum(scores, beta)


_ENDS = {"min": _quantile(0), "mean": _deviations(0), "max": _quantile(1)}
WAYS: dict[str, Way] = (
    {"raw": Pool.scores, "min_max": min_max}
    | {f"shift_by_{name}": shift_by(one) for name, one in _ENDS.items()}
    | {f"scale_about_{name}": scale_about(one) for name, one in _ENDS.items()}
    | {"shift_by_99_percent": shift_by(_quantile(0.99)), "shift_by_mean_plus_3_sd": shift_by(_deviations(3))}
    | {"z": z_score, "pmi": pmi, "leave_one_out": leave_one_out, "pmi_open_pool": pmi_open_pool}
)
BY_QUANTILE: dict[float, Way] = {q: shift_by(_quantile(q)) for q in QUANTILES}
BY_DEVIATIONS: dict[float, Way] = {k: shift_by(_deviations(k)) for k in DEVIATIONS}
BY_BETA: dict[float, Way] = {beta: shift_by(_soft(beta), sums=True) for beta in BETAS}
# What orders captions that min-max ties at 1; None is a random order.
TIE_BREAKS: dict[str, Way | None] = {"raw": Pool.scores, "random": None, "z": z_score, "pmi": pmi}


def hits(
    pools: Sequence[Pool],
    way: Way,
    k: int = 1,
    tie_break: Way | None = Pool.scores,
    ties: str = "expected",
) -> np.ndarray:
    """hit@k `[seeds, audios]`, one pool per seed; ties by `tie_break`, then by `ties`."""
    return np.stack(
        [
            metrics.audio_to_text(
                way(pool), pool.owners, (k,), ties, None if tie_break is None else tie_break(pool)
            )[f"hit@{k}"]
            for pool in pools
        ]
    )


def measure(pools: Sequence[Pool], k: int = 1) -> dict[str, np.ndarray]:
    """hit@k `[seeds, audios]` of every way, and of min-max under each tie-break (`ties.pmi`)."""
    ties = {f"ties.{name}": hits(pools, min_max, k, one) for name, one in TIE_BREAKS.items()}
    return {name: hits(pools, way, k) for name, way in WAYS.items()} | ties


def intervals(found: Mapping, options: StatisticsOptions) -> dict[object, Interval]:
    """Mean over seeds and audios of each entry `[seeds, audios]`."""
    values = np.stack(list(found.values()))
    audios = np.arange(values.shape[2])
    made = intervals_of(values, audios, options)
    return dict(zip(found, made))


def table(found: Mapping, options: StatisticsOptions, name: str = "way") -> pd.DataFrame:
    """A row for each entry: `name`, value, low, high, n, unit."""
    return pd.DataFrame([{name: key} | one._asdict() for key, one in intervals(found, options).items()])


def curve(
    pools: Sequence[Pool], ways: Mapping[float, Way], options: StatisticsOptions, name: str
) -> pd.DataFrame:
    """hit@1 along a parameter of a location: `BY_QUANTILE`, `BY_DEVIATIONS` or `BY_BETA`."""
    return table({value: hits(pools, way) for value, way in ways.items()}, options, name)


class Identity(NamedTuple):
    """Min-max at k = 1 read as text-to-audio search.

    differences: audios, over all seeds, for which the identity fails. n: audios it speaks of: the
    text-to-audio best of some caption. unsought: the others, which no caption ranks first.
    """

    differences: int
    n: int
    unsought: int


def identity(pools: Sequence[Pool]) -> Identity:
    """Hit@1 of optimistic min-max is: the audio is text-to-audio best of one of its own captions.

    Exact for an audio that is best of some caption, as its top score then is 1; the top caption of
    an audio that is best of none is decided by values below 1.
    """
    differences = n = unsought = 0
    for pool, hit in zip(pools, hits(pools, min_max, tie_break=None, ties="optimistic")):
        scores = pool.scores()
        best = scores == scores.max(axis=0)  # [audios, captions]
        own = metrics.relevance_from_owners(pool.owners, len(scores))
        some = best.any(axis=1)
        differences += int(np.count_nonzero((best & own).any(axis=1)[some] != (hit[some] == 1)))
        n, unsought = n + int(some.sum()), unsought + int((~some).sum())
    return Identity(differences, n, unsought)


def part(pool: Pool, audios: np.ndarray) -> Pool:
    """The pool of some audios, ascending, and their captions; without banks and priors."""
    kept = np.isin(pool.owners, audios)
    owners = np.searchsorted(audios, pool.owners[kept])
    return Pool(pool.nll[np.ix_(audios, kept)], pool.tokens[kept], owners)


def by_pool_size(
    pools: Sequence[Pool],
    sizes: Sequence[int],
    options: StatisticsOptions,
    names: Sequence[str] = ("raw", "min_max", "z", "pmi"),
    draws: int = 5,
) -> pd.DataFrame:
    """hit@1 in random pools of about so many audios: way, audios, value, low, high, n.

    Each draw deals all audios into disjoint pools, so every audio is a query once per draw. The way
    `z − min_max` is the paired difference.
    """
    rng = np.random.default_rng(options.seed)
    audios, found = len(pools[0].nll), {}
    for size in sizes:
        sums = {name: np.zeros((len(pools), audios)) for name in names}
        for _ in range(draws):
            for dealt in np.array_split(rng.permutation(audios), max(1, round(audios / size))):
                smaller = [part(pool, np.sort(dealt)) for pool in pools]
                for name in names:
                    sums[name][:, np.sort(dealt)] += hits(smaller, WAYS[name]) / draws
        found |= {(name, size): values for name, values in sums.items()}
        if {"z", "min_max"} <= set(names):
            found["z − min_max", size] = sums["z"] - sums["min_max"]
    made = intervals(found, options)
    return pd.DataFrame([{"way": name, "audios": size} | one._asdict() for (name, size), one in made.items()])
