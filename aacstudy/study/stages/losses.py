"""Stage losses: the audio × caption loss matrix of a split, joined from its bands."""

from pathlib import Path

from aacstudy.corpus import Corpus
from aacstudy.scoring.matrix import join
from aacstudy.study.artifacts import Artifact


def build(artifact: Artifact, folder: Path, cores: int) -> None:
    corpus, *bands = artifact.inputs
    part = Corpus.load(corpus.path).split(artifact.parameters["split"])
    matrix = join(
        [band.path / "band.npz" for band in bands],
        part.owners(),
        list(part.clips["clip"]),
        list(part.captions["text"]),
        artifact.parameters | {"captioner": bands[0].inputs[2].name},
    )
    matrix.write(folder / "losses.zarr")
