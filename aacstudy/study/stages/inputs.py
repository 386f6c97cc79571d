"""What the stages behind a trained captioner read: a split's clips with their frames, and the
captioner.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aacstudy.corpus import Corpus
from aacstudy.corpus.text import Vocabulary
from aacstudy.models import frames as frame_files
from aacstudy.models.captioner import Captioner
from aacstudy.models.checkpoint import load_captioner


@dataclass(frozen=True)
class Source:
    """Where clips come from: the folder of a corpus and the folder of its frames."""

    corpus: Path
    frames: Path

    def part(
        self, split: str, rng: np.random.Generator | None = None, clips: int = 0
    ) -> tuple[Corpus, list[Tensor]]:
        """A split, or so many of its clips drawn by ``rng``, and the clips' frames [time, dim]."""
        part = Corpus.load(self.corpus).split(split)
        if clips:
            part = replace(part, clips=part.clips.iloc[sample(rng, len(part.clips), clips)]).split(split)
        by_clip = frame_files.load(self.frames)
        return part, [by_clip[clip] for clip in part.clips["clip"]]


def captioner(folder: Path, device: torch.device) -> tuple[Captioner, Vocabulary, dict]:
    """A captioner on a device, its vocabulary, and what else its file says."""
    network, vocabulary, extra = load_captioner(folder / "captioner.safetensors")
    return network.to(device), vocabulary, extra


def sample(rng: np.random.Generator, n: int, wanted: int) -> np.ndarray:
    """Rows of a sample without repetition, ascending; all where ``wanted`` is 0 or too many."""
    drawn = rng.permutation(n)
    return np.sort(drawn[: wanted or n])


def training_captions(corpus: Corpus) -> list[str]:
    """The captions of a corpus' training split; all of its captions where it has none."""
    part = corpus.split("train") if "train" in set(corpus.clips["split"]) else corpus
    return part.captions["text"].tolist()
