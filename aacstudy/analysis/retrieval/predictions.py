"""What the theory of min-max (theory.py) predicts, and the rules by which it can fail."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from aacstudy.analysis.retrieval import metrics, normalise, theory
from aacstudy.analysis.retrieval.methods import Pool
from aacstudy.analysis.retrieval.theory import CANNOT_TELL, HELD, MARGIN, REFUTED
from aacstudy.analysis.statistics import Interval, difference_table
from aacstudy.options import StatisticsOptions

UPPER_TAIL, LOCATION, SCALE, BOTH = "the upper tail's location", "location", "scale", "both"
VERDICTS = (UPPER_TAIL, LOCATION, SCALE, BOTH, CANNOT_TELL)


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
    made = difference_table(values, audios, options.resamples, options.seed, options.confidence)
    return {
        one.name: Tested(one, difference.interval, one.rule(difference.interval))
        for one, difference in zip(PREDICTIONS, made)
    }


def verdict(outcomes: Mapping[str, Tested]) -> str:
    """What min-max works by: one of `VERDICTS`.

    A location where the shift alone suffices and the scale alone fails, of the upper tail where
    that location is better than the mean; scale where it is the other way round; both where each
    alone falls short.
    """
    shift, scale_fails, tail = (
        outcomes[name].outcome for name in ("shift_suffices", "scale_fails", "upper_tail")
    )
    short = shift == REFUTED and outcomes["shift_suffices"].measured.high < 0
    if shift == HELD and scale_fails == HELD:
        return UPPER_TAIL if tail == HELD else LOCATION
    if short and scale_fails != CANNOT_TELL:
        return BOTH if scale_fails == HELD else SCALE
    return CANNOT_TELL


def without_bias(share: Interval, gain: Interval, most: float = 0.1, margin: float = MARGIN) -> str | None:
    """Whether the gain of normalising vanishes on a corpus without caption bias.

    share: of the losses' variance between captions; gain: min-max minus raw. None where captions
    may carry more than `most` of the variance: such a corpus cannot test the prediction.
    """
    return level(gain, margin) if share.high < most else None


def audio_scaling(pools: Sequence[Pool], options: StatisticsOptions) -> tuple[Interval, str]:
    """What min-max of each audio's losses adds in text-to-audio hit@1, and whether that is nothing.

    Scaling captions cannot change text-to-audio; scaling audios can, so here the claim that
    text-to-audio needs no scaling can fail. The interval clusters captions by their audio.
    """

    def hit(pool: Pool, scores: np.ndarray) -> np.ndarray:
        return metrics.text_to_audio(scores, pool.owners, (1,), tie_break=pool.scores())["hit@1"]

    scaled = normalise.per_audio(normalise.min_max)
    values = np.stack([hit(p, scaled(p.scores())) - hit(p, p.scores()) for p in pools])
    (found,) = difference_table(
        values[None], pools[0].owners, options.resamples, options.seed, options.confidence
    )
    return found.interval, not_more(found.interval)


def results(
    found: Mapping[str, np.ndarray],
    identity: theory.Identity,
    outcomes: Mapping[str, Tested],
    options: StatisticsOptions,
) -> dict[str, float]:
    """Flat numbers: `minmax.<way>.a2t.hit@1`, `minmax.identity.differences`, predictions, verdict.

    A count of failures of an identity has no sampling error: its bounds are itself.
    """
    made = {f"minmax.{name}.a2t.hit@1": one for name, one in theory.intervals(found, options).items()} | {
        f"minmax.prediction.{name}": one.measured for name, one in outcomes.items()
    }
    count = identity.differences
    made["minmax.identity.differences"] = Interval(count, count, count, identity.n, "audios")
    flat = {}
    for key, one in made.items():
        flat |= {key: one.value, f"{key}.low": one.low, f"{key}.high": one.high, f"{key}.n": one.n}
    flat |= {f"minmax.prediction.{name}.held": int(one.outcome == HELD) for name, one in outcomes.items()}
    flat["minmax.identity.unsought"] = identity.unsought
    answer = verdict(outcomes)
    return flat | {f"minmax.verdict.{one}".replace(" ", "_"): int(one == answer) for one in VERDICTS}
