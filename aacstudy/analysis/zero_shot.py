"""Tagging without a tagger: the class whose phrase costs a captioner least, raw and debiased.

Rows are clips of one sound, columns are classes, each with one phrase. A second task to test the
cure on: what biases audio-to-text search biases this choice too.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from aacstudy.analysis.retrieval import compete, metrics, normalise
from aacstudy.analysis.statistics import Difference, Interval, differences_of, intervals_of, keyed
from aacstudy.options import StatisticsOptions

RAW = "raw"


def scores(nll: np.ndarray, tokens: np.ndarray, bank: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Scores of classes `[clips, classes]` by name of the normalisation, higher is better.

    nll `[clips, classes]`, bank `[other clips, classes]`: sums of −log p of the classes' phrases;
    tokens `[classes]`. min_max and z take their statistics from the clips themselves, pmi_bank its
    prior from the bank, and is left out without one.
    """
    sums = -np.asarray(nll, dtype=np.float64)
    means = sums / tokens
    found = {
        RAW: means,
        "raw_sum": sums,
        "min_max": normalise.min_max(means),
        "z": normalise.z_score(means),
    }
    return found if bank is None else found | {"pmi_bank": compete.pmi(sums, -np.asarray(bank))}


def top1(scores: np.ndarray, labels: np.ndarray, tie_break: np.ndarray | None = None) -> np.ndarray:
    """Whether the best class is the clip's: `[clips]`; labels `[clips]`: its column.

    Ties by `tie_break` `[clips, classes]`, then their expectation.
    """
    relevant = np.arange(scores.shape[1]) == np.asarray(labels)[:, None]
    return metrics.evaluate(scores, relevant, (1,), tie_break=tie_break)["hit@1"].to_numpy()


def accuracies(
    of_seeds: Sequence[Mapping[str, np.ndarray]], labels: np.ndarray, tagger: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """`top1` `[seeds, clips]` of each normalisation and of a tagger.

    of_seeds: what `scores` gave for each captioner; tagger: logits `[clips, classes]`. Ties are
    broken by the raw loss.
    """
    found = {name: np.stack([top1(one[name], labels, one[RAW]) for one in of_seeds]) for name in of_seeds[0]}
    if tagger is not None:  # one encoder for all captioners
        found["tagger"] = np.repeat(top1(tagger, labels)[None], len(of_seeds), axis=0)
    return found


def intervals(found: Mapping[str, np.ndarray], options: StatisticsOptions) -> dict[str, Interval]:
    """Mean top-1 accuracy by name, over seeds and clips."""
    values = np.stack(list(found.values()))
    clips = np.arange(values.shape[2])
    made = intervals_of(values, clips, options)
    return dict(zip(found, made))


def over(
    found: Mapping[str, np.ndarray], reference: str, options: StatisticsOptions
) -> dict[str, Difference]:
    """Every other row of `accuracies` minus the reference, paired by clip and seed."""
    others = [name for name in found if name != reference]
    values = np.stack([found[name] - found[reference] for name in others])
    clips = np.arange(values.shape[2])
    made = differences_of(values, clips, options)
    return dict(zip(others, made))


def results(found: Mapping[str, np.ndarray], options: StatisticsOptions) -> dict[str, float]:
    """Flat numbers: `zero_shot.raw.top1` with `.low`, `.high`, `.n`; each minus raw and tagger."""
    flat = {}
    for name, one in intervals(found, options).items():
        flat |= keyed(f"zero_shot.{name}.top1", one)
    for reference in {RAW, "tagger"} & set(found):
        for name, one in over(found, reference, options).items():
            flat |= keyed(f"zero_shot.{name}_minus_{reference}.top1", one.interval)
    return flat
