"""What a study found: the numbers that index, comparisons and summaries show, and its sentences."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from aacstudy.report import index

NUMBER = re.compile(r"\{([\w.@-]+):(\w+)\}")


class Finding(NamedTuple):
    """A number of results.json that is shown; ``note``: its control, chance or what it means.

    ``kind`` is one of index.FORMS. In a note `{key:kind}` stands for a number with its interval.
    """

    label: str
    key: str
    kind: str
    note: str


FINDINGS = (
    Finding("Encoder: mAP on held-out tagging clips", "tagging.map", "percent",
            "random order {chance.tagging.map:percent}; one encoder"),
    Finding("Captions: CIDEr-D", "captioning.cider_d", "score",
            "the nearest training clip's caption {captioning.nearest.cider_d:score}, a random one "
            "{chance.captioning.cider_d:score}"),
    Finding("Text-to-audio hit@1", "t2a.hit@1", "percent", "chance {chance.t2a.hit@1:percent}"),
    Finding("… the top audio holds every sound that the text names", "semantic.t2a.hit@1", "percent", ""),
    Finding("… by a dual encoder on the same frames", "peer.dual_encoder.t2a.hit@1", "percent",
            "trained for retrieval; audio-to-text {peer.dual_encoder.a2t.hit@1:percent}"),
    Finding("… its top ten, ranked again by the captioner", "peer.rerank.t2a.hit@1", "percent", ""),
    Finding("Audio-to-text hit@1, raw losses", "a2t.raw.hit@1", "percent",
            "chance {chance.a2t.hit@1:percent}"),
    Finding("… without the corpus's generic captions", "without_generic.raw.a2t.hit@1", "percent",
            "min-max then adds {without_generic.min_max_minus_raw.a2t.hit@1:points}"),
    Finding("Audio-to-text hit@1, min-max per caption", "a2t.min_max.hit@1", "percent",
            "ties by raw loss; by other tie orders {a2t.min_max.hit@1.pessimistic_ties:percent} to "
            "{a2t.min_max.hit@1.optimistic_ties:percent}"),
    Finding("… minus raw", "a2t.min_max_minus_raw.hit@1", "points", "paired"),
    Finding("… by subtracting each caption's maximum alone", "minmax.shift_by_max.a2t.hit@1", "percent",
            "by its scale alone {minmax.scale_about_max.a2t.hit@1:percent}"),
    Finding("… without the query in its own statistics", "minmax.leave_one_out.a2t.hit@1", "percent", ""),
    Finding("… with ties broken by PMI", "minmax.ties.pmi.a2t.hit@1", "percent", ""),
    Finding("Audio-to-text hit@1, z-score per caption", "a2t.z.hit@1", "percent", ""),
    Finding("Audio-to-text hit@1, PMI with a prior of other clips", "a2t.grid.pmi.online.hit@1", "percent",
            "with the test pool's own {a2t.grid.pmi.transductive.hit@1:percent}"),
    Finding("Share of loss variance between captions", "variance.caption", "percent", ""),
    Finding("… of their mean losses explained by words alone", "bias.r2", "percent",
            "R²; a trigram alone {bias.feature.trigram.r2:percent}"),
    Finding("Zero-shot tagging, raw losses: top-1", "zero_shot.raw.top1", "percent",
            "min-max {zero_shot.min_max.top1:percent}, the tagger itself {zero_shot.tagger.top1:percent}"),
    Finding("Before-After accuracy, as published", "bat.accuracy", "percent",
            "no frame positions; on other clips' audio {bat.blind:percent}"),
    Finding("… with frame positions", "bat.positions.accuracy", "percent",
            "on other clips' audio {bat.positions.blind:percent}; on its own, permuted "
            "{bat.positions.permuted_audio:percent}"),
    Finding("Both orders of two sounds told apart, as published", "pairs.base.reversed.group", "percent",
            "with positions {pairs.positions.reversed.group:percent}, chance {chance.pairs.group:percent}"),
)  # fmt: skip
# The first screen of the index.
SENTENCES = (
    "**A text finds its audio** among {n.audios:size} in {t2a.hit@1:percent} of queries, by the captioner's "
    "loss as it is (chance {chance.t2a.hit@1:percent}).",
    "**An audio finds its caption** in {a2t.raw.hit@1:percent} by raw loss, in {a2t.min_max.hit@1:percent} "
    "after min-max scaling of each caption's losses; {variance.caption:percent} of their variance lies "
    "between captions.",
    "**Why min-max works:** subtracting each caption's maximum alone gives "
    "{minmax.shift_by_max.a2t.hit@1:percent}, its scale alone {minmax.scale_about_max.a2t.hit@1:percent}.",
    "**A small dual encoder** on the same frames finds {peer.dual_encoder.t2a.hit@1:percent} text-to-audio "
    "and {peer.dual_encoder.a2t.hit@1:percent} audio-to-text, with no scaling.",
    "**Order:** the true one of two captions is preferred in {bat.accuracy:percent} without and "
    "{bat.positions.accuracy:percent} with frame positions (a coin: 50 %).",
)  # fmt: skip


def filled(text: str, results: Mapping[str, float]) -> str | None:
    """A text with its numbers; None where one was not measured."""
    if any(key not in results and f"{key}.mean" not in results for key, _ in NUMBER.findall(text)):
        return None
    return NUMBER.sub(lambda match: shown(results, *match.groups()), text)


def shown(results: Mapping[str, float], key: str, kind: str) -> str:
    """A number with its interval: `41.1 % [36.9, 45.5]`; a dash where it was not measured."""
    (value, low, high), unit = index.formatted(results, key, kind)
    if value is None:
        return "–"
    ends = f" [{low}, {high}]" if low and high else ""
    return f"{value}{f' {unit}' if unit else ''}{ends}"


def measured(results: Mapping[str, float]) -> list[Finding]:
    """The findings that a study measured; a note that lacks a number is left out."""
    known = [one for one in FINDINGS if one.key in results]
    return [one._replace(note=filled(one.note, results) or "") for one in known]


def sentences(results: Mapping[str, float]) -> list[str]:
    """What the index says first: Markdown, of what the study measured."""
    return [text for text in (filled(one, results) for one in SENTENCES) if text]
