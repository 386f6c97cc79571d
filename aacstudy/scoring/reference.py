"""One pair after another, as published: the oracle that faster paths must equal."""

from collections.abc import Sequence

import torch
from torch import Tensor

from aacstudy.models.captioner import Captioner, token_nll


@torch.inference_mode()
def nll_reference(
    captioner: Captioner,
    frames: Sequence[Tensor],
    captions: Sequence[list[int]],
    label_smoothing: float = 0.0,
) -> Tensor:
    """Negative log-likelihoods [audios, captions]: sums over words and EOS, nats, float32.

    frames: [time, dim] per audio. captions: token ids with BOS and EOS. Source: L(a, c) of arXiv
    2308.15090, before its division by the number of tokens; there no label smoothing.
    """
    captioner.eval()
    device = next(captioner.parameters()).device
    result = torch.zeros(len(frames), len(captions))
    for a, clip in enumerate(frames):
        for c, ids in enumerate(captions):
            tokens = torch.tensor([ids], device=device)  # [1, n]
            # [1, n - 1, vocabulary]
            logits = captioner(clip[None].to(device), None, tokens[:, :-1])
            result[a, c] = token_nll(logits, tokens[:, 1:], label_smoothing).sum().cpu()
    return result
