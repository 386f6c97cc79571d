"""The encoder learns to tag sound events: multi-label, binary cross-entropy, on log-mels."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score
from torch import Tensor, nn
from tqdm import tqdm

from aacstudy.corpus import Corpus
from aacstudy.corpus.audio import read
from aacstudy.models.checkpoint import save_encoder
from aacstudy.models.encoder import build_encoder
from aacstudy.models.tagger import Tagger
from aacstudy.options import EncoderOptions, FrontendOptions, TaggingOptions
from aacstudy.training.loop import adamw, run_epochs


@torch.no_grad()
def initialise(encoder: Tagger, spectrograms: Tensor, labels: np.ndarray) -> None:
    """Start a fresh encoder where a short training can end well.

    timm draws weights with σ = 0.02, right for long schedules; torch's own fan-in scaling learns in
    a few hundred steps (LOG.md has the comparison). The output biases start at the classes'
    log-odds and the input norm at the statistics of the log-mels [clips, 1, time, mels].
    """
    for module in encoder.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.reset_parameters()
    share = torch.from_numpy(labels.mean(axis=0)).float().clamp(1e-3, 0.5)
    encoder.output.bias.copy_(torch.logit(share))
    encoder.bn0.running_mean.copy_(spectrograms.mean(dim=(0, 1, 2)))
    encoder.bn0.running_var.copy_(spectrograms.var(dim=(0, 1, 2)))


def mask(logmels: Tensor, options: TaggingOptions, generator: torch.Generator) -> Tensor:
    """SpecAugment of log-mels [batch, 1, time, mels]: two stripes an axis, a new level."""
    batch, _, times, mels = logmels.shape
    # a gain of -3..3 dB
    out = logmels + 6.0 * (torch.rand(batch, 1, 1, 1, generator=generator) - 0.5)
    mean = out.mean(dim=(1, 2, 3), keepdim=True)
    for axis, size, widest in ((2, times, options.time_mask), (3, mels, options.mel_mask)):
        position = torch.arange(size).view([size if d == axis else 1 for d in range(4)])
        for _ in range(2):
            width = torch.randint(0, min(widest, size - 1) + 1, (batch, 1, 1, 1), generator=generator)
            start = (torch.rand(batch, 1, 1, 1, generator=generator) * (size - width)).long()
            out = torch.where((position >= start) & (position < start + width), mean, out)
    return out


def logmels(encoder: Tagger, waveforms: list[np.ndarray], batch: int = 64) -> Tensor:
    """Log-mels [clips, 1, time, mels] of waveforms of one length, float32 [samples] each."""
    device = encoder.bn0.weight.device
    parts = []
    with torch.inference_mode():
        for i in tqdm(range(0, len(waveforms), batch), desc="log-mels", unit="batch", leave=False):
            stacked = torch.from_numpy(np.stack(waveforms[i : i + batch])).to(device)
            parts.append(encoder.logmel(stacked).cpu())
    return torch.cat(parts)


def predict(encoder: Tagger, spectrograms: Tensor, batch: int = 128) -> np.ndarray:
    """Logits [clips, classes] of log-mels [clips, 1, time, mels]; they rank as probabilities do."""
    device = encoder.bn0.weight.device
    encoder.eval()
    with torch.inference_mode():
        logits = [encoder.logits_from_logmel(part.to(device)).cpu() for part in spectrograms.split(batch)]
    return torch.cat(logits).numpy()


def train(encoder: Tagger, training, validation, options: TaggingOptions, folder):
    """Train in place; the best epoch by mAP on ``validation`` remains. Returns the history table.

    training and validation: log-mels [clips, 1, time, mels], labels bool [clips, classes] (numpy).
    """
    spectrograms, labels = training[0], torch.from_numpy(training[1].astype(np.float32))
    device = encoder.bn0.weight.device
    steps = options.epochs * (len(labels) // options.batch)
    if steps < 1:
        raise ValueError(f"tagging.batch is {options.batch}, more than the {len(labels)} clips to train on")
    optimiser = adamw(encoder, options.learning_rate, options.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, options.learning_rate, total_steps=steps)

    def train_epoch(generator: torch.Generator) -> dict[str, float]:
        order = torch.randperm(len(labels), generator=generator)
        losses = []
        for i in tqdm(range(len(labels) // options.batch), desc="tagging batches", leave=False):
            rows = order[i * options.batch : (i + 1) * options.batch]
            logits = encoder.logits_from_logmel(mask(spectrograms[rows], options, generator).to(device))
            loss = F.binary_cross_entropy_with_logits(logits, labels[rows].to(device))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            losses.append(loss.detach())
        return {"loss": float(torch.stack(losses).mean())}

    there = validation[1].any(axis=0)  # a class without a positive clip has no average precision

    def validate(epoch: int) -> dict[str, float]:
        scores = predict(encoder, validation[0])
        return {"validation_map": float(average_precision_score(validation[1][:, there], scores[:, there]))}

    epochs = options.epochs, options.seed, train_epoch, validate
    return run_epochs(encoder, optimiser, schedule, *epochs, "validation_map", folder, "tagging")


def train_on_corpus(corpus: Path, parameters: dict, folder: Path, device: torch.device) -> None:
    """Train an encoder on a corpus' tagging clips; write it, its history and scores of classes.

    Every tenth training clip selects the epoch; ``tagging_test`` is looked at once, at the end.
    """
    frontend, shape = FrontendOptions(**parameters["frontend"]), EncoderOptions(**parameters["encoder"])
    options = TaggingOptions(**parameters["tagging"])
    corpus = Corpus.load(corpus)
    classes = tuple(sorted(corpus.events["event"].unique()))
    torch.manual_seed(options.seed)
    encoder = build_encoder(frontend, shape, len(classes)).to(device)
    sets = {}
    for split in ("tagging_train", "tagging_test"):
        part = corpus.split(split)
        waveforms = [read(path, frontend.sample_rate) for path in part.paths()]
        sets[split] = logmels(encoder, waveforms), _labels(part, classes)
    spectrograms, labels = sets["tagging_train"]
    selecting = np.arange(len(labels)) % 10 == 9
    initialise(encoder, spectrograms[~selecting], labels[~selecting])
    parts = ((spectrograms[rows], labels[rows]) for rows in (~selecting, selecting))
    history = train(encoder, *parts, options, folder)
    save_encoder(folder / "encoder.safetensors", encoder, classes, parameters)
    history.to_csv(folder / "history.csv", index=False)
    spectrograms, labels = sets["tagging_test"]
    scores = predict(encoder, spectrograms)
    clips = corpus.split("tagging_test").clips["clip"]
    pd.DataFrame(scores, columns=classes, index=clips).to_csv(folder / "test_scores.csv")
    pd.DataFrame(labels.astype(int), columns=classes, index=clips).to_csv(folder / "test_labels.csv")


def _labels(part: Corpus, classes: tuple[str, ...]) -> np.ndarray:
    rows = {clip: row for row, clip in enumerate(part.clips["clip"])}
    labels = np.zeros((len(rows), len(classes)), dtype=bool)
    for clip, event in zip(part.events["clip"], part.events["event"]):
        labels[rows[clip], classes.index(event)] = True
    return labels
