"""The blind n-gram model: probabilities that sum to one, and a bigram by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aacstudy.corpus.ngram import NGram
from aacstudy.corpus.text import BOS, EOS, UNK

V = 9
CAPTION = st.lists(st.integers(3, V - 1), max_size=6).map(lambda words: [BOS, *words, EOS])


@settings(max_examples=80, deadline=None)
@given(
    st.lists(CAPTION, max_size=8),
    st.integers(1, 4),
    st.lists(st.integers(0, V - 1), max_size=5).map(tuple),
)
def test_probabilities_sum_to_one(captions, order, history):
    model = NGram(captions, V, order)
    p = [model.probability(word, history) for word in range(V)]
    assert sum(p) == pytest.approx(1.0, abs=1e-12)
    assert min(p) > 0
    last = history[-(order - 1) :] if order > 1 else ()
    # only the last order - 1 ids matter
    assert p == [model.probability(word, last) for word in range(V)]


@settings(max_examples=60, deadline=None)
@given(st.lists(CAPTION, max_size=6), st.integers(1, 4), CAPTION)
def test_nll_is_the_product(captions, order, ids):
    model = NGram(captions, V, order)
    product = 1.0
    for i in range(1, len(ids)):
        history = [BOS] * (order - 1) + ids[1:i]
        product *= model.probability(ids[i], tuple(history))
    assert math.exp(-model.nll(ids)) == pytest.approx(product, rel=1e-9)


def test_bigram_by_hand():
    dog, barks = 4, 5
    model = NGram([[BOS, dog, barks, EOS], [BOS, dog, EOS]], 6, order=2)
    # One word: 5 tokens of 3 types, (count + 3/6) / 8
    assert [model.probability(word, ()) for word in range(6)] == pytest.approx(
        [0.0625, 0.0625, 0.3125, 0.0625, 0.3125, 0.1875]
    )
    # dog follows BOS twice, one type: (2 + 0.3125) / 3
    assert model.probability(dog, (BOS,)) == pytest.approx(2.3125 / 3)
    assert model.probability(barks, (dog,)) == pytest.approx((1 + 2 * 0.1875) / 4)
    assert model.probability(EOS, (dog,)) == pytest.approx((1 + 2 * 0.3125) / 4)
    assert model.probability(EOS, (barks,)) == pytest.approx((1 + 0.3125) / 2)
    # A history that was never seen falls back to the one-word model.
    assert model.probability(dog, (UNK,)) == pytest.approx(0.3125)
    cost = -math.log(2.3125 / 3 * 1.375 / 4 * 1.3125 / 2)
    assert model.nll([BOS, dog, barks, EOS]) == pytest.approx(cost)


def test_order_one_is_word_frequencies():
    model = NGram([[BOS, 4, 4, 5, EOS]], 6, order=1)
    assert model.probability(4, (5, 4)) == model.probability(4, ()) == pytest.approx((2 + 3 / 6) / 7)
    assert model.nll([BOS, EOS]) == pytest.approx(-math.log((1 + 3 / 6) / 7))
    # order is not heard
    assert model.nll([BOS, 4, 5, EOS]) == pytest.approx(model.nll([BOS, 5, 4, EOS]))


def test_trigram_by_hand():
    model = NGram([[BOS, 4, 5, 6, EOS]], 8, order=3)
    one = (1 + 4 / 8) / 8  # 4 tokens of 4 types
    two = (1 + one) / 2
    assert model.probability(6, (4, 5)) == pytest.approx((1 + two) / 2)
    assert model.probability(6, (5, 4)) == pytest.approx(
        (0 + one) / 2
    )  # unseen: falls back to what follows 4


def test_longer_histories_hear_order():
    model = NGram([[BOS, 4, 5, 6, EOS]] * 3, 8)
    assert model.order == 3
    assert model.nll([BOS, 4, 5, 6, EOS]) < model.nll([BOS, 6, 5, 4, EOS])


def test_unseen_words_are_finite_and_dear():
    model = NGram([[BOS, 4, EOS]], 10)
    seen, unseen = model.nll([BOS, 4, EOS]), model.nll([BOS, 8, EOS])
    assert np.isfinite(unseen) and unseen > seen
    assert model.nll([BOS, 8, EOS]) == pytest.approx(model.nll([BOS, UNK, EOS]))  # both never seen


def test_untrained_is_uniform():
    model = NGram([], 10)
    assert model.nll([BOS, 4, 7, EOS]) == pytest.approx(3 * math.log(10))


def test_asking_changes_nothing():
    captions = [[BOS, 4, 5, EOS]]
    model = NGram(captions, V)
    before = model.nll([BOS, 4, 5, EOS])
    for history in ((7,), (8, 8), ()):
        model.probability(6, history)
    assert model.nll([BOS, 4, 5, EOS]) == before


@pytest.mark.parametrize("ids", [[EOS], [BOS, 4, 5]])
def test_captions_without_their_ends_are_refused(ids):
    with pytest.raises(ValueError, match="start with BOS and end with EOS"):
        NGram([], V).nll(ids)


def test_another_token_in_bos_place_is_bos():
    model = NGram([[BOS, 4, 5, EOS]], V)
    assert model.nll([7, 4, 5, EOS]) == model.nll([BOS, 4, 5, EOS])


def test_order_zero_is_refused():
    with pytest.raises(ValueError, match="order must be at least 1, got 0"):
        NGram([], V, order=0)
