"""Captions as token ids: clean-up, word tokenizer and vocabulary, as the published captioners do it.

Source: the text pipeline of CNext-trans / CoNeTTE (arXiv 2309.00454 and its public code).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache

PAD, BOS, EOS, UNK = 0, 1, 2, 3
SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")

_QUOTES = str.maketrans({"’": "'", "‘": "'", "`": "'", "“": '"', "”": '"', ";": ",", "…": "...", "&": " & "})
_PUNCTUATION = re.compile(r"[,.!?;:\"(){}\[\]*×\-#/+_~ʘ\\]")
_SPACES = re.compile(r"\s+")


def normalise(caption: str) -> str:
    """Lower-case a caption and keep its words only: straight quotes, punctuation to spaces, single spaces.

    Apostrophes and ``&`` survive, as in the published vocabularies.
    """
    caption = caption.translate(_QUOTES).lower()
    for special in SPECIALS:
        caption = caption.replace(special, " ")
    caption = _PUNCTUATION.sub(" ", caption)
    return _SPACES.sub(" ", caption).strip()


@lru_cache(maxsize=1)
def _tokenizer():
    # The rule tokenizer of spaCy's blank English needs no model file, and splits the 49 838 AudioCaps
    # training captions exactly as the published pipeline does.
    import spacy

    return spacy.blank("en").tokenizer


@lru_cache(maxsize=200_000)
def _tokenise_normalised(text: str) -> tuple[str, ...]:
    # A tuple, because the cache hands the same object to every caller.
    return tuple(token.text for token in _tokenizer()(text) if not token.is_space)


def tokenise(caption: str) -> tuple[str, ...]:
    """Split a caption into normalised words (spaCy's English rules: ``dog's`` gives ``dog``, ``'s``)."""
    return _tokenise_normalised(normalise(caption))


@dataclass(frozen=True)
class Vocabulary:
    """Words by id; ids 0 to 3 are ``<pad> <bos> <eos> <unk>``."""

    words: tuple[str, ...]

    def __post_init__(self):
        if self.words[:4] != SPECIALS:
            raise ValueError(f"a vocabulary starts with {SPECIALS}, this one with {self.words[:4]}")
        if len(set(self.words)) != len(self.words):
            raise ValueError("a vocabulary holds each word once")

    @classmethod
    def fit(cls, captions: Iterable[str]) -> "Vocabulary":
        """Keep every word of the captions, in order of first appearance."""
        words = dict.fromkeys(word for caption in captions for word in tokenise(caption))
        return cls(SPECIALS + tuple(word for word in words if word not in SPECIALS))

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, caption: str) -> list[int]:
        """Token ids with BOS in front and EOS behind; a word that is not known becomes UNK."""
        ids = self._ids
        return [BOS, *(ids.get(word, UNK) for word in tokenise(caption)), EOS]

    def decode(self, ids: Iterable[int]) -> str:
        """The words of token ids, joined by spaces; PAD, BOS and EOS are left out."""
        return " ".join(self.words[i] for i in ids if i not in (PAD, BOS, EOS))


def pad(sequences: list[list[int]]) -> list[list[int]]:
    """Fill token lists with PAD to the longest one's length."""
    longest = max(map(len, sequences))
    return [ids + [PAD] * (longest - len(ids)) for ids in sequences]
