"""How far the caption bias is that of a few captions which fit every audio: results without them.

Captions are left out of the pool, audios are not: they stay in every statistic. An audio none of
whose captions is left is no query.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from aacstudy.analysis.retrieval import metrics, predictions
from aacstudy.analysis.retrieval.methods import Pool
from aacstudy.analysis.retrieval.theory import CANNOT_TELL, HELD, MARGIN, REFUTED, Way, min_max
from aacstudy.analysis.statistics import Interval, intervals_of
from aacstudy.options import StatisticsOptions

SHARES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
ALONE, IN_PART, NOT_THEIRS = "these captions alone", "in part", "not these captions"
DRAWS = 3


def without(pool: Pool, left_out: np.ndarray) -> Pool:
    """The pool without some captions, bool `[captions]`; without banks and priors."""
    kept = ~np.asarray(left_out)
    return Pool(pool.nll[:, kept], pool.tokens[kept], pool.owners[kept])


def cheapest(pools: Sequence[Pool], share: float) -> np.ndarray:
    """The captions of lowest loss per token, mean of audios and seeds: bool `[captions]`."""
    cost = -np.mean([pool.scores().mean(axis=0) for pool in pools], axis=0)
    found = np.zeros(len(cost), dtype=bool)
    found[np.argsort(cost, kind="stable")[: round(share * len(cost))]] = True
    return found


def hits(pools: Sequence[Pool], way: Way, left_out: np.ndarray) -> np.ndarray:
    """Audio-to-text hit@1 `[seeds, audios]`, ties by raw loss; NaN for audios that are no query."""
    found = np.full((len(pools), len(pools[0].nll)), np.nan)
    for row, pool in zip(found, (without(pool, left_out) for pool in pools)):
        own = metrics.relevance_from_owners(pool.owners, len(row))
        asked = own.any(axis=1)
        ranked = metrics.evaluate(way(pool)[asked], own[asked], (1,), tie_break=pool.scores()[asked])
        row[asked] = ranked["hit@1"]
    return found


def top_share(pools: Sequence[Pool], chosen: np.ndarray, options: StatisticsOptions) -> Interval:
    """Share of audios whose cheapest caption is one of the chosen ones, bool `[captions]`."""
    return _interval(
        np.stack([chosen[pool.scores().argmax(axis=1)] for pool in pools]).astype(float), options
    )


def gains(
    pools: Sequence[Pool], left_out: Mapping[str, np.ndarray], options: StatisticsOptions, way: Way = min_max
) -> dict[str, dict[str, Interval]]:
    """Results without each set of captions, bool `[captions]`: intervals by set and quantity.

    raw, scaled: hit@1 by raw loss and by `way`; gain: their paired difference; fall: by how much it
    is below the gain with all captions; random: the gain without as many captions drawn at random.
    """
    every = np.zeros(len(pools[0].owners), dtype=bool)
    whole = hits(pools, way, every) - hits(pools, Pool.scores, every)
    rng = np.random.default_rng(options.seed)
    found = {}
    for name, mask in left_out.items():
        raw, scaled = hits(pools, Pool.scores, mask), hits(pools, way, mask)
        drawn = [rng.permutation(mask) for _ in range(DRAWS if mask.any() else 1)]
        random = np.array([hits(pools, way, one) - hits(pools, Pool.scores, one) for one in drawn])
        asked = ~np.isnan(random)
        control = np.where(asked, random, 0).sum(axis=0) / np.where(
            asked.any(axis=0), asked.sum(axis=0), np.nan
        )
        values = {"raw": raw, "scaled": scaled, "gain": scaled - raw, "fall": whole - (scaled - raw)}
        found[name] = {key: _interval(one, options) for key, one in (values | {"random": control}).items()}
    return found


def table(found: Mapping[str, Mapping[str, Interval]], name: str = "left out") -> pd.DataFrame:
    """A row for each set of captions: every quantity with its low and high, and n queries."""
    rows = []
    for key, quantities in found.items():
        row = {name: key}
        for quantity, one in quantities.items():
            row |= {quantity: one.value, f"{quantity} low": one.low, f"{quantity} high": one.high}
        rows.append(row | {"n": quantities["gain"].n})
    return pd.DataFrame(rows)


def verdict(gain: Interval, fall: Interval, margin: float = MARGIN) -> str:
    """Whether the bias that scaling cures is that of captions left out, from `gains`.

    ``these captions alone`` where less than `margin` is gained without them; ``in part`` where the
    gain falls and yet something is gained; ``not these captions`` where a gain stays and its fall
    is below `margin`; otherwise ``cannot tell``.
    """
    some, fell = predictions.more(gain, margin), predictions.more(fall, margin)
    if some == REFUTED:
        return ALONE
    if some == CANNOT_TELL or fell == CANNOT_TELL:
        return CANNOT_TELL
    return IN_PART if fell == HELD else NOT_THEIRS


def _interval(values: np.ndarray, options: StatisticsOptions) -> Interval:
    """Of values `[seeds, audios]`, over the audios that have one."""
    asked = ~np.isnan(values).any(axis=0)
    made = intervals_of(values[None][:, :, asked], np.flatnonzero(asked), options)
    return made[0]
