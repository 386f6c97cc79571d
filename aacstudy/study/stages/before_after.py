"""Stage before_after: losses of perturbed captions beside the true ones, and of pairs of scenes,
with their controls.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from aacstudy.corpus import Corpus
from aacstudy.corpus.perturb.controls import majority, trigram_losses
from aacstudy.corpus.perturb.items import other_clips, perturbations, scene_pairs
from aacstudy.corpus.text import Vocabulary
from aacstudy.models import frames as frame_files
from aacstudy.models.captioner import Captioner
from aacstudy.models.device import use
from aacstudy.scoring.engine import nll_pairs
from aacstudy.study.artifacts import Artifact
from aacstudy.study.stages import inputs


def build(artifact: Artifact, folder: Path, cores: int) -> None:
    corpus, frames, speaker, permuted = artifact.inputs
    network, vocabulary, _ = inputs.captioner(speaker.path, use())
    source, chosen = inputs.Source(corpus.path, frames.path), artifact.parameters
    learnt_from = Corpus.load(speaker.inputs[0].path if speaker.inputs else corpus.path)
    trains = "train" in set(learnt_from.clips["split"])
    learnt = learnt_from.split("train").captions if trains else learnt_from.captions[:0]
    drawn = frame_files.load(permuted.path)

    def of(split: str) -> tuple[Corpus, list[Tensor], list[Tensor]]:
        part, clips = source.part(split)
        names = [f"{clip}#{n}" for n in range(chosen["permutations"]) for clip in part.clips["clip"]]
        return part, clips, [drawn[name] for name in names]

    table, left_out = score_items(network, vocabulary, *of(chosen["split"]), learnt, chosen["other_clips"])
    table.to_csv(folder / "before_after.csv", index=False)
    left_out.to_csv(folder / "left_out.csv", index=False)
    if chosen["pairs"]:
        score_pairs(network, vocabulary, *of("pairs")).to_csv(folder / "pairs.csv", index=False)


def score_items(
    network: Captioner,
    vocabulary: Vocabulary,
    part: Corpus,
    clips: list[Tensor],
    permuted: list[Tensor],
    learnt: pd.DataFrame,
    n_others: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Perturbed captions of a split with the losses (nats per token) of the true text and of the
    false one.

    Columns beside the item's (see perturb/items.py): ``own_text``, ``own_swap`` on its own audio;
    ``other_text``, ``other_swap`` the mean over other clips' audio (the blind control: same
    captioner, nothing to hear); ``permuted_text``, ``permuted_swap`` the mean over ``permuted``
    frames, those of every clip with its sound in a drawn order, then of every clip in another, and
    so on; ``null_text``, ``null_swap`` on the mean frame of the split. Where there are ``learnt``
    captions: ``ngram_text``, ``ngram_swap`` of a trigram model of them, and ``majority``, the share
    right of a rule of one bit. The second table counts the captions that gave no item, by reason.
    """
    table, left_out = perturbations(part.captions)
    if table.empty:
        raise ValueError("the split has no caption of two words or more")
    rows = {clip: row for row, clip in enumerate(part.clips["clip"])}
    own = np.array([rows[clip] for clip in table["clip"]])
    permutations = len(permuted) // len(clips)
    listened = _listened(own, len(clips), n_others, permutations)
    heard = clips + permuted
    texts = list(learnt["text"])
    for side in ("text", "swap"):
        captions = [vocabulary.encode(text) for text in table[side]]
        loss = _pairs(network, heard, captions, listened)  # [items, 1 + others + permutations]
        table[f"own_{side}"] = loss[:, 0]
        table[f"other_{side}"] = loss[:, 1:-permutations].mean(axis=1)
        table[f"permuted_{side}"] = loss[:, -permutations:].mean(axis=1)
        table[f"null_{side}"] = _null(network, clips, captions)
        if texts:
            table[f"ngram_{side}"] = trigram_losses(texts, list(table[side]))
    if texts:
        table["majority"] = majority(table, perturbations(learnt)[0], texts)
    return table, left_out


def score_pairs(
    network: Captioner, vocabulary: Vocabulary, part: Corpus, clips: list[Tensor], permuted: list[Tensor]
) -> pd.DataFrame:
    """Pairs of captions and clips of the same two sounds (see perturb/items.py) with the losses of
    all four cells.

    ``own_aa``: caption a on clip a, in nats per token; ``own_ab``: caption a on clip b; ``own_ba``,
    ``own_bb``. ``permuted_aa`` … are the means over the clips' ``permuted`` frames, as in
    ``score_items``.
    """
    table = scene_pairs(part.captions)
    rows = {clip: row for row, clip in enumerate(part.clips["clip"])}
    heard, permutations = clips + permuted, len(permuted) // len(clips)
    for text in ("a", "b"):
        captions = [vocabulary.encode(caption) for caption in table[f"text_{text}"]]
        for clip in ("a", "b"):
            on = np.array([rows[name] for name in table[f"clip_{clip}"]])
            loss = _pairs(network, heard, captions, _listened(on, len(clips), 0, permutations))
            table[f"own_{text}{clip}"] = loss[:, 0]
            table[f"permuted_{text}{clip}"] = loss[:, 1:].mean(axis=1)
    return table


def _listened(own: np.ndarray, n_clips: int, n_others: int, permutations: int) -> np.ndarray:
    """Which audio each item is scored on [items, 1 + others + permutations]: its own, others, its
    own in drawn orders.
    """
    drawn = own[:, None] + n_clips * np.arange(1, permutations + 1)
    others = other_clips(own, n_clips, n_others, seed=0)
    return np.concatenate([own[:, None], others, drawn], axis=1)


def _pairs(
    network: Captioner, clips: list[Tensor], captions: list[list[int]], audio: np.ndarray
) -> np.ndarray:
    """Losses per token of each caption on the clips [captions, k] that ``audio`` lists for it."""
    caption = np.broadcast_to(np.arange(len(audio))[:, None], audio.shape)
    progress = lambda audios: tqdm(audios, desc="before/after", unit="audio")  # noqa: E731
    sums = nll_pairs(network, clips, captions, audio.ravel(), caption.ravel(), progress).reshape(audio.shape)
    return sums / np.array([len(ids) - 1 for ids in captions])[:, None]


def _null(network: Captioner, clips: list[Tensor], captions: list[list[int]]) -> np.ndarray:
    mean = torch.cat(clips).mean(dim=0)
    # the mean frame at every time
    silent = mean.expand(int(np.median([len(clip) for clip in clips])), -1)
    sums = nll_pairs(
        network, [silent], captions, np.zeros(len(captions), dtype=int), np.arange(len(captions))
    )
    return sums / np.array([len(ids) - 1 for ids in captions])
