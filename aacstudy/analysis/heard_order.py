"""Whether a captioner hears which sound comes first: what it writes, what it finds, the verdict.

Arithmetic only. Each effect is one that a listener who knows what sounds, but not when, would not
show.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from aacstudy.analysis.captions.errors import in_turn, said_order
from aacstudy.analysis.retrieval.metrics import text_to_audio
from aacstudy.analysis.statistics import Interval, over_seeds
from aacstudy.options import StatisticsOptions

HEARS, NOT_DETECTED, UNDECIDED = "hears order", "not detected", "undecided"
TEN_POINTS = 0.1  # an effect that may be there and is still called not detected


class Verdict(NamedTuple):
    """``answer`` is one of three; ``largest`` the most that the interval ``by`` it allows."""

    answer: str
    largest: float
    by: str

    def __str__(self) -> str:
        if self.answer != NOT_DETECTED:
            return self.answer
        return f"{NOT_DETECTED}, at most {100 * self.largest:+.1f} points {self.by}"


def verdict(effects: Mapping[str, Interval], margin: float = TEN_POINTS) -> Verdict:
    """Whether order is heard, from effects that are 0 for a listener to whom order is nothing.

    effects: by name, such as ``over blind`` (accuracy minus that on other clips' audio) and ``over
    permuted`` (minus that on the own waveform in permuted pieces). ``hears order``: every interval
    lies above 0. ``not detected``: one reaches 0 or less and ends below ``margin``; ``largest`` is
    its end. Else ``undecided``, as where an interval has no width: a control that can change
    nothing, such as permuted frames before attention over a set, decides nothing.
    """
    if not effects:
        raise ValueError("a verdict needs at least one effect")
    able = {name: one for name, one in effects.items() if one.low < one.high}
    absent = {name: one.high for name, one in able.items() if one.low <= 0 and one.high < margin}
    if absent:
        name = min(absent, key=absent.get)
        return Verdict(NOT_DETECTED, absent[name], name)
    answer = HEARS if len(able) == len(effects) and all(one.low > 0 for one in able.values()) else UNDECIDED
    weakest = min(effects, key=lambda name: effects[name].low)
    return Verdict(answer, effects[weakest].high, weakest)


class Written(NamedTuple):
    """``order``: share right among ``captions`` that say one; ``stated``: the share that does."""

    order: Interval
    stated: Interval
    captions: int


def stated_orders(captions: Sequence[str], clips: Sequence[str], events: pd.DataFrame) -> pd.DataFrame:
    """What each caption says of its clip's order: bool ``possible``, ``stated``, ``right``.

    possible: the clip has exactly two sounds, one after the other. stated: the caption names both,
    with an order. events: ``clip``, ``event``, ``onset``, ``offset`` (s). Sounds are known by the
    soundscapes' grammar.
    """
    sounds = {clip: rows.sort_values("onset") for clip, rows in events.groupby("clip")}
    rows = []
    for caption, clip in zip(captions, clips, strict=True):
        heard = sounds.get(clip, events.iloc[:0])
        names, said = list(heard["event"]), said_order(caption)
        possible = len(set(names)) == len(names) == 2 and in_turn(heard)
        stated = possible and set(said) == set(names)
        rows.append((possible, stated, stated and said == names))
    return pd.DataFrame(rows, columns=["possible", "stated", "right"])


def written(
    seeds: Sequence[Sequence[str]], clips: Sequence[str], events: pd.DataFrame, options: StatisticsOptions
) -> Written | None:
    """Order in the captions [seeds][clips] of one captioner; None where no caption says one.

    The unit is the clip. A share of what varies in number is a ratio, and its interval that of the
    ratio's first order.
    """
    tables = [stated_orders(captions, clips, events) for captions in seeds]
    possible = tables[0]["possible"].to_numpy()
    stated, right = (
        np.stack([one[name].to_numpy(float)[possible] for one in tables]) for name in ("stated", "right")
    )
    if not stated.any():
        return None
    share = right.sum() / stated.sum()
    units = np.arange(stated.shape[1])
    order = over_seeds(share + (right - share * stated) / stated.mean(), units, options)
    order = _within(order._replace(n=int(stated.any(axis=0).sum())))
    return Written(order, over_seeds(stated, units, options), int(stated.sum()))


class Reversals(NamedTuple):
    """Text-to-audio with each clip's reversal in the pool: ``hit`` is the product of the others."""

    hit: Interval
    right_pair: Interval
    right_order: Interval | None  # among the captions whose top clip has the right pair of sounds


def reversals(
    nll: Sequence[np.ndarray], owners: np.ndarray, clips: Sequence[str], options: StatisticsOptions
) -> Reversals:
    """Search of the pairs' clips by their captions of order: losses [clips, captions] per seed.

    clips: ``<pair>-ab``, ``-ba`` (and ``-both``); owners [captions]: rows of clips. The unit is the
    pair of sounds. Ties share their place. A caption's column has one number of tokens, so sums
    search as means do.
    """
    pair = np.array([clip.rpartition("-")[0] for clip in clips])
    unit = pair[owners]
    same_pair = pair[:, None] == unit  # [clips, captions]
    hits, pairs = [], []
    for matrix in nll:
        matrix = np.asarray(matrix, dtype=float)
        hits.append(text_to_audio(-matrix, owners, ks=(1,))["hit@1"].to_numpy())
        best = matrix == matrix.min(axis=0)
        pairs.append((best & same_pair).sum(axis=0) / best.sum(axis=0))
    hits, pairs = np.stack(hits), np.stack(pairs)
    hit, right_pair = (over_seeds(one, unit, options) for one in (hits, pairs))
    order = None
    if pairs.any():
        share = hits.sum() / pairs.sum()
        order = _within(over_seeds(share + (hits - share * pairs) / pairs.mean(), unit, options))
    found = (
        one and one._replace(unit=one.unit.replace("audios", "pairs")) for one in (hit, right_pair, order)
    )
    return Reversals(*found)


def _within(share: Interval) -> Interval:
    """A share lies between 0 and 1, and so do its bounds."""
    return share._replace(low=max(share.low, 0.0), high=min(share.high, 1.0))
