"""Frames of files: each as if it were alone, kept with their lengths."""

import numpy as np
import pytest
import soundfile
import torch

from aacstudy import frames
from aacstudy.corpus.audio import AudioError, read
from aacstudy.models.encoder import TaggingEncoder
from aacstudy.options import EncoderOptions, FrontendOptions

FRONTEND = FrontendOptions(sample_rate=16000, n_fft=512, hop=320, n_mels=32, f_min=50.0, f_max=7800.0)
THIN = EncoderOptions(depths=(1, 1, 1), dims=(4, 8, 12), kernel=3, layer_scale=0.5)


def encoder(options=THIN, frontend=FRONTEND):
    torch.manual_seed(0)
    network = TaggingEncoder(frontend, options, 3)
    network.bn0.running_mean.fill_(-60.0)  # trained statistics differ from a batch's own
    network.bn0.running_var.fill_(100.0)
    return network


def write(path, seconds, rate=16000, channels=1, seed=0):
    wave = np.random.default_rng(seed).normal(scale=0.1, size=(int(seconds * rate), channels))
    soundfile.write(path, wave, rate)
    return path


@torch.inference_mode()
def test_each_file_is_encoded_alone(tmp_path):
    paths = [
        write(tmp_path / "a.wav", 1.0),
        write(tmp_path / "b.flac", 2.37, seed=1),
        write(tmp_path / "stéréo, 44.wav", 1.5, rate=44100, channels=2, seed=2),
    ]
    network = encoder().train()
    found = frames.encode(network, paths)
    assert not network.training
    assert [len(one) for one in found] == [network.frame_count(n) for n in (16000, 37920, 24000)]
    assert len({len(one) for one in found}) == 3
    network.eval()
    for path, one in zip(paths, found):
        alone = network.frames(torch.from_numpy(read(path, 16000))[None])[0]
        assert one.dtype == torch.float32 and one.shape[1] == network.frame_dim == 12
        assert torch.equal(one, alone)
    (again,) = frames.encode(network, paths[1:2])
    assert torch.equal(again, found[1])  # whatever was encoded before


@torch.inference_mode()
def test_padding_would_change_frames(tmp_path):
    network = encoder().eval()
    wave = torch.from_numpy(read(write(tmp_path / "a.wav", 1.0), 16000))[None]
    padded = network.frames(torch.nn.functional.pad(wave, (0, 16000)))[0]
    alone = network.frames(wave)[0]
    assert not torch.allclose(padded[len(alone) - 1], alone[-1], atol=1e-3)  # the reason for one at a time


def test_too_short_for_any_encoder(tmp_path):
    path = write(tmp_path / "short.wav", 0.1)
    with pytest.raises(AudioError, match=r"short\.wav: lasts 0\.100 s"):
        frames.encode(encoder(), [path])


def test_too_short_for_this_encoder(tmp_path):
    slow = FrontendOptions(sample_rate=16000, n_fft=1024, hop=640, n_mels=32, f_min=50.0, f_max=7800.0)
    deep = EncoderOptions(depths=(1, 1, 1, 1), dims=(4, 4, 8, 8), kernel=3)
    network = encoder(deep, slow)
    needed = network.minimum_samples / 16000
    assert needed > 0.5
    path = write(tmp_path / "half.wav", 0.5)
    with pytest.raises(AudioError, match=rf"half\.wav: lasts 0\.500 s; this encoder needs {needed:.3f} s"):
        frames.encode(network, [path])
    assert len(frames.encode(network, [write(tmp_path / "enough.wav", needed)])[0]) >= 1


def test_missing_and_broken_files_are_named(tmp_path):
    (tmp_path / "noise.wav").write_bytes(b"no audio at all")
    for name in ("noise.wav", "absent.wav"):
        with pytest.raises(AudioError, match=name):
            frames.encode(encoder(), [tmp_path / name])


def test_round_trip(tmp_path):
    clips = ["test/b.wav", 'test/a, ünï "quoted".wav', "train/0"]
    made = [torch.randn(n, 5) for n in (4, 1, 7)]
    frames.save(tmp_path / "frames.safetensors", clips, made)
    found = frames.load(tmp_path / "frames.safetensors")
    assert list(found) == clips
    assert all(torch.equal(found[clip], one) for clip, one in zip(clips, made))
    assert [path.name for path in tmp_path.iterdir()] == ["frames.safetensors"]


def test_saving_again_replaces(tmp_path):
    path = tmp_path / "frames.safetensors"
    frames.save(path, ["a", "b"], [torch.zeros(2, 3), torch.zeros(3, 3)])
    frames.save(path, ["c"], [torch.ones(4, 3)])
    assert list(frames.load(path)) == ["c"]


def test_frames_without_a_clip_are_refused(tmp_path):
    path = tmp_path / "frames.safetensors"
    frames.save(path, ["a"], [torch.zeros(2, 3), torch.zeros(3, 3)])
    with pytest.raises(ValueError):
        frames.load(path)
