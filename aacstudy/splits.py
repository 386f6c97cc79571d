"""A trained captioner at work on one split of a corpus: losses, captions, Before-After losses. Files in, tables out."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from aacstudy import frames as frame_files
from aacstudy.corpus import Corpus
from aacstudy.corpus.text import Vocabulary
from aacstudy.generation import beam_search, forbidden_repeats
from aacstudy.models.captioner import Captioner
from aacstudy.models.checkpoint import load_captioner
from aacstudy.options import DecodingOptions
from aacstudy.perturb import before_after_items, other_clips
from aacstudy.priors import NGram
from aacstudy.scoring.engine import Engine, nll_pairs
from aacstudy.scoring.store import write_band
from aacstudy.training.captioning import pad_frames


def _load(corpus: Path, frames: Path, captioner: Path, split: str, device: torch.device):
    network, words, _ = load_captioner(captioner)
    part = Corpus.load(corpus).split(split)
    by_clip = frame_files.load(frames)
    return part, [by_clip[clip] for clip in part.clips["clip"]], network.to(device), Vocabulary(tuple(words))


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
) -> None:
    """Score one band of a split's audios on all of its captions and write it to ``result`` (see scoring/store.py).

    The audios are cut into ``of`` runs of nearly equal length; ``band`` counts from 0.
    """
    part, clips, network, vocabulary = _load(corpus, frames, captioner, split, device)
    captions = [vocabulary.encode(text) for text in part.captions["text"]]
    engine = Engine(network, captions, dtype, memory)
    rows = np.array_split(np.arange(len(clips)), of)[band]
    nll = engine.nll([clips[row] for row in rows], lambda audios: tqdm(audios, desc="scoring", unit="audio"))
    write_band(result, nll, engine.tokens)


def caption_split(
    corpus: Path, frames: Path, captioner: Path, split: str, options: DecodingOptions, device: torch.device
) -> pd.DataFrame:
    """Captions by beam search: ``clip``, ``rank`` (1 is the choice), ``caption``, ``score`` (mean log-probability)."""
    part, clips, network, vocabulary = _load(corpus, frames, captioner, split, device)
    forbidden = forbidden_repeats(list(vocabulary.words), options.forbid_repeats).to(device)
    rows = []
    for i in tqdm(range(0, len(clips), 64), desc="captioning", unit="batch"):
        padded, padding = pad_frames(clips[i : i + 64])
        found = beam_search(network, padded.to(device), _to(padding, device), options, forbidden)
        for clip, hypotheses in zip(part.clips["clip"][i : i + 64], found):
            for rank, hypothesis in enumerate(hypotheses, start=1):
                text = vocabulary.decode(hypothesis.tokens)
                rows.append({"clip": clip, "rank": rank, "caption": text, "score": hypothesis.score})
    return pd.DataFrame(rows)


def score_before_after(
    corpus: Path, frames: Path, captioner: Path, split: str, n_others: int, device: torch.device
) -> pd.DataFrame:
    """Before-After items with the losses (nats per token) of the caption and of its swap.

    Columns beside the item's: ``own_text``, ``own_swap`` on its own audio; ``other_text``, ``other_swap`` the mean
    over other clips' audio (the blind control: same captioner, nothing to hear); ``null_text``, ``null_swap`` on the
    mean frame of the split; ``ngram_text``, ``ngram_swap`` of a trigram model of the training captions.
    """
    part, clips, network, vocabulary = _load(corpus, frames, captioner, split, device)
    if "swap" not in part.captions or (items := before_after_items(part.captions)).empty:
        raise ValueError(f"split {split!r} has no caption with a before/after swap")
    rows = {clip: row for row, clip in enumerate(part.clips["clip"])}
    own = np.array([rows[clip] for clip in items["clip"]])
    others = other_clips(own, len(clips), n_others, seed=0)  # [items, others]
    training = Corpus.load(corpus).split("train").captions["text"]
    ngram = NGram([vocabulary.encode(text) for text in training], len(vocabulary))
    table = items.copy()
    for side in ("text", "swap"):
        captions = [vocabulary.encode(text) for text in items[side]]
        table[f"own_{side}"], table[f"other_{side}"] = _own_and_other(network, clips, captions, own, others)
        table[f"null_{side}"] = _null(network, clips, captions)
        table[f"ngram_{side}"] = [ngram.nll(ids) / (len(ids) - 1) for ids in captions]
    return table


def _own_and_other(
    network: Captioner, clips: list[Tensor], captions: list[list[int]], own: np.ndarray, others: np.ndarray
):
    tokens = np.array([len(ids) - 1 for ids in captions])
    audio = np.concatenate([own[:, None], others], axis=1)  # [items, 1 + others]
    caption = np.broadcast_to(np.arange(len(own))[:, None], audio.shape)
    progress = lambda audios: tqdm(audios, desc="before/after", unit="audio")  # noqa: E731
    sums = nll_pairs(network, clips, captions, audio.ravel(), caption.ravel(), progress).reshape(audio.shape)
    loss = sums / tokens[:, None]
    return loss[:, 0], loss[:, 1:].mean(axis=1)


def _null(network: Captioner, clips: list[Tensor], captions: list[list[int]]) -> np.ndarray:
    mean = torch.cat(clips).mean(dim=0)
    silent = mean.expand(int(np.median([len(clip) for clip in clips])), -1)  # the mean frame at every time
    sums = nll_pairs(
        network, [silent], captions, np.zeros(len(captions), dtype=int), np.arange(len(captions))
    )
    return sums / np.array([len(ids) - 1 for ids in captions])


def _to(tensor: Tensor | None, device: torch.device) -> Tensor | None:
    return None if tensor is None else tensor.to(device)
