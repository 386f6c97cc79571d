"""Stage corpus: clips, captions and events, by the reader of the corpus' kind."""

from importlib import import_module
from pathlib import Path

from aacstudy.options import CorpusOptions
from aacstudy.study.artifacts import Artifact


def build(artifact: Artifact, folder: Path, cores: int) -> None:
    chosen = {name: value for name, value in artifact.parameters.items() if name != "content"}
    import_module(artifact.code[1]).build(folder, CorpusOptions(**chosen), cores)
