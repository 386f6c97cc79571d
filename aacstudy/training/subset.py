"""Which clips and captions of the training split a captioner is trained on."""

import numpy as np

from aacstudy.corpus import Corpus
from aacstudy.options import TrainingOptions


def training_part(part: Corpus, options: TrainingOptions, seed: int) -> Corpus:
    """The part of a training split that ``clip_share``, ``order_captions`` and ``captions_per_clip`` leave, in that order.

    Choices are drawn by the seed, and fewer are among more: a tenth of the clips is part of the half that the same seed draws.
    Raises ValueError for a share of order captions where no column ``kind`` tells them,
    and where no caption is left.
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
                f"training.order_captions is {options.order_captions:g}, but the captions have no column 'kind' "
                "that tells which describe an order; only soundscapes do: leave it at 1.0"
            )
        order = captions.index[captions["kind"] == "sequence"]
        kept = round(options.order_captions * len(order))
        captions = captions.drop(np.random.default_rng(seed).permutation(order)[kept:])
    if options.captions_per_clip:
        captions = captions.groupby("clip", sort=False).head(options.captions_per_clip)
    if captions.empty:
        raise ValueError(
            f"training.clip_share = {options.clip_share:g}, order_captions = {options.order_captions:g} and captions_per_clip = "
            f"{options.captions_per_clip} leave no caption to train on"
        )
    return Corpus(part.folder, clips.reset_index(drop=True), captions.reset_index(drop=True), part.events)
