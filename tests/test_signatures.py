"""Failure signatures: each outcome of each rule on inputs that deserve it; measures by hand."""

import numpy as np
import pytest

from aacstudy.analysis import signatures
from aacstudy.analysis.signatures import ABSENT, CANNOT_TELL, NOT_MEASURED, PRESENT, SIGNATURES
from aacstudy.analysis.statistics import Interval
from aacstudy.options import StatisticsOptions

OPTIONS = StatisticsOptions(resamples=200)
SURE = {
    "t2a": Interval(0.4, 0.35, 0.45, 200, "audios"),
    "features_chance": Interval(0.04, 0.04, 0.04, 9, "clips"),
}


def around(value, half=0.001):
    return Interval(value, value - half, value + half, 200, "audios")


def verdicts(measured):
    return signatures.table(measured).set_index("signature")["verdict"].to_dict()


@pytest.mark.parametrize("one", SIGNATURES, ids=lambda one: one.key)
def test_each_rule_can_come_out_four_ways(one):
    bar = one.bar(SURE) if callable(one.bar) else one.bar
    bad = bar + (0.01 if one.present == "above" else -0.01)
    cases = {PRESENT: around(bad), ABSENT: around(2 * bar - bad), CANNOT_TELL: around(bad, 0.05)}
    for expected, measured in cases.items():
        row = signatures.table(SURE | {one.key: measured}).set_index("signature").loc[one.name]
        assert row["verdict"] == expected
        assert (row["advice"] != "") == (expected == PRESENT)
    assert verdicts(SURE)[one.name] == NOT_MEASURED


def test_bars_that_need_another_number():
    measured = {"a2t": around(0.1), "features": around(0.1)}
    assert set(verdicts(measured).values()) == {NOT_MEASURED}
    found = verdicts(measured | SURE)
    assert found["audio-to-text stays poor"] == found["features do not separate sounds"] == PRESENT


def matrix(seed, audios=60, match=2.0, noise=0.5, cost=3.0):
    rng = np.random.default_rng(seed)
    owners = np.repeat(np.arange(audios), 2)
    loss = cost + noise * rng.normal(size=(audios, len(owners)))
    loss[owners, np.arange(len(owners))] -= match
    return loss, owners


@pytest.mark.parametrize(
    ("match", "noise", "audios", "expected"),
    [(2, 0.5, 60, ABSENT), (0, 0.5, 60, PRESENT), (0.4, 1, 12, CANNOT_TELL)],
)
def test_losses_that_ignore_the_audio(match, noise, audios, expected):
    losses = [matrix(seed, audios, match, noise)[0] for seed in range(3)]
    found = signatures.separation(losses, matrix(0, audios)[1], OPTIONS)
    assert verdicts({"separation": found})["loss ignores the audio"] == expected


def test_separation_by_hand():
    losses = np.array([[1.0, 2, 0], [2, 2, 1], [3, 1, 2]])
    found = signatures.separation([losses], np.array([0, 0, 2]), OPTIONS)
    assert found.value == pytest.approx(np.mean([1, (0.5 + 0) / 2, 0])) and found.n == 2


@pytest.mark.parametrize(("cost", "expected"), [(2.02, PRESENT), (4, ABSENT), (2.1, CANNOT_TELL)])
def test_losses_near_zero(cost, expected):
    loss, owners = matrix(0, noise=0.2, cost=cost)
    found = signatures.matched([loss], owners, OPTIONS)
    assert found.value == pytest.approx(cost - 2, abs=0.05)
    assert verdicts({"matched": found})["losses near zero"] == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.1, 0.5, 0.9], PRESENT),
        ([0.40, 0.401, 0.402], ABSENT),
        ([0.38, 0.42, 0.44], CANNOT_TELL),
        ([0.4], CANNOT_TELL),
    ],
)
def test_trainings_that_differ(values, expected):
    assert verdicts({"seeds": signatures.spread(values)})["trainings differ"] == expected


def test_spread_covers_the_truth():
    rng = np.random.default_rng(0)
    found = [signatures.spread(rng.normal(0, 2, 3)) for _ in range(2000)]
    assert np.mean([one.low < 2 < one.high for one in found]) == pytest.approx(0.95, abs=0.015)


def test_one_caption_for_all():
    def told(same, clips=200):
        return [["Sounds are heard."] * same + [f"Text {i}." for i in range(clips - same)]] * 2

    name = "one caption for all"
    for same, clips, expected in ((100, 200, PRESENT), (4, 200, ABSENT), (3, 20, CANNOT_TELL)):
        found = signatures.same_caption(told(same, clips), OPTIONS)
        assert found.value == pytest.approx(same / clips)
        assert verdicts({"same_caption": found})[name] == expected


def test_what_a_study_measured():
    def given(key, value):
        return {key: value, f"{key}.low": value - 0.01, f"{key}.high": value + 0.01, f"{key}.n": 200}

    results = given("t2a.hit@1", 0.4) | {"t2a.hit@1.seed_1": 0.39, "t2a.hit@1.seed_2": 0.41}
    results |= given("a2t.min_max.hit@1", 0.3) | given("a2t.z.hit@1", 0.35)
    results |= given("a2t.min_max_minus_raw.hit@1", 0.2) | given("a2t.z_minus_raw.hit@1", 0.25)
    found = signatures.measured(results)
    assert (found["a2t"].value, found["gain"].value) == (0.35, 0.25)  # of the better one
    assert found["seeds"].value == pytest.approx(np.std([0.39, 0.41], ddof=1))
    assert "features" not in found and signatures.measured({}) == {}
    said = verdicts(found)
    assert said["normalisation gains nothing"] == said["audio-to-text stays poor"] == ABSENT
    assert said["features do not separate sounds"] == NOT_MEASURED
