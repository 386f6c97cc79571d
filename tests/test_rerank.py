"""A second system puts the first one's top in order: by hand, and what must follow."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aacstudy.analysis.retrieval.metrics import audio_to_text, text_to_audio
from aacstudy.analysis.retrieval.rerank import rerank


def test_by_hand():
    first = np.array([[0.9], [0.8], [0.7], [0.1]])  # four audios, one caption
    second = np.array([[-5.0], [-3.0], [-4.0], [-1.0]])
    assert np.argsort(-rerank(first, second, depth=3)[:, 0]).tolist() == [
        1,
        2,
        0,
        3,
    ]  # the fourth is never seen
    assert np.argsort(-rerank(first, second, depth=1)[:, 0]).tolist() == [0, 1, 2, 3]
    assert np.argsort(-rerank(first, second, depth=9)[:, 0]).tolist() == [3, 1, 2, 0]
    turned = rerank(first.T, second.T, 3, "a2t")
    np.testing.assert_array_equal(turned, rerank(first, second, 3).T)


def test_ties_at_the_cut_all_get_in_and_ties_of_the_second_stay():
    first = np.array([[2.0], [1.0], [1.0], [0.0]])
    second = np.array([[0.0], [0.0], [3.0], [9.0]])
    found = rerank(first, second, depth=2)[:, 0]
    assert found[2] > found[0] == found[1] > found[3]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.sampled_from(["t2a", "a2t"]))
def test_what_is_found_within_the_depth_stays_found(seed, depth, direction):
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(2, 6, 12))
    owners = np.repeat(np.arange(6), 2)
    search = {"t2a": text_to_audio, "a2t": audio_to_text}[direction]
    alone, ranked = (
        search(one, owners, ks=(depth,))[f"hit@{depth}"]
        for one in (first, rerank(first, second, depth, direction))
    )
    np.testing.assert_array_equal(alone, ranked)
    everything = search(rerank(first, second, 12, direction), owners)
    assert everything.equals(search(second, owners))
    assert search(rerank(first, first, depth, direction), owners).equals(search(first, owners))


@pytest.mark.parametrize(
    "shape, depth, direction", [((2, 2), 10, "t2a"), ((2, 3), 0, "t2a"), ((2, 3), 1, "x")]
)
def test_what_does_not_fit(shape, depth, direction):
    with pytest.raises(ValueError, match="cannot rerank"):
        rerank(np.zeros((2, 3)), np.zeros(shape), depth, direction)
