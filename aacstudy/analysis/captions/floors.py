"""Captions that needed no captioner: what every metric must be compared with."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from aacstudy.corpus import Corpus


def make(
    corpus: Corpus, split: str, frames: Mapping[str, np.ndarray], seed: int = 0
) -> tuple[dict[str, list[str]], str]:
    """A random caption and the nearest clip's for each clip of a split, and where they come from.

    From the training split; in a corpus without one from the references of the split's other clips,
    which the names say. frames: embeddings [time, dim] by clip.
    """
    clips = list(corpus.split(split).clips["clip"])
    alone = "train" not in set(corpus.clips["split"]) or split == "train"
    pool = corpus.split(split if alone else "train")
    names = [clip for clip in pool.clips["clip"] if clip in frames]
    firsts = first_captions(pool.captions, names)
    ours = [frames[clip] for clip in clips]
    nearest, _ = nearest_captions(ours, ours if alone else [frames[clip] for clip in names], firsts, alone)
    if alone:
        drawn = 1 + np.random.default_rng(seed).integers(len(clips) - 1, size=len(clips))
        others = [firsts[(i + step) % len(clips)] for i, step in enumerate(drawn)]
        return {
            "another clip's caption": others,
            "nearest clip's caption": nearest,
        }, "the split's other clips"
    drawn = random_captions(list(pool.captions["text"]), len(clips), seed)
    return {"random training caption": drawn, "nearest clip's caption": nearest}, "the training split"


def random_captions(pool: Sequence[str], n: int, seed: int) -> list[str]:
    """For each of n clips a caption drawn from a pool, with replacement: good sentences about
    something else."""
    return [pool[i] for i in np.random.default_rng(seed).integers(len(pool), size=n)]


def nearest_captions(
    frames: Sequence[np.ndarray], pool: Sequence[np.ndarray], captions: Sequence[str], same: bool = False
) -> tuple[list[str], np.ndarray]:
    """For each clip the caption of the pool's clip most alike, and the cosine of the two [clips].

    frames, pool: frame embeddings [time, dim] of clips; alike is the cosine of their means over
    time. captions: one of each clip of the pool. same: the pool is the clips, none finds itself.
    """
    a, b = (_directions(one) for one in (frames, pool))
    cosine = a @ b.T  # [clips, pool]
    if same:
        np.fill_diagonal(cosine, -np.inf)
    best = cosine.argmax(axis=1)
    return [captions[i] for i in best], cosine[np.arange(len(best)), best]


def first_captions(captions: pd.DataFrame, clips: Sequence[str]) -> list[str]:
    """The first caption of each clip; ``captions`` has columns ``clip`` and ``text``."""
    first = captions.drop_duplicates("clip").set_index("clip")["text"]
    return [first[clip] for clip in clips]


def _directions(frames: Sequence[np.ndarray]) -> np.ndarray:
    means = np.stack([np.asarray(one, dtype=float).mean(axis=0) for one in frames])
    return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
