"""A trained captioner at work on one split of a corpus: losses, captions, Before-After losses. Files in, tables out."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from aacstudy.corpus import Corpus
from aacstudy.corpus.perturb.controls import majority, trigram_losses
from aacstudy.corpus.perturb.items import other_clips, perturbations, scene_pairs
from aacstudy.models import frames as frame_files
from aacstudy.models.captioner import Captioner
from aacstudy.models.checkpoint import load_captioner
from aacstudy.models.decoding import beam_search, forbidden_repeats
from aacstudy.options import DecodingOptions
from aacstudy.scoring.engine import Engine, nll_pairs
from aacstudy.scoring.store import write_band
from aacstudy.training.captioning import pad_frames


def _load(corpus: Path, frames: Path, captioner: Path, split: str, device: torch.device):
    network, vocabulary, _ = load_captioner(captioner)
    part = Corpus.load(corpus).split(split)
    by_clip = frame_files.load(frames)
    return part, [by_clip[clip] for clip in part.clips["clip"]], network.to(device), vocabulary


def score_band(
    corpus: Path,
    frames: Path,
    captioner: Path,
    result: Path,
    split: str,
    band: int,
    of: int,
    device: torch.device,
    dtype: str = "float32",
    memory: str = "2GB",
    label_smoothing: float = 0.0,
) -> None:
    """Score one band of a split's audios on all of its captions and write it to ``result`` (see scoring/store.py).

    The audios are cut into ``of`` runs of nearly equal length; ``band`` counts from 0.
    """
    part, clips, network, vocabulary = _load(corpus, frames, captioner, split, device)
    captions = [vocabulary.encode(text) for text in part.captions["text"]]
    engine = Engine(network, captions, dtype, memory, label_smoothing)
    rows = np.array_split(np.arange(len(clips)), of)[band]
    nll = engine.nll([clips[row] for row in rows], lambda audios: tqdm(audios, desc="scoring", unit="audio"))
    write_band(result, nll, engine.tokens)


def caption_split(
    corpus: Path, frames: Path, captioner: Path, split: str, options: DecodingOptions, device: torch.device
) -> pd.DataFrame:
    """Captions by beam search: ``clip``, ``rank`` (1 is the choice), ``caption``, ``score`` (mean log-probability)."""
    part, clips, network, vocabulary = _load(corpus, frames, captioner, split, device)
    free = load_captioner(captioner)[2].get("may_repeat") if options.forbid_repeats == "content" else None
    forbidden = forbidden_repeats(list(vocabulary.words), options.forbid_repeats, free).to(device)
    rows = []
    for i in tqdm(range(0, len(clips), 64), desc="captioning", unit="batch"):
        padded, padding = pad_frames(clips[i : i + 64])
        found = beam_search(
            network, padded.to(device), _to(padding, device), options, forbidden, vocabulary.bos
        )
        for clip, hypotheses in zip(part.clips["clip"][i : i + 64], found):
            for rank, hypothesis in enumerate(hypotheses, start=1):
                text = vocabulary.decode(hypothesis.tokens)
                rows.append({"clip": clip, "rank": rank, "caption": text, "score": hypothesis.score})
    return pd.DataFrame(rows)


def score_before_after(
    corpus: Path,
    frames: Path,
    captioner: Path,
    training: Path,
    split: str,
    n_others: int,
    permutations: int,
    device: torch.device,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Perturbed captions of a split with the losses (nats per token) of the true text and of the false one.

    Columns beside the item's (see perturb/items.py): ``own_text``, ``own_swap`` on its own audio; ``other_text``,
    ``other_swap`` the mean over other clips' audio (the blind control: same captioner, nothing to hear); ``shuffled_text``,
    ``shuffled_swap`` the mean over drawn orders of the own frames; ``null_text``, ``null_swap`` on the mean frame of
    the split. Where ``training``, the corpus that the captioner learnt from, has a training split: ``ngram_text``,
    ``ngram_swap`` of a trigram model of its captions, and ``majority``, the share right of a rule of one bit. The
    second table counts the captions that gave no item, by reason.
    """
    part, clips, network, vocabulary = _load(corpus, frames, captioner, split, device)
    table, left_out = perturbations(part.captions)
    if table.empty:
        raise ValueError(f"split {split!r} has no caption of two words or more")
    rows = {clip: row for row, clip in enumerate(part.clips["clip"])}
    own = np.array([rows[clip] for clip in table["clip"]])
    listened = _listened(own, len(clips), n_others, permutations)
    heard = clips + _permuted(clips, permutations)
    learnt = Corpus.load(training)
    learnt = learnt.split("train").captions if "train" in set(learnt.clips["split"]) else learnt.captions[:0]
    for side in ("text", "swap"):
        captions = [vocabulary.encode(text) for text in table[side]]
        loss = _pairs(network, heard, captions, listened)  # [items, 1 + others + permutations]
        table[f"own_{side}"] = loss[:, 0]
        table[f"other_{side}"] = loss[:, 1:-permutations].mean(axis=1)
        table[f"shuffled_{side}"] = loss[:, -permutations:].mean(axis=1)
        table[f"null_{side}"] = _null(network, clips, captions)
        if len(learnt):
            table[f"ngram_{side}"] = trigram_losses(list(learnt["text"]), list(table[side]))
    if len(learnt):
        table["majority"] = majority(table, perturbations(learnt)[0], list(learnt["text"]))
    return table, left_out


def score_pairs(
    corpus: Path, frames: Path, captioner: Path, split: str, permutations: int, device: torch.device
) -> pd.DataFrame:
    """Pairs of captions and clips of the same two sounds (see perturb/items.py) with the losses of all four cells.

    ``own_aa``: caption a on clip a, in nats per token; ``own_ab``: caption a on clip b; ``own_ba``, ``own_bb``.
    ``shuffled_aa`` … are the means over drawn orders of the clips' frames.
    """
    part, clips, network, vocabulary = _load(corpus, frames, captioner, split, device)
    table = scene_pairs(part.captions)
    rows = {clip: row for row, clip in enumerate(part.clips["clip"])}
    heard = clips + _permuted(clips, permutations)
    for text in ("a", "b"):
        captions = [vocabulary.encode(caption) for caption in table[f"text_{text}"]]
        for clip in ("a", "b"):
            on = np.array([rows[name] for name in table[f"clip_{clip}"]])
            loss = _pairs(network, heard, captions, _listened(on, len(clips), 0, permutations))
            table[f"own_{text}{clip}"] = loss[:, 0]
            table[f"shuffled_{text}{clip}"] = loss[:, 1:].mean(axis=1)
    return table


def _listened(own: np.ndarray, n_clips: int, n_others: int, permutations: int) -> np.ndarray:
    """Which audio each item is scored on [items, 1 + others + permutations]: its own, others, its own in drawn orders."""
    drawn = own[:, None] + n_clips * np.arange(1, permutations + 1)
    others = other_clips(own, n_clips, n_others, seed=0)
    return np.concatenate([own[:, None], others, drawn], axis=1)


def _permuted(clips: list[Tensor], permutations: int) -> list[Tensor]:
    """Every clip with its frames in a drawn order, then every clip in another, and so on."""
    generator = torch.Generator().manual_seed(0)
    return [
        clip[torch.randperm(len(clip), generator=generator)] for _ in range(permutations) for clip in clips
    ]


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
    silent = mean.expand(int(np.median([len(clip) for clip in clips])), -1)  # the mean frame at every time
    sums = nll_pairs(
        network, [silent], captions, np.zeros(len(captions), dtype=int), np.arange(len(captions))
    )
    return sums / np.array([len(ids) - 1 for ids in captions])


def _to(tensor: Tensor | None, device: torch.device) -> Tensor | None:
    return None if tensor is None else tensor.to(device)
