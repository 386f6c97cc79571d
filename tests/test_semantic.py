"""Matching, related and unrelated audios: by hand, and losses that know all, half or nothing."""

import numpy as np
import pandas as pd
import pytest

from aacstudy.analysis.retrieval import semantic
from aacstudy.analysis.retrieval.semantic import BOTH, OWN, RELATED, UNRELATED
from aacstudy.options import StatisticsOptions

OPTIONS = StatisticsOptions(resamples=200)
HEARD = [frozenset(one.split()) for one in ("dog rain", "dog rain", "dog", "bell horn", "dog rain bell")]
NAMED = [frozenset(one.split()) for one in ("dog rain", "bell", "bell horn", "")]
OWNERS = np.array([0, 3, 3, 2])


def test_sounds_of_clips_in_their_order():
    events = pd.DataFrame({"clip": ["b", "b", "a", "b"], "event": ["dog", "rain", "bell", "dog"]})
    assert semantic.sounds(["a", "b", "c"], events) == [{"bell"}, {"dog", "rain"}, frozenset()]


def test_shared_counts_named_sounds():
    np.testing.assert_array_equal(semantic.shared(HEARD, NAMED)[:, 0], [2, 2, 1, 0, 2])
    np.testing.assert_array_equal(semantic.shared(HEARD, NAMED)[:, 3], 0)


def test_relations_by_hand():
    kinds = semantic.relations(HEARD, NAMED, OWNERS)
    found = {name: list(np.flatnonzero(kinds[name][:, 0])) for name in kinds}
    assert found == {OWN: [0], BOTH: [1, 4], RELATED: [2], UNRELATED: [3]}
    assert list(np.flatnonzero(kinds[RELATED][:, 2])) == [4]
    assert not any(one[:, [1, 3]].any() for one in kinds.values())  # they name one sound, or none


def test_effects_and_areas_by_hand():
    loss = np.array([[1.0, 0, 5, 0], [2, 0, 5, 0], [3, 0, 5, 0], [4, 0, 2, 0], [0.5, 0, 3, 0]])
    kinds = semantic.relations(HEARD, NAMED, OWNERS)
    effects = semantic.effects([loss], kinds, OWNERS, OPTIONS).set_index("audios")
    assert effects.loc[OWN, "value"] == pytest.approx(np.mean([1 - 4, 2 - 5]))
    # caption 2 has no such audio
    assert effects.loc[BOTH, "value"] == pytest.approx((2 + 0.5) / 2 - 4)
    assert effects.loc[BOTH, "captions"] == 1 and effects.loc[OWN, "n"] == 2
    areas = semantic.areas([loss], kinds, OWNERS, OPTIONS).set_index(["lower", "higher"])["value"]
    assert areas[OWN, UNRELATED] == 1 and areas[OWN, BOTH] == 0.5


def test_no_caption_of_two_sounds_gives_no_number():
    kinds = semantic.relations(HEARD, [frozenset()] * 4, OWNERS)
    found = semantic.effects([np.zeros((5, 4))], kinds, OWNERS, OPTIONS)
    assert (found["captions"] == 0).all() and found["value"].isna().all()


def corpus(seed=0, audios=40):
    rng = np.random.default_rng(seed)
    heard = [frozenset(rng.choice(8, 2, replace=False).tolist()) for _ in range(audios)]
    return heard, heard, np.arange(audios)


@pytest.mark.parametrize(
    ("knows", "related", "own"), [("sounds", 1, 0.5), ("clips", 0.5, 1), ("nothing", 0.5, 0.5)]
)
def test_areas_tell_what_a_loss_knows(knows, related, own):
    heard, named, owners = corpus()
    rng = np.random.default_rng(1)
    loss = rng.normal(0, 0.01, (40, 40))
    loss -= {"sounds": semantic.shared(heard, named), "clips": np.eye(40), "nothing": 0}[knows]
    kinds = semantic.relations(heard, named, owners)
    found = semantic.areas([loss], kinds, owners, OPTIONS).set_index(["lower", "higher"])["value"]
    assert found[RELATED, UNRELATED] == pytest.approx(related, abs=0.1)
    assert found[OWN, BOTH] == pytest.approx(own, abs=0.25)


def test_semantic_hits():
    loss = np.array([[2.0, 9, 1, 0], [1, 9, 9, 0], [9, 9, 9, 0], [9, 9, 9, 0], [9, 1, 9, 0]])
    found = semantic.hits([loss], HEARD, NAMED, OWNERS, OPTIONS)
    # Top audios 1, 4 and 0: all named sounds; a bell and two others; neither. The last names none.
    assert [found[name].value for name in ("semantic", "exact", "own")] == pytest.approx([2 / 3, 1 / 3, 0])
    top_two = semantic.hits([loss], HEARD, NAMED, OWNERS, OPTIONS, k=2)
    assert top_two["own"].value == pytest.approx(1 / 3)


def test_own_is_never_better_than_semantic():
    heard, named, owners = corpus()
    losses = [np.random.default_rng(seed).normal(size=(40, 40)) for seed in range(2)]
    found = semantic.hits(losses, heard, named, owners, OPTIONS, k=3)
    assert found["own"].value <= found["exact"].value <= found["semantic"].value
