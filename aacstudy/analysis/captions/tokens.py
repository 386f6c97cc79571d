"""Captions as metrics want them: lower-case words, single spaces, by the PTB tokenizer or ours."""

import tempfile
from collections.abc import Iterable

from aacstudy.analysis.captions.assets import Assets, clean_environment
from aacstudy.corpus.text import tokenise

TOKENIZERS = ("ptb", "ours")


def tokenised(texts: Iterable[str], assets: Assets, tokenizer: str = "auto") -> tuple[dict[str, str], str]:
    """Map each text to its words joined by spaces; also the tokenizer's name.

    tokenizer: ``ptb`` (Java, as publications have it), ``ours`` (corpus/text.py; 0.04 % of the
    AudioCaps captions differ) or ``auto``: ptb where it is there. Each text is split on its own,
    whatever stands beside it. Raises ValueError for ``ptb`` without its files, or another name.
    """
    if tokenizer not in ("auto", *TOKENIZERS):
        raise ValueError(f"tokenizer must be auto or one of {TOKENIZERS}, got {tokenizer!r}")
    missing = assets.missing("ptb")
    if tokenizer == "ptb" and missing:
        raise ValueError(f"the PTB tokenizer {missing}")
    # Java takes many characters for the end of a line, METEOR's protocol parts fields by three
    # bars.
    plain = {text: " ".join(text.replace("|||", " ").split()) for text in texts}
    if tokenizer == "ours" or missing:
        return {text: " ".join(tokenise(clean)) for text, clean in plain.items()}, "ours"
    words = _ptb(sorted({clean for clean in plain.values() if clean}), assets)
    return {text: words.get(clean, "") for text, clean in plain.items()}, "ptb"


def _ptb(texts: list[str], assets: Assets) -> dict[str, str]:
    if not texts:
        return {}
    # here: it loads transformers, 8 s
    from aac_metrics.utils.tokenization import preprocess_mono_sents

    with clean_environment(), tempfile.TemporaryDirectory() as folder:
        # The last line has a word, as blank lines at the end would get lost.
        words = preprocess_mono_sents(
            [*texts, "end"], cache_path=assets.ptb, java_path=assets.java, tmp_path=folder
        )
    return dict(zip(texts, words[:-1], strict=True))
