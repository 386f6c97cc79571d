"""Stage bank: losses beside the scored matrix, that online normalisations are fitted on and
parameters chosen on.

One file comes out, which ``pools.py`` reads. The bank is a sample of clips and of captions of
another split, scored with the pool's captions and clips; the tuning pool is a third split with
banks of its own. Priors are what captions cost where nothing is heard.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from aacstudy.corpus import Corpus
from aacstudy.corpus.ngram import NGram
from aacstudy.corpus.text import BOS, Vocabulary
from aacstudy.models.checkpoint import load_encoder
from aacstudy.models.device import use
from aacstudy.models.tagger import Tagger
from aacstudy.options import RetrievalOptions
from aacstudy.scoring.engine import Engine
from aacstudy.study.artifacts import Artifact
from aacstudy.study.stages import inputs
from aacstudy.study.stages.inputs import Source, sample, training_captions

NULLS = ("silence", "noise", "mean_frame")
# of the sample and of the noise: the same for every captioner, so that they stay comparable
_SEED = 0


def build(artifact: Artifact, folder: Path, cores: int) -> None:
    corpus, frames, encoder, speaker, *learnt = (one.path for one in artifact.inputs)
    numerics = dict(artifact.parameters)
    split, options = numerics.pop("split"), RetrievalOptions(**numerics.pop("retrieval"))
    device = use()
    network, vocabulary, _ = inputs.captioner(speaker, device)
    engine = Engine(network, [], **numerics)
    listener = load_encoder(encoder / "encoder.safetensors")[0].to(device)
    found = score(Source(corpus, frames), Source(*learnt), listener, engine, vocabulary, split, options)
    np.savez(folder / "bank.npz", **found)


def score(
    scored: Source,
    trained: Source,
    encoder: Tagger,
    engine: Engine,
    vocabulary: Vocabulary,
    split: str,
    options: RetrievalOptions,
) -> dict[str, np.ndarray]:
    """Score what normalisations may use: arrays of sums of −log p in nats, by name.

    ``scored`` is the corpus of the loss matrix with its ``split``; ``trained`` the corpus that the
    captioner was trained on, whose splits give the bank and the tuning pool; where it lacks them,
    only silence and noise are scored. ValueError where the bank or the tuning pool is the scored
    split.
    """
    if scored.corpus == trained.corpus and split in (options.bank, options.tune_on):
        raise ValueError(
            f"retrieval.bank is {options.bank} and tune_on {options.tune_on}: the scored split, {split}, "
            "cannot be either"
        )

    def ids(part: Corpus) -> list[list[int]]:
        return [vocabulary.encode(text) for text in part.captions["text"]]

    def nll(frames: list[Tensor], *captions: list[list[int]]) -> list[np.ndarray]:
        engine.set_captions([one for part in captions for one in part])
        found = engine.nll(frames, lambda audios: tqdm(audios, desc="scoring the bank", unit="audio"))
        return np.split(found, np.cumsum([len(part) for part in captions])[:-1], axis=1)

    pool, pool_clips = scored.part(split)
    pool_ids, seconds = ids(pool), pool.clips["seconds"].median()
    splits = {"train", options.bank, options.tune_on}
    # as where the captioner is published
    if not splits <= set(Corpus.load(trained.corpus).clips["split"]):
        silent = null_frames(encoder, [], seconds)
        return {"pool_null": nll(silent, pool_ids)[0], "nulls": np.array(NULLS[: len(silent)])}
    rng = np.random.default_rng(_SEED)
    tune, tune_clips = trained.part(options.tune_on, rng, options.tune_clips)
    bank, bank_clips = trained.part(options.bank)
    clips = sample(rng, len(bank_clips), options.bank_clips)
    texts = sample(rng, len(bank.captions), options.bank_captions)
    heard = [bank_clips[i] for i in clips]
    tune_ids, bank_ids = ids(tune), ids(replace(bank, captions=bank.captions.iloc[texts]))
    audio_pool, audio_tune = nll([*heard, *null_frames(encoder, heard, seconds)], pool_ids, tune_ids)
    within_tune, caption_tune = nll(tune_clips, tune_ids, bank_ids)
    (caption_pool,) = nll(pool_clips, bank_ids)
    pool_blind, tune_blind = (
        np.array([sum(one) for one in trigram(trained.corpus, vocabulary, captions)])
        for captions in (pool_ids, tune_ids)
    )
    return {
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


def null_frames(network: Tagger, heard: list[Tensor], seconds: float) -> list[Tensor]:
    """Frames [time, dim] in which nothing is heard, in the order of ``NULLS``.

    Digital silence and white noise (RMS 0.1 of full scale) of the given duration through the
    encoder; and the mean of all ``heard`` frames, repeated for as long as a middling clip lasts;
    left out where none are given.
    """
    device = next(network.parameters()).device
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
    """Each caption's losses per token under the trigram model of a corpus' training captions (of
    all, without any).
    """
    texts = training_captions(Corpus.load(corpus))
    # A captioner's vocabulary may begin captions with another id.
    model = NGram(([BOS, *vocabulary.encode(text)[1:]] for text in texts), len(vocabulary))
    return [model.token_nll([BOS, *ids[1:]]) for ids in captions]


def _tokens(captions: list[list[int]]) -> np.ndarray:
    return np.array([len(ids) - 1 for ids in captions], dtype=np.int64)
