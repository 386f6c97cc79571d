"""What the engine is measured against: the published loop, and the same loop after an afternoon of
tuning.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from aacstudy.corpus.text import PAD, pad
from aacstudy.models.captioner import Captioner, token_nll

CAPTIONS = 128  # captions in one tuned block (25, 23, 40 s at 64, 128, 512)


@torch.inference_mode()
def nll_published(
    captioner: Captioner, frames: Tensor, captions: Sequence[list[int]], longest: int
) -> np.ndarray:
    """Losses [audios, captions] of frames [audios, time, dim]: one call of the decoder per caption
    on all audios.

    As published: each caption padded to the longest of the corpus (``longest`` tokens) and repeated
    for each audio, the audios' keys projected anew for each caption, all logits kept. Source:
    retrieval script of arXiv 2308.15090.
    """
    memory = captioner.project(frames)
    sums = []
    for ids in captions:
        tokens = torch.full((len(frames), longest), PAD)
        tokens[:, : len(ids)] = torch.tensor(ids)
        logits = captioner.decode(memory, None, tokens[:, :-1])  # [audios, longest - 1, vocabulary]
        sums.append(token_nll(logits, tokens[:, 1:]).sum(dim=1))
    return torch.stack(sums, dim=1).numpy()


def _layer(layer: nn.TransformerDecoderLayer, x: Tensor, memory: Tensor, future: Tensor) -> Tensor:
    """One post-norm layer in evaluation mode: x [captions, n, d], memory [1, frames, d] shared by
    all captions.

    Padding needs no mask: it stands behind a caption's tokens, which never look ahead.
    """
    captions, n, d = x.shape
    attended, _ = layer.self_attn(x, x, x, attn_mask=future, need_weights=False)
    x = layer.norm1(x + attended)
    queries = x.reshape(1, captions * n, d)
    attended, _ = layer.multihead_attn(queries, memory, memory, need_weights=False)
    x = layer.norm2(x + attended.view(captions, n, d))
    return layer.norm3(x + layer.linear2(layer.activation(layer.linear1(x))))


def _caption_nll(captioner: Captioner, memory: Tensor, tokens: Tensor) -> Tensor:
    """Sums [captions] for one clip's memory [1, frames, d] and tokens [captions, n]."""
    decoder = captioner.decoder
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    n = inputs.shape[1]
    x = decoder.embed(inputs) + decoder.positions[:n]
    future = torch.ones(n, n, dtype=torch.bool, device=x.device).triu(1)
    for layer in decoder.layers:
        x = _layer(layer, x, memory, future)
    return token_nll(decoder.classifier(x), targets).sum(dim=1)


def _blocks(captions: Sequence[list[int]], size: int) -> list[tuple[list[int], Tensor]]:
    """Captions by length in blocks: (rows, tokens [block, longest])."""
    order = sorted(range(len(captions)), key=lambda row: len(captions[row]))
    parts = [order[i : i + size] for i in range(0, len(order), size)]
    return [(rows, torch.tensor(pad([captions[row] for row in rows]))) for rows in parts]


@torch.inference_mode()
def nll_tuned(
    captioner: Captioner,
    frames: Sequence[Tensor],
    captions: Sequence[list[int]],
    captions_per_batch: int = CAPTIONS,
) -> np.ndarray:
    """Negative log-likelihoods [audios, captions], float32: equal to ``nll_reference`` within 1e-4.

    frames: [time, dim] per audio. captions: token ids with BOS and EOS.
    """
    captioner.eval()
    device = next(captioner.parameters()).device
    blocks = [(rows, tokens.to(device)) for rows, tokens in _blocks(captions, captions_per_batch)]
    result = np.empty((len(frames), len(captions)), dtype=np.float32)
    for a in range(len(frames)):
        memory = captioner.project(frames[a][None].to(device))  # [1, frames, d]
        for rows, tokens in blocks:
            result[a, rows] = _caption_nll(captioner, memory, tokens).cpu().numpy()
    return result
