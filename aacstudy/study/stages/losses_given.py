"""Stage losses, where the matrix is another system's."""

from pathlib import Path

from aacstudy.corpus import Corpus
from aacstudy.scoring.matrix import Losses, check
from aacstudy.study.artifacts import Artifact


def build(artifact: Artifact, folder: Path, cores: int) -> None:
    part = Corpus.load(artifact.inputs[0].path).split(artifact.parameters["split"])
    file = artifact.parameters["matrix"]
    clips, texts = list(part.clips["clip"]), list(part.captions["text"])
    check(Losses.read(Path(file)), clips, texts, part.owners(), file).write(folder / "losses.zarr")
