"""What a corpus holds, in tables and words; no stage reads it, so no key covers it."""

from collections import Counter

import pandas as pd

from aacstudy.corpus import NO_FILE, Corpus
from aacstudy.corpus.text import tokenise


def by_split(corpus: Corpus) -> pd.DataFrame:
    """One row per split: clips, hours, captions, distinct ones, vocabulary, words per caption."""
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


def summary(corpus: Corpus) -> str:
    """A line for each split: clips, seconds, captions, pool, and how many clips were left out."""
    lines = []
    for name in corpus.clips["split"].unique():
        part = corpus.split(name)
        seconds, (n, digest) = part.clips["seconds"], part.pool()
        lines.append(
            f"{name}: {n} clips of {seconds.min():.1f} to {seconds.max():.1f} s, {len(part.captions)} "
            f"captions, "
            f"pool {n}-{digest}"
        )
        if len(part.missing):
            gone = int((part.missing["reason"] == NO_FILE).sum())
            unusable = len(part.missing) - gone
            lines[-1] += f"; left out: {gone} without a file, {unusable} with an unusable one"
    return "\n".join(lines)
