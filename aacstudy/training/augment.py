"""What captioners are trained on: parts of a split; mixup, silenced stripes, frames out of order.

Random numbers come from a CPU generator: a seed draws the same on every device.
"""

import numpy as np
import torch
from torch import Tensor

from aacstudy.corpus import Corpus
from aacstudy.options import TrainingOptions


def mixup_weight(alpha: float, generator: torch.Generator) -> float:
    """Weight of a batch's own examples in [0.5, 1]: max(l, 1 - l) with l from Beta(alpha, alpha).

    Raises ValueError unless alpha is above 0. Source: arXiv 1710.09412; the maximum: 2309.00454.
    """
    if alpha <= 0:
        raise ValueError(f"alpha must be above 0, got {alpha}")
    # torch's Beta takes no generator
    drawn = np.random.default_rng(int(torch.randint(2**62, (), generator=generator))).beta(alpha, alpha)
    return max(drawn, 1.0 - drawn)


def partners(batch: int, generator: torch.Generator) -> Tensor:
    """For each of ``batch`` examples another one to mix with, int64 [batch]; each is partner once.

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
    """Padding of mixed clips, bool [batch, time] or None: where both clips have ended."""
    return None if padding is None else padding & padding[partner.to(padding.device)]


def _stripes(size: int, lengths: Tensor, stripes: int, share: float, generator: torch.Generator) -> Tensor:
    """Where stripes lie, bool [batch, size]: inside the first ``lengths`` [batch] of an axis."""
    shape = (len(lengths), stripes)
    below = (lengths.double() * share).round()[:, None]  # [batch, 1], halves to even as Python does
    width = (torch.rand(shape, generator=generator) * below).long()
    start = (torch.rand(shape, generator=generator) * (lengths[:, None] - width).double()).long()
    place = torch.arange(size)[None, None]  # [1, 1, size]
    # [batch, stripes, size]
    inside = (place >= start[..., None]) & (place < (start + width)[..., None])
    return inside.any(dim=1)


def mask_stripes(
    frames: Tensor, padding: Tensor | None, stripes: int, share: float, generator: torch.Generator
) -> Tensor:
    """SpecAugment on embeddings [batch, time, dim]: zeros in stripes of frames and of dimensions.

    Each clip has ``stripes`` of its own on either axis. A stripe's width is uniform among the whole
    numbers below the rounded ``share`` of the axis, of time that of the clip without its padding
    (bool [batch, time], True at the end, or None), and so is its start among those that leave room
    for one place more: the last place of an axis is never covered. Source: arXiv 1904.08779;
    widths and starts: the authors' code of 2309.00454.
    """
    batch, time, dim = frames.shape
    lengths = torch.full((batch,), time) if padding is None else (~padding).sum(dim=1).cpu()
    times = _stripes(time, lengths, stripes, share, generator).to(frames.device)
    dims = _stripes(dim, torch.full((batch,), dim), stripes, share, generator).to(frames.device)
    return frames.masked_fill(times[:, :, None] | dims[:, None, :], 0.0)


def shuffle_time(frames: Tensor, generator: torch.Generator) -> Tensor:
    """The same frames [time, dim] in random order."""
    return frames[torch.randperm(len(frames), generator=generator).to(frames.device)]


def training_part(part: Corpus, options: TrainingOptions, seed: int) -> Corpus:
    """The part of a training split that ``clip_share``, ``order_captions`` and
    ``captions_per_clip`` leave, in that order.

    Choices are drawn by the seed, and fewer are among more: a tenth of the clips is part of the
    half that the same seed draws. Raises ValueError for a share of order captions where no column
    ``kind`` tells them, and where no caption is left.
    """
    clips, captions = part.clips, part.captions
    if options.clip_share < 1:
        kept = max(1, round(options.clip_share * len(clips)))
        drawn = np.random.default_rng(seed).permutation(len(clips))[:kept]
        clips = clips.iloc[np.sort(drawn)]
        captions = captions[captions["clip"].isin(set(clips["clip"]))]
    if options.order_captions < 1:
        if "kind" not in captions:
            raise ValueError(
                f"training.order_captions is {options.order_captions:g}, but the captions have no column "
                "'kind' that tells which describe an order; only soundscapes do: leave it at 1.0"
            )
        order = captions.index[captions["kind"] == "sequence"]
        kept = round(options.order_captions * len(order))
        captions = captions.drop(np.random.default_rng(seed).permutation(order)[kept:])
    if options.captions_per_clip:
        captions = captions.groupby("clip", sort=False).head(options.captions_per_clip)
    if captions.empty:
        raise ValueError(
            f"training.clip_share = {options.clip_share:g}, order_captions = {options.order_captions:g} "
            f"and captions_per_clip = {options.captions_per_clip} leave no caption to train on"
        )
    return Corpus(part.folder, clips.reset_index(drop=True), captions.reset_index(drop=True), part.events)
