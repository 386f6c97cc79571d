"""Every number is aac-metrics', asked for once for many systems and combined by its functions.

aac-metrics is imported where it is used, as it loads transformers: 8 s of processor time.

METEOR, SPICE, SBERT similarity and fluency errors are scores of one caption and its references:
each different (clip, caption) pair of all systems is scored once. CIDEr-D weighs words by all
references, so it is asked system by system.
"""

import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np

from aacstudy.analysis.captions import neural
from aacstudy.analysis.captions.assets import Assets, clean_environment
from aacstudy.analysis.captions.meteor import Meteor

BLEU = ("bleu_1", "bleu_2", "bleu_3", "bleu_4")
EXTERNAL = (
    OSError,
    RuntimeError,
    ValueError,
    subprocess.SubprocessError,
)  # what Java and models may end with


@dataclass
class Scores:
    """Numbers of one list of captions, one a clip.

    corpus: the value of the whole list. each: of each caption [captions]. sums: what each caption
    adds to a value that is no mean [captions, k], with the function of sums [m, k] to values [m].
    """

    corpus: dict[str, float] = field(default_factory=dict)
    each: dict[str, np.ndarray] = field(default_factory=dict)
    sums: dict[str, tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]] = field(default_factory=dict)

    def add_mean(self, name: str, each: np.ndarray) -> None:
        """A metric whose corpus value is the mean over captions."""
        self.each[name] = np.asarray(each, dtype=float)
        self.corpus[name] = float(self.each[name].mean())


class Pairs:
    """The different (clip, caption) pairs of all systems and what metrics of single pairs say."""

    def __init__(self, references: Sequence[Sequence[str]]):
        self.references = references
        self._rows: dict[tuple[int, str], int] = {}
        self.scores: dict[str, np.ndarray] = {}  # [pairs], METEOR's statistics [pairs, 23]
        self.failed: dict[str, str] = {}  # metric -> why it did not run

    def add(self, captions: Sequence[str]) -> None:
        """Add one caption for each clip, in the clips' order."""
        for pair in enumerate(captions):
            self._rows.setdefault(pair, len(self._rows))

    def of(self, name: str, captions: Sequence[str]) -> np.ndarray:
        """Scores of one caption for each clip, in the clips' order [captions]."""
        return self.scores[name][[self._rows[pair] for pair in enumerate(captions)]]

    def score(self, names: Sequence[str], assets: Assets, meteor: Meteor | None) -> None:
        """Ask the external metrics among ``names``; what breaks is noted in ``failed``, alone."""
        candidates = [caption for _, caption in self._rows]
        references = [list(self.references[clip]) for clip, _ in self._rows]
        models = [name for name in ("sbert_sim", "fer") if name in names]
        jobs: dict[tuple[str, ...], Callable[[], dict]] = {
            ("meteor",): lambda: {"meteor": meteor.statistics(candidates, references)},
            ("spice",): lambda: {"spice": _spice(candidates, references, assets)},
            tuple(models): lambda: neural.score(candidates, references, assets, models),
        }
        for group, ask in jobs.items():
            if not group or not set(group) <= set(names):
                continue
            try:
                self.scores |= {name: np.asarray(found, dtype=float) for name, found in ask().items()}
            except EXTERNAL as error:
                self.failed |= dict.fromkeys(
                    group, f"did not run: {(str(error) or repr(error)).splitlines()[0]}"
                )


def _spice(candidates: list[str], references: list[list[str]], assets: Assets) -> np.ndarray:
    from aac_metrics.functional import spice

    with clean_environment():
        _, each = spice(
            candidates,
            references,
            cache_path=str(assets.spice),
            java_path=str(assets.java),
            # seconds; it is known to hang, and to come through the second time
            timeout=[1800, 3600],
        )
    return each["spice"].numpy()


def open_meteor(stack: ExitStack, assets: Assets, wanted: bool) -> Meteor | None:
    """A METEOR that ends with the stack."""
    return stack.enter_context(Meteor(assets)) if wanted else None


def overlap(scores: Scores, captions: list[str], references: list[list[str]]) -> None:
    """BLEU-1 to -4, ROUGE-L and CIDEr-D of one system."""
    from aac_metrics.functional import bleu, cider_d, rouge_l

    whole, single = bleu(captions, references, n=4, return_1_to_n=True)
    sums = _bleu_sums(captions, references)
    for order, name in enumerate(BLEU):
        scores.corpus[name] = float(whole["bleu_1_to_4"][order])
        scores.each[name] = single["bleu_1_to_4"][order].numpy()
        scores.sums[name] = (sums, lambda rows, order=order: _bleu_values(rows)[:, order])
    for name, metric in (("rouge_l", rouge_l), ("cider_d", cider_d)):
        whole, single = metric(captions, references)
        scores.each[name] = single[name].numpy()
        scores.corpus[name] = float(whole[name])


def _bleu_sums(captions: list[str], references: list[list[str]]) -> np.ndarray:
    """What each caption adds [captions, 10]: matches, n-grams by order, both lengths."""
    from aac_metrics.functional.bleu import _bleu_update

    cooked, _ = _bleu_update(captions, references, 4, str.split, [], [])
    rows = []
    for one in cooked:
        closest = min(one["reflen"], key=lambda length, own=one["testlen"]: (abs(length - own), length))
        rows.append([*one["correct"], *one["guess"], one["testlen"], closest])
    return np.array(rows, dtype=float)


def _bleu_values(sums: np.ndarray) -> np.ndarray:
    """BLEU-1 to -4 of sums [m, 10], by aac-metrics' own formula: [m, 4]."""
    from aac_metrics.functional.bleu import _bleu_compute

    values = []
    for row in sums.tolist():
        one = {"correct": row[:4], "guess": row[4:8], "testlen": row[8], "reflen": [row[9]]}
        whole, _ = _bleu_compute([one], [()], n=4, return_1_to_n=True)
        values.append(whole["bleu_1_to_4"].tolist())
    return np.array(values)


def external(scores: Scores, captions: list[str], pairs: Pairs, meteor: Meteor | None) -> None:
    """What the external metrics said of one system's captions, and what is made of it."""
    import torch
    from aac_metrics.functional.fense import _fense_from_outputs
    from aac_metrics.functional.spider import _spider_from_outputs
    from aac_metrics.functional.spider_fl import _spider_fl_from_outputs

    if "meteor" in pairs.scores:
        sums = pairs.of("meteor", captions)
        scores.sums["meteor"] = (sums, meteor.values)
        scores.each["meteor"] = meteor.values(sums)
        scores.corpus["meteor"] = float(meteor.values(sums.sum(axis=0, keepdims=True))[0])
    outputs = {}
    for name in ("spice", "sbert_sim", "fer"):
        if name in pairs.scores:
            scores.add_mean(name, pairs.of(name, captions))
    for name in {"spice", "sbert_sim", "fer", "cider_d"} & set(scores.each):
        outputs[name] = (
            {name: torch.tensor(scores.corpus[name], dtype=torch.float64)},
            {name: torch.tensor(scores.each[name])},
        )
    combined = {}
    if "spice" in outputs:
        combined["spider"] = _spider_from_outputs(outputs["cider_d"], outputs["spice"])
        if "fer" in outputs:
            combined["spider_fl"] = _spider_fl_from_outputs(combined["spider"], outputs["fer"])
    if {"sbert_sim", "fer"} <= set(outputs):
        combined["fense"] = _fense_from_outputs(outputs["sbert_sim"], outputs["fer"])
    for name, (whole, single) in combined.items():
        scores.each[name], scores.corpus[name] = single[name].numpy(), float(whole[name])


def best_of_beam(
    scores: Scores, beams: list[list[str]], references: list[list[str]], pairs: Pairs, what: Sequence[str]
) -> None:
    """CIDEr-D-max and SPIDEr-max: the best of each clip's candidates (an oracle, not a system)."""
    from aac_metrics.functional import cider_d
    from aac_metrics.functional.mult_cands import mult_cands_metric
    from aac_metrics.functional.spider import _spider_from_outputs

    def spider(captions, references, return_all_scores=True):
        import torch

        spice = torch.tensor(pairs.of("spice", captions))
        return _spider_from_outputs(
            cider_d(captions, references), ({"spice": spice.mean()}, {"spice": spice})
        )

    longest = max(map(len, beams))
    # a repeated one changes no maximum
    beams = [[*one, *one[:1] * (longest - len(one))] for one in beams]
    for name, metric in (("cider_d", cider_d), ("spider", spider)):
        if f"{name}_max" in what and (name == "cider_d" or "spice" in pairs.scores):
            whole, single = mult_cands_metric(metric, name, beams, references)
            scores.each[f"{name}_max"] = single[f"{name}_max"].numpy()
            scores.corpus[f"{name}_max"] = float(whole[f"{name}_max"])


def diversity(scores: Scores, captions: list[str], training: frozenset[str] | None) -> None:
    """How varied captions are: words, length, different n-grams and captions, new captions."""
    from aac_metrics.functional import vocab

    split = [caption.split() for caption in captions]
    scores.corpus["words"] = float(vocab(captions, None)[0]["vocab.cands"])
    scores.add_mean("length", np.array([len(words) for words in split]))
    for n in (1, 2):
        grams = [tuple(words[i : i + n]) for words in split for i in range(len(words) - n + 1)]
        scores.corpus[f"distinct_{n}"] = len(set(grams)) / len(grams) if grams else 0.0
    scores.corpus["distinct_captions"] = len(set(captions)) / len(captions)
    if training is not None:
        scores.add_mean("new_captions", np.array([caption not in training for caption in captions]))
