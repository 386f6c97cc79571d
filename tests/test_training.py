"""Training: best epoch, resume, schedules; that tagger and captioner learn; average precision
against scikit-learn.
"""

import math
import os
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from sklearn.metrics import average_precision_score
from torch import nn

from aacstudy.analysis.captions import assets
from aacstudy.analysis.tagging import average_precision, mean_average_precision
from aacstudy.corpus import NO_EVENTS, Corpus
from aacstudy.corpus.text import BOS, EOS, PAD, Vocabulary
from aacstudy.models import decoding, device, frames
from aacstudy.models.captioner import Captioner
from aacstudy.models.checkpoint import load_captioner, load_encoder
from aacstudy.models.convnext import TaggingEncoder
from aacstudy.options import (
    DecoderOptions,
    DecodingOptions,
    EncoderOptions,
    FrontendOptions,
    StatisticsOptions,
    TaggingOptions,
    TrainingOptions,
)
from aacstudy.scoring.reference import nll_reference
from aacstudy.training import augment, captioning, selection, tagging
from aacstudy.training.augment import training_part
from aacstudy.training.loop import adamw, run_epochs

CPU = torch.device("cpu")


class Killed(BaseException):
    """Stands for a signal: nothing in the package may catch it."""


# The loop


def regression(folder, epochs=5, kill_in=None, init=0):
    """Train a small network with dropout on shuffled batches; ``kill_in``: the epoch in the middle
    of which it dies.
    """
    data = torch.Generator().manual_seed(7)
    x, y = torch.randn(24, 4, generator=data), torch.randn(24, 1, generator=data)
    torch.manual_seed(init)
    model = nn.Sequential(nn.Linear(4, 16), nn.LayerNorm(16), nn.Dropout(0.5), nn.Linear(16, 1))
    optimiser = adamw(model, 1e-2, 0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=epochs * 3)
    started = []

    def train_epoch(generator):
        started.append(True)
        losses = []
        for step, rows in enumerate(torch.randperm(24, generator=generator).split(8)):
            if kill_in is not None and step == 1 and schedule.last_epoch // 3 == kill_in - 1:
                raise Killed
            loss = (model(x[rows]) - y[rows]).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            losses.append(float(loss.detach()))
        return {"loss": sum(losses) / len(losses)}

    def validate(epoch):
        return {"error": float((model(x) - y).square().mean())}

    history = run_epochs(
        model, optimiser, schedule, epochs, 3, train_epoch, validate, "-error", folder, "toy"
    )
    return history, model.state_dict(), len(started)


@pytest.mark.parametrize("kill_in", [1, 2, 4, 5])
def test_resumed_run_ends_as_an_unbroken_one(tmp_path, kill_in):
    (whole, broken) = (tmp_path / "whole", tmp_path / "broken")
    whole.mkdir(), broken.mkdir()
    history, weights, _ = regression(whole)
    with pytest.raises(Killed):
        regression(broken, kill_in=kill_in)
    assert (broken / "resume.pt").exists() == (kill_in > 1)
    torch.manual_seed(99)  # what another process would have drawn by then
    # Where a checkpoint exists, weights must come from it: start from others.
    resumed, again, epochs = regression(broken, init=0 if kill_in == 1 else 1)
    assert epochs == 5 - (kill_in - 1)
    pd.testing.assert_frame_equal(resumed, history, check_exact=True)
    assert weights.keys() == again.keys()
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert [one.name for one in (*whole.iterdir(), *broken.iterdir())] == ["resume.pt"] * 2  # no .tmp


def test_killed_after_the_last_epoch_trains_no_more(tmp_path):
    """As while the weights are written: the epochs are there until the artifact is whole."""
    history, weights, _ = regression(tmp_path)
    resumed, again, epochs = regression(tmp_path, init=1)
    assert epochs == 0 and resumed.equals(history)
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def scripted(folder, numbers, better, losses=None):
    """Run epochs whose validation numbers are given; the weight of epoch k is k."""
    model = nn.Linear(1, 1, bias=False)
    optimiser = adamw(model, 1.0, 0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda epoch: 1.0)
    seen = []

    def train_epoch(generator):
        assert model.training and torch.is_grad_enabled()
        seen.append(torch.rand(1, generator=generator).item())
        nn.init.constant_(model.weight, len(seen))
        return {"loss": losses[len(seen) - 1] if losses else 1.0}

    def validate(epoch):
        assert not model.training and torch.is_inference_mode_enabled()
        assert epoch == len(seen)
        number = numbers[epoch - 1]
        return {} if number is None else {"number": number}

    history = run_epochs(
        model, optimiser, schedule, len(numbers), 1, train_epoch, validate, better, folder, "scripted"
    )
    assert not model.training
    return model.weight.item(), history, seen


@pytest.mark.parametrize(
    ("numbers", "better", "best"),
    [
        ([0.1, 0.5, 0.5, 0.3], "number", 2),  # of equals the first
        ([0.1, 0.5, 0.5, 0.3], "-number", 1),
        ([3.0, 1.0, 2.0, 1.0], "-number", 2),
        ([3.0, 1.0, 2.0, 4.0], "number", 4),
        ([-3.0, -1.0, -2.0], "number", 2),  # a best below zero
        ([-3.0, -1.0, -2.0], "-number", 1),
    ],
)
def test_best_epoch_stays(tmp_path, numbers, better, best):
    weight, history, seen = scripted(tmp_path, numbers, better)
    assert weight == best
    assert history["number"].tolist() == numbers and history["epoch"].tolist() == [
        *range(1, len(numbers) + 1)
    ]
    assert len(set(seen)) == len(seen)  # each epoch draws anew


@pytest.mark.parametrize(
    ("numbers", "better", "best"),
    [([None, 0.5, None, 0.7, None, 0.6], "number", 4), ([0.5, None, 0.3, None], "-number", 3)],
)
def test_an_epoch_without_the_number_is_not_kept(tmp_path, numbers, better, best):
    weight, history, _ = scripted(tmp_path, numbers, better)
    assert weight == best
    assert history["number"].isna().tolist() == [number is None for number in numbers]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_number_that_is_none_stops_and_names_the_epoch(tmp_path, bad):
    with pytest.raises(FloatingPointError, match=r"scripted: epoch 3 gave .*learning rate"):
        scripted(tmp_path, [1.0] * 4, "number", [1.0, 1.0, bad, 1.0])
    kept = torch.load(tmp_path / "resume.pt", weights_only=True)
    assert len(kept["history"]) == 2 and torch.isfinite(kept["model"]["weight"]).all()
    (tmp_path / "resume.pt").unlink()
    with pytest.raises(FloatingPointError, match="epoch 2 gave"):
        scripted(tmp_path, [1.0, bad], "number")


class Payload:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


def test_resume_file_runs_no_code(tmp_path):
    torch.save({"model": {}, "history": [Payload(tmp_path / "ran")]}, tmp_path / "resume.pt")
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        scripted(tmp_path, [1.0], "number")
    assert not (tmp_path / "ran").exists()


def test_decay_spares_one_dimensional_parameters():
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Conv2d(1, 2, 3), nn.Linear(4, 2))
    model[3].weight.requires_grad_(False)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimiser = adamw(model, 0.1, 2.0)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimiser.step()
    for name, p in model.named_parameters():
        decayed = p.ndim > 1 and p.requires_grad
        torch.testing.assert_close(p.detach(), before[name] * (1 - 0.1 * 2.0 if decayed else 1))
    # all but the frozen one
    assert sum(len(group["params"]) for group in optimiser.param_groups) == 7


# Tagging

FRONTEND = FrontendOptions(sample_rate=16000, n_fft=512, hop=320, n_mels=16, f_min=50.0, f_max=7800.0)
SHAPE = EncoderOptions(depths=(1, 1), dims=(8, 16), kernel=3, layer_scale=0.5)


def spectrograms(n, seed):
    """Noise of 12 dB below three bands of mels, each there or not: [n, 1, 16, 16] and labels [n,
    3].
    """
    rng = np.random.default_rng(seed)
    labels = rng.random((n, 3)) < 0.4
    values = rng.normal(-60, 3, size=(n, 1, 16, 16))
    for row, c in np.argwhere(labels):
        values[row, 0, :, 1 + 5 * c : 5 + 5 * c] += 25
    return torch.from_numpy(values.astype(np.float32)), labels


def test_mask_changes_stripes_and_gain_only():
    logmels = torch.randn(6, 1, 40, 24) * 10 - 50
    options = TaggingOptions(time_mask=5, mel_mask=3)
    kept = logmels.clone()
    out = tagging.mask(logmels, options, torch.Generator().manual_seed(0))
    assert out.shape == logmels.shape and out.dtype == logmels.dtype
    assert torch.equal(logmels, kept)  # the stored log-mels stay
    change = (out - logmels)[:, 0]  # [clips, time, mels]
    masked = 0
    for clip in change:
        gain = clip.flatten().median()  # more than half of a clip is never covered at these widths
        other = (clip - gain).abs() > 1e-3
        # fully covered rows, columns
        times, mels = other.float().mean(1) > 0.7, other.float().mean(0) > 0.7
        assert times.sum() <= 2 * 5 and mels.sum() <= 2 * 3
        assert not other[~times][:, ~mels].any()
        masked += int(times.sum() + mels.sum())
    assert masked > 0
    again = tagging.mask(logmels, options, torch.Generator().manual_seed(0))
    assert torch.equal(out, again)
    assert not torch.equal(out, tagging.mask(logmels, options, torch.Generator().manual_seed(1)))


def test_mask_wider_than_the_clip_leaves_something():
    options = TaggingOptions(time_mask=100, mel_mask=100)
    out = tagging.mask(torch.randn(4, 1, 6, 5), options, torch.Generator().manual_seed(0))
    assert out.shape == (4, 1, 6, 5) and torch.isfinite(out).all()


def test_tagger_learns_what_is_plain(tmp_path):
    torch.manual_seed(0)
    encoder = TaggingEncoder(FRONTEND, SHAPE, 3)
    options = TaggingOptions(epochs=5, batch=16, learning_rate=1e-2, time_mask=2, mel_mask=1)
    history = tagging.train(encoder, spectrograms(256, 0), spectrograms(64, 1), options, tmp_path)
    fresh, labels = spectrograms(64, 2)
    scores = tagging.predict(encoder, fresh, batch=20)
    print("mAP on fresh clips", average_precision(labels, scores))
    assert scores.shape == (64, 3)
    assert average_precision(labels, scores).mean() > 0.95
    assert len(history) == 5 and list(history) == ["epoch", "loss", "validation_map"]
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]


def test_more_clips_a_batch_than_there_are(tmp_path):
    encoder = TaggingEncoder(FRONTEND, SHAPE, 3)
    options = TaggingOptions(epochs=1, batch=32)
    with pytest.raises(ValueError, match=r"tagging.batch is 32.*8 clips"):
        tagging.train(encoder, spectrograms(8, 0), spectrograms(8, 1), options, tmp_path)


def test_tagging_on_a_corpus_writes_encoder_and_tables(tmp_path):
    rng = np.random.default_rng(0)
    clips, events = [], []
    for split, n in (("tagging_train", 20), ("tagging_test", 4)):
        for i in range(n):
            clip, tone = f"{split}/{i}", ("high", "low")[i % 2]
            wave = 0.3 * np.sin(2 * np.pi * (3000, 300)[i % 2] * np.arange(8000) / 16000)
            file = f"{split}_{i}.wav"
            soundfile.write(tmp_path / file, wave + 0.01 * rng.normal(size=8000), 16000)
            clips.append({"clip": clip, "split": split, "path": file, "seconds": 0.5})
            events.append({"clip": clip, "event": tone, "onset": 0.0, "offset": 0.5})
    captions = pd.DataFrame({"clip": [], "text": []})
    Corpus(tmp_path, pd.DataFrame(clips), captions, pd.DataFrame(events)).save()
    out = tmp_path / "out"
    out.mkdir()
    parameters = {
        "frontend": {"sample_rate": 16000, "n_fft": 512, "n_mels": 16, "f_max": 7800.0},
        "encoder": {"depths": (1, 1), "dims": (8, 16), "kernel": 3, "layer_scale": 0.5},
        "tagging": {"epochs": 1, "batch": 6},
    }
    tagging.train_on_corpus(tmp_path, parameters, out, CPU)
    encoder, classes = load_encoder(out / "encoder.safetensors")
    assert classes == ("high", "low") and encoder.classes == 2
    labels = pd.read_csv(out / "test_labels.csv", index_col=0)
    assert labels["high"].tolist() == [1, 0, 1, 0] and labels["low"].tolist() == [0, 1, 0, 1]
    assert list(labels.index) == [f"tagging_test/{i}" for i in range(4)]
    assert pd.read_csv(out / "test_scores.csv", index_col=0).shape == (4, 2)
    assert len(pd.read_csv(out / "history.csv")) == 1


# Average precision


def tagged(n=60, classes=5, seed=0, rounded=False):
    rng = np.random.default_rng(seed)
    labels = rng.random((n, classes)) < 0.3
    scores = rng.normal(size=(n, classes)) + labels
    return labels, np.round(scores) if rounded else scores


@pytest.mark.parametrize("rounded", [False, True])
def test_average_precision_is_sklearns(rounded):
    labels, scores = tagged(rounded=rounded)
    labels[:, 3] = False
    found = average_precision(labels, scores)
    assert np.isnan(found[3])
    for c in (0, 1, 2, 4):
        assert found[c] == average_precision_score(labels[:, c], scores[:, c])


@pytest.mark.parametrize("rounded", [False, True], ids=["no ties", "ties"])
def test_weighted_average_precision_is_sklearns(rounded):
    labels, scores = tagged(rounded=rounded)
    labels[:, 3] = False
    resamples = 8
    found = mean_average_precision(
        labels, scores, StatisticsOptions(resamples=resamples, confidence=0.6, seed=4)
    )
    assert found.value == pytest.approx(np.nanmean(average_precision(labels, scores)), abs=1e-12)
    weights = np.random.default_rng(4).multinomial(60, np.full(60, 1 / 60), size=resamples)
    present = [0, 1, 2, 4]
    assert all((w @ labels)[present].all() for w in weights)
    means = [
        np.mean([average_precision_score(labels[:, c], scores[:, c], sample_weight=w) for c in present])
        for w in weights
    ]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [0.2, 0.8])), abs=1e-12)
    assert found.low < found.high and found.n == 60 and "clip" in found.unit


def test_an_encoder_minus_itself_is_nothing():
    labels, scores = tagged(n=60, classes=2)
    one = mean_average_precision(labels, scores, StatisticsOptions(resamples=200))
    assert mean_average_precision(labels, scores, StatisticsOptions(resamples=200), minus=scores)[:3] == (
        0,
        0,
        0,
    )
    better = mean_average_precision(
        labels, labels.astype(float), StatisticsOptions(resamples=200), minus=scores
    )
    assert better.value == pytest.approx(1 - one.value) and 0 < better.low < better.high < 1


def test_interval_of_a_class_that_a_resample_may_lose():
    labels, scores = tagged(n=12, classes=2)
    labels[:, 1] = np.arange(12) == 5
    found = mean_average_precision(labels, scores, StatisticsOptions(resamples=200))
    assert np.isfinite(found[:3]).all()


# Captioning

WORDS = 20


def captioner(seed=0, **changes):
    torch.manual_seed(seed)
    small = {"d_model": 32, "layers": 2, "heads": 4, "d_ff": 64, "max_positions": 40}
    return Captioner(8, WORDS, DecoderOptions(**(small | changes)))


def pairs(clips=6, each=3, seed=0):
    """Clips of different lengths and distinct captions, the owners out of order."""
    rng = np.random.default_rng(seed)
    clip_frames = [
        torch.from_numpy(rng.normal(size=(t, 8)).astype(np.float32)) for t in rng.integers(3, 9, clips)
    ]
    owners = rng.permutation(np.repeat(np.arange(clips), each)).tolist()
    captions = [[BOS, *rng.integers(4, WORDS, rng.integers(2, 7)).tolist(), EOS] for _ in owners]
    assert len(set(map(tuple, captions))) == len(captions)
    return clip_frames, owners, captions


def test_pad_frames():
    one, two = torch.ones(2, 3), 2 * torch.ones(4, 3)
    padded, padding = captioning.pad_frames([one, two])
    assert padded.shape == (2, 4, 3)
    assert padding.tolist() == [[False, False, True, True], [False] * 4]
    assert torch.equal(padded[0, :2], one) and torch.equal(padded[1], two) and not padded[0, 2:].any()
    same, none = captioning.pad_frames([one, one])
    assert none is None and torch.equal(same, torch.stack([one, one]))


def options(**changes):
    plain = {"epochs": 4, "batch": 5, "learning_rate": 1e-3, "weight_decay": 0.1, "label_smoothing": 0.1}
    plain |= {"mixup_alpha": 0.0, "mask_stripes": 0}
    return TrainingOptions(**(plain | changes))


@pytest.mark.parametrize(("drawn", "per_clip"), [(1, 1), (2, 2), (0, 3), (9, 3)])
def test_captions_drawn_per_epoch(tmp_path, monkeypatch, drawn, per_clip):
    training, validation = pairs(), pairs(clips=2, each=1, seed=5)
    owner = {tuple(ids): a for a, ids in zip(training[1], training[2])}
    batches, plain = [], captioning.pad

    def spy(rows):
        batches.append([tuple(ids) for ids in rows])
        return plain(rows)

    monkeypatch.setattr(captioning, "pad", spy)
    captioning.train(captioner(), training, validation, options(captions_per_epoch=drawn), 0, tmp_path)
    drawn_ids = [batch for batch in batches if batch[0] in owner]
    per_epoch = math.ceil(6 * per_clip / 5)
    assert len(drawn_ids) == 4 * per_epoch and max(map(len, drawn_ids)) == 5
    flat = [(i // per_epoch, ids) for i, batch in enumerate(drawn_ids) for ids in batch]
    epochs = [[ids for epoch, ids in flat if epoch == k] for k in range(4)]
    for epoch in epochs:
        assert len(set(epoch)) == len(epoch)
        assert sorted(owner[ids] for ids in epoch) == sorted([*range(6)] * per_clip)
    assert len({tuple(epoch) for epoch in epochs}) == 4  # shuffled and drawn anew
    if per_clip == 1:
        assert len({frozenset(epoch) for epoch in epochs}) > 1


def test_cosine_is_the_published_formula(tmp_path):
    history = captioning.train(captioner(), pairs(), pairs(seed=1), options(epochs=6), 0, tmp_path)
    expected = [0.5 * (1 + math.cos(k * math.pi / 6)) * 1e-3 for k in range(6)]
    assert history["learning_rate"].tolist() == pytest.approx(expected, rel=1e-12)
    assert list(history) == ["epoch", "loss", "learning_rate", "validation_loss"]


# 5 steps: torch divides by zero at a warm-up share of 0.2
@pytest.mark.parametrize("epochs", [1, 3, 5])
def test_one_cycle_rises_and_falls(tmp_path, monkeypatch, epochs):
    rates, step = [], torch.optim.AdamW.step

    def spy(self, *a, **k):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *a, **k)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    cycle = options(epochs=epochs, schedule="one_cycle", batch=6 if epochs == 5 else 2)
    captioning.train(captioner(), pairs(), pairs(seed=1), cycle, 0, tmp_path)
    assert len(rates) == (5 if epochs == 5 else 3 * epochs)
    top = int(np.argmax(rates))
    assert max(rates) <= 1e-3 * (1 + 1e-9) and rates[-1] < 1e-5 * 1.01
    assert rates[: top + 1] == sorted(rates[: top + 1]) and rates[top:] == sorted(rates[top:], reverse=True)


PUBLISHED = {"mixup_alpha": 0.4, "mask_stripes": 2, "mask_share": 0.4, "shuffle_frames": True}


@pytest.mark.parametrize("changes", [{}, {"schedule": "one_cycle"}, PUBLISHED], ids=str)
def test_resumed_captioner_is_the_unbroken_one(tmp_path, monkeypatch, changes):
    training, validation = pairs(), pairs(clips=3, seed=5)
    chosen = options(captions_per_epoch=2, **changes)
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    whole = captioner(dropout=0.2)
    history = captioning.train(whole, training, validation, chosen, 11, tmp_path / "a")
    calls, plain = [], captioning.pad_frames

    def dying(clips):
        calls.append(1)
        if len(calls) == 10:  # 3 batches and 2 of validation an epoch: in the middle of the second
            raise Killed
        return plain(clips)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(captioning, "pad_frames", dying)
        captioning.train(captioner(dropout=0.2), training, validation, chosen, 11, tmp_path / "b")
    assert (tmp_path / "b" / "resume.pt").exists()
    resumed = captioner(seed=1, dropout=0.2)
    again = captioning.train(resumed, training, validation, chosen, 11, tmp_path / "b")
    pd.testing.assert_frame_equal(again, history, check_exact=True)
    ours, theirs = whole.state_dict(), resumed.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    other = captioner(dropout=0.2)
    captioning.train(other, training, validation, chosen, 12, tmp_path / "b")
    assert not all(torch.equal(ours[name], p) for name, p in other.state_dict().items())


@torch.inference_mode()
def test_mean_loss_is_the_plain_loop(monkeypatch):
    network, (clips, owners, captions) = captioner().eval(), pairs()
    plain = nll_reference(network, clips, captions)
    expected = sum(float(plain[a, c]) for c, a in enumerate(owners)) / sum(len(ids) - 1 for ids in captions)
    for batch in (1, 4, 256):
        found = captioning.mean_loss(network, clips, owners, captions, batch)
        print(f"mean_loss, batch {batch}: difference {abs(found - expected):.1e}")
        assert found == pytest.approx(expected, abs=1e-5)


def test_overfits_eight_clips(tmp_path):
    rng = np.random.default_rng(0)
    clips = [torch.from_numpy(rng.normal(size=(5, 8)).astype(np.float32)) for _ in range(8)]
    captions = [[BOS, *rng.integers(4, WORDS, 4).tolist(), EOS] for _ in range(8)]
    data = (clips, list(range(8)), captions)
    network = captioner(dropout=0.0, projection_dropout=0.0)
    chosen = options(
        epochs=60, batch=8, learning_rate=5e-3, schedule="one_cycle", weight_decay=0.0, label_smoothing=0.0
    )
    history = captioning.train(network, data, data, chosen, 0, tmp_path)
    loss = nll_reference(network, clips, captions) / torch.tensor([len(ids) - 1 for ids in captions])
    print("loss of own captions", loss.diagonal().tolist())
    assert loss.argmin(dim=1).tolist() == list(range(8)) and loss.argmin(dim=0).tolist() == list(range(8))
    assert loss.diagonal().max() < 0.3
    assert history["validation_loss"].min() == pytest.approx(float(loss.diagonal().mean()), abs=1e-4)


def test_smoothing_is_for_training_only(tmp_path):
    training, validation = pairs(), pairs(seed=5)
    rows = []
    for folder, smoothing in (("a", 0.0), ("b", 0.5)):
        (tmp_path / folder).mkdir()
        network = captioner(dropout=0.0, projection_dropout=0.0)
        still = options(
            epochs=1, batch=18, captions_per_epoch=0, learning_rate=1e-12, label_smoothing=smoothing
        )
        rows.append(captioning.train(network, training, validation, still, 0, tmp_path / folder).iloc[0])
    assert rows[0]["validation_loss"] == rows[1]["validation_loss"]
    assert abs(rows[0]["loss"] - rows[1]["loss"]) > 1e-4
    network = captioner(dropout=0.0, projection_dropout=0.0).eval()
    with torch.inference_mode():
        assert rows[0]["loss"] == pytest.approx(captioning.mean_loss(network, *training), abs=1e-5)


# The published recipe


def batch(seed=0, lengths=(5, 5, 5)):
    """Clips [3, 5, 8], their padding, and captions of different lengths [3, n]."""
    torch.manual_seed(seed)
    clips, padding = captioning.pad_frames([torch.randn(n, 8) for n in lengths])
    ids = [[BOS, *range(4, 4 + n), EOS] for n in (5, 2, 4)]
    return clips, padding, torch.tensor(captioning.pad(ids))


def loss_of(network, clips, padding, ids, **changes):
    return captioning.batch_loss(
        network, clips, padding, ids, options(**changes), torch.Generator().manual_seed(1)
    )


@torch.no_grad()
def test_mixup_by_hand(monkeypatch):
    """Own frames and previous words weigh 0.7, the partner's 0.3, frame by frame and word by word;
    targets stay.
    """
    network = captioner(frame_positions="sinusoidal").eval()
    clips, padding, ids = batch(lengths=(5, 3, 4))
    monkeypatch.setattr(augment, "mixup_weight", lambda alpha, generator: 0.7)
    monkeypatch.setattr(augment, "partners", lambda n, generator: torch.tensor([2, 0, 1]))
    found = float(loss_of(network, clips, padding, ids, mixup_alpha=0.4, label_smoothing=0.0))
    table, losses = network.decoder.embedding.weight, []
    for own, other, heard, words in ((0, 2, 5, 6), (1, 0, 5, 3), (2, 1, 4, 5)):
        memory = network.project(0.7 * clips[own, None, :heard] + 0.3 * clips[other, None, :heard])
        # PAD's embedding is 0
        mixed = table[ids[own, :words]] * 0.7 + table[ids[other, :words]] * 0.3
        logits = network.decode_embedded(memory, None, mixed[None] * math.sqrt(32), None)[0]
        losses += nn.functional.cross_entropy(logits, ids[own, 1 : words + 1], reduction="none").tolist()
    assert found == pytest.approx(sum(losses) / len(losses), abs=1e-5)


@torch.no_grad()
def test_mixing_by_one_and_masking_nothing_is_plain(monkeypatch):
    network = captioner().eval()
    plain = loss_of(network, *batch())
    monkeypatch.setattr(augment, "mixup_weight", lambda alpha, generator: 1.0)
    assert loss_of(network, *batch(), mixup_alpha=0.4) == plain
    assert (
        loss_of(network, *batch(), mask_stripes=2, mask_share=0.01) == plain
    )  # of 8 dimensions and 5 frames
    masked = loss_of(network, *batch(), mask_stripes=2, mask_share=0.5)
    assert masked != plain and loss_of(network, *batch(), mask_stripes=2, mask_share=0.0) == plain
    # the generator's seed
    assert masked == loss_of(network, *batch(), mask_stripes=2, mask_share=0.5)


@pytest.mark.parametrize("lengths", [(5, 5, 5), (5, 2, 4)])
def test_bfloat16_is_close_and_keeps_float32_weights(tmp_path, lengths):
    network = captioner(dropout=0.0, projection_dropout=0.0)
    plain, half = (
        loss_of(network, *batch(lengths=lengths), precision=p).detach() for p in ("float32", "bfloat16")
    )
    print(f"loss {float(plain):.5f} in float32, {float(half):.5f} in bfloat16")
    assert half.dtype == torch.float32 and plain != half
    assert float(half) == pytest.approx(float(plain), rel=0.01)
    history = captioning.train(network, pairs(), pairs(seed=1), options(precision="bfloat16"), 0, tmp_path)
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
    assert {p.dtype for p in network.parameters()} == {torch.float32}


def test_compiled_is_the_same_captioner(tmp_path, monkeypatch):
    """What torch.compile makes of the decoder, with its graphs run as they are: no C++ compiler is
    needed.
    """
    graphs, plain = [], torch.compile

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", lambda f, **k: plain(f, backend=backend, **k))
    still = {"dropout": 0.0, "projection_dropout": 0.0, "layers": 1}
    results = []
    for name in ("plain", "compiled"):
        (tmp_path / name).mkdir()
        network = captioner(**still)
        chosen = options(epochs=1, compile=name == "compiled")
        history = captioning.train(network, pairs(), pairs(clips=2, seed=1), chosen, 0, tmp_path / name)
        results.append((history, network.state_dict()))
    assert graphs
    (ours, weights), (theirs, compiled) = results
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-5)
    assert weights.keys() == compiled.keys()


def test_frames_are_shuffled_anew_in_training_and_alike_in_validation(tmp_path, monkeypatch):
    training, validation = pairs(), pairs(clips=3, seed=5)
    seen, plain = [], captioning.pad_frames
    monkeypatch.setattr(captioning, "pad_frames", lambda clips: (seen.append(list(clips)), plain(clips))[1])
    network = captioner(frame_positions="sinusoidal")
    scored = []
    captioning.train(
        network,
        training,
        validation,
        options(shuffle_frames=True, select="cider_d", epochs=3),
        0,
        tmp_path,
        lambda captioner, frames: scored.append(frames) or len(scored),
    )
    known = {tuple(sorted(map(tuple, clip.tolist()))): clip for clip in training[0] + validation[0]}
    orders = {}
    for clip in (clip for part in seen for clip in part):
        name = tuple(sorted(map(tuple, clip.tolist())))
        orders.setdefault(name, []).append(tuple(map(tuple, clip.tolist())))
        assert known[name].shape == clip.shape
    for clip in validation[0]:
        drawn = orders[tuple(sorted(map(tuple, clip.tolist())))]
        assert len(drawn) == 9 and len(set(drawn)) == 1 and drawn[0] != tuple(map(tuple, clip.tolist()))
        assert any(tuple(map(tuple, one.tolist())) == drawn[0] for one in scored[0])
    assert any(len(set(orders[tuple(sorted(map(tuple, clip.tolist())))])) > 1 for clip in training[0])


# Selection by what is written


def test_the_epoch_that_writes_best_remains(tmp_path):
    scores, states = [0.2, 0.6, 0.4, 0.5, 0.1], []

    def score(network, frames):
        assert not network.training and len(frames) == 6
        states.append({name: p.clone() for name, p in network.state_dict().items()})
        return scores[len(states) - 1]

    network = captioner()
    chosen = options(epochs=7, select="cider_d", validate_every=2, learning_rate=0.01)
    history = captioning.train(network, pairs(), pairs(seed=1), chosen, 0, tmp_path, score)
    assert history["validation_loss"].notna().all()
    written = history["validation_cider_d"]
    assert written[written.notna()].to_dict() == {
        1: 0.2,
        3: 0.6,
        5: 0.4,
        6: 0.5,
    }  # the last epoch is always scored
    assert all(torch.equal(p, states[1][name]) for name, p in network.state_dict().items())
    assert not all(torch.equal(p, states[3][name]) for name, p in network.state_dict().items())


@pytest.mark.parametrize(("select", "score"), [("cider_d", None), ("validation_loss", lambda *_: 0.0)])
def test_a_score_goes_with_its_selection(tmp_path, select, score):
    with pytest.raises(ValueError, match=f"select is '{select}'"):
        captioning.train(captioner(), pairs(), pairs(), options(select=select), 0, tmp_path, score)


def test_layers_start_as_copies_where_asked():
    words = Vocabulary.fit(["a dog barks"])
    decoder = {"d_model": 16, "layers": 3, "heads": 2, "d_ff": 16}
    states = {}
    for start in ("drawn", "copies"):
        found = captioning.new(8, words, {"seed": 3, "decoder": decoder, "training": {"start": start}})
        states[start] = [layer.state_dict() for layer in found.decoder.layers]
    for name, weight in states["copies"][0].items():
        assert all(torch.equal(weight, other[name]) for other in states["copies"][1:])
        assert torch.equal(weight, states["drawn"][0][name])  # and nothing else is drawn otherwise
    assert not torch.equal(states["drawn"][0]["linear1.weight"], states["drawn"][1]["linear1.weight"])
    # copies, not the same weights: what one learns the others do not
    assert len(
        {weight.data_ptr() for layer in found.decoder.layers for weight in layer.parameters()}
    ) == 3 * len(list(found.decoder.layers[0].parameters()))


def test_fense_without_its_models_stops_before_anything_else(tmp_path, monkeypatch):
    parameters = {"seed": 5, "decoder": {}, "training": {"select": "fense"}, "decoding": {}}
    for found, lacking in (
        (assets.Assets(), "the sentence encoder .* and the fluency detector"),
        (assets.Assets(fluency=tmp_path, hub=tmp_path), "the sentence encoder"),
        (assets.Assets(sentences=tmp_path), "the fluency detector"),
    ):
        monkeypatch.setattr(assets, "find", lambda found=found: found)
        message = (
            rf"select is fense, which needs {lacking}.*aacstudy download metrics.*, or select by cider_d"
        )
        with pytest.raises(FileNotFoundError, match=message):
            captioning.train_on_corpus(tmp_path / "no corpus", tmp_path / "none", parameters, tmp_path, CPU)
    with pytest.raises(ValueError, match="'bleu'"):
        selection.scorer("bleu", CPU)


class Inline:
    """A pool's worker in this process."""

    def __init__(self, workers, context, prepare, arguments):
        assert workers == 1 and context.get_start_method() == "spawn"
        prepare(*arguments)

    def submit(self, function, *arguments):
        answer = Future()
        answer.set_result(function(*arguments))
        return answer


def test_fense_reads_its_models_once(tmp_path, monkeypatch):
    from aac_metrics.classes import fense

    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "FENSE_DATA", "HF_HUB_CACHE"):
        monkeypatch.setenv(name, "")  # put back afterwards
    found = assets.Assets(sentences=tmp_path / "s", fluency=tmp_path / "f" / "f.ckpt", hub=tmp_path / "h")
    monkeypatch.setattr(assets, "find", lambda: found)
    monkeypatch.setattr(selection, "ProcessPoolExecutor", Inline)
    loaded = []

    def load(sbert_model, **_):
        loaded.append((sbert_model, os.environ["FENSE_DATA"], os.environ["HF_HUB_CACHE"]))
        return "sbert", "echecker", "tokenizer"

    def fense_of(candidates, mult_references, sbert_model, **_):
        assert sbert_model == "sbert"
        return torch.tensor(float(len(candidates) + 10 * sum(map(len, mult_references))))

    monkeypatch.setattr(fense, "_load_models_and_tokenizer", load)
    monkeypatch.setattr(fense, "fense", fense_of)
    score = selection.scorer("fense", CPU)
    # before any caption
    assert loaded == [(str(tmp_path / "s"), str(tmp_path / "f"), str(tmp_path / "h"))]
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert score(("a", "b"), [["c", "d"], ["e"]]) == 32.0
    # each call counts its own captions only
    assert score(("a",), [["c"]]) == 11.0 and len(loaded) == 1


# What is trained on


def annotated(clips=10, each=4):
    """A split whose captions 0 and 1 of each clip describe an order."""
    table = pd.DataFrame(
        {"clip": [f"train/{i}" for i in range(clips)], "split": "train", "path": "", "seconds": 1.0}
    )
    rows = [
        {"clip": f"train/{i}", "text": f"text {i} {k}", "kind": "sequence" if k < 2 else "partial"}
        for k in range(each)
        for i in range(clips)
    ]
    return Corpus(Path("."), table, pd.DataFrame(rows), NO_EVENTS)


def texts(part):
    return part.captions["text"].tolist()


def test_all_is_trained_on_unless_said_otherwise():
    whole = annotated()
    part = training_part(whole, options(), 1)
    pd.testing.assert_frame_equal(part.clips, whole.clips)
    pd.testing.assert_frame_equal(part.captions, whole.captions)


def test_fewer_clips_are_among_more():
    whole = annotated()
    drawn = [set(training_part(whole, options(clip_share=n), 1).clips["clip"]) for n in (0.01, 0.4, 0.7, 1.0)]
    assert [len(one) for one in drawn] == [1, 4, 7, 10]
    assert drawn[0] < drawn[1] < drawn[2] < drawn[3]
    part = training_part(whole, options(clip_share=0.4), 1)
    assert texts(part) == [t for t in texts(whole) if f"train/{t.split()[1]}" in drawn[1]]
    assert part.owners() == [[*part.clips["clip"]].index(clip) for clip in part.captions["clip"]]
    assert (
        drawn[1]
        == set(part.clips["clip"])
        != set(training_part(whole, options(clip_share=0.4), 2).clips["clip"])
    )


def test_first_captions_of_each_clip():
    part = training_part(annotated(), options(captions_per_clip=3), 1)
    assert texts(part) == [f"text {i} {k}" for k in range(3) for i in range(10)]
    assert texts(training_part(annotated(), options(captions_per_clip=9), 1)) == texts(annotated())


def test_order_captions_kept():
    kept = []
    for share in (0.0, 0.3, 0.7):
        part = training_part(annotated(), options(order_captions=share), 1)
        kept.append({t for t in texts(part) if t[-1] in "01"})
        assert [t for t in texts(part) if t[-1] in "23"] == texts(annotated())[20:]
    assert [len(one) for one in kept] == [0, 6, 14] and kept[1] < kept[2]
    both = training_part(annotated(), options(order_captions=0.0, captions_per_clip=1), 1)
    assert texts(both) == [f"text {i} 2" for i in range(10)]  # the first of those that are left


def test_what_cannot_be_trained_on():
    plain = annotated()
    plain = Corpus(plain.folder, plain.clips, plain.captions.drop(columns="kind"), NO_EVENTS)
    with pytest.raises(ValueError, match=r"order_captions is 0\.5, but the captions have no column 'kind'"):
        training_part(plain, options(order_captions=0.5), 1)
    assert texts(training_part(plain, options(), 1)) == texts(plain)
    with pytest.raises(ValueError, match="leave no caption"):
        training_part(annotated(each=2), options(order_captions=0.0), 1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"select": "spider"}, "validation_loss.*cider_d.*fense"),
        ({"precision": "float16"}, "float32.*bfloat16"),
        ({"mixup_alpha": -1}, r"mixup_alpha\s+Input should be greater than or equal to 0"),
        ({"mask_stripes": -1}, r"mask_stripes\s+Input should be greater than or equal to 0"),
        ({"mask_share": 1.5}, r"mask_share\s+Input should be less than or equal to 1"),
        ({"order_captions": -0.1}, r"order_captions\s+Input should be greater than or equal to 0"),
        ({"validate_every": 0}, r"validate_every\s+Input should be greater than or equal to 1"),
        ({"clip_share": 0.0}, r"clip_share\s+Input should be greater than 0"),
    ],
)
def test_wrong_options(wrong, message):
    with pytest.raises(ValueError, match=message):
        options(**wrong)


@pytest.mark.parametrize("select", ["validation_loss", "cider_d"])
def test_captioning_on_a_corpus(tmp_path, select):
    rows, texts = [], []
    for split, n in (("train", 4), ("validation", 2)):
        for i in range(n):
            rows.append({"clip": f"{split}/{i}", "split": split, "path": "none.wav", "seconds": 1.0})
            texts += [
                {"clip": f"{split}/{i}", "text": f"A dog barks, {word} {split}."} for word in ("once", "NA")
            ]
    Corpus(tmp_path, pd.DataFrame(rows), pd.DataFrame(texts), NO_EVENTS).save()
    embedded = [torch.randn(3 + i, 8) for i in range(6)]
    frames.save(tmp_path / "frames.safetensors", [row["clip"] for row in rows], embedded)
    out = tmp_path / "out"
    out.mkdir()
    parameters = {
        "seed": 5,
        "decoder": {"d_model": 16, "layers": 1, "heads": 2, "d_ff": 16},
        "training": {"epochs": 2, "batch": 4, "select": select, "start": "copies"},
        "decoding": {"beam": 2, "min_tokens": 1, "max_tokens": 4, "forbid_repeats": "published"},
    }
    captioning.train_on_corpus(tmp_path, tmp_path / "frames.safetensors", parameters, out, CPU)
    network, vocabulary, extra = load_captioner(out / "captioner.safetensors")
    assert vocabulary == Vocabulary(
        ("<pad>", "<bos>", "<eos>", "<unk>", "a", "dog", "barks", "once", "train", "na")
    )
    assert network.options.heads == 2 and extra == parameters
    history = pd.read_csv(out / "history.csv")
    assert len(history) == 2
    if select == "cider_d":
        from aac_metrics.functional import cider_d

        # beam search with the options given, not with the default ones
        found = decoding.write(network, embedded[4:], vocabulary, DecodingOptions(**parameters["decoding"]))
        written = [vocabulary.decode(best.tokens) for best, *_ in found]
        references = [[f"a dog barks {word} validation" for word in ("once", "na")]] * 2
        expected = float(cider_d(written, references, return_all_scores=False))
        assert history["validation_cider_d"].max() == pytest.approx(expected, abs=1e-9)
    assert PAD == 0 and network.frame_dim == 8


# Device


def test_device_and_threads_from_the_environment(monkeypatch):
    before = torch.get_num_threads()
    try:
        monkeypatch.setenv("AACSTUDY_DEVICE", "cpu")
        monkeypatch.delenv("AACSTUDY_THREADS", raising=False)
        assert device.use() == CPU and torch.get_num_threads() == 1
        monkeypatch.setenv("AACSTUDY_THREADS", "2")
        device.use()
        assert torch.get_num_threads() == 2
        monkeypatch.setenv("AACSTUDY_DEVICE", "")
        assert device.use().type == ("cuda" if torch.cuda.is_available() else "cpu")
    finally:
        torch.set_num_threads(before)
