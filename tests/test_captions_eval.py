"""Caption metrics: aac-metrics' own numbers, and texts that could trip them."""

import pytest

from aacstudy.captions_eval import CORPUS_METRICS, evaluate
from aacstudy.corpus.text import tokenise

CANDIDATES = ["A dog barks twice, then rain.", "a cat meows", "Birds sing; a car passes by"]
REFERENCES = [
    ["a dog is barking and then it rains", "a dog barks"],
    ["a cat meows loudly"],
    ["birds are singing", "a car passes by while birds sing", "Birds sing in the wind"],
]


def test_identical_captions_are_perfect():
    texts = ["a dog barks twice then rain falls", "a cat meows in a big room"]
    corpus, each = evaluate(texts, [[text] for text in texts])
    for name in ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l"):
        assert corpus[name] == pytest.approx(1.0, abs=1e-6)
        assert each[name].tolist() == pytest.approx([1.0, 1.0], abs=1e-6)
    assert corpus["cider_d"] == pytest.approx(10.0)


def test_nothing_in_common_is_zero():
    corpus, each = evaluate(["a b c d", "e f g h"], [["i j k l"], ["m n o p"]])
    assert corpus["rouge_l"] == 0 and corpus["cider_d"] == pytest.approx(0, abs=1e-9)
    assert max(corpus[f"bleu_{n}"] for n in (1, 2, 3, 4)) < 1e-6
    assert (each["rouge_l"] == 0).all()


def test_numbers_are_those_of_aac_metrics():
    from aac_metrics.functional import bleu, cider_d, rouge_l

    corpus, each = evaluate(CANDIDATES, REFERENCES)
    texts = [" ".join(tokenise(text)) for text in CANDIDATES]
    many = [[" ".join(tokenise(text)) for text in one] for one in REFERENCES]
    assert texts[0] == "a dog barks twice then rain"
    for n in (1, 2, 3, 4):
        whole, single = bleu(texts, many, n=n)
        assert corpus[f"bleu_{n}"] == float(whole[f"bleu_{n}"])
        assert each[f"bleu_{n}"].tolist() == single[f"bleu_{n}"].tolist()
    for name, metric in (("rouge_l", rouge_l), ("cider_d", cider_d)):
        whole, single = metric(texts, many)
        assert corpus[name] == float(whole[name])
        assert each[name].tolist() == single[name].tolist()
    assert list(each) == list(CORPUS_METRICS) and len(each) == 3
    assert 0 < corpus["rouge_l"] < 1 and corpus["bleu_1"] > corpus["bleu_4"]


def test_words_and_length():
    corpus, _ = evaluate(["A dog barks!", "a dog, a dog"], [["x"], ["y"]])
    assert corpus["words"] == 3  # a, dog, barks
    assert corpus["length"] == 3.5


def test_case_and_punctuation_do_not_count():
    corpus, _ = evaluate(["A DOG, barks... once!", "rain (heavy)"], [["a dog barks once"], ["rain heavy"]])
    assert corpus["rouge_l"] == pytest.approx(1) and corpus["bleu_1"] == pytest.approx(1)


WORDLESS = ["", "   \n\t ", "...!?", "<bos> <pad>"]
ODD = [
    "a dog, a cat, and rain",
    "he says \"hello\" and 'bye'",
    "rain 🌧️ on a roof 雨",
    "<script>alert('x')</script> & <b>bold</b>",
    " ".join(["word"] * 200),
    "null",
]


@pytest.mark.parametrize("odd", ODD + WORDLESS)
@pytest.mark.parametrize("place", ["candidate", "reference"])
def test_odd_captions_do_not_crash(odd, place):
    candidates = [odd if place == "candidate" else "a dog barks", "rain falls"]
    references = [[odd if place == "reference" else "a dog barks"], ["rain falls", "it rains"]]
    if place == "reference" and odd in WORDLESS:  # as the corpus check would: it cannot be recalled
        with pytest.raises(ValueError, match="references of clip 0: wants one or more, each with a word"):
            evaluate(candidates, references)
        return
    corpus, each = evaluate(candidates, references)
    assert all(value == value and abs(value) != float("inf") for value in corpus.values())
    assert each.shape == (2, len(CORPUS_METRICS)) and each.notna().all(axis=None)
    assert each["rouge_l"][1] > 0.9
    if odd in WORDLESS:
        assert each["rouge_l"][0] == each["cider_d"][0] == 0 and each["bleu_1"][0] < 1e-6


def test_candidates_that_are_all_empty():
    corpus, each = evaluate(["", ""], [["a dog"], ["a cat"]])
    assert corpus["words"] == corpus["length"] == 0 and corpus["rouge_l"] == 0
    assert each.notna().all(axis=None)


@pytest.mark.parametrize(
    ("candidates", "references", "message"),
    [
        (["a", "b"], [["a"]], "2 candidates and 1 sets of references"),
        (["a"], [["a"]], "1 candidates and 1 sets of references; wants two or more"),
        (["a", "b"], [["a"], []], "references of clip 1: wants one or more"),
        ([], [], "0 candidates and 0 sets of references"),
    ],
)
def test_bad_input_says_what_is_wrong(candidates, references, message):
    with pytest.raises(ValueError, match=message):
        evaluate(candidates, references)
