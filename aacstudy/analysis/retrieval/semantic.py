"""What the loss says of audios that share a caption's sounds, wholly, in part or not at all.

Needs a corpus whose sounds are known: the sounds of each audio, from its events, and those that
each caption names. Losses are per token, `[audios, captions]`, one matrix per seed.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from aacstudy.analysis.statistics import Interval, intervals_of
from aacstudy.options import StatisticsOptions

# What an audio is to a caption that names two sounds.
OWN, BOTH, RELATED, UNRELATED = "own", "another with both", "one sound shared", "neither sound"
COMPARED = ((OWN, UNRELATED), (OWN, RELATED), (RELATED, UNRELATED), (OWN, BOTH))


def sounds(clips: Iterable[str], events: pd.DataFrame) -> list[frozenset[str]]:
    """The kinds of sound in each clip; events: rows of `clip` and `event`."""
    of_clip = events.groupby("clip")["event"].agg(frozenset).to_dict()
    return [of_clip.get(clip, frozenset()) for clip in clips]


def shared(heard: Sequence[frozenset], named: Sequence[frozenset]) -> np.ndarray:
    """How many of the sounds that a caption names an audio holds: `[audios, captions]`."""
    kinds = sorted(frozenset().union(*heard, *named))

    def marks(sets):
        return np.array([[kind in one for kind in kinds] for one in sets], dtype=int).reshape(len(sets), -1)

    return marks(heard) @ marks(named).T


def relations(
    heard: Sequence[frozenset], named: Sequence[frozenset], owners: np.ndarray
) -> dict[str, np.ndarray]:
    """Which audios are what to a caption: bool `[audios, captions]` by kind; only of two sounds."""
    count, two = shared(heard, named), np.array([len(one) == 2 for one in named])
    own = np.arange(len(heard))[:, None] == np.asarray(owners)
    of_count = {BOTH: 2, RELATED: 1, UNRELATED: 0}
    return {OWN: own & two} | {name: (count == n) & two & ~own for name, n in of_count.items()}


def effects(
    losses: Sequence[np.ndarray],
    kinds: dict[str, np.ndarray],
    owners: np.ndarray,
    options: StatisticsOptions,
) -> pd.DataFrame:
    """A kind's mean loss minus that of audios with neither sound, in nats per token, by kind.

    Means over captions that have both; columns `audios`, value, low, high, n, captions.
    """
    rows = []
    for kind in (OWN, BOTH, RELATED):
        values = np.array([_mean(one, kinds[kind]) - _mean(one, kinds[UNRELATED]) for one in losses])
        rows.append({"audios": kind} | _row(values, owners, options))
    return pd.DataFrame(rows)


def areas(
    losses: Sequence[np.ndarray],
    kinds: dict[str, np.ndarray],
    owners: np.ndarray,
    options: StatisticsOptions,
) -> pd.DataFrame:
    """AUC: how often an audio of one kind has the lower loss than one of another, mean of captions.

    0.5 where the loss cannot tell them apart. Columns `lower`, `higher` and as `effects`.
    """
    rows = []
    for lower, higher in COMPARED:
        values = np.array([_auc(one, kinds[lower], kinds[higher]) for one in losses])
        rows.append({"lower": lower, "higher": higher} | _row(values, owners, options))
    return pd.DataFrame(rows)


def hits(
    losses: Sequence[np.ndarray],
    heard: Sequence[frozenset],
    named: Sequence[frozenset],
    owners: np.ndarray,
    options: StatisticsOptions,
    k: int = 1,
) -> dict[str, Interval]:
    """Text-to-audio by meaning, over captions that name a sound: an audio counts for what it holds.

    semantic: one of the top k audios holds every sound that the text names; exact: and no other
    sound; own: the caption's own audio is among them (hit@k). Equal losses: the lower row.
    """
    asked = np.array([bool(one) for one in named])
    names = np.array([len(one) for one in named])
    every = shared(heard, named) == names  # [audios, captions]
    exact = every & (np.array([len(one) for one in heard])[:, None] == names)
    own = np.arange(len(heard))[:, None] == np.asarray(owners)
    top = [np.argsort(one, axis=0, kind="stable")[:k] for one in losses]  # [k, captions] each
    values = [
        [np.take_along_axis(fits, one, axis=0).any(axis=0)[asked] for one in top]
        for fits in (every, exact, own)
    ]
    made = intervals_of(np.array(values, dtype=float), np.asarray(owners)[asked], options)
    return dict(zip(("semantic", "exact", "own"), made))


def _mean(loss: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Mean over the chosen audios `[captions]`; NaN where there is none."""
    count = chosen.sum(axis=0)
    return np.where(chosen, loss, 0).sum(axis=0) / np.where(count > 0, count, np.nan)


def _auc(loss: np.ndarray, lower: np.ndarray, higher: np.ndarray) -> np.ndarray:
    found = np.full(loss.shape[1], np.nan)
    for c in np.flatnonzero(lower.any(axis=0) & higher.any(axis=0)):
        gap = loss[higher[:, c], c] - loss[lower[:, c], c][:, None]
        found[c] = np.mean((gap > 0) + (gap == 0) / 2)
    return found


def _row(values: np.ndarray, owners: np.ndarray, options: StatisticsOptions) -> dict:
    """Interval of values `[seeds, captions]` over captions that have one; no row of NaN counts."""
    some = ~np.isnan(values).any(axis=0)
    if not some.any():
        return dict.fromkeys(("value", "low", "high"), np.nan) | {"n": 0, "captions": 0}
    (made,) = intervals_of(values[None][:, :, some], np.asarray(owners)[some], options)
    return dict(zip(("value", "low", "high", "n"), made)) | {"captions": int(some.sum())}
