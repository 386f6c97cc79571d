"""Caption sets with the lengths and the shared beginnings of the published test sets; random words
otherwise.
"""

from dataclasses import dataclass, replace

import numpy as np

from aacstudy.corpus.text import BOS, EOS, UNK
from aacstudy.options import DecoderOptions


@dataclass(frozen=True)
class Shape:
    """A test set's size. ``spread`` and ``longest`` make its lengths, ``follow`` its shared
    beginnings.
    """

    audios: int
    captions: int
    frames: int  # per clip: 31 for 10 s, 94 for 30 s
    words: int  # vocabulary
    mean: float  # tokens per caption, EOS included
    spread: float  # of the logarithm of lengths
    longest: int
    follow: float  # how much likelier common continuations are (exponent of Zipf's law)


# 35 500 of 54 946 and 47 225 of 64 354 tokens remain when prefixes are shared: 65 % and 73 %
AUDIOCAPS = Shape(912, 4560, 31, 4400, 12.05, 0.45, 42, 1.65)
CLOTHO = Shape(1045, 5225, 94, 4400, 12.32, 0.2, 21, 1.45)

DEMO = DecoderOptions(d_model=96, layers=2, heads=4, d_ff=256)
PAPER = DecoderOptions()
SHARING = {"follow": 3.0}  # a grammar's captions share most of their beginnings
CASES = {  # options, frame width, captions, how many, clips of the published loop's batch
    "demo": (DEMO, 128, replace(CLOTHO, frames=19, words=400, **SHARING), 1000, 64),
    "paper, AudioCaps, 31 frames": (PAPER, 768, AUDIOCAPS, 4560, 64),
    "paper, Clotho, 94 frames": (PAPER, 768, CLOTHO, 5225, 64),
}


def captions(shape: Shape, count: int | None = None, seed: int = 0) -> list[list[int]]:
    """Token ids with BOS and EOS of ``count`` captions: each word's rank among what may follow
    obeys Zipf's law.
    """
    rng = np.random.default_rng(seed)
    count = count or shape.captions
    lengths = np.exp(rng.normal(np.log(shape.mean) - shape.spread**2 / 2, shape.spread, count))
    lengths = np.clip(np.round(lengths), 4, shape.longest).astype(int)
    lengths[0] = shape.longest
    content = shape.words - UNK - 1
    chance = np.arange(1, content + 1) ** -shape.follow
    ranks = rng.choice(content, (count, shape.longest), p=chance / chance.sum())
    result = []
    for length, rank in zip(lengths, ranks.tolist()):
        ids, previous = [BOS], BOS
        for r in rank[: length - 1]:
            previous = (
                UNK + 1 + (r * 2657 + previous * 9973) % content
            )  # the same rank is another word after another
            ids.append(previous)
        result.append([*ids, EOS])
    return result


def remaining(texts: list[list[int]]) -> float:
    """Share of tokens that a prefix tree keeps."""
    return len({tuple(ids[:n]) for ids in texts for n in range(1, len(ids))}) / sum(
        len(ids) - 1 for ids in texts
    )
