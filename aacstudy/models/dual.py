"""A dual encoder: frozen frames and a bag of words become two vectors whose cosine is compared.

What the captioner's likelihood is held against. Neither side knows order: frames are pooled, words
are counted.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aacstudy.corpus.text import SPECIALS, Vocabulary
from aacstudy.options import PeerOptions


class DualEncoder(nn.Module):
    """Frames pooled by mean and maximum, and summed word embeddings, in one space of unit vectors.

    ``mean`` and ``deviation`` [frame_dim] of the training frames standardise what comes in. The
    temperature is learnt, as in CLIP (arXiv 2103.00020), whose similarity this is.
    """

    def __init__(self, vocabulary: Vocabulary, mean: Tensor, deviation: Tensor, options: PeerOptions):
        super().__init__()
        self.vocabulary = vocabulary
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        hidden, width = options.hidden, options.width
        self.frame = nn.Sequential(nn.Linear(len(mean), hidden), nn.GELU(), nn.Dropout(options.dropout))
        self.clip = nn.Linear(2 * hidden, width)
        self.word = nn.Linear(len(vocabulary), options.words)
        self.caption = nn.Sequential(nn.GELU(), nn.Dropout(options.dropout), nn.Linear(options.words, width))
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    @property
    def scale(self) -> Tensor:
        """What cosines are multiplied by: 1 / temperature, at most 100."""
        return self.log_scale.exp().clamp(max=100)

    def audio(self, frames: Tensor, padding: Tensor | None = None) -> Tensor:
        """Frames [clips, time, frame_dim], bool padding or None -> unit vectors [clips, width]."""
        hidden = self.frame((frames - self.mean) / self.deviation)
        if padding is None:
            mean, top = hidden.mean(dim=1), hidden.amax(dim=1)
        else:
            mean = hidden.masked_fill(padding[:, :, None], 0).sum(dim=1) / (~padding).sum(dim=1, keepdim=True)
            top = hidden.masked_fill(padding[:, :, None], -torch.inf).amax(dim=1)
        return F.normalize(self.clip(torch.cat([mean, top], dim=1)), dim=1)

    def bags(self, texts: Sequence[str]) -> Tensor:
        """Which words each text holds [texts, words], 1 or 0; unknown words are left out."""
        bags = torch.zeros(len(texts), len(self.vocabulary))
        for row, text in enumerate(texts):
            bags[row, self.vocabulary.encode(text)] = 1
        bags[:, : len(SPECIALS)] = 0
        return bags.to(self.mean.device)

    def text(self, bags: Tensor) -> Tensor:
        """Bags of words [texts, words] -> unit vectors [texts, width]."""
        return F.normalize(self.caption(self.word(bags)), dim=1)
