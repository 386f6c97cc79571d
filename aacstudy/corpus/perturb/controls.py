"""What a listener without ears makes of an item: a trigram of the training captions, and a rule of
one bit.
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from aacstudy.corpus.ngram import NGram
from aacstudy.corpus.perturb.items import ORDER
from aacstudy.corpus.perturb.words import REPLACEMENTS
from aacstudy.corpus.text import Vocabulary, tokenise

# test -> the one thing that its majority rule looks at
MARKS = {
    ORDER: "the longer half first",
    "before_after": "the word before",
    "then_as": "the word then",
    "as_then": "the word then",
    "nouns": "the commoner word first",
    "words": "the commoner first word",
    "related": "more words",
    "unrelated": "more words",
}


def trigram_losses(training: Sequence[str], texts: Sequence[str]) -> np.ndarray:
    """Loss of each text [texts] in nats per token by a trigram model of the training captions."""
    vocabulary = Vocabulary.fit(training)
    model = NGram([vocabulary.encode(text) for text in training], len(vocabulary))
    encoded = [vocabulary.encode(text) for text in texts]
    return np.array([model.nll(ids) / (len(ids) - 1) for ids in encoded])


def majority(items: pd.DataFrame, training_items: pd.DataFrame, training: Sequence[str]) -> np.ndarray:
    """Share right [items] of the best rule of one bit, such as "always prefer *before*": 1, 0, or ½
    where it is mute.

    Each test looks at one thing (``MARKS``); whether it is preferred or avoided is fitted on the
    items that the same recipe makes of the training captions. The two directions of then and as
    share one rule: it is right in the one and wrong in the other.
    """
    words = Counter(word for text in training for word in tokenise(text))
    openings = Counter(tokenise(text)[:1] for text in training)
    result = np.full(len(items), 0.5)
    for test in items["test"].unique():
        rule = {test} | ({"then_as", "as_then"} if test in ("then_as", "as_then") else set())
        fitted = [_mark(row, words, openings) for row in training_items.itertuples() if row.test in rule]
        preferred = np.sign(np.sum(fitted))
        rows = np.flatnonzero(items["test"] == test)
        marks = [_mark(items_row, words, openings) for items_row in items.iloc[rows].itertuples()]
        result[rows] = 0.5 + 0.5 * preferred * np.array(marks)
    return result


def _mark(item, words: Counter, openings: Counter) -> float:
    """1 where the true text has more of what its test's rule looks at, −1 where the false one has,
    0 for neither.
    """
    values = []
    for text in (item.text, item.swap):
        tokens = tokenise(text)
        if item.test == ORDER:
            values.append(_middle(text, item.connective, item.form))
        elif item.test in REPLACEMENTS:
            values.append(("before" if item.test == "before_after" else "then") in tokens)
        elif item.test == "nouns":
            values.append(sum(words[token] / (place + 1) for place, token in enumerate(tokens)))
        elif item.test == "words":
            values.append(openings[tokens[:1]])
        else:
            values.append(len(tokens))
    return float(np.sign(float(values[0]) - float(values[1])))


def _middle(text: str, connective: str, form: str) -> int:
    """Where the first half ends: at the connective, or at the comma of a fronted clause."""
    if form.startswith("fronted"):
        return text.index(",")
    return [match.start() for match in re.finditer(rf"\b{connective}\b", text, re.IGNORECASE)][-1]
