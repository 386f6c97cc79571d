"""Caption metrics: every number the field reports, through aac-metrics, or why it cannot be had.

found = evaluate(candidates, references)                       # one system found = compare({"ours":
[seed_1, seed_2]}, references)        # several, each of one or more training seeds

What needs no file always runs; what needs Java or downloads runs where they are (assets.py) and
stands otherwise in ``missing``, with what it needs. Corpus BLEU and METEOR are not means of
sentence scores: value and interval are the corpus'.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from aacstudy.analysis.captions import assets as files
from aacstudy.analysis.captions import metrics as calls
from aacstudy.analysis.captions.tokens import tokenised
from aacstudy.analysis.statistics import Interval, interval_of_sums, over_seeds
from aacstudy.options import StatisticsOptions

# Name and what it is called in tables, in the order of tables.
METRICS = {
    "bleu_1": "BLEU-1",
    "bleu_2": "BLEU-2",
    "bleu_3": "BLEU-3",
    "bleu_4": "BLEU-4",
    "rouge_l": "ROUGE-L",
    "meteor": "METEOR",
    "cider_d": "CIDEr-D",
    "spice": "SPICE",
    "spider": "SPIDEr",
    "spider_fl": "SPIDEr-FL",
    "sbert_sim": "SBERT similarity",
    "fer": "fluency error rate",
    "fense": "FENSE",
    "cider_d_max": "CIDEr-D-max",
    "spider_max": "SPIDEr-max",
    "words": "different words",
    "length": "words per caption",
    "distinct_1": "distinct words / words",
    "distinct_2": "distinct word pairs / pairs",
    "distinct_captions": "distinct captions / captions",
    "new_captions": "captions not in training",
}
_EXTERNAL = ("meteor", "spice", "sbert_sim", "fer")  # scored pair by pair; the rest is made of them
_USES = {
    "spider": ("spice",),
    "spider_fl": ("spice", "fer"),
    "fense": ("sbert_sim", "fer"),
    "spider_max": ("spice",),
}


@dataclass(frozen=True)
class Evaluation:
    """Scores of one system on the same clips, of one or several training seeds.

    corpus: corpus values [seeds, metrics]. each: by seed the scores of each caption [captions,
    metrics]; metrics of the whole list alone (``words``) have none. intervals: mean of the corpus
    values over seeds; none for counts of different words and captions. CIDEr-D's word weights stay
    those of the whole corpus. missing: metric -> why it was not computed. about: tokenizer and
    versions.
    """

    corpus: pd.DataFrame
    each: list[pd.DataFrame]
    intervals: dict[str, Interval]
    missing: dict[str, str]
    about: dict[str, str]

    def value(self, metric: str) -> float:
        """Corpus value, mean over seeds; NaN where it was not computed."""
        return float(self.corpus[metric].mean()) if metric in self.corpus else float("nan")

    def table(self) -> pd.DataFrame:
        """A row per metric with value, low, high, n (clips), and why there is none (remark)."""
        rows = []
        for name in METRICS:
            if name not in self.corpus and name not in self.missing:
                continue
            found = self.intervals.get(name)
            row = {"metric": name, "value": self.value(name)}
            row |= {"low": found.low, "high": found.high} if found else {"low": np.nan, "high": np.nan}
            row |= {"n": len(self.each[0]), "remark": not_computed(self.missing.get(name, ""))}
            rows.append(row)
        return pd.DataFrame(rows)


def not_computed(reason: str) -> str:
    """How a table says that a metric has no value; nothing for one that has."""
    return f"not computed: {reason}" if reason else ""


def evaluate(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    beams: Sequence[Sequence[str]] | None = None,
    **options,
) -> Evaluation:
    """Score one caption per clip; ``beams``: all candidates of each clip; else as ``compare``."""
    beams = None if beams is None else {"candidates": [beams]}
    return compare({"candidates": [candidates]}, references, beams, **options)["candidates"]


def compare(
    systems: Mapping[str, Sequence[Sequence[str]]],
    references: Sequence[Sequence[str]],
    beams: Mapping[str, Sequence[Sequence[Sequence[str]]]] | None = None,
    training: Iterable[str] | None = None,
    metrics: Sequence[str] | None = None,
    tokenizer: str = "auto",
    folder: Path | None = None,
    statistics: StatisticsOptions | None = None,
) -> dict[str, Evaluation]:
    """Score systems [seeds][clips] of captions by name on the same references [clips][any].

    beams: candidates of the beam [seeds][clips][candidates] of some systems, for CIDEr-D-max and
    SPIDEr-max. training: the training captions, for ``new_captions``. metrics: names of
    ``METRICS``; all where None, and then one that cannot be had is a reason in ``missing``, while
    one that was asked for by name and cannot be had is an error. tokenizer: tokens.py. folder:
    where files of the metrics lie (assets.py). Each Java or model process is started once for all
    systems. Raises ValueError for that, for fewer than two clips (CIDEr-D is not defined), unequal
    lengths, or references without words.
    """
    wanted = _checked_names(metrics)
    references = [list(many) for many in references]
    _check_shapes(systems, references, beams or {})
    found = files.find(folder)
    reasons = {name: reason for name in wanted if (reason := found.missing(name))}
    if metrics is not None and reasons:
        raise ValueError("; ".join(f"{METRICS[name]} {reason}" for name, reason in reasons.items()))
    training = None if training is None else list(training)
    texts = {text for seeds in systems.values() for captions in seeds for text in captions}
    texts |= {text for many in references for text in many} | set(training or ())
    texts |= {t for seeds in (beams or {}).values() for clips in seeds for one in clips for t in one}
    words, tokenizer = tokenised(texts, found, tokenizer)
    references = [[words[text] for text in many] for many in references]
    _check_words(references)
    known = None if training is None else frozenset(words[text] for text in training)
    systems = {name: [[words[text] for text in one] for one in seeds] for name, seeds in systems.items()}
    beams = {
        name: [[[words[t] for t in one] for one in clips] for clips in seeds]
        for name, seeds in (beams or {}).items()
    }
    about = {"tokenizer": tokenizer, "aac-metrics": version("aac-metrics"), "Java": found.java_version}

    needed = {part for name in wanted if name not in reasons for part in _USES.get(name, (name,))}
    pairs = calls.Pairs(references)
    for captions in (one for seeds in systems.values() for one in seeds):
        pairs.add(captions)
    for clips in (one for seeds in beams.values() for one in seeds if "spider_max" in wanted):
        for rank in range(max(map(len, clips))):
            pairs.add([one[rank] if rank < len(one) else one[0] for one in clips])
    with ExitStack() as stack:
        meteor = calls.open_meteor(stack, found, "meteor" in needed)
        pairs.score([name for name in _EXTERNAL if name in needed], found, meteor)
        if metrics is not None and pairs.failed:
            raise ValueError("; ".join(f"{METRICS[name]} {why}" for name, why in pairs.failed.items()))
        for name in wanted:
            failed = [why for part in _USES.get(name, (name,)) if (why := pairs.failed.get(part))]
            reasons |= {name: failed[0]} if failed else {}
        return {
            name: _evaluation(
                [
                    _scores(captions, beam, references, known, pairs, meteor, wanted)
                    for captions, beam in zip(seeds, beams.get(name) or [None] * len(seeds), strict=True)
                ],
                wanted,
                reasons,
                about,
                statistics or StatisticsOptions(),
            )
            for name, seeds in systems.items()
        }


def _scores(captions, beam, references, known, pairs, meteor, wanted) -> calls.Scores:
    scores = calls.Scores()
    calls.overlap(scores, captions, references)
    calls.external(scores, captions, pairs, meteor)
    if beam is not None:
        calls.best_of_beam(scores, beam, references, pairs, wanted)
    calls.diversity(scores, captions, known)
    return scores


def _evaluation(
    seeds: list[calls.Scores],
    wanted: Sequence[str],
    reasons: dict[str, str],
    about: dict[str, str],
    options: StatisticsOptions,
) -> Evaluation:
    names = [name for name in wanted if name in seeds[0].corpus]
    missing = {name: _reason(name, reasons) for name in wanted if name not in names}
    intervals = {}
    for name in names:
        if name in seeds[0].sums:
            values = seeds[0].sums[name][1]
            intervals[name] = interval_of_sums(
                np.stack([one.sums[name][0] for one in seeds]), values, options
            )
        elif name in seeds[0].each:
            each = np.stack([one.each[name] for one in seeds])
            intervals[name] = over_seeds(each, np.arange(each.shape[1]), options)
    each = [pd.DataFrame({name: one.each[name] for name in names if name in one.each}) for one in seeds]
    return Evaluation(pd.DataFrame([one.corpus for one in seeds])[names], each, intervals, missing, about)


def _reason(name: str, reasons: dict[str, str]) -> str:
    inputs = {"new_captions": "needs the training captions"}
    return reasons.get(name) or inputs.get(name) or "needs several candidates a clip"


def _checked_names(metrics: Sequence[str] | None) -> list[str]:
    if metrics is not None:
        for name in metrics:
            if name not in METRICS:
                close = difflib.get_close_matches(name, METRICS, n=1)
                known = f"did you mean {close[0]}?" if close else f"there are {', '.join(METRICS)}"
                raise ValueError(f"no metric {name!r}; {known}")
    return [name for name in METRICS if metrics is None or name in metrics]


def _check_shapes(systems, references, beams) -> None:
    for name, seeds in systems.items():
        for captions in seeds:
            if len(captions) != len(references) or len(captions) < 2:
                raise ValueError(
                    f"{name}: {len(captions)} candidates and {len(references)} sets of references; "
                    "wants two or more of each"
                )
    for name, seeds in beams.items():
        if name not in systems or len(seeds) != len(systems[name]):
            raise ValueError(f"beams of {name!r}: wants one list for each seed of a system")
        for clips in seeds:
            if len(clips) != len(references) or not all(clips):
                raise ValueError(f"beams of {name!r}: wants one or more candidates for each clip")


def _check_words(references: list[list[str]]) -> None:
    for clip, many in enumerate(references):
        if not many or not all(many):
            raise ValueError(f"references of clip {clip}: wants one or more, each with a word")
