"""Captioner and encoder learn together: what freezing the encoder costs or saves.

The published encoder is frozen. Here its weights follow the captions' loss too, with a learning
rate of their own; its batch-norm statistics stay, as a batch of clips is small. Clips of a batch
are encoded once for all their captions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from aacstudy.corpus import Corpus
from aacstudy.corpus.audio import read
from aacstudy.corpus.text import Vocabulary
from aacstudy.models.captioner import Captioner
from aacstudy.models.checkpoint import load_encoder, save_encoder
from aacstudy.models.frames import pad_frames
from aacstudy.models.tagger import Tagger
from aacstudy.options import TrainingOptions
from aacstudy.training.augment import training_part
from aacstudy.training.captioning import Batch, Pairs, draw, fit, mean_loss, new, of_each, save, targets
from aacstudy.training.loop import adamw


def encode(encoder: Tagger, paths: Sequence[Path]) -> list[Tensor]:
    """Frames [time, dim] of audio files, with gradients where on; equal lengths go together."""
    device = next(encoder.parameters()).device
    waveforms = [torch.from_numpy(read(path, encoder.frontend.sample_rate)) for path in paths]
    frames: list[Tensor] = [torch.empty(0)] * len(paths)
    for length in sorted({len(one) for one in waveforms}):
        rows = [row for row, one in enumerate(waveforms) if len(one) == length]
        # [rows, time, dim]
        batch = encoder.frames(torch.stack([waveforms[row] for row in rows]).to(device))
        for row, one in zip(rows, batch):
            frames[row] = one
    return frames


def train(
    encoder: Tagger,
    captioner: Captioner,
    training: Pairs,
    validation: Pairs,
    options: TrainingOptions,
    seed: int,
    folder: Path,
) -> pd.DataFrame:
    """Train both in place, see ``fit``; each clip is an audio file.

    A batch is of clips and holds about ``options.batch`` captions.
    """
    paths, owners, captions = training
    by_clip, most = of_each(len(paths), owners), options.captions_per_epoch
    each = max(min(most, len(one)) if most else len(one) for one in by_clip)
    size = max(1, options.batch // each)  # clips
    both = nn.ModuleDict({"encoder": encoder, "captioner": captioner})
    optimiser = adamw(captioner, options.learning_rate, options.weight_decay)
    slow = options.learning_rate * options.finetune_encoder
    for group in adamw(encoder, slow, options.weight_decay).param_groups:
        optimiser.add_param_group(group)

    def batches(generator: torch.Generator) -> Iterator[Batch]:
        encoder.eval()  # neither new statistics nor drop-path
        order = torch.randperm(len(paths), generator=generator).tolist()
        for i in range(0, len(order), size):
            clips = order[i : i + size]
            frames, padding = pad_frames(encode(encoder, [paths[clip] for clip in clips]))
            chosen = [draw(by_clip[clip], most, generator) for clip in clips]
            of = [place for place, rows in enumerate(chosen) for _ in rows]
            if of:
                rows = [row for one in chosen for row in one]
                yield frames[of], None if padding is None else padding[of], rows

    def validate(epoch: int) -> dict[str, float]:
        frames = [one for path in validation[0] for one in encode(encoder, [path])]
        return {"validation_loss": mean_loss(captioner, frames, *validation[1:])}

    by_loss = replace(options, select="validation_loss")  # the one that is measured here
    steps, about = -(-len(paths) // size), (validate, by_loss, seed, folder, "encoder and captioner")
    return fit(both, captioner, optimiser, captions, batches, steps, *about)


def train_on_corpus(
    corpus: Path, encoder: Path, parameters: dict, folder: Path, device: torch.device
) -> None:
    """Train a captioner and a copy of an encoder on a training split; write both, the history."""
    options, seed = TrainingOptions(**parameters["training"]), parameters["seed"]
    corpus = Corpus.load(corpus)
    parts = training_part(corpus.split("train"), options, seed), corpus.split("validation")
    vocabulary = Vocabulary.fit(parts[0].captions["text"])
    tagger, classes = load_encoder(encoder)
    captioner = new(tagger.frame_dim, vocabulary, parameters).to(device)
    sets = [(part.paths(), *targets(part, vocabulary)) for part in parts]
    history = train(tagger.to(device), captioner, *sets, options, seed, folder)
    save_encoder(folder / "encoder.safetensors", tagger, classes, parameters)
    save(folder, captioner, vocabulary, parameters, history)
