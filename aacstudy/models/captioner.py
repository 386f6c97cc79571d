"""The captioner: frame embeddings of a frozen encoder and a caption so far give the next word."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aacstudy.corpus.text import PAD
from aacstudy.models.decoder import Decoder
from aacstudy.options import DecoderOptions


def token_nll(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Logits [batch, n, vocabulary] and targets [batch, n] -> losses [batch, n] in nats, 0 at
    padding.

    Without label smoothing this is the loss that ranks, arXiv 2308.15090. Targets are the caption
    without BOS, with EOS.
    """
    flat = F.cross_entropy(
        logits.flatten(0, 1),
        targets.flatten(),
        ignore_index=PAD,
        reduction="none",
        label_smoothing=label_smoothing,
    )
    return flat.view(targets.shape)  # [batch, n]


class Captioner(nn.Module):
    """Projection of the frames and a transformer decoder over words.

    At default options and 768-dimensional frames it has 9 669 376 + 513 * vocabulary_size
    parameters. Source: arXiv 2308.15090; details from the authors' code.
    """

    def __init__(self, frame_dim: int, vocabulary_size: int, options: DecoderOptions):
        super().__init__()
        self.frame_dim = frame_dim
        self.vocabulary_size = vocabulary_size
        self.options = options
        self.projection = nn.Sequential(
            nn.Dropout(options.projection_dropout),
            nn.Linear(frame_dim, options.d_model),
            nn.ReLU(),
            nn.Dropout(options.projection_dropout),
        )
        self.decoder = Decoder(vocabulary_size, options)
        if options.frame_positions == "learned":
            # from a start as strong as the sinusoids: what is compared is their form
            start = torch.randn(options.max_positions, options.d_model) * math.sqrt(0.5)
            self.frame_positions = nn.Parameter(start)

    def project(self, frames: Tensor) -> Tensor:
        """Frames [batch, frames, frame_dim] -> memory [batch, frames, d_model].

        Raises ValueError for another width, no frames, or more frames than there are positions.
        """
        if frames.ndim != 3 or frames.shape[2] != self.frame_dim or frames.shape[1] < 1:
            raise ValueError(
                f"frames must be [batch, frames >= 1, {self.frame_dim}], got {tuple(frames.shape)}"
            )
        memory = self.projection(frames)
        if self.options.frame_positions == "none":
            return memory
        learned = self.options.frame_positions == "learned"
        positions = self.frame_positions if learned else self.decoder.positions
        count = frames.shape[1]
        if count > len(positions):
            raise ValueError(f"{count} frames are more than max_positions = {len(positions)}")
        return memory + positions[:count]

    def embed(self, tokens: Tensor) -> Tensor:
        """Tokens [batch, n] -> scaled embeddings [batch, n, d_model] before positions, to mix up if
        wanted."""
        return self.decoder.embed(tokens)

    def decode_embedded(
        self, memory: Tensor, frame_padding: Tensor | None, embedded: Tensor, token_padding: Tensor | None
    ) -> Tensor:
        """As `decode`, from the result of `embed` [batch, n, d_model] and a bool padding [batch, n]
        or None."""
        return self.decoder(memory, frame_padding, embedded, token_padding)

    def decode(self, memory: Tensor, frame_padding: Tensor | None, tokens: Tensor) -> Tensor:
        """Memory [batch, frames, d_model] and tokens [batch, n] -> logits [batch, n,
        vocabulary]."""
        return self.decode_embedded(memory, frame_padding, self.embed(tokens), tokens == PAD)

    def forward(self, frames: Tensor, frame_padding: Tensor | None, tokens: Tensor) -> Tensor:
        """Frames [batch, frames, frame_dim] and tokens [batch, n] -> next-word logits [batch, n,
        vocabulary].

        `frame_padding` is bool [batch, frames], True where padded, or None. Tokens are int64, start
        with BOS and are padded at the end with 0.
        """
        return self.decode(self.project(frames), frame_padding, tokens)
