"""Results without captions that fit everything: by hand, on planted captions, each verdict."""

import numpy as np
import pytest

from aacstudy.analysis.retrieval import generic, theory
from aacstudy.analysis.retrieval.generic import ALONE, IN_PART, NOT_THEIRS
from aacstudy.analysis.retrieval.methods import Pool
from aacstudy.analysis.retrieval.theory import CANNOT_TELL
from aacstudy.options import StatisticsOptions

OPTIONS = StatisticsOptions(resamples=200)
GENERIC = 5


def planted(offset, bias=0.0, audios=60, seed=0):
    """Two captions an audio: the first five score `offset` everywhere, all vary by `bias`."""
    rng = np.random.default_rng(seed)
    owners = np.repeat(np.arange(audios), 2)
    scores = rng.normal(0, 0.3, (audios, len(owners)))
    scores[owners, np.arange(len(owners))] += 3
    scores[:, :GENERIC] = offset + rng.normal(0, 0.3, (audios, GENERIC))
    return Pool(-(scores + bias * rng.normal(size=len(owners))), np.ones(len(owners), int), owners)


def mask(pool):
    return np.arange(len(pool.owners)) < GENERIC


def test_hits_by_hand():
    pool = Pool(np.array([[1.0, 3, 2], [1, 2, 3]]), np.ones(3, int), np.array([0, 1, 0]))
    nothing = np.zeros(3, dtype=bool)
    np.testing.assert_array_equal(generic.hits([pool], Pool.scores, nothing), [[1, 0]])
    np.testing.assert_array_equal(generic.hits([pool], Pool.scores, np.array([True, False, False])), [[1, 1]])
    lonely = generic.hits([pool], Pool.scores, np.array([False, True, False]))
    np.testing.assert_array_equal(lonely, [[1, np.nan]])


def test_nothing_left_out_is_the_pool_itself():
    pool = planted(3)
    for way in (Pool.scores, theory.min_max):
        found = generic.hits([pool], way, np.zeros(len(pool.owners), dtype=bool))
        np.testing.assert_array_equal(found, theory.hits([pool], way))


def test_cheapest_takes_the_lowest_mean_loss():
    pool = planted(5)
    np.testing.assert_array_equal(generic.cheapest([pool], GENERIC / len(pool.owners)), mask(pool))
    assert generic.cheapest([pool], 0).sum() == 0 and generic.cheapest([pool], 0.5).sum() == 60


def test_gains_without_planted_captions():
    pools = [planted(6), planted(6, seed=1)]
    sets = {"none": np.zeros(120, dtype=bool), "generic": mask(pools[0])}
    found = generic.gains(pools, sets, OPTIONS)
    assert found["none"]["fall"].value == 0 and found["none"]["random"] == found["none"]["gain"]
    assert found["generic"]["raw"].value > 0.9 > 0.1 > found["none"]["raw"].value
    assert found["generic"]["random"].low > 0.5  # other captions left out instead: the bias stays
    assert generic.top_share(pools, sets["generic"], OPTIONS).value == 1
    table = generic.table(found)
    assert list(table["left out"]) == ["none", "generic"]
    assert table.loc[1, "n"] == 58  # the first two audios have lost all their captions


@pytest.mark.parametrize(
    ("offset", "bias", "expected"), [(6, 0, ALONE), (6, 1.5, IN_PART), (-20, 2, NOT_THEIRS)]
)
def test_verdict_on_a_corpus_that_deserves_it(offset, bias, expected):
    pools = [planted(offset, bias, audios=180)]
    found = generic.gains(pools, {"generic": mask(pools[0])}, OPTIONS)["generic"]
    assert generic.verdict(found["gain"], found["fall"]) == expected


def test_verdict_cannot_tell():
    pools = [planted(1, 0.8, audios=8)]
    found = generic.gains(pools, {"generic": mask(pools[0])}, OPTIONS)["generic"]
    assert generic.verdict(found["gain"], found["fall"]) == CANNOT_TELL
