"""Captions as tokens: the published clean-up, spaCy's words, and a vocabulary in order of first
appearance.
"""

import csv
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aacstudy.corpus.text import BOS, EOS, PAD, SPECIALS, UNK, Vocabulary, joined, normalise, pad, tokenise

# What captions are made of, and what breaks them: quotes, contractions, specials, letters that
# change when lowered.
PIECES = st.sampled_from((
    "A dog", "barks", "dog's", "can't", "they’re", "cannot", "o'clock", "<pad>", "<BOS>", "<unK>", "<", ">",
        "'", "’",
    "“", "”", '"', "`", ",", ".", "…", ";", "&", "-", "\n", "\t", "\u00a0", "İ", "ΟΔΟΣ", "É", "😀", "8:30",
        " ",
))  # fmt: skip
CAPTIONS = st.one_of(st.text(max_size=30), st.lists(PIECES, max_size=8).map("".join))


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("A dog barks.", "a dog barks"),
        ("  A   dog\tbarks  twice\u00a0 ", "a dog\tbarks twice"),
        ("Rain falls; wind blows, loudly!", "rain falls wind blows loudly"),
        ("“Hello,” a man says…", "hello a man says"),
        ("A dog’s bark, a cat‘s meow", "a dog's bark a cat‘s meow"),
        ("rock&roll", "rock & roll"),
        ("A high-pitched (very) [loud] {beep} 8:30", "a high pitched very loud beep 8 30"),
        ("either/or_both+more*less×2#1~\\", "either or both more less 2 1"),
        ("Is it? It is!", "is it it is"),
        ("CAFÉ", "café"),
        ("<bos> a <unk> dog <EOS> ba<pad>rks", "a dog <eos> barks"),
        ("...", ""),
        ("", ""),
    ],
)
def test_normalise(caption, words):
    assert normalise(caption) == words


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("A dog's bark.", "a dog 's bark"),
        ("The dogs' barks", "the dogs ' barks"),
        ("It can't stop, they’re loud; it’s late", "it ca n't stop they 're loud it 's late"),
        ("cannot", "can not"),
        ("five o'clock", "five o'clock"),
        ("'quoted'", "' quoted '"),
        ("a <b>dog</b>", "a < b > dog < b >"),
        ("😀", "😀"),
        ("?!", ""),
        ("a cat‘s ‘meow‘", "a cat‘s ‘ meow ‘"),
        ("a dog <EOS>", "a dog < eos >"),
    ],
)
def test_tokenise(caption, words):
    assert tokenise(caption) == tuple(words.split())


def test_tabs_and_no_break_spaces_are_words_as_published():
    assert tokenise("A dog\tbarks\u00a0twice  now\n") == ("a", "dog", "\t", "barks", "\u00a0", "twice", "now")


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("A dog’s bark, twice.", "a dog ' s bark , twice"),
        ("Rain falls; wind blows", "rain falls , wind blows"),
        ("A high-pitched - (very) [loud] 8:30", "a high pitched very loud 8 30"),
        ("rock&roll, `now`…", "rock & roll , ' now '"),
        ("“Hello,” he says?!", "hello , he says"),
        ("CAFÉ cafe\u0301", "café cafe"),  # only accents that are characters of their own go
        ("10am isn't\tthat", "10am isn ' t that"),
        ("wow,,, ok", "wow ,,, ok"),
        ("...", ""),
    ],
)
def test_the_dcase_baseline_splits_otherwise(caption, words):
    assert tokenise(caption, "dcase2024") == tuple(words.split())


@settings(deadline=None)  # a busy machine is slow, not wrong
@given(CAPTIONS)
def test_no_caption_can_write_a_special_token_there_either(caption):
    assert not set(tokenise(caption, "dcase2024")) & set(SPECIALS)


def test_a_vocabulary_with_rules_and_a_first_token():
    words = (*SPECIALS, "a", "dog", ",", "'", "s", "<bos_clotho>")
    plain = Vocabulary(words, rules="dcase2024")
    assert plain.encode("A dog's, zebra") == [BOS, 4, 5, 7, 8, 6, UNK, EOS]
    assert plain.decode(plain.encode("A dog's")) == "a dog ' s"
    with_task = Vocabulary(words, bos=9)
    assert with_task.encode("A dog, a <bos_clotho>")[0] == 9
    assert 9 not in with_task.encode("A dog, a <bos_clotho>")[1:]
    assert with_task.decode([9, 4, 5, EOS, PAD]) == "a dog"
    assert Vocabulary(words).rules == "conette" and Vocabulary(words).bos == BOS


@pytest.mark.parametrize("wrong", [{"rules": "spacy"}, {"bos": EOS}, {"bos": PAD}, {"bos": 10}, {"bos": -1}])
def test_rules_and_first_tokens_that_cannot_be(wrong):
    words = (*SPECIALS, "a", "dog", ",", "'", "s", "<bos_clotho>")
    with pytest.raises(ValueError, match=r"a vocabulary's (rules|bos)"):
        Vocabulary(words, **wrong)
    with pytest.raises(ValueError, match="rules must be one of"):
        tokenise("a dog", "spacy")


@settings(deadline=None)  # a busy machine is slow, not wrong
@given(CAPTIONS)
def test_normalise_is_idempotent(caption):
    once = normalise(caption)
    if "<" not in once:  # what is left of "<bo<bos>s>" is removed in a second pass, never in the first
        assert normalise(once) == once
    assert once == once.strip() and not re.search(r"  |[,.!?;:\"()\[\]{}]", once)
    assert once == once.lower()


@settings(deadline=None)  # a busy machine is slow, not wrong
@given(CAPTIONS)
def test_no_caption_can_write_a_special_token(caption):
    """A text that says <eos> would end a caption in its middle."""
    assert not set(tokenise(caption)) & set(SPECIALS)
    ids = Vocabulary.fit([caption]).encode(caption)
    assert ids[0] == BOS and ids[-1] == EOS and min(ids[1:-1], default=4) >= 4


def test_vocabulary_is_in_order_of_first_appearance():
    vocabulary = Vocabulary.fit(["A dog barks.", "The dog's bark", "a cat"])
    assert vocabulary.words == (*SPECIALS, "a", "dog", "barks", "the", "'s", "bark", "cat")
    assert len(vocabulary) == 11
    assert [vocabulary.words[i] for i in (PAD, BOS, EOS, UNK)] == ["<pad>", "<bos>", "<eos>", "<unk>"]
    assert Vocabulary.fit([]).words == SPECIALS


def test_encode_and_decode():
    vocabulary = Vocabulary.fit(["A dog barks.", "The dog's bark"])
    assert vocabulary.encode("The dog barks!") == [BOS, 7, 5, 6, EOS]
    assert vocabulary.encode("A zebra barks") == [BOS, 4, UNK, 6, EOS]
    assert vocabulary.encode("") == [BOS, EOS]
    assert vocabulary.decode([BOS, 7, 5, 8, 9, EOS, PAD, PAD]) == "the dog's bark"
    assert vocabulary.decode([BOS, 4, UNK, 5, EOS]) == "a dog"  # as the authors read theirs


@settings(deadline=None)  # a busy machine is slow, not wrong
@given(st.lists(CAPTIONS, max_size=5))
def test_encoding_what_was_decoded(captions):
    """The words of a known caption come back, in order, none of them unknown."""
    vocabulary = Vocabulary.fit(captions)
    assert vocabulary.words[:4] == SPECIALS and len(set(vocabulary.words)) == len(vocabulary)
    for caption in captions:
        ids = vocabulary.encode(caption)
        assert UNK not in ids
        assert vocabulary.decode(ids) == joined(tokenise(caption))


@pytest.mark.parametrize(
    "caption", ["A dog's bark can't stop.", "They’re 'loud' & it cannot rain", "five o'clock, isn't it?"]
)
def test_a_decoded_caption_encodes_to_itself(caption):
    """Generated captions are scored and written down: their words must split the same way."""
    vocabulary = Vocabulary.fit([caption])
    ids = vocabulary.encode(caption)
    assert vocabulary.encode(vocabulary.decode(ids)) == ids


@pytest.mark.parametrize("words", [("a", "dog"), (*SPECIALS[::-1], "a"), (*SPECIALS, "a", "a"), ()])
def test_a_wrong_vocabulary_is_refused(words):
    with pytest.raises(ValueError, match="a vocabulary"):
        Vocabulary(words)


def test_pad():
    assert pad([[1, 2], [1, 5, 6, 2], [1]]) == [[1, 2, 0, 0], [1, 5, 6, 2], [1, 0, 0, 0]]
    one = [[1, 2]]
    assert pad(one) == one and pad(one)[0] is not one[0]


def test_audiocaps_words():
    """The published captions give the published vocabulary; few test words are unknown."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "published-outputs"
    train, test = (folder / f"audiocaps_{split}_captions.csv" for split in ("train", "test"))
    if not train.exists():
        pytest.skip(f"{train} is not here")
    with open(train, encoding="utf-8", newline="") as file:
        captions = [row["caption"] for row in csv.DictReader(file)]
    vocabulary = Vocabulary.fit(captions)
    assert len(captions) == 49838
    assert len(vocabulary) == 4870  # the four special tokens are among them
    with open(test, encoding="utf-8", newline="") as file:
        ids = [i for row in csv.DictReader(file) for i in vocabulary.encode(row["caption"])[1:-1]]
    # 0.37 % with the validation split
    assert ids.count(UNK) / len(ids) == pytest.approx(0.0028, abs=0.0003)
