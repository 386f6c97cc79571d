"""Before-After items and the other clips of the blind control."""

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from aacstudy.perturb import before_after_items, other_clips

COLUMNS = ["clip", "text", "kind", "connective", "form", "mentions", "swap"]


def test_items_are_ordered_captions_with_a_swap():
    captions = pd.DataFrame(
        [
            [
                "a",
                "A dog barks before rain falls.",
                "sequence",
                "before",
                "f/f",
                "dog rain",
                "Rain falls before a dog.",
            ],
            ["a", "A dog barks.", "partial", "", "finite", "dog", ""],
            ["b", "Rain then wind.", "misordered", "then", "f/f", "rain wind", ""],
            ["b", "An animal then an animal.", "sequence", "then", "f/f", "dog cat", ""],
            ["c", "Rain while wind.", "overlap", "while", "f/f", "rain wind", "never asked for"],
            ["c", "Wind after rain.", "sequence", "after", "f/f", "rain wind", "Rain after wind."],
        ],
        columns=COLUMNS,
    )
    items = before_after_items(captions)
    assert list(items) == ["clip", "connective", "form", "text", "swap"]
    assert items[["clip", "text", "swap"]].values.tolist() == [
        ["a", "A dog barks before rain falls.", "Rain falls before a dog."],
        ["c", "Wind after rain.", "Rain after wind."],
    ]
    assert list(items.index) == [0, 1]
    assert before_after_items(captions[1:2]).empty


@settings(deadline=None)  # a busy machine is slow, not wrong
@given(
    owners=st.lists(st.integers(0, 11), min_size=1, max_size=20),
    n_others=st.integers(1, 30),
    seed=st.integers(0, 1000),
)
def test_other_clips_are_others_and_distinct(owners, n_others, seed):
    others = other_clips(np.array(owners), 12, n_others, seed)
    assert others.shape == (len(owners), min(n_others, 11))
    for own, row in zip(owners, others):
        assert own not in row and len(set(row)) == len(row)
        assert row.min() >= 0 and row.max() < 12
    np.testing.assert_array_equal(others, other_clips(np.array(owners), 12, n_others, seed))


def test_all_other_clips_when_all_are_asked_for():
    others = other_clips(np.array([0, 2, 3]), 4, 20, 0)
    assert [sorted(row) for row in others.tolist()] == [[1, 2, 3], [0, 1, 3], [0, 1, 2]]


def test_other_clips_are_drawn_evenly():
    """Each of the 4 others half of the time: 4000 draws of 2, standard error 32."""
    others = other_clips(np.full(4000, 2), 5, 2, seed=1)
    counts = np.bincount(others.ravel(), minlength=5)
    assert counts[2] == 0 and np.abs(counts[[0, 1, 3, 4]] - 2000).max() < 160


def test_two_clips_and_one():
    assert other_clips(np.array([0, 1]), 2, 20, 0).tolist() == [[1], [0]]
    assert other_clips(np.array([0, 0]), 1, 20, 0).shape == (2, 0)
