"""Losses beside the scored matrix: what online normalisations are fitted on and parameters are chosen on.

Files in, one file out (``pools.py`` reads it). The bank is a sample of clips and of captions of another split, scored with the pool's captions
and clips; the tuning pool is a third split with banks of its own. Priors are what captions cost where nothing is heard.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from aacstudy.corpus import Corpus
from aacstudy.corpus.ngram import NGram
from aacstudy.corpus.text import BOS, Vocabulary
from aacstudy.models import frames as frame_files
from aacstudy.models.checkpoint import load_captioner, load_encoder
from aacstudy.options import RetrievalOptions
from aacstudy.scoring.engine import Engine

NULLS = ("silence", "noise", "mean_frame")
_SEED = 0  # of the sample and of the noise: the same for every captioner, so that they stay comparable


@dataclass(frozen=True)
class Source:
    """Where clips come from: the folder of a corpus and the file of its frames."""

    corpus: Path
    frames: Path

    def part(
        self, split: str, rng: np.random.Generator | None = None, clips: int = 0
    ) -> tuple[Corpus, list[Tensor]]:
        """A split, or so many clips of it drawn by ``rng``, and the frames [time, dim] of its clips."""
        part = Corpus.load(self.corpus).split(split)
        if clips:
            kept = _sample(rng, len(part.clips), clips)
            part = replace(part, clips=part.clips.iloc[kept]).split(split)
        by_clip = frame_files.load(self.frames)
        return part, [by_clip[clip] for clip in part.clips["clip"]]


def score(
    scored: Source,
    trained: Source,
    encoder: Path,
    captioner: Path,
    split: str,
    options: RetrievalOptions,
    result: Path,
    device: torch.device,
    dtype: str = "float32",
    memory: str = "2GB",
    label_smoothing: float = 0.0,
) -> None:
    """Score what normalisations may use and write it to ``result``, an npz file.

    ``scored`` is the corpus of the loss matrix with its ``split``; ``trained`` the corpus that the captioner was
    trained on, whose splits give the bank and the tuning pool; where it lacks them, only silence and noise are scored.
    Sums of −log p in nats, as in the loss matrix. ValueError where the bank or the tuning pool is the scored split.
    """
    if scored.corpus == trained.corpus and split in (options.bank, options.tune_on):
        raise ValueError(
            f"retrieval.bank is {options.bank} and tune_on {options.tune_on}: the scored split, {split}, cannot be either"
        )
    network, vocabulary, _ = load_captioner(captioner)
    engine = Engine(network.to(device), [], dtype, memory, label_smoothing)

    def ids(part: Corpus) -> list[list[int]]:
        return [vocabulary.encode(text) for text in part.captions["text"]]

    def nll(frames: list[Tensor], *captions: list[list[int]]) -> list[np.ndarray]:
        engine.set_captions([one for part in captions for one in part])
        found = engine.nll(frames, lambda audios: tqdm(audios, desc="scoring the bank", unit="audio"))
        return np.split(found, np.cumsum([len(part) for part in captions])[:-1], axis=1)

    pool, pool_clips = scored.part(split)
    pool_ids, seconds = ids(pool), pool.clips["seconds"].median()
    splits = {"train", options.bank, options.tune_on}
    if not splits <= set(
        Corpus.load(trained.corpus).clips["split"]
    ):  # a published captioner's corpus is not here
        silent = null_frames(encoder, [], seconds, device)
        np.savez(result, pool_null=nll(silent, pool_ids)[0], nulls=np.array(NULLS[: len(silent)]))
        return
    rng = np.random.default_rng(_SEED)
    tune, tune_clips = trained.part(options.tune_on, rng, options.tune_clips)
    bank, bank_clips = trained.part(options.bank)
    clips = _sample(rng, len(bank_clips), options.bank_clips)
    texts = _sample(rng, len(bank.captions), options.bank_captions)
    heard = [bank_clips[i] for i in clips]
    tune_ids, bank_ids = ids(tune), ids(replace(bank, captions=bank.captions.iloc[texts]))
    audio_pool, audio_tune = nll([*heard, *null_frames(encoder, heard, seconds, device)], pool_ids, tune_ids)
    within_tune, caption_tune = nll(tune_clips, tune_ids, bank_ids)
    (caption_pool,) = nll(pool_clips, bank_ids)
    pool_blind, tune_blind = (
        np.array([sum(one) for one in trigram(trained.corpus, vocabulary, captions)])
        for captions in (pool_ids, tune_ids)
    )
    arrays = {
        "pool_audio_bank": audio_pool[: len(heard)],
        "tune_audio_bank": audio_tune[: len(heard)],
        "pool_null": audio_pool[len(heard) :],
        "tune_null": audio_tune[len(heard) :],
        "pool_caption_bank": caption_pool,
        "tune_caption_bank": caption_tune,
        "tune_nll": within_tune,
        "tune_tokens": _tokens(tune_ids),
        "tune_owners": np.array(tune.owners()),
        "bank_tokens": _tokens(bank_ids),
        "pool_trigram": pool_blind,
        "tune_trigram": tune_blind,
        "nulls": np.array(NULLS),
        "bank_clips": np.array(bank.clips["clip"].iloc[clips], dtype=str),
        "tune_clips": np.array(tune.clips["clip"], dtype=str),
    }
    np.savez(result, **arrays)


def null_frames(encoder: Path, heard: list[Tensor], seconds: float, device: torch.device) -> list[Tensor]:
    """Frames [time, dim] in which nothing is heard, in the order of ``NULLS``.

    Digital silence and white noise (RMS 0.1 of full scale) of the given duration through the encoder; and the mean of
    all ``heard`` frames, repeated for as long as a middling clip lasts; left out where none are given.
    """
    network, _ = load_encoder(encoder)
    network = network.to(device)
    samples = max(network.minimum_samples, round(seconds * network.frontend.sample_rate))
    noise = 0.1 * np.random.default_rng(_SEED).standard_normal(samples)
    waves = torch.tensor(np.stack([np.zeros(samples), noise]), dtype=torch.float32, device=device)
    with torch.inference_mode():
        silence, hiss = (network.frames(wave[None])[0].cpu() for wave in waves)
    if not heard:
        return [silence, hiss]
    mean = torch.cat(heard).mean(dim=0)
    return [silence, hiss, mean.expand(int(np.median([len(clip) for clip in heard])), -1)]


def trigram(corpus: Path, vocabulary: Vocabulary, captions: Iterable[list[int]]) -> list[list[float]]:
    """Each caption's losses per token under the trigram model of a corpus' training captions (of all, without any)."""
    texts = training_captions(Corpus.load(corpus))
    # A captioner's vocabulary may begin captions with another id.
    model = NGram(([BOS, *vocabulary.encode(text)[1:]] for text in texts), len(vocabulary))
    return [model.token_nll([BOS, *ids[1:]]) for ids in captions]


def training_captions(corpus: Corpus) -> list[str]:
    """The captions of a corpus' training split; all of its captions where it has none."""
    part = corpus.split("train") if "train" in set(corpus.clips["split"]) else corpus
    return part.captions["text"].tolist()


def _sample(rng: np.random.Generator, n: int, wanted: int) -> np.ndarray:
    """Rows of a sample without repetition, ascending; all where ``wanted`` is 0 or too many."""
    drawn = rng.permutation(n)
    return np.sort(drawn[: wanted or n])


def _tokens(captions: list[list[int]]) -> np.ndarray:
    return np.array([len(ids) - 1 for ids in captions], dtype=np.int64)
