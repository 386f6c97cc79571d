"""What the theory of min-max (theory.py) predicts, and the rules by which it can fail."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from aacstudy.analysis.retrieval import theory
from aacstudy.analysis.retrieval.theory import CANNOT_TELL, HELD, MARGIN, REFUTED
from aacstudy.analysis.statistics import Interval, differences_of, keyed
from aacstudy.options import StatisticsOptions

UPPER_TAIL, LOCATION, SCALE, BOTH = "upper tail", "location", "scale", "both"
VERDICTS = (UPPER_TAIL, LOCATION, SCALE, BOTH, CANNOT_TELL)
# the predictions that the verdict rests on
DECIDE = ("shift_suffices", "scale_fails", "upper_tail")


def bounds(found: Interval) -> tuple[float, float]:
    """An interval's ends; of one without width by the rule of three: ± 3 / n.

    A bootstrap of n audios none of which differed has no width, and yet 3 / n of all may differ.
    """
    room = 3 / found.n if found.low == found.high else 0
    return found.low - room, found.high + room


def more(found: Interval, margin: float = MARGIN) -> str:
    """Whether a difference is above 0: refuted where what may hide in it is below `margin`."""
    low, high = bounds(found)
    return HELD if low > 0 else REFUTED if high < margin else CANNOT_TELL


def not_more(found: Interval, margin: float = MARGIN) -> str:
    """Whether a difference stays below `margin`: refuted where it surely is above 0."""
    low, high = bounds(found)
    return HELD if high < margin else REFUTED if low > 0 else CANNOT_TELL


def level(found: Interval, margin: float = MARGIN) -> str:
    """Whether a difference lies within ± `margin`: refuted where it does not and excludes 0."""
    low, high = bounds(found)
    if -margin < low and high < margin:
        return HELD
    return REFUTED if low > 0 or high < 0 else CANNOT_TELL


class Prediction(NamedTuple):
    """`first` minus `second` (names of `theory.measure`), a sentence, and the rule for it."""

    name: str
    says: str
    first: str
    second: str
    rule: Callable[[Interval], str]


PREDICTIONS = (
    Prediction("shift_suffices", "Subtracting each caption's maximum does all that min-max does.",
               "shift_by_max", "min_max", level),
    Prediction("scale_fails", "Equal ranges with each caption's maximum kept fall short of min-max.",
               "min_max", "scale_about_max", more),
    Prediction("upper_tail", "The 99 % quantile is a better location than the mean.",
               "shift_by_99_percent", "shift_by_mean", more),
    Prediction("ties_cost", "The 99 % quantile is better than the maximum, which ties captions.",
               "shift_by_99_percent", "shift_by_max", more),
    Prediction("raw_tie_break", "Raw loss breaks the ties no better than a random order.",
               "ties.raw", "ties.random", not_more),
    Prediction("debiased_tie_break", "PMI breaks the ties better than raw loss.",
               "ties.pmi", "ties.raw", more),
    Prediction("leave_one_out", "Min-max without the query in its statistics is level with PMI.",
               "leave_one_out", "pmi", level),
)  # fmt: skip


class Tested(NamedTuple):
    """A prediction, the paired difference of hit@1, and held, refuted or cannot tell."""

    prediction: Prediction
    measured: Interval
    outcome: str


def tested(found: Mapping[str, np.ndarray], options: StatisticsOptions) -> dict[str, Tested]:
    """All predictions by name; found: hit@1 `[seeds, audios]` by way, of `theory.measure`."""
    values = np.stack([found[one.first] - found[one.second] for one in PREDICTIONS])
    audios = np.arange(values.shape[2])
    made = differences_of(values, audios, options)
    return {
        one.name: Tested(one, difference.interval, one.rule(difference.interval))
        for one, difference in zip(PREDICTIONS, made)
    }


def verdict(measured: Mapping[str, Interval]) -> str:
    """What min-max works by, one of `VERDICTS`; measured: the first three predictions' differences.

    A location where the shift alone suffices and the scale alone fails, of the upper tail where
    that location is better than the mean; scale where the shift falls short and the scale alone
    does not; both where each alone falls short.
    """
    shift, scale, tail = (measured[name] for name in DECIDE)
    scale_fails = more(scale)
    if level(shift) == HELD and scale_fails == HELD:
        return UPPER_TAIL if more(tail) == HELD else LOCATION
    if level(shift) == REFUTED and shift.high < 0 and scale_fails != CANNOT_TELL:
        return BOTH if scale_fails == HELD else SCALE
    return CANNOT_TELL


def results(
    found: Mapping[str, np.ndarray],
    identity: theory.Identity,
    outcomes: Mapping[str, Tested],
    options: StatisticsOptions,
) -> dict[str, float]:
    """Flat numbers: `minmax.<way>.a2t.hit@1`, `minmax.identity.differences`, predictions, verdict.

    A count of failures of an identity has no sampling error: its bounds are itself.
    """
    flat = {}
    for name, one in theory.intervals(found, options).items():
        flat |= keyed(f"minmax.{name}.a2t.hit@1", one)
    for name, one in outcomes.items():
        key = f"minmax.prediction.{name}"
        flat |= keyed(key, one.measured) | {f"{key}.held": int(one.outcome == HELD)}
    count = identity.differences
    flat |= keyed("minmax.identity.differences", Interval(count, count, count, identity.n, "audios"))
    flat["minmax.identity.unsought"] = identity.unsought
    answer = verdict({name: one.measured for name, one in outcomes.items()})
    return flat | {f"minmax.verdict.{one}".replace(" ", "_"): int(one == answer) for one in VERDICTS}
