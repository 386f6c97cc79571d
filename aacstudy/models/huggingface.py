"""Encoder-decoder models of transformers as captioners: a loss matrix of another's model."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

IGNORED = -100  # transformers' mark for labels that do not count


class EncoderDecoder:
    """Scores captions with a transformers encoder-decoder model and its tokenizer.

    ``input_name`` is what the model's encoder calls its input: ``input_features`` (Whisper),
    ``input_values`` (speech encoders), ``inputs_embeds`` (BART, T5 on frames of their width). The
    tokenizer must end captions with its end-of-sequence token, as transformers'
    sequence-to-sequence tokenizers do.
    """

    def __init__(
        self, model: nn.Module, tokenizer, input_name: str = "input_features", captions_per_batch: int = 32
    ):
        self.model, self.tokenizer = model.eval(), tokenizer
        self.input_name, self.captions_per_batch = input_name, captions_per_batch

    @torch.inference_mode()
    def nll(self, frames: Sequence[Tensor], captions: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Sums [audios, captions] of −log p over each caption's tokens and end mark, and their
        counts [captions].

        frames: one encoder input per audio, without a batch axis. Each audio is encoded once,
        alone.
        """
        device = next(self.model.parameters()).device
        ids = [list(self.tokenizer(text)["input_ids"]) for text in captions]
        order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
        blocks = [
            order[i : i + self.captions_per_batch] for i in range(0, len(order), self.captions_per_batch)
        ]
        sums = np.empty((len(frames), len(captions)), dtype=np.float32)
        for a, one in enumerate(frames):
            encoded = self.model.get_encoder()(**{self.input_name: one[None].to(device)}).last_hidden_state
            for rows in blocks:
                labels = torch.nn.utils.rnn.pad_sequence(
                    [torch.tensor(ids[row]) for row in rows], batch_first=True, padding_value=IGNORED
                ).to(device)  # [block, longest]
                shared = (encoded.expand(len(rows), -1, -1),)
                logits = self.model(
                    encoder_outputs=shared, labels=labels
                ).logits  # [block, longest, vocabulary]
                losses = F.cross_entropy(
                    logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
                )
                sums[a, rows] = losses.view(labels.shape).sum(dim=1).cpu().numpy()
        return sums, np.array([len(one) for one in ids])
