"""Captions as token ids: clean-up, word tokenizer and vocabulary, as the published captioners do
it.

Source: the text pipeline of CNext-trans / CoNeTTE (arXiv 2309.00454 and its public code), which is
the study's own; beside it that of the DCASE 2024 baseline, for that baseline's weights.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache

PAD, BOS, EOS, UNK = 0, 1, 2, 3
SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")
RULES = ("conette", "dcase2024")  # how captions become words

_QUOTES = str.maketrans({"’": "'", "`": "'", "“": '"', "”": '"', ";": ",", "…": "...", "&": " & "})
_PUNCTUATION = re.compile(r"[,.!?;:\"(){}\[\]*×\-#/+_~ʘ\\]")
_SPECIALS = re.compile("|".join(SPECIALS))
_SPACES = re.compile(" +")
_BEFORE_A_SIGN = re.compile(r"\s+(?=[,.!?;:\"'])")


def normalise(caption: str) -> str:
    """Lower-case a caption and keep its words only: straight quotes, punctuation to spaces, single
    spaces.

    As in the published vocabularies apostrophes, ``&``, the left single quote, tabs and no-break
    spaces survive: inside of a caption they are tokens, or part of one.
    """
    caption = _PUNCTUATION.sub(" ", _SPECIALS.sub("", caption).translate(_QUOTES).lower())
    return _SPACES.sub(" ", caption).strip()


@lru_cache(maxsize=1)
def _tokenizer():
    # The rule tokenizer of spaCy's blank English needs no model file, and splits the 49 838
    # AudioCaps training captions exactly as the published pipeline does.
    import spacy

    return spacy.blank("en").tokenizer


@lru_cache(maxsize=200_000)
def _tokenise_normalised(text: str) -> tuple[str, ...]:
    # A tuple, because the cache hands the same object to every caller.
    return tuple(token.text for token in _tokenizer()(text))


@lru_cache(maxsize=1)
def _dcase2024():
    # The library that the baseline's tokenizer.json is written for, so that rare characters fall as
    # they do there.
    from tokenizers import Regex
    from tokenizers.normalizers import Lowercase, Replace, Sequence, StripAccents
    from tokenizers.pre_tokenizers import Whitespace

    steps = [Lowercase(), StripAccents(), Replace("’", "'"), Replace("`", "'"), Replace(";", ",")]
    punctuation = Regex(r"[.!?:\"“”…(){}\[\]*×\-#/+_~ʘ\\]")  # no comma: there it is a word
    return Sequence([*steps, Replace(punctuation, " ")]), Whitespace()


def _tokenise_dcase2024(caption: str) -> tuple[str, ...]:
    normaliser, splitter = _dcase2024()
    return tuple(word for word, _ in splitter.pre_tokenize_str(normaliser.normalize_str(caption)))


def tokenise(caption: str, rules: str = "conette") -> tuple[str, ...]:
    """Split a caption into normalised words.

    ``conette``: spaCy's English rules on `normalise`d text (``dog's`` gives ``dog``, ``'s``; no
    punctuation). ``dcase2024``: runs of letters and runs of signs (``dog's,`` gives ``dog``, ``'``,
    ``s``, ``,``).
    """
    if rules not in RULES:
        raise ValueError(f"rules must be one of {RULES}, got {rules!r}")
    return _tokenise_dcase2024(caption) if rules == "dcase2024" else _tokenise_normalised(normalise(caption))


def joined(words: Iterable[str], rules: str = "conette") -> str:
    """Words as a text, as the published captioners write it: ``dog``, ``'s`` gives ``dog's`` by the
    rules of CoNeTTE, ``dog 's`` by those of the baseline.
    """
    text = " ".join(words)
    return _BEFORE_A_SIGN.sub("", text).strip() if rules == "conette" else text


@dataclass(frozen=True)
class Vocabulary:
    """Words by id; ids 0 to 3 are ``<pad> <bos> <eos> <unk>``."""

    words: tuple[str, ...]
    rules: str = "conette"
    bos: int = BOS  # the id in front of every caption; CoNeTTE puts the token of a task there

    def __post_init__(self):
        if self.rules not in RULES:
            raise ValueError(f"a vocabulary's rules are one of {RULES}, not {self.rules!r}")
        if self.words[:4] != SPECIALS:
            raise ValueError(f"a vocabulary starts with {SPECIALS}, this one with {self.words[:4]}")
        if len(set(self.words)) != len(self.words):
            raise ValueError("a vocabulary holds each word once")
        if self.bos != BOS and not len(SPECIALS) <= self.bos < len(self.words):
            raise ValueError(f"a vocabulary's bos is {BOS} or the id of a word, not {self.bos}")

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
        """Token ids with `bos` in front and EOS behind; a word that is not known becomes UNK."""
        ids = self._ids
        return [self.bos, *(ids.get(word, UNK) for word in tokenise(caption, self.rules)), EOS]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids, see `joined`; the specials and `bos` are left out."""
        words = (self.words[i] for i in ids if i not in (PAD, BOS, EOS, UNK, self.bos))
        return joined(words, self.rules)


def pad(sequences: list[list[int]]) -> list[list[int]]:
    """Fill token lists with PAD to the longest one's length."""
    longest = max(map(len, sequences))
    return [ids + [PAD] * (longest - len(ids)) for ids in sequences]
