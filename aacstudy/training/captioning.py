"""The captioner learns to write captions from frozen frames: cross-entropy, teacher forcing."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from aacstudy import frames as frame_files
from aacstudy.corpus import Corpus
from aacstudy.corpus.text import PAD, Vocabulary, pad
from aacstudy.models.captioner import Captioner, token_nll
from aacstudy.models.checkpoint import save_captioner
from aacstudy.options import DecoderOptions, TrainingOptions
from aacstudy.training.loop import adamw, run_epochs


def pad_frames(frames: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """Frames of clips [time, dim] each -> ([clips, longest, dim], bool padding [clips, longest], None if all are equal)."""
    lengths = torch.tensor([len(one) for one in frames])
    padded = torch.nn.utils.rnn.pad_sequence(list(frames), batch_first=True)
    if (lengths == lengths[0]).all():
        return padded, None
    return padded, torch.arange(padded.shape[1])[None, :] >= lengths[:, None]


def train(
    captioner: Captioner,
    training: tuple[Sequence[Tensor], Sequence[int], Sequence[list[int]]],
    validation: tuple[Sequence[Tensor], Sequence[int], Sequence[list[int]]],
    options: TrainingOptions,
    seed: int,
    folder: Path,
) -> pd.DataFrame:
    """Train in place; the epoch with the lowest validation loss remains. Returns the history table.

    training and validation: (frames [time, dim] per clip, owner clip of each caption, token ids of each caption with
    BOS and EOS). Selection is by mean cross-entropy per token without label smoothing.
    """
    frames, owners, captions = training
    by_clip: list[list[int]] = [[] for _ in frames]
    for caption, owner in enumerate(owners):
        by_clip[owner].append(caption)
    device = next(captioner.parameters()).device
    drawn = options.captions_per_epoch
    pairs = sum(min(drawn, len(one)) if drawn else len(one) for one in by_clip)
    batches = math.ceil(pairs / options.batch)
    optimiser = adamw(captioner, options.learning_rate, options.weight_decay)
    schedule = _schedule(optimiser, options, batches)

    def train_epoch(generator: torch.Generator) -> dict[str, float]:
        chosen = []
        for one in by_clip:
            order = torch.randperm(len(one), generator=generator).tolist()
            chosen += [one[i] for i in (order[:drawn] if drawn else order)]
        shuffled = [chosen[i] for i in torch.randperm(len(chosen), generator=generator).tolist()]
        total, tokens = torch.zeros(()), 0
        for i in tqdm(range(0, pairs, options.batch), desc="captioning batches", leave=False):
            rows = shuffled[i : i + options.batch]
            clips, padding = pad_frames([frames[owners[row]] for row in rows])
            ids = torch.tensor(pad([captions[row] for row in rows])).to(device)
            logits = captioner(clips.to(device), None if padding is None else padding.to(device), ids[:, :-1])
            loss = F.cross_entropy(
                logits.flatten(0, 1),
                ids[:, 1:].flatten(),
                ignore_index=PAD,
                label_smoothing=options.label_smoothing,
            )
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(captioner.parameters(), options.clip_norm)
            optimiser.step()
            if options.schedule == "one_cycle":
                schedule.step()
            count = int((ids[:, 1:] != PAD).sum())
            total, tokens = total + loss.detach().cpu() * count, tokens + count
        rate = schedule.get_last_lr()[0]
        if options.schedule == "cosine":
            schedule.step()
        return {"loss": float(total / tokens), "learning_rate": rate}

    def validate() -> dict[str, float]:
        return {"validation_loss": mean_loss(captioner, *validation, batch=options.batch)}

    return run_epochs(
        captioner,
        optimiser,
        schedule,
        options.epochs,
        seed,
        train_epoch,
        validate,
        "-validation_loss",
        folder,
        f"captioner, seed {seed}",
    )


def mean_loss(captioner: Captioner, frames, owners, captions, batch: int = 256) -> float:
    """Mean cross-entropy per token (natural log) of matched pairs; no label smoothing."""
    device = next(captioner.parameters()).device
    order = sorted(range(len(captions)), key=lambda row: len(captions[row]))
    total, tokens = 0.0, 0
    for i in range(0, len(order), batch):
        rows = order[i : i + batch]
        clips, padding = pad_frames([frames[owners[row]] for row in rows])
        ids = torch.tensor(pad([captions[row] for row in rows])).to(device)
        logits = captioner(clips.to(device), None if padding is None else padding.to(device), ids[:, :-1])
        total += float(token_nll(logits, ids[:, 1:]).sum())
        tokens += int((ids[:, 1:] != PAD).sum())
    return total / tokens


def _schedule(optimiser, options: TrainingOptions, batches: int):
    if options.schedule == "one_cycle":
        steps = options.epochs * batches
        # torch divides by zero where warming up takes exactly one step
        warm_up = 0.2 if steps != 5 else 0.25
        return torch.optim.lr_scheduler.OneCycleLR(
            optimiser, options.learning_rate, total_steps=steps, pct_start=warm_up
        )
    # lr = (1 + cos(k pi / K)) / 2 * lr0 per epoch, as published
    return torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda epoch: 0.5 * (1.0 + math.cos(math.pi * epoch / options.epochs))
    )


def train_on_corpus(corpus: Path, frames: Path, parameters: dict, folder: Path, device: torch.device) -> None:
    """Train a captioner on a corpus' training split; write captioner and history into ``folder``."""
    corpus, by_clip = Corpus.load(corpus), frame_files.load(frames)
    training, validation = corpus.split("train"), corpus.split("validation")
    vocabulary = Vocabulary.fit(training.captions["text"])
    options, seed = TrainingOptions(**parameters["training"]), parameters["seed"]
    decoder = DecoderOptions(**parameters["decoder"])
    torch.manual_seed(seed)
    width = next(iter(by_clip.values())).shape[1]
    captioner = Captioner(width, len(vocabulary), decoder).to(device)
    sets = [
        (
            [by_clip[clip] for clip in part.clips["clip"]],
            part.owners(),
            [vocabulary.encode(text) for text in part.captions["text"]],
        )
        for part in (training, validation)
    ]
    history = train(captioner, *sets, options, seed, folder)
    save_captioner(folder / "captioner.safetensors", captioner, list(vocabulary.words), parameters)
    history.to_csv(folder / "history.csv", index=False)
    about = {
        "parameters": sum(p.numel() for p in captioner.parameters()),
        "words": len(vocabulary),
        "width": width,
    }
    (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")
