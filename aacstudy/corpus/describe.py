"""What a corpus holds, in tables."""

from collections import Counter

import pandas as pd

from aacstudy.corpus import Corpus
from aacstudy.corpus.text import tokenise


def by_split(corpus: Corpus) -> pd.DataFrame:
    """One row per split: clips, hours, captions, captions with a text of their own, words, words per caption."""
    rows = []
    for split in corpus.clips["split"].unique():
        part = corpus.split(split)
        words = [tokenise(text) for text in part.captions["text"]]
        rows.append(
            {
                "split": split,
                "clips": len(part.clips),
                "hours": part.clips["seconds"].sum() / 3600,
                "captions": len(words),
                "distinct captions": len(set(words)),
                "vocabulary": len({word for caption in words for word in caption}),
                "words per caption": sum(map(len, words)) / len(words) if words else float("nan"),
            }
        )
    return pd.DataFrame(rows)


def frequent_captions(corpus: Corpus, split: str, n: int) -> pd.DataFrame:
    """The ``n`` texts that a split repeats most, with their number."""
    counts = Counter(corpus.split(split).captions["text"])
    return pd.DataFrame(counts.most_common(n), columns=["caption", "times"])
