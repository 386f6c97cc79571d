"""Verdicts follow from numbers: the same claim, judged by results that flip it."""

import pytest

from aacstudy.analysis import scorecard
from aacstudy.analysis.retrieval import predictions
from aacstudy.analysis.scorecard import (
    CANNOT_TELL,
    IN_PART,
    NOT_REPRODUCED,
    NOT_TESTED,
    REPRODUCED,
    exceeds,
    rows,
)
from aacstudy.analysis.statistics import Interval


def given(key, value, low, high, n=200):
    return {key: value, f"{key}.low": low, f"{key}.high": high, f"{key}.n": n}


def verdict(claim, results, corpus="soundscapes", which=0):
    found = [row for row in rows(results, corpus, ()) if row.id == claim]
    return found[which].verdict


@pytest.mark.parametrize(
    "low, high, negligible, expected",
    [
        (0.51, 0.6, 0.1, REPRODUCED),
        (0.5, 0.6, 0.1, NOT_REPRODUCED),  # reaches the bar, and at most ten points can hide
        (0.4, 0.61, 0.1, CANNOT_TELL),
        (0.2, 0.49, 0.0, NOT_REPRODUCED),
        (0.2, 0.51, 0.0, CANNOT_TELL),
    ],
)
def test_exceeds(low, high, negligible, expected):
    assert exceeds(Interval((low + high) / 2, low, high, 10, "audios"), 0.5, negligible) == expected


def test_nothing_measured_is_never_a_verdict():
    for row in rows({}, "soundscapes", ()):
        assert row.verdict.startswith(NOT_TESTED) and not row.measured and row.n == 0


def test_every_claim_of_the_paper_is_there():
    assert {claim.id for claim in scorecard.CLAIMS} >= {f"C{n}" for n in range(1, 8)}


SCALED = given("a2t.min_max_minus_raw.hit@1", 0.3, 0.25, 0.35) | given(
    "t2a.min_max_minus_raw.hit@1", 0.0, -0.02, 0.01
)
PER_AUDIO = "t2a.min_max_minus_raw.hit@1"
OVER_PEER = "peer.captioner_minus_dual_encoder.t2a.hit@1"
FOUND = given("t2a.hit@1", 0.4, 0.36, 0.44) | {"chance.t2a.hit@1": 0.005}


def nearest(value, low, high):
    return given("captioning.cider_d", 0.5, 0.45, 0.55) | given(
        "captioning.over_nearest.cider_d", value, low, high
    )


def heard(prefix, blind, control, name="over_permuted_audio"):
    values = {"accuracy": (0.6, 0.9), "over_blind": blind, name: control}
    flat = {}
    for what, (low, high) in values.items():
        flat |= given(f"{prefix}.{what}", (low + high) / 2, low, high)
    return flat


TAGS = given("tagging.map", 0.7, 0.68, 0.72)


def cnn14(mean_ap, hit, cider):
    return (
        TAGS
        | given("ablation.cnn14.tagging.map.minus_base", *mean_ap)
        | given("ablation.cnn14.t2a.hit@1.minus_base", *hit)
        | given("ablation.cnn14.captioning.cider_d.minus_base", *cider)
    )


def cause(gain, fall):
    return (
        given("variance.caption", 0.7, 0.66, 0.73)
        | given("without_cheaper_half.min_max_minus_raw.a2t.hit@1", *gain)
        | given("without_cheaper_half.fall.a2t.hit@1", *fall)
    )


def why(shift, scale, tail):
    """The three differences that the verdict on min-max rests on."""
    named = zip(predictions.DECIDE, (shift, scale, tail))
    return {k: v for name, one in named for k, v in given(f"minmax.prediction.{name}", *one).items()}


FLIPS = [
    # claim, which of its rows, results, verdict
    ("C1", 0, nearest(0.3, 0.2, 0.4), REPRODUCED),
    ("C1", 0, nearest(-0.1, -0.2, -0.05), NOT_REPRODUCED),
    ("C1", 0, nearest(0.1, -0.1, 0.3), CANNOT_TELL),
    ("C2", 0, TAGS | {"chance.tagging.map": 0.04}, REPRODUCED),
    ("C2", 0, TAGS | {"chance.tagging.map": 0.8}, NOT_REPRODUCED),
    ("C3", 0, FOUND, "in part: above chance, no peer to beat"),
    ("C3", 0, FOUND | given(OVER_PEER, 0.0, -0.015, 0.03), REPRODUCED),
    ("C3", 0, FOUND | given(OVER_PEER, -0.09, -0.13, -0.05), "in part: above chance, below a dual encoder"),
    ("C3", 0, FOUND | given(OVER_PEER, -0.02, -0.06, 0.02), CANNOT_TELL),
    ("C3", 0, given("t2a.hit@1", 0.002, 0.0, 0.004) | {"chance.t2a.hit@1": 0.005}, NOT_REPRODUCED),
    ("C3", 0, given("t2a.hit@1", 0.005, 0.0, 0.02) | {"chance.t2a.hit@1": 0.005}, CANNOT_TELL),
    ("C4", 0, SCALED, REPRODUCED),
    ("C4", 0, SCALED | given(PER_AUDIO, 0.05, 0.02, 0.08), NOT_REPRODUCED),
    ("C4", 0, SCALED | given(PER_AUDIO, 0.01, -0.02, 0.04), CANNOT_TELL),
    ("C4", 0, SCALED | given("a2t.min_max_minus_raw.hit@1", -0.1, -0.2, -0.01), NOT_REPRODUCED),
    ("C4", 0, SCALED | given("a2t.min_max_minus_raw.hit@1", 0.1, -0.1, 0.3), CANNOT_TELL),
    ("C5", 0, cause((0.0, -0.01, 0.01), (0.4, 0.3, 0.5)), REPRODUCED),
    ("C5", 0, cause((0.2, 0.1, 0.3), (0.2, 0.1, 0.3)), IN_PART),
    ("C5", 0, cause((0.4, 0.3, 0.5), (0.0, -0.01, 0.01)), NOT_REPRODUCED),
    ("C5", 0, cause((0.2, -0.1, 0.5), (0.2, 0.1, 0.3)), CANNOT_TELL),
    ("C7", 0, cnn14((-0.1, -0.13, -0.07), (-0.1, -0.15, -0.05), (-0.2, -0.3, -0.1)), REPRODUCED),
    ("C7", 0, cnn14((-0.1, -0.13, -0.07), (0.1, 0.05, 0.15), (-0.2, -0.3, -0.1)), NOT_REPRODUCED),
    ("C7", 0, cnn14((0.1, 0.07, 0.13), (0.1, 0.05, 0.15), (0.2, 0.1, 0.3)), REPRODUCED),
    ("C7", 0, cnn14((-0.1, -0.13, -0.07), (-0.1, -0.25, 0.05), (-0.2, -0.3, -0.1)), CANNOT_TELL),
    ("C7", 0, cnn14((0.0, -0.03, 0.03), (-0.1, -0.15, -0.05), (-0.2, -0.3, -0.1)), CANNOT_TELL),
    ("Q1", 0, heard("bat", (0.2, 0.4), (0.2, 0.4)), "yes: it hears order"),
    ("Q1", 0, heard("bat", (-0.05, 0.05), (0.2, 0.4)), "no: not detected, at most +5.0 points over blind"),
    ("Q1", 0, heard("bat", (0.2, 0.4), (-0.03, 0.02)),
     "no: not detected, at most +2.0 points over its own sound in drawn orders"),
    # a control of nothing
    ("Q1", 0, heard("bat", (0.2, 0.4), (0.0, 0.0), "over_permuted_audio"), CANNOT_TELL),
    ("Q2", 0, heard("bat.positions", (0.2, 0.4), (0.1, 0.3), "over_permuted_audio"), "yes: it hears order"),
    ("Q2", 0, heard("bat.positions", (-0.1, 0.3), (-0.1, 0.3)), CANNOT_TELL),
    ("Q3", 0, why((0.0, -0.01, 0.01), (0.3, 0.2, 0.4), (0.3, 0.2, 0.4)), "yes: the location of each "
        "caption's upper tail; the scale does nothing"),
    ("Q3", 0, why((0.0, -0.01, 0.01), (0.3, 0.2, 0.4), (0.0, -0.1, 0.1)), "yes: the location of each "
        "caption's losses; the scale does nothing"),
    ("Q3", 0, why((-0.3, -0.4, -0.2), (0.0, -0.01, 0.01), (0.0, -0.1, 0.1)), "yes: the scale of each "
        "caption's losses"),
    ("Q3", 0, why((-0.3, -0.4, -0.2), (0.3, 0.2, 0.4), (0.3, 0.2, 0.4)), "yes: location and scale of each "
        "caption's losses"),
    ("Q3", 0, why((0.0, -0.1, 0.1), (0.3, 0.2, 0.4), (0.3, 0.2, 0.4)), CANNOT_TELL),
    ("Q4", 0, given("perturbed.base.related.accuracy", 0.9, 0.8, 1.0) | given(
        "perturbed.base.related.over_blind", 0.4, 0.3, 0.5), "yes"),
    ("Q4", 0, given("perturbed.base.related.accuracy", 0.5, 0.4, 0.6) | given(
        "perturbed.base.related.over_blind", 0.0, -0.02, 0.02), "no"),
    ("Q5", 0, given("ablation.finetuned.t2a.hit@1.minus_base", 0.1, 0.05, 0.15), "no: fine-tuned is better"),
    ("Q5", 0, given("ablation.finetuned.t2a.hit@1.minus_base", -0.1, -0.15, -0.05), "yes: fine-tuned is "
        "worse"),
    ("Q5", 0, given("ablation.finetuned.t2a.hit@1.minus_base", 0.0, -0.05, 0.05), CANNOT_TELL),
]  # fmt: skip


@pytest.mark.parametrize("claim, which, results, expected", FLIPS)
def test_verdicts_flip_with_the_numbers(claim, which, results, expected):
    assert verdict(claim, results, which=which) == expected


def elsewhere(caption, gain):
    key = "transfer.base_on_other_sounds"
    return given(f"{key}.caption", *caption) | given(f"{key}.gain", *gain)


@pytest.mark.parametrize(
    "caption, gain, expected",
    [
        ((0.7, 0.6, 0.8), (0.3, 0.2, 0.4), "yes"),
        ((0.3, 0.2, 0.4), (0.0, -0.1, 0.01), "no"),
        ((0.7, 0.6, 0.8), (0.0, -0.1, 0.01), "in part"),
        ((0.7, 0.6, 0.8), (0.1, -0.1, 0.3), CANNOT_TELL),
    ],
)
def test_the_bias_elsewhere(caption, gain, expected):
    assert verdict("Q6", elsewhere(caption, gain)) == expected


def test_published_numbers_are_held_against_their_own_corpus_only():
    results = given("t2a.hit@1", 0.38, 0.36, 0.4) | {"chance.t2a.hit@1": 0.001}
    assert verdict("C3", results, "soundscapes", which=1).startswith(NOT_TESTED)
    assert verdict("C3", results, "audiocaps", which=1) == REPRODUCED
    assert (
        verdict("C3", results | given("t2a.hit@1", 0.3, 0.28, 0.32), "audiocaps", which=1) == NOT_REPRODUCED
    )


def test_an_interval_without_width_knows_nothing():
    assert exceeds(Interval(0.0, 0.0, 0.0, 9, "clips"), 0.0, 0.02) == CANNOT_TELL


def test_a_published_number_in_a_wide_interval_is_open():
    results = given("t2a.hit@1", 0.38, 0.3, 0.46) | {"chance.t2a.hit@1": 0.001}
    assert verdict("C3", results, "audiocaps", which=1) == CANNOT_TELL


ORDER = [
    (given("bat.accuracy", 0.8, 0.75, 0.85), REPRODUCED),
    (given("bat.accuracy", 0.52, 0.48, 0.57), NOT_REPRODUCED),
    (given("bat.accuracy", 0.6, 0.4, 0.8), CANNOT_TELL),
]


@pytest.mark.parametrize("results, expected", ORDER)
def test_the_before_after_test_needs_captions_that_words_could_tell_apart(results, expected):
    assert verdict("C6", results, "clotho") == expected
    assert verdict("C6", results, "soundscapes").startswith(NOT_TESTED)


def test_what_holds_of_parts_stands_beside_the_answer():
    results = heard("bat.positions", (0.2, 0.4), (0.1, 0.3))
    results |= given("bat.positions.after.accuracy", 0.532, 0.403, 0.655)
    results |= given("pairs.positions.overlap.group", 0.013, 0.0, 0.04)
    (row,) = (row for row in rows(results, "soundscapes", ()) if row.id == "Q2")
    assert "of after alone 53.2 % [40.3, 65.5]" in row.measured
    assert "sequence against overlap, group score 1.3 % [0.0, 4.0]" in row.measured


def test_every_row_says_what_would_have_given_another_verdict():
    for row in rows({}, "soundscapes", ()):
        assert row.otherwise


def test_evidence_names_a_notebook_of_the_study_only():
    results = cause((0.2, 0.1, 0.3), (0.2, 0.1, 0.3))
    (row,) = (row for row in rows(results, "soundscapes", ("06_bias",)) if row.id == "C5")
    assert row.evidence == "06_bias" and row.n == 200 and "70.0 % [66.0, 73.0]" in row.measured
    (row,) = (row for row in rows(results, "soundscapes", ("05_retrieval",)) if row.id == "C5")
    assert row.evidence == ""
