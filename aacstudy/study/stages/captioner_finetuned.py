"""Stage captioner, where the encoder learns with the decoder."""

from pathlib import Path

from aacstudy.models.device import use
from aacstudy.study.artifacts import Artifact
from aacstudy.training.finetuning import train_on_corpus


def build(artifact: Artifact, folder: Path, cores: int) -> None:
    corpus, _, encoder = (one.path for one in artifact.inputs)
    train_on_corpus(corpus, encoder / "encoder.safetensors", artifact.parameters, folder, use())
