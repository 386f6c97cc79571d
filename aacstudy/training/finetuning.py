"""Captioner and encoder learn together: what freezing the encoder costs or saves.

The published encoder is frozen. Here its weights follow the captions' loss too, with a learning rate of their own; its
batch-norm statistics stay, as a batch of clips is small. Clips of a batch are encoded once for all their captions.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from aacstudy.corpus import Corpus
from aacstudy.corpus.audio import read
from aacstudy.corpus.text import Vocabulary, pad
from aacstudy.models.captioner import Captioner
from aacstudy.models.checkpoint import load_encoder, save_captioner, save_encoder
from aacstudy.models.tagger import Tagger
from aacstudy.options import DecoderOptions, TrainingOptions
from aacstudy.training.captioning import batch_loss, learning_rates, mean_loss, pad_frames, write_about
from aacstudy.training.loop import adamw, run_epochs
from aacstudy.training.subset import training_part


def encode(encoder: Tagger, paths: Sequence[Path]) -> list[Tensor]:
    """Frames [time, dim] of audio files, with gradients where they are on; files of one length go together."""
    device = next(encoder.parameters()).device
    waveforms = [torch.from_numpy(read(path, encoder.frontend.sample_rate)) for path in paths]
    frames: list[Tensor] = [torch.empty(0)] * len(paths)
    for length in sorted({len(one) for one in waveforms}):
        rows = [row for row, one in enumerate(waveforms) if len(one) == length]
        batch = encoder.frames(torch.stack([waveforms[row] for row in rows]).to(device))  # [rows, time, dim]
        for row, one in zip(rows, batch):
            frames[row] = one
    return frames


def train(
    encoder: Tagger,
    captioner: Captioner,
    training: tuple[Sequence[Path], Sequence[int], Sequence[list[int]]],
    validation: tuple[Sequence[Path], Sequence[int], Sequence[list[int]]],
    options: TrainingOptions,
    seed: int,
    folder: Path,
) -> pd.DataFrame:
    """Train both in place; the epoch with the lowest validation loss remains. Returns the history table.

    training and validation: (audio file per clip, owner clip of each caption, token ids of each caption). A batch is
    of clips and holds about ``options.batch`` captions.
    """
    paths, owners, captions = training
    by_clip: list[list[int]] = [[] for _ in paths]
    for caption, owner in enumerate(owners):
        by_clip[owner].append(caption)
    drawn = options.captions_per_epoch
    each = max(min(drawn, len(one)) if drawn else len(one) for one in by_clip)
    size = max(1, options.batch // each)  # clips
    device = next(captioner.parameters()).device
    both = nn.ModuleDict({"encoder": encoder, "captioner": captioner})
    optimiser = adamw(captioner, options.learning_rate, options.weight_decay)
    for group in adamw(
        encoder, options.learning_rate * options.finetune_encoder, options.weight_decay
    ).param_groups:
        optimiser.add_param_group(group)
    schedule = learning_rates(optimiser, options, -(-len(paths) // size))

    def train_epoch(generator: torch.Generator) -> dict[str, float]:
        encoder.eval()  # neither new statistics nor drop-path
        total, tokens = torch.zeros((), device=device), 0
        order = torch.randperm(len(paths), generator=generator).tolist()
        for i in tqdm(range(0, len(order), size), desc="encoder and captioner", unit="batch", leave=False):
            clips = order[i : i + size]
            frames, padding = pad_frames(encode(encoder, [paths[clip] for clip in clips]))
            rows, of = [], []
            for place, clip in enumerate(clips):
                chosen = torch.randperm(len(by_clip[clip]), generator=generator).tolist()
                chosen = chosen[:drawn] if drawn else chosen
                rows += [by_clip[clip][one] for one in chosen]
                of += [place] * len(chosen)
            if not rows:
                continue
            ids = torch.tensor(pad([captions[row] for row in rows])).to(device)
            padding = None if padding is None else padding[of].to(device)
            loss = batch_loss(captioner, frames[of], padding, ids, options, generator)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(both.parameters(), options.clip_norm)
            optimiser.step()
            if options.schedule == "one_cycle":
                schedule.step()
            count = sum(len(captions[row]) - 1 for row in rows)
            total, tokens = total + loss.detach() * count, tokens + count
        rate = schedule.get_last_lr()[0]
        if options.schedule == "cosine":
            schedule.step()
        return {"loss": float(total / tokens), "learning_rate": rate}

    def validate(epoch: int) -> dict[str, float]:
        frames = [one for path in validation[0] for one in encode(encoder, [path])]
        return {"validation_loss": mean_loss(captioner, frames, *validation[1:])}

    name = f"encoder and captioner, seed {seed}"
    return run_epochs(
        both,
        optimiser,
        schedule,
        options.epochs,
        seed,
        train_epoch,
        validate,
        "-validation_loss",
        folder,
        name,
    )


def train_on_corpus(
    corpus: Path, encoder: Path, parameters: dict, folder: Path, device: torch.device
) -> None:
    """Train a captioner and a copy of an encoder on a corpus' training split; write both and the history into ``folder``."""
    options, seed = TrainingOptions(**parameters["training"]), parameters["seed"]
    corpus = Corpus.load(corpus)
    training, validation = training_part(corpus.split("train"), options, seed), corpus.split("validation")
    vocabulary = Vocabulary.fit(training.captions["text"])
    tagger, classes = load_encoder(encoder)
    torch.manual_seed(seed)
    captioner = Captioner(tagger.frame_dim, len(vocabulary), DecoderOptions(**parameters["decoder"])).to(
        device
    )
    sets = [
        (part.paths(), part.owners(), [vocabulary.encode(text) for text in part.captions["text"]])
        for part in (training, validation)
    ]
    history = train(tagger.to(device), captioner, *sets, options, seed, folder)
    save_encoder(folder / "encoder.safetensors", tagger, classes, parameters)
    save_captioner(folder / "captioner.safetensors", captioner, vocabulary, parameters)
    history.to_csv(folder / "history.csv", index=False)
    write_about(folder, captioner, len(vocabulary))
