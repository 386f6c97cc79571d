"""Failure signatures and break conditions of a captioner that searches by its loss.

Every signature is a measured interval beside a bar. It is present where the whole interval lies on
the bad side, absent where it lies on the good one. What was not measured is said to be so, so a
given matrix gets the same table as a captioner trained here.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import chi2

from aacstudy.analysis.retrieval.predictions import bounds
from aacstudy.analysis.scorecard import interval
from aacstudy.analysis.statistics import Interval, intervals_of
from aacstudy.options import StatisticsOptions

PRESENT, ABSENT, CANNOT_TELL, NOT_MEASURED = "present", "absent", "cannot tell", "not measured"
Measured = Mapping[str, Interval]


@dataclass(frozen=True)
class Signature:
    """`key` of what is measured, the bar, on which side of it the signature is, and what to do.

    bar: a number, or a function of all measured that gives None where it lacks something.
    """

    name: str
    key: str
    present: str  # "above" or "below" the bar
    bar: float | Callable[[Measured], float | None]
    rule: str
    advice: str


def _half_of_text_to_audio(measured: Measured) -> float | None:
    return measured["t2a"].value / 2 if "t2a" in measured else None


def _quarter_above_chance(measured: Measured) -> float | None:
    chance = measured.get("features_chance")
    return None if chance is None else chance.value + (1 - chance.value) / 4


SIGNATURES = (
    Signature("trainings differ", "seeds", "above", 0.05,
              "standard deviation of hit@1 over seeds above 5 points",
              "train more seeds and longer; report no single one"),
    Signature("audio-to-text stays poor", "a2t", "below", _half_of_text_to_audio,
              "best normalised audio-to-text hit@1 below half of text-to-audio's",
              "what fails is not the bias of captions: look at the audios that no caption ranks first"),
    Signature("losses near zero", "matched", "below", 0.1, "loss of matched pairs below 0.1 nats per token",
              "test captions may be training captions, or the captions hold too few words"),
    Signature("one caption for all", "same_caption", "above", 0.1,
              "one text is written for over 10 % of the clips",
              "leave generic captions out of training; search with other beams"),
    Signature("loss ignores the audio", "separation", "below", 0.6,
              "own audio has the lower loss than another in under 60 % of pairs",
              "check that frames and captions belong together; train longer"),
    Signature("captions carry no bias", "caption_share", "below", 0.1,
              "captions carry under 10 % of the losses' variance",
              "normalisation has nothing to remove: use raw losses"),
    Signature("normalisation gains nothing", "gain", "below", 0.02,
              "best normalised minus raw hit@1 below 2 points",
              "use raw losses: they need no other audios"),
    Signature("features do not separate sounds", "features", "below", _quarter_above_chance,
              "mAP of tagging under a quarter of the way from chance to 1",
              "a better encoder first: no decoder can mend it"),
)  # fmt: skip


def judge(found: Interval | None, bar: float | None, present: str) -> str:
    """Where an interval lies: `present` is the side of the bar, "above" or "below"."""
    if found is None or bar is None:
        return NOT_MEASURED
    low, high = bounds(found)
    if low > bar:
        return PRESENT if present == "above" else ABSENT
    if high < bar:
        return PRESENT if present == "below" else ABSENT
    return CANNOT_TELL  # NaN bounds too, as of one seed


def table(measured: Measured) -> pd.DataFrame:
    """A row per signature: value, low, high, n, rule, verdict, and what to do where present.

    measured: intervals by the `key` of a signature, with `t2a` (hit@1) and `features_chance` for
    the bars that depend on them.
    """
    rows = []
    for one in SIGNATURES:
        found = measured.get(one.key)
        bar = one.bar(measured) if callable(one.bar) else one.bar
        verdict = judge(found, bar, one.present)
        numbers = dict(zip(("value", "low", "high", "n"), found or (np.nan, np.nan, np.nan, 0)))
        shown = {"rule": one.rule, "verdict": verdict, "advice": one.advice if verdict == PRESENT else ""}
        rows.append({"signature": one.name} | numbers | shown)
    return pd.DataFrame(rows)


def spread(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Standard deviation over seeds with its χ² interval; of one seed NaN."""
    n = len(values)
    if n < 2:
        return Interval(np.nan, np.nan, np.nan, n, "seeds")
    found, tail = float(np.std(values, ddof=1)), (1 - confidence) / 2
    low, high = (found * np.sqrt((n - 1) / chi2.ppf(q, n - 1)) for q in (1 - tail, tail))
    return Interval(found, float(low), float(high), n, "seeds")


def same_caption(written: Sequence[Sequence[str]], options: StatisticsOptions) -> Interval:
    """Share of clips that got the commonest caption; written: a text per clip, for each seed."""
    most = [Counter(texts).most_common(1)[0][0] for texts in written]
    same = [[text == top for text in texts] for texts, top in zip(written, most)]
    return _interval(np.array(same, dtype=float), np.arange(len(written[0])), options)


def separation(losses: Sequence[np.ndarray], owners: np.ndarray, options: StatisticsOptions) -> Interval:
    """AUC: how often a caption's own audio has a lower loss than another; mean of captions.

    losses: per token `[audios, captions]` for each seed; ties count half.
    """
    captions, values = np.arange(len(owners)), []
    for loss in losses:
        own = loss[owners, captions]
        wins = np.count_nonzero(loss > own, axis=0) + (np.count_nonzero(loss == own, axis=0) - 1) / 2
        values.append(wins / (len(loss) - 1))
    return _interval(np.array(values), owners, options)


def matched(losses: Sequence[np.ndarray], owners: np.ndarray, options: StatisticsOptions) -> Interval:
    """Mean loss per token of captions on their own audio."""
    return _interval(np.array([loss[owners, np.arange(len(owners))] for loss in losses]), owners, options)


def measured(results: Mapping[str, float], confidence: float = 0.95) -> dict[str, Interval]:
    """What the signatures need, from a study's results (``results.json``); what was not measured
    has no key.
    """
    normalised = [name for name in ("min_max", "z") if f"a2t.{name}.hit@1" in results]
    best = max(normalised, key=lambda name: results[f"a2t.{name}.hit@1"], default="min_max")
    keys = {
        "t2a": "t2a.hit@1",
        "a2t": f"a2t.{best}.hit@1",
        "gain": f"a2t.{best}_minus_raw.hit@1",
        "matched": "signature.matched",
        "separation": "signature.separation",
        "same_caption": "signature.same_caption",
        "caption_share": "variance.caption",
        "features": "tagging.map",
    }
    found = {name: interval(results, key) for name, key in keys.items()}
    seeds = [value for key, value in results.items() if re.fullmatch(r"t2a\.hit@1\.seed_\d+", key)]
    found["seeds"] = spread(seeds, confidence) if seeds else None
    if (chance := results.get("chance.tagging.map")) is not None:
        found["features_chance"] = Interval(chance, chance, chance, 0, "a random order")
    return {name: one for name, one in found.items() if one is not None}


def _interval(values: np.ndarray, audios: np.ndarray, options: StatisticsOptions) -> Interval:
    return intervals_of(values[None], audios, options)[0]
