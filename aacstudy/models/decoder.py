"""The transformer decoder of the captioner, on torch's own layers."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aacstudy.corpus.text import PAD
from aacstudy.options import DecoderOptions


def sinusoids(length: int, d_model: int) -> Tensor:
    """Fixed positions [length, d_model]: sine in even and cosine in odd columns, base 10000.

    Raises ValueError for an odd d_model. Source: arXiv 1706.03762, section 3.5.
    """
    if d_model % 2:
        raise ValueError(f"d_model must be even, got {d_model}")
    position = torch.arange(length, dtype=torch.float64)[:, None]  # [length, 1]
    rate = torch.exp(torch.arange(0, d_model, 2, dtype=torch.float64) * (-math.log(10000.0) / d_model))
    angle = position * rate  # [length, d_model / 2]
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1).float()  # [length, d_model]


class Decoder(nn.Module):
    """Token embeddings and positions, post-norm layers, and an untied classifier.

    No final LayerNorm: a post-norm layer ends with one. Source: arXiv 2309.00454, authors' code.
    """

    def __init__(self, vocabulary_size: int, options: DecoderOptions):
        super().__init__()
        self.options = options
        self.embedding = nn.Embedding(vocabulary_size, options.d_model, padding_idx=PAD)
        self.dropout = nn.Dropout(options.dropout)
        self.layers = nn.ModuleList(
            nn.TransformerDecoderLayer(
                options.d_model,
                options.heads,
                options.d_ff,
                options.dropout,
                activation=F.gelu,  # exact, erf
                batch_first=True,
                norm_first=False,
            )
            for _ in range(options.layers)
        )
        self.classifier = nn.Linear(options.d_model, vocabulary_size)
        # not persistent: a formula needs no place in a checkpoint
        self.register_buffer("positions", sinusoids(options.max_positions, options.d_model), persistent=False)

    def embed(self, tokens: Tensor) -> Tensor:
        """Tokens [batch, n] -> embeddings [batch, n, d_model], times sqrt(d_model), before
        positions and dropout."""
        return self.embedding(tokens) * math.sqrt(self.options.d_model)

    def forward(
        self, memory: Tensor, frame_padding: Tensor | None, embedded: Tensor, token_padding: Tensor | None
    ) -> Tensor:
        """Memory [batch, frames, d_model] and embedded tokens [batch, n, d_model] -> logits [batch,
        n, vocabulary].

        The paddings are bool, [batch, frames] and [batch, n], True where padded, or None. Position
        k sees tokens 0..k. Every clip needs a frame that is not padding, and every caption must
        start with a token.
        """
        n = embedded.shape[1]
        if n > len(self.positions):
            raise ValueError(f"{n} tokens are more than max_positions = {len(self.positions)}")
        x = self.dropout(embedded + self.positions[:n])  # [batch, n, d_model]
        # [n, n], True = not seen
        future = torch.ones(n, n, dtype=torch.bool, device=x.device).triu(1)
        for layer in self.layers:
            x = layer(
                x,
                memory,
                tgt_mask=future,
                tgt_key_padding_mask=token_padding,
                memory_key_padding_mask=frame_padding,
            )
        return self.classifier(x)  # [batch, n, vocabulary]
