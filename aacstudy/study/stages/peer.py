"""Stage peer: a dual encoder learns from the same frames and captions, and compares all pairs of a
split.
"""

from pathlib import Path

import numpy as np

from aacstudy.corpus import Corpus
from aacstudy.models import frames as frame_files
from aacstudy.options import PeerOptions
from aacstudy.study.artifacts import Artifact
from aacstudy.training.contrastive import similarities, train_dual


def build(artifact: Artifact, folder: Path, cores: int) -> None:
    """``similarities.npz``: cosines [audios, captions] and the model's number of parameters;
    ``history.csv``.
    """
    corpus, frames = (one.path for one in artifact.inputs)
    chosen = dict(artifact.parameters)
    seed, split = chosen.pop("seed"), chosen.pop("split")
    corpus, by_clip = Corpus.load(corpus), frame_files.load(frames)
    model, history = train_dual(by_clip, corpus, PeerOptions(**chosen), seed, folder)
    part = corpus.split(split)
    cosines = similarities(model, [by_clip[clip] for clip in part.clips["clip"]], list(part.captions["text"]))
    size = sum(one.numel() for one in model.parameters())
    np.savez(folder / "similarities.npz", similarity=cosines, parameters=size)
    history.to_csv(folder / "history.csv", index=False)
