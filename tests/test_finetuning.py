"""An encoder that learns with its captioner: gradients reach it, clips are encoded once, nothing
else changes.
"""

import numpy as np
import pytest
import soundfile
import torch

from aacstudy.corpus.text import BOS, EOS
from aacstudy.models.captioner import Captioner
from aacstudy.models.encoder import build_encoder
from aacstudy.options import DecoderOptions, EncoderOptions, FrontendOptions, TrainingOptions
from aacstudy.training import finetuning

FRONTEND = FrontendOptions(sample_rate=8000, n_fft=256, hop=160, n_mels=32, f_min=50.0, f_max=3900.0)
SHAPE = EncoderOptions(depths=(1, 1), dims=(4, 8), kernel=3, layer_scale=1.0)
OPTIONS = TrainingOptions(
    epochs=2, batch=4, captions_per_epoch=0, learning_rate=1e-2, weight_decay=0.01, label_smoothing=0.0,
    mixup_alpha=0.0, mask_stripes=0, finetune_encoder=0.1,
)  # fmt: skip


def networks():
    torch.manual_seed(0)
    encoder = build_encoder(FRONTEND, SHAPE, 3)
    options = DecoderOptions(
        d_model=16, layers=1, heads=2, d_ff=16, max_positions=40, dropout=0.0, projection_dropout=0.0
    )
    return encoder, Captioner(encoder.frame_dim, 10, options)


@pytest.fixture
def files(tmp_path):
    """Five noises of two lengths."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.wav" for i in range(5)]
    for i, path in enumerate(paths):
        soundfile.write(path, 0.1 * rng.standard_normal(8000 if i % 2 else 6000), 8000)
    return paths


OWNERS = [0, 0, 1, 2, 3, 4, 4]
CAPTIONS = [[BOS, *ids, EOS] for ids in ([4], [5, 6], [7], [4, 8], [9], [5], [6, 7, 8])]


def test_encode_gives_each_file_its_own_frames(files):
    encoder, _ = networks()
    encoder.eval()
    with torch.no_grad():
        together, alone = (
            finetuning.encode(encoder, files),
            [finetuning.encode(encoder, [f])[0] for f in files],
        )
    assert len({len(one) for one in together}) == 2
    for a, b in zip(together, alone):
        assert a.shape == b.shape and torch.allclose(a, b, atol=1e-5)


def test_both_learn_and_batch_norm_statistics_stay(files, tmp_path):
    encoder, captioner = networks()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    sets = (files, OWNERS, CAPTIONS), (files[:2], [0, 1], [CAPTIONS[0], CAPTIONS[2]])
    history = finetuning.train(encoder, captioner, *sets, OPTIONS, 1, tmp_path)
    assert list(history["epoch"]) == [1, 2] and history["loss"].iloc[1] < history["loss"].iloc[0]
    after = encoder.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert "convnext.stem.0.weight" in moved
    assert not {name for name in moved if "running" in name or name.startswith("convnext.head")}


def test_the_encoders_rate_is_a_share_of_the_captioners(files, tmp_path):
    """A share so small that the encoder stands still, while the captioner goes on learning."""
    encoder, captioner = networks()
    before = encoder.convnext.stem[0].weight.detach().clone(), captioner.projection[1].weight.detach().clone()
    tiny = TrainingOptions(**{**vars(OPTIONS), "finetune_encoder": 1e-9})
    finetuning.train(
        encoder, captioner, (files, OWNERS, CAPTIONS), (files[:1], [0], CAPTIONS[:1]), tiny, 1, tmp_path
    )
    assert torch.allclose(encoder.convnext.stem[0].weight, before[0], atol=1e-6)
    assert not torch.allclose(captioner.projection[1].weight, before[1], atol=1e-3)


def test_a_resumed_run_ends_as_an_unbroken_one(files, tmp_path, monkeypatch):
    sets = (files, OWNERS, CAPTIONS), (files[:2], [0, 1], [CAPTIONS[0], CAPTIONS[2]])
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    expected = networks()
    finetuning.train(*expected, *sets, OPTIONS, 1, whole)
    real, calls = finetuning.mean_loss, []

    def killed(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(finetuning, "mean_loss", killed)
    with pytest.raises(KeyboardInterrupt):
        finetuning.train(*networks(), *sets, OPTIONS, 1, broken)
    assert (broken / "resume.pt").exists()
    monkeypatch.setattr(finetuning, "mean_loss", real)
    found = networks()
    history = finetuning.train(*found, *sets, OPTIONS, 1, broken)
    assert len(history) == 2
    for one, other in zip(expected, found):
        for name, value in one.state_dict().items():
            assert torch.equal(value, other.state_dict()[name]), name
