"""Stage encoder: a tagger trained on the corpus' tagging clips, with its history and held-out
scores.
"""

from pathlib import Path

from aacstudy.models.device import use
from aacstudy.study.artifacts import Artifact
from aacstudy.training.tagging import train_on_corpus


def build(artifact: Artifact, folder: Path, cores: int) -> None:
    train_on_corpus(artifact.inputs[0].path, artifact.parameters, folder, use())
