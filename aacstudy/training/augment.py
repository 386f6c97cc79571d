"""Training captioners on changed copies: mixup, stripes of frames that are silenced, frames out of order.

Random numbers come from a CPU generator, whatever the device of the tensors: a seed draws the same everywhere.
"""

import numpy as np
import torch
from torch import Tensor


def mixup_weight(alpha: float, generator: torch.Generator) -> float:
    """Weight of a batch's own examples in [0.5, 1]: max(l, 1 - l) with l from Beta(alpha, alpha).

    Raises ValueError unless alpha is above 0. Source: arXiv 1710.09412; the maximum is that of arXiv 2309.00454.
    """
    if alpha <= 0:
        raise ValueError(f"alpha must be above 0, got {alpha}")
    # torch's Beta takes no generator
    drawn = np.random.default_rng(int(torch.randint(2**62, (), generator=generator))).beta(alpha, alpha)
    return max(drawn, 1.0 - drawn)


def partners(batch: int, generator: torch.Generator) -> Tensor:
    """For each of ``batch`` examples another one to be mixed with, int64 [batch]; each is partner once.

    A batch of one has only itself, and mixing changes nothing.
    """
    circle = torch.randperm(batch, generator=generator)
    result = torch.empty(batch, dtype=torch.int64)
    result[circle] = circle.roll(1)
    return result


def mix(values: Tensor, partner: Tensor, weight: float) -> Tensor:
    """weight * values + (1 - weight) * values[partner], for values [batch, ...]."""
    return weight * values + (1.0 - weight) * values[partner.to(values.device)]


def mix_padding(padding: Tensor | None, partner: Tensor) -> Tensor | None:
    """Padding of mixed clips, bool [batch, time] or None: a frame is padding where both clips have ended."""
    return None if padding is None else padding & padding[partner.to(padding.device)]


def _stripes(size: int, lengths: Tensor, stripes: int, share: float, generator: torch.Generator) -> Tensor:
    """Where stripes lie, bool [batch, size]: whole ones inside the first ``lengths`` [batch] of an axis."""
    shape = (len(lengths), stripes)
    longest = (lengths.double() * share).long()[:, None]  # [batch, 1]
    width = (torch.rand(shape, generator=generator) * (longest + 1)).long()
    start = (torch.rand(shape, generator=generator) * (lengths[:, None] - width + 1)).long()
    place = torch.arange(size)[None, None]  # [1, 1, size]
    inside = (place >= start[..., None]) & (place < (start + width)[..., None])  # [batch, stripes, size]
    return inside.any(dim=1)


def mask_stripes(
    frames: Tensor, padding: Tensor | None, stripes: int, share: float, generator: torch.Generator
) -> Tensor:
    """SpecAugment on frame embeddings [batch, time, dim]: zeros in stripes of frames and of dimensions.

    Each clip has ``stripes`` of its own on either axis. A stripe's width is uniform from 0 to ``share`` of the axis,
    of time that of the clip without its padding (bool [batch, time], True at the end, or None); it lies inside of it.
    Source: arXiv 1904.08779; widths as in arXiv 2309.00454.
    """
    batch, time, dim = frames.shape
    lengths = torch.full((batch,), time) if padding is None else (~padding).sum(dim=1).cpu()
    times = _stripes(time, lengths, stripes, share, generator).to(frames.device)
    dims = _stripes(dim, torch.full((batch,), dim), stripes, share, generator).to(frames.device)
    return frames.masked_fill(times[:, :, None] | dims[:, None, :], 0.0)


def shuffle_time(frames: Tensor, generator: torch.Generator) -> Tensor:
    """The same frames [time, dim] in random order."""
    return frames[torch.randperm(len(frames), generator=generator).to(frames.device)]
