"""Caption metrics that need no download, through aac-metrics."""

from collections.abc import Sequence

import pandas as pd

from aacstudy.corpus.text import tokenise

CORPUS_METRICS = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider_d")


def evaluate(
    candidates: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[dict[str, float], pd.DataFrame]:
    """Corpus scores and scores of each candidate [clips].

    candidates: one caption per clip. references: one or more per clip. Texts are split as the captioner's are
    (corpus/text.py), not by the PTB tokenizer, which needs Java. CIDEr-D depends on the whole set of references.
    Raises ValueError for unequal lengths, for a single clip, for which CIDEr-D is not defined, and for a clip without
    references or with one that has no word.
    """
    if len(candidates) != len(references) or len(candidates) < 2:
        raise ValueError(
            f"{len(candidates)} candidates and {len(references)} sets of references; wants two or more of each"
        )
    # Inside, because importing aac_metrics loads transformers: 8 s of processor time.
    from aac_metrics.functional import bleu, cider_d, rouge_l

    candidates = [" ".join(tokenise(text)) for text in candidates]
    references = [[" ".join(tokenise(text)) for text in one] for one in references]
    for clip, one in enumerate(references):
        if not one or not all(one):
            raise ValueError(f"references of clip {clip}: wants one or more, each with a word")
    corpus: dict[str, float] = {}
    each: dict[str, list[float]] = {}
    calls = [lambda c, r, n=n: bleu(c, r, n=n) for n in (1, 2, 3, 4)] + [rouge_l, cider_d]
    for name, call in zip(CORPUS_METRICS, calls):
        whole, single = call(candidates, references)
        found = next(key for key in whole if key.startswith(name.partition("_")[0]))
        corpus[name] = float(whole[found])
        each[name] = [float(value) for value in single[found]]
    words = {word for text in candidates for word in text.split()}
    corpus |= {
        "words": float(len(words)),
        "length": sum(len(text.split()) for text in candidates) / len(candidates),
    }
    return corpus, pd.DataFrame(each)
