"""Stage bands: some rows of the loss matrix, an independent job each."""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from aacstudy.models.device import use
from aacstudy.scoring.engine import Engine
from aacstudy.scoring.matrix import write_band
from aacstudy.study.artifacts import Artifact
from aacstudy.study.stages import inputs


def build(artifact: Artifact, folder: Path, cores: int) -> None:
    """A split's audios are cut into ``of`` runs of nearly equal length; ``band`` counts from 0."""
    corpus, frames, speaker = (one.path for one in artifact.inputs)
    chosen = dict(artifact.parameters)
    split, band, of = (chosen.pop(name) for name in ("split", "band", "of"))
    part, clips = inputs.Source(corpus, frames).part(split)
    network, vocabulary, _ = inputs.captioner(speaker, use())
    engine = Engine(network, [vocabulary.encode(text) for text in part.captions["text"]], **chosen)
    rows = np.array_split(np.arange(len(clips)), of)[band]
    nll = engine.nll([clips[row] for row in rows], lambda audios: tqdm(audios, desc="scoring", unit="audio"))
    write_band(folder / "band.npz", nll, engine.tokens)
