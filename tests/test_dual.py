"""The dual encoder: what it cannot know, what padding must not change, and that it learns."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from aacstudy.corpus import Corpus
from aacstudy.corpus.text import Vocabulary
from aacstudy.models.dual import DualEncoder
from aacstudy.options import PeerOptions
from aacstudy.training.captioning import pad_frames
from aacstudy.training.contrastive import contrastive_loss, similarities, train_dual

SMALL = PeerOptions(width=16, hidden=24, words=16, epochs=25, batch=20)
SOUNDS = ("dog", "rain", "bell", "train", "horn", "saw")


@pytest.fixture
def model():
    torch.manual_seed(0)
    vocabulary = Vocabulary.fit(["a dog barks before rain falls", "the bell"])
    return DualEncoder(vocabulary, torch.zeros(5), torch.ones(5), SMALL).eval()


def test_size_at_the_default():
    words = Vocabulary.fit([" ".join(f"w{i}" for i in range(385))])
    model = DualEncoder(words, torch.zeros(128), torch.ones(128), PeerOptions())
    assert len(words) == 389 and 240_000 < sum(one.numel() for one in model.parameters()) < 270_000


def test_unit_vectors_without_order(model):
    frames = torch.randn(3, 7, 5)
    audio = model.audio(frames)
    assert audio.shape == (3, 16) and torch.allclose(audio.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(audio, model.audio(frames.flip(1)))
    texts = [
        "A dog barks before rain falls.",
        "Rain falls before a dog barks",
        "a dog, a dog barks before rain falls",
    ]
    one, *others = model.text(model.bags(texts))
    assert all(torch.equal(one, other) for other in others)  # words count once, wherever they stand


def test_unknown_words_are_left_out(model):
    bags = model.bags(["a zebra barks", "a barks", "zebra", ""])
    assert torch.equal(bags[0], bags[1]) and bags[0].sum() == 2
    assert bags[2:].sum() == 0 and torch.isfinite(model.text(bags)).all()


def test_padding_changes_nothing(model):
    clips = [torch.randn(n, 5) for n in (3, 7, 5)]
    together = model.audio(*pad_frames(clips))
    alone = torch.cat([model.audio(one[None]) for one in clips])
    torch.testing.assert_close(together, alone)


def test_loss_by_hand():
    own, scale = torch.arange(2), torch.tensor(3.0)
    same = contrastive_loss(torch.eye(2), torch.eye(2), own, scale)
    assert same.item() == pytest.approx(np.log(1 + np.exp(-3)))
    blind = contrastive_loss(torch.eye(2), torch.ones(2, 2), own, scale)
    assert blind.item() == pytest.approx(np.log(2))
    # three captions: two of the first clip, alike, and one of the second
    text = torch.tensor([[1.0, 0], [1, 0], [0, 1]])
    found = contrastive_loss(torch.eye(2), text, torch.tensor([0, 0, 1]), torch.tensor(1.0)).item()
    e = np.e
    of_clip = -(np.log(2 * e / (2 * e + 1)) + np.log(e / (e + 2))) / 2
    assert found == pytest.approx((np.log(1 + 1 / e) + of_clip) / 2)


def corpus_of(rng, folder) -> tuple[Corpus, dict[str, torch.Tensor]]:
    """Clips of two sounds of six: each a direction in half of the frames, and a word."""
    directions = torch.from_numpy(rng.normal(size=(len(SOUNDS), 8))).float()
    clips, captions, frames = [], [], {}
    for split, n in (("train", 90), ("validation", 30), ("test", 30)):
        for number in range(n):
            clip, (a, b) = f"{split}/{number}", rng.choice(len(SOUNDS), 2, replace=False)
            clips.append((clip, split, f"{clip}.wav", 1.0))
            captions += [
                (clip, f"A {SOUNDS[a]} and a {SOUNDS[b]}."),
                (clip, f"There is a {SOUNDS[b]}, {SOUNDS[a]} too."),
            ]
            noise = 0.3 * torch.from_numpy(rng.normal(size=(6 + number % 3, 8))).float()
            noise[:3] += directions[a]
            noise[3:] += directions[b]
            frames[clip] = noise
    tables = (
        pd.DataFrame(clips, columns=["clip", "split", "path", "seconds"]),
        pd.DataFrame(captions, columns=["clip", "text"]),
    )
    return Corpus(folder, *tables), frames


def test_learns_and_repeats_itself(tmp_path):
    corpus, frames = corpus_of(np.random.default_rng(0), tmp_path)
    model, history = train_dual(frames, corpus, SMALL, 1, tmp_path)
    part = corpus.split("test")
    clips = [frames[clip] for clip in part.clips["clip"]]
    found = similarities(model, clips, part.captions["text"].tolist(), batch=7)
    assert found.shape == (30, 60) and found.dtype == np.float32 and np.abs(found).max() <= 1.001
    whole = similarities(model, clips, part.captions["text"].tolist())
    np.testing.assert_allclose(found, whole, atol=1e-5)
    # the best audio of a caption holds the same two sounds: 15 pairs, so chance is 1 in 15
    words = [frozenset(word for word in SOUNDS if word in text) for text in part.captions["text"]]
    best = [words[2 * audio] == own for audio, own in zip(found.argmax(axis=0), words)]
    assert np.mean(best) > 0.7, np.mean(best)
    assert history["validation"].iloc[-1] > 2 * history["validation"].iloc[0]
    assert len(history) == SMALL.epochs
    (tmp_path / "resume.pt").unlink()
    again, _ = train_dual(frames, corpus, SMALL, 1, tmp_path)
    other, _ = train_dual(frames, corpus, SMALL, 2, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters()))
    assert not all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters()))


def test_the_best_epoch_stays(tmp_path):
    corpus, frames = corpus_of(np.random.default_rng(1), tmp_path)
    options = replace(SMALL, epochs=3)
    model, history = train_dual(frames, corpus, options, 1, tmp_path)
    part = corpus.split("validation")
    found = similarities(model, [frames[clip] for clip in part.clips["clip"]], part.captions["text"].tolist())
    own = found[part.owners(), range(found.shape[1])]
    t2a = np.mean(1 / (1 + (found > own).sum(axis=0)))
    assert t2a == pytest.approx(history.loc[history["validation"].idxmax(), "validation_t2a"], abs=1e-4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch": 1},
        {"dropout": 1.0},
        {"word_dropout": -0.1},
        {"frame_dropout": 1.0},
        {"learning_rate": 0},
        {"weight_decay": -1},
    ],
)
def test_options_out_of_range(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PeerOptions(**wrong)
