"""The dual encoder learns which caption is of which clip, on the captioner's frames and splits."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from aacstudy.corpus import Corpus
from aacstudy.corpus.text import Vocabulary
from aacstudy.models.dual import DualEncoder
from aacstudy.models.frames import pad_frames
from aacstudy.options import PeerOptions
from aacstudy.training.loop import adamw, run_epochs


def contrastive_loss(audio: Tensor, text: Tensor, owners: Tensor, scale: Tensor) -> Tensor:
    """Symmetric cross-entropy of a batch: which clip a caption is of, which captions a clip has.

    audio [clips, width] and text [captions, width]: unit vectors; owners [captions]: rows of clips,
    each at least once. All captions of the batch compete for a clip, which needs one of its own.
    Source: InfoNCE as in CLIP, arXiv 2103.00020, figure 3; several own ones as in arXiv 1912.06430.
    """
    logits = scale * audio @ text.T  # [clips, captions]
    own = owners == torch.arange(len(audio), device=owners.device)[:, None]
    any_own = logits.log_softmax(dim=1).masked_fill(~own, -torch.inf).logsumexp(dim=1)  # [clips]
    return (F.cross_entropy(logits.T, owners) - any_own.mean()) / 2


def train_dual(
    frames_by_clip: Mapping[str, Tensor], corpus: Corpus, options: PeerOptions, seed: int, folder: Path
) -> tuple[DualEncoder, pd.DataFrame]:
    """Train on the training split; the best epoch on the validation split remains.

    frames_by_clip: frames [time, dim] of every clip of both splits. The score of an epoch is the
    mean reciprocal rank of the first caption or clip that fits, averaged over both directions.
    ``folder`` keeps what a killed run resumes from.
    """
    training, validation = corpus.split("train"), corpus.split("validation")
    clips, heard = ([frames_by_clip[name] for name in part.clips["clip"]] for part in (training, validation))
    torch.manual_seed(seed)
    every = torch.cat(clips)
    model = DualEncoder(
        Vocabulary.fit(training.captions["text"]), every.mean(dim=0), every.std(dim=0) + 1e-6, options
    )
    bags = model.bags(training.captions["text"].tolist())
    by_clip: list[list[int]] = [[] for _ in clips]
    for caption, owner in enumerate(training.owners()):
        by_clip[owner].append(caption)
    batches = math.ceil(len(clips) / options.batch)
    optimiser = adamw(model, options.learning_rate, options.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, options.learning_rate, total_steps=max(10, options.epochs * batches), pct_start=0.2
    )
    owners = np.array(validation.owners())

    def train_epoch(generator: torch.Generator) -> dict[str, float]:
        order, total = torch.randperm(len(clips), generator=generator), 0.0
        for rows in order.tensor_split(batches):
            captions = [by_clip[row] for row in rows.tolist()]
            own = torch.tensor([place for place, some in enumerate(captions) for _ in some])
            chosen = bags[[caption for some in captions for caption in some]]
            words = torch.rand(chosen.shape, generator=generator) >= options.word_dropout
            share = 1 - options.frame_dropout * float(torch.rand(1, generator=generator))
            heard_now = [_some(clips[row], share, generator) for row in rows.tolist()]
            audio, text = model.audio(*pad_frames(heard_now)), model.text(chosen * words)
            loss = contrastive_loss(audio, text, own, model.scale)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += float(loss.detach()) * len(rows)
        return {"loss": total / len(clips), "scale": float(model.scale.detach())}

    def validate(epoch: int) -> dict[str, float]:
        found = torch.from_numpy(similarities(model, heard, validation.captions["text"].tolist()))
        fits = torch.from_numpy(np.arange(len(heard))[:, None] == owners)
        ranks = _reciprocal_rank(found, fits), _reciprocal_rank(found.T, fits.T)
        return {"validation_a2t": ranks[0], "validation_t2a": ranks[1], "validation": sum(ranks) / 2}

    history = run_epochs(
        model, optimiser, schedule, options.epochs, seed, train_epoch, validate, "validation", folder,
        f"dual encoder, seed {seed}",
    )  # fmt: skip
    return model, history


@torch.inference_mode()
def similarities(
    model: DualEncoder, frames: Sequence[Tensor], texts: Sequence[str], batch: int = 256
) -> np.ndarray:
    """Cosines of clips' frames [time, dim] and texts: float32 [audios, captions]; higher is more
    alike.
    """
    model.eval()
    audio = [model.audio(*pad_frames(frames[i : i + batch])) for i in range(0, len(frames), batch)]
    text = [model.text(model.bags(texts[i : i + batch])) for i in range(0, len(texts), batch)]
    return (torch.cat(audio) @ torch.cat(text).T).numpy()


def _some(clip: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """A drawn share of a clip's frames [time, dim], at least one; their order is nothing here."""
    count = max(1, round(share * len(clip)))
    return clip[torch.randperm(len(clip), generator=generator)[:count]]


def _reciprocal_rank(similar: Tensor, fits: Tensor) -> float:
    """Mean of 1 / rank of each query's best item that fits: both [queries, items]."""
    best = similar.masked_fill(~fits, -torch.inf).amax(dim=1, keepdim=True)
    return float((1 / (1 + (similar > best).sum(dim=1))).float().mean())
