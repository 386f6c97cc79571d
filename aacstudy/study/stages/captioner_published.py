"""Stage captioner, where its weights are published."""

from pathlib import Path

from aacstudy.models.checkpoint import save_captioner
from aacstudy.models.published.captioners import import_captioner
from aacstudy.study.artifacts import Artifact
from aacstudy.training.captioning import write_about


def build(artifact: Artifact, folder: Path, cores: int) -> None:
    path, heads, task = (artifact.parameters[name] for name in ("file", "heads", "task"))
    captioner, vocabulary, extra = import_captioner(Path(path), heads, task)
    save_captioner(folder / "captioner.safetensors", captioner, vocabulary, extra)
    write_about(folder, captioner, len(vocabulary))
