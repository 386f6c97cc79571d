"""Stage frames, of clips whose sound was cut into pieces of one frame's length and put together in
drawn orders.

The control of order: what sounds stays, when it sounds is lost before any encoder can tell it.
"""

from pathlib import Path

import torch
from torch import Tensor

from aacstudy.corpus import Corpus
from aacstudy.corpus.audio import permute
from aacstudy.models.checkpoint import load_encoder
from aacstudy.models.device import use
from aacstudy.models.frames import encode_all
from aacstudy.study.artifacts import Artifact


def build(artifact: Artifact, folder: Path, cores: int) -> None:
    """Frames of ``clip#0``, ``clip#1`` … for every clip of the splits, one order each."""
    corpus, encoder = (one.path for one in artifact.inputs)
    corpus, orders = Corpus.load(corpus), artifact.parameters["permutations"]
    network = load_encoder(encoder / "encoder.safetensors")[0].to(use())
    rate = network.frontend.sample_rate
    names, paths = [], []
    for split in artifact.parameters["splits"]:
        part = corpus.split(split)
        names += [f"{clip}#{n}" for clip in part.clips["clip"] for n in range(orders)]
        paths += [path for path in part.paths() for _ in range(orders)]

    def change(waveform: Tensor, place: int) -> Tensor:
        samples = waveform.numpy()
        seconds = len(samples) / network.frame_count(len(samples)) / rate
        return torch.from_numpy(permute(samples, rate, seconds, seed=place))

    encode_all(network, names, paths, folder, cores, change)
