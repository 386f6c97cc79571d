"""Stage captioner: the decoder trained on frozen frames, with its history."""

from pathlib import Path

from aacstudy.models.device import use
from aacstudy.study.artifacts import Artifact
from aacstudy.training.captioning import train_on_corpus


def build(artifact: Artifact, folder: Path, cores: int) -> None:
    corpus, frames = (one.path for one in artifact.inputs)
    train_on_corpus(corpus, frames, artifact.parameters, folder, use())
