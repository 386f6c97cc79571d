"""Stage frames: embeddings of all captioned clips by the encoder."""

from pathlib import Path

from aacstudy.corpus import Corpus
from aacstudy.models.checkpoint import load_encoder
from aacstudy.models.device import use
from aacstudy.models.frames import encode_all
from aacstudy.study.artifacts import Artifact


def build(artifact: Artifact, folder: Path, cores: int) -> None:
    device = use()
    corpus, encoder = (one.path for one in artifact.inputs)
    corpus = Corpus.load(corpus)
    captioned = corpus.clips["clip"].isin(set(corpus.captions["clip"]))
    captioned |= not captioned.any()  # recordings without any caption are captioned, and searched
    clips = list(corpus.clips["clip"][captioned])
    paths = [path for path, wanted in zip(corpus.paths(), captioned) if wanted]
    network, _ = load_encoder(encoder / "encoder.safetensors")
    encode_all(network.to(device), clips, paths, folder, cores)
