"""The captioner learns to write captions from frozen frames: cross-entropy, teacher forcing.

Source of the recipe: arXiv 2308.15090 and 2309.00454, and the authors' code.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from aacstudy.corpus import Corpus
from aacstudy.corpus.text import PAD, Vocabulary, joined, pad, tokenise
from aacstudy.models import frames as frame_files
from aacstudy.models.captioner import Captioner, token_nll
from aacstudy.models.checkpoint import save_captioner
from aacstudy.models.frames import pad_frames
from aacstudy.options import DecoderOptions, DecodingOptions, TrainingOptions
from aacstudy.training import augment
from aacstudy.training.augment import training_part
from aacstudy.training.loop import adamw, run_epochs

# Of each clip its frames or audio file, the owner clip of each caption, each caption's ids with BOS
# and EOS.
Pairs = tuple[Sequence, Sequence[int], Sequence[list[int]]]
# Frames [batch, time, dim], their padding [batch, time] or None, and rows of the captions.
Batch = tuple[Tensor, Tensor | None, list[int]]


def batch_loss(
    captioner: Captioner,
    clips: Tensor,
    padding: Tensor | None,
    ids: Tensor,
    options: TrainingOptions,
    generator: torch.Generator,
) -> Tensor:
    """Smoothed cross-entropy per token of a batch, after stripes and mixup: a scalar with gradient.

    clips [batch, time, dim] with bool padding [batch, time] or None; ids [batch, n] with BOS and
    EOS. Frames and previous words are mixed, the words to be predicted are not.
    """
    inputs, targets = ids[:, :-1], ids[:, 1:]
    partner, weight = None, 1.0
    if options.mask_stripes and options.mask_share:
        clips = augment.mask_stripes(clips, padding, options.mask_stripes, options.mask_share, generator)
    if options.mixup_alpha:
        weight = augment.mixup_weight(options.mixup_alpha, generator)
        partner = augment.partners(len(clips), generator)
        clips, padding = augment.mix(clips, partner, weight), augment.mix_padding(padding, partner)
    with torch.autocast(clips.device.type, torch.bfloat16, enabled=options.precision == "bfloat16"):
        memory, embedded = captioner.project(clips), captioner.embed(inputs)
        if partner is not None:
            embedded = augment.mix(embedded, partner, weight)
        # a caption's own padding stands: what its partner adds behind its end is never seen
        logits = captioner.decode_embedded(memory, padding, embedded, inputs == PAD)
    return F.cross_entropy(
        logits.float().flatten(0, 1),
        targets.flatten(),
        ignore_index=PAD,
        label_smoothing=options.label_smoothing,
    )


def fit(
    model: nn.Module,
    captioner: Captioner,
    optimiser: torch.optim.Optimizer,
    captions: Sequence[list[int]],
    batches: Callable[[torch.Generator], Iterable[Batch]],
    steps: int,
    validate: Callable[[int], dict[str, float]],
    options: TrainingOptions,
    seed: int,
    folder: Path,
    name: str,
) -> pd.DataFrame:
    """Train ``model``, which holds the captioner; the epoch best in ``options.select`` remains.

    ``batches`` draws an epoch's, at most ``steps``; ``validate`` and the result: ``run_epochs``.
    """
    device = next(captioner.parameters()).device
    schedule = learning_rates(optimiser, options, steps)

    def train_epoch(generator: torch.Generator) -> dict[str, float]:
        total, tokens = torch.zeros((), device=device), 0
        drawn = tqdm(batches(generator), desc=name, total=steps, unit="batch", leave=False)
        for clips, padding, rows in drawn:
            padding = None if padding is None else padding.to(device)
            ids = torch.tensor(pad([captions[row] for row in rows])).to(device)
            loss = batch_loss(captioner, clips.to(device), padding, ids, options, generator)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), options.clip_norm)
            optimiser.step()
            if options.schedule == "one_cycle":
                schedule.step()
            count = sum(len(captions[row]) - 1 for row in rows)
            total, tokens = total + loss.detach() * count, tokens + count
        rate = schedule.get_last_lr()[0]
        if options.schedule == "cosine":
            schedule.step()
        return {"loss": float(total / tokens), "learning_rate": rate}

    better = "-validation_loss" if options.select == "validation_loss" else f"validation_{options.select}"
    epochs = options.epochs, seed, train_epoch, validate
    return run_epochs(model, optimiser, schedule, *epochs, better, folder, f"{name}, seed {seed}")


def of_each(clips: int, owners: Sequence[int]) -> list[list[int]]:
    """Captions of each clip, from the owner clip of each caption."""
    by_clip: list[list[int]] = [[] for _ in range(clips)]
    for caption, owner in enumerate(owners):
        by_clip[owner].append(caption)
    return by_clip


def draw(captions: Sequence[int], most: int, generator: torch.Generator) -> list[int]:
    """A clip's captions in random order, at most ``most`` of them, all where it is 0."""
    order = torch.randperm(len(captions), generator=generator).tolist()
    return [captions[i] for i in (order[:most] if most else order)]


def train(
    captioner: Captioner,
    training: Pairs,
    validation: Pairs,
    options: TrainingOptions,
    seed: int,
    folder: Path,
    score: Callable[[Captioner, Sequence[Tensor]], float] | None = None,
) -> pd.DataFrame:
    """Train in place, see ``fit``; frames [time, dim] are those of each clip.

    The validation loss is the mean cross-entropy per token, without label smoothing. ``score``
    tells how well the captioner writes about them: given where ``select`` is no loss.
    """
    if (options.select == "validation_loss") != (score is None):
        raise ValueError(f"select is {options.select!r}; score must be given for written captions only")
    device = next(captioner.parameters()).device
    frames, owners, captions = training
    frames, heard = _near(frames, device), _near(validation[0], device)
    if options.shuffle_frames:
        fixed = torch.Generator().manual_seed(0)
        heard = [augment.shuffle_time(one, fixed) for one in heard]
    by_clip, most = of_each(len(frames), owners), options.captions_per_epoch
    pairs = sum(min(most, len(one)) if most else len(one) for one in by_clip)
    if options.compile:
        captioner.decoder.compile(dynamic=True)  # in place: the names of the weights stay

    def batches(generator: torch.Generator) -> Iterator[Batch]:
        chosen = [row for one in by_clip for row in draw(one, most, generator)]
        shuffled = [chosen[i] for i in torch.randperm(len(chosen), generator=generator).tolist()]
        for i in range(0, pairs, options.batch):
            rows = shuffled[i : i + options.batch]
            clips = [frames[owners[row]] for row in rows]
            if options.shuffle_frames:
                clips = [augment.shuffle_time(one, generator) for one in clips]
            yield *pad_frames(clips), rows

    def validate(epoch: int) -> dict[str, float]:
        row = {"validation_loss": mean_loss(captioner, heard, *validation[1:], batch=options.batch)}
        if score is not None and (epoch % options.validate_every == 0 or epoch == options.epochs):
            row[f"validation_{options.select}"] = score(captioner, heard)
        return row

    optimiser = adamw(captioner, options.learning_rate, options.weight_decay)
    steps, about = math.ceil(pairs / options.batch), (validate, options, seed, folder, "captioner")
    return fit(captioner, captioner, optimiser, captions, batches, steps, *about)


def _near(frames: Sequence[Tensor], device: torch.device) -> Sequence[Tensor]:
    """The frames on a GPU if half of its free memory holds them, else where they are."""
    if device.type != "cuda" or sum(one.nbytes for one in frames) > torch.cuda.mem_get_info(device)[0] / 2:
        return frames
    return [one.to(device) for one in frames]


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


def learning_rates(
    optimiser: torch.optim.Optimizer, options: TrainingOptions, batches: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """The options' schedule for epochs of so many batches; one_cycle steps per batch."""
    if options.schedule == "one_cycle":
        steps = options.epochs * batches
        # torch divides by zero where warming up takes exactly one step
        warm_up = 0.2 if steps != 5 else 0.25
        return torch.optim.lr_scheduler.OneCycleLR(
            optimiser, [group["lr"] for group in optimiser.param_groups], total_steps=steps, pct_start=warm_up
        )
    # lr = (1 + cos(k pi / K)) / 2 * lr0 per epoch, as published
    return torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda epoch: 0.5 * (1.0 + math.cos(math.pi * epoch / options.epochs))
    )


def train_on_corpus(corpus: Path, frames: Path, parameters: dict, folder: Path, device: torch.device) -> None:
    """Train a captioner on a corpus' training split; write it and its history into ``folder``."""
    options, seed = TrainingOptions(**parameters["training"]), parameters["seed"]
    judge = None
    if options.select != "validation_loss":
        # First of all, as what it needs may be missing. By name, so that a key covers how captions
        # are learnt, not how an epoch's captions are written and judged: a change of decoding
        # trains nothing anew.
        decoding = DecodingOptions(**parameters["decoding"])
        judge = import_module("aacstudy.training.selection").judge(options.select, decoding, device)
    corpus, by_clip = Corpus.load(corpus), frame_files.load(frames)
    parts = training_part(corpus.split("train"), options, seed), corpus.split("validation")
    vocabulary = Vocabulary.fit(parts[0].captions["text"])
    captioner = new(next(iter(by_clip.values())).shape[1], vocabulary, parameters).to(device)
    sets = [([by_clip[clip] for clip in part.clips["clip"]], *targets(part, vocabulary)) for part in parts]
    score = None
    if judge:
        texts = [joined(tokenise(text)) for text in parts[1].captions["text"]]
        references = [[texts[row] for row in rows] for rows in of_each(len(sets[1][0]), sets[1][1])]
        score = partial(judge, vocabulary=vocabulary, references=references)
    history = train(captioner, *sets, options, seed, folder, score)
    save(folder, captioner, vocabulary, parameters, history)


def new(frame_dim: int, vocabulary: Vocabulary, parameters: dict) -> Captioner:
    """A captioner before any training: weights drawn by the seed, ``training.start`` says how."""
    torch.manual_seed(parameters["seed"])
    captioner = Captioner(frame_dim, len(vocabulary), DecoderOptions(**parameters["decoder"]))
    first, *others = captioner.decoder.layers
    for layer in others if parameters["training"].get("start") == "copies" else ():
        layer.load_state_dict(first.state_dict())
    return captioner


def targets(part: Corpus, vocabulary: Vocabulary) -> tuple[list[int], list[list[int]]]:
    """The owner clip of each caption of a part, and its ids with BOS and EOS."""
    return part.owners(), [vocabulary.encode(text) for text in part.captions["text"]]


def save(
    folder: Path, captioner: Captioner, vocabulary: Vocabulary, parameters: dict, history: pd.DataFrame
) -> None:
    """Write a trained captioner, its history and its size."""
    save_captioner(folder / "captioner.safetensors", captioner, vocabulary, parameters)
    history.to_csv(folder / "history.csv", index=False)
    write_about(folder, captioner, len(vocabulary))


def write_about(folder: Path, captioner: Captioner, words: int) -> None:
    """Write a captioner's size: parameters, words of its vocabulary, width of its frames."""
    parameters = sum(p.numel() for p in captioner.parameters())
    about = {"parameters": parameters, "words": words, "width": captioner.frame_dim}
    (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")
