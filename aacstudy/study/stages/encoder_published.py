"""Stage encoder, where its weights are published."""

from pathlib import Path

from aacstudy.models.checkpoint import save_encoder
from aacstudy.models.published.encoders import LABELS, class_names, published_encoder
from aacstudy.options import EncoderOptions, FrontendOptions
from aacstudy.study.artifacts import Artifact


def build(artifact: Artifact, folder: Path, cores: int) -> None:
    path = Path(artifact.parameters["file"])
    frontend = FrontendOptions(**artifact.parameters["frontend"])
    network = published_encoder(path, frontend, EncoderOptions(**artifact.parameters["encoder"]))
    labels = path.with_name(LABELS[network.options.kind])
    names = class_names(network.classes, labels if labels.is_file() else None)
    save_encoder(folder / "encoder.safetensors", network, names, {"source": path.name})
