"""Frames of files: each as if it were alone, kept with their lengths."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from aacstudy.corpus.audio import AudioError, read
from aacstudy.models import frames
from aacstudy.models.checkpoint import load_encoder, save_encoder
from aacstudy.models.convnext import TaggingEncoder
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
    found = list(frames.encode(network, paths, workers=2))
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
    # the reason for one at a time
    assert not torch.allclose(padded[len(alone) - 1], alone[-1], atol=1e-3)


def test_too_short_for_any_encoder(tmp_path):
    path = write(tmp_path / "short.wav", 0.1)
    with pytest.raises(AudioError, match=r"short\.wav: lasts 0\.100 s"):
        list(frames.encode(encoder(), [path]))


def test_too_short_for_this_encoder(tmp_path):
    slow = FrontendOptions(sample_rate=16000, n_fft=1024, hop=640, n_mels=32, f_min=50.0, f_max=7800.0)
    deep = EncoderOptions(depths=(1, 1, 1, 1), dims=(4, 4, 8, 8), kernel=3)
    network = encoder(deep, slow)
    needed = network.minimum_samples / 16000
    assert needed > 0.5
    path = write(tmp_path / "half.wav", 0.5)
    with pytest.raises(AudioError, match=rf"half\.wav: lasts 0\.500 s; this encoder needs {needed:.3f} s"):
        list(frames.encode(network, [path]))
    (enough,) = frames.encode(network, [write(tmp_path / "enough.wav", needed)])
    assert len(enough) >= 1


def test_missing_and_broken_files_are_named(tmp_path):
    (tmp_path / "noise.wav").write_bytes(b"no audio at all")
    for name in ("noise.wav", "absent.wav"):
        with pytest.raises(AudioError, match=name):
            list(frames.encode(encoder(), [tmp_path / name]))


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


@pytest.mark.parametrize(
    ("clips", "made", "said"),
    [
        (["a"], [torch.zeros(2, 3), torch.zeros(3, 3)], "2 clips' frames for 1 names"),
        (["a", "b"], [torch.zeros(2, 3), torch.zeros(3, 4)], "of one width"),
        (["a"], [torch.zeros(2, 3, dtype=torch.float64)], "wants float32"),
        ([], [], "at least one clip"),
    ],
)
def test_frames_that_do_not_fit_are_refused(tmp_path, clips, made, said):
    with pytest.raises(ValueError, match=said):
        frames.save(tmp_path / "frames.safetensors", clips, made)
    assert list(tmp_path.iterdir()) == []


def test_frames_need_not_be_contiguous(tmp_path):
    path = tmp_path / "frames.safetensors"
    frames.save(path, ["x"], [torch.arange(6.0).reshape(3, 2).T])
    assert load_file(path)["frames"].tolist() == [[0.0, 2.0, 4.0], [1.0, 3.0, 5.0]]


# --- a whole corpus: shards, kills, memory ------------------------------------------------------


@pytest.fixture
def small(tmp_path, monkeypatch):
    """An encoder's file, eleven recordings of all lengths and their names; shards of three."""
    monkeypatch.setattr(frames, "SHARD", 3)
    save_encoder(tmp_path / "encoder.safetensors", encoder(), ("a", "b", "c"))
    (tmp_path / "in").mkdir()
    paths = [write(tmp_path / "in" / f"{i}.wav", 0.5 + 0.1 * (i % 4), seed=i) for i in range(11)]
    return tmp_path, [f"train/{path.name}" for path in paths], paths


SHARDS = [f"frames-{i:07d}.safetensors" for i in (0, 3, 6, 9)]


def network_of(folder):
    return load_encoder(folder / "encoder.safetensors")[0]


def counted(monkeypatch):
    """Files that are decoded from now on."""
    decoded, read_one = [], frames.read

    def read(path, rate):
        decoded.append(path.name)
        return read_one(path, rate)

    monkeypatch.setattr(frames, "read", read)
    return decoded


def test_encode_all(small, capsys):
    folder, clips, paths = small
    network = network_of(folder)
    frames.encode_all(network, clips, paths, folder, workers=2)
    found = frames.load(folder)
    assert list(found) == clips
    for clip, alone in zip(clips, frames.encode(network, paths)):
        assert torch.equal(found[clip], alone)
    assert sorted(path.name for path in folder.glob("*.*")) == ["encoder.safetensors", *SHARDS]
    assert "11/11" in capsys.readouterr().err


KILLED = """
import sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from aacstudy.models import frames
from aacstudy.models.checkpoint import load_encoder
folder = Path(sys.argv[1])
read = frames.read
def slow(path, rate):
    time.sleep(0.2)
    return read(path, rate)
frames.read, frames.SHARD = slow, 3
paths = [folder / "in" / f"{i}.wav" for i in range(11)]
clips = [f"train/{path.name}" for path in paths]
(folder / "part").mkdir()
frames.encode_all(load_encoder(folder / "encoder.safetensors")[0], clips, paths, folder / "part")
"""


def test_a_killed_run_goes_on_behind_its_last_shard(small, monkeypatch):
    folder, clips, paths = small
    process = subprocess.Popen([sys.executable, "-c", KILLED, folder], stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while not (folder / "part" / SHARDS[1]).exists():
        assert process.poll() is None and time.monotonic() < end, process.communicate()[1]
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.stderr.close()
    whole = sorted(path.name for path in (folder / "part").glob("*.safetensors"))
    assert whole in (SHARDS[:2], SHARDS[:3])
    decoded = counted(monkeypatch)
    torch.set_num_threads(1)  # as every stage does: another number of threads gives other last bits
    frames.encode_all(network_of(folder), clips, paths, folder / "part")
    # no finished one again
    assert sorted(decoded) == sorted(f"{i}.wav" for i in range(3 * len(whole), 11))
    frames.encode_all(network_of(folder), clips, paths, folder)
    for shard in SHARDS:
        assert (folder / "part" / shard).read_bytes() == (folder / shard).read_bytes()
    assert sorted(path.name for path in (folder / "part").glob("*")) == SHARDS


def test_an_error_keeps_the_finished_shards(small, monkeypatch):
    folder, clips, paths = small
    good = paths[7].read_bytes()
    paths[7].write_bytes(b"no audio")
    with pytest.raises(AudioError, match=r"7\.wav: not readable"):
        frames.encode_all(network_of(folder), clips, paths, folder)
    paths[7].write_bytes(good)
    decoded = counted(monkeypatch)
    frames.encode_all(network_of(folder), clips, paths, folder)
    assert sorted(decoded) == sorted(f"{i}.wav" for i in range(6, 11))


@pytest.mark.parametrize("damage", ["cut", "empty", "other clips"])
def test_a_damaged_shard_is_made_again(small, monkeypatch, damage):
    folder, clips, paths = small
    frames.encode_all(network_of(folder), clips, paths, folder)
    by_clip, second = frames.load(folder), folder / SHARDS[1]
    whole = second.read_bytes()
    if damage == "other clips":
        frames.save(second, clips[:3], [by_clip[name] for name in clips[:3]])
    else:
        second.write_bytes(whole[:200] if damage == "cut" else b"")
    decoded = counted(monkeypatch)
    frames.encode_all(network_of(folder), clips, paths, folder)
    assert sorted(decoded) == ["3.wav", "4.wav", "5.wav"]
    assert second.read_bytes() == whole


def test_frames_of_other_clips_do_not_stay(small):
    folder, clips, paths = small
    frames.encode_all(network_of(folder), clips, paths, folder)
    frames.encode_all(network_of(folder), clips[:4], paths[:4], folder)
    assert list(frames.load(folder)) == clips[:4]
    with pytest.raises(FileNotFoundError, match="holds no frames"):
        frames.load(folder / "in")


MEMORY = """
import sys
from pathlib import Path
import torch
from aacstudy.models import frames

def anonymous():  # MB that no file backs
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) / 1000

folder = Path(sys.argv[1])
for i in range(8):
    frames.save(folder / f"frames-{i}.safetensors", [str(i)], [torch.full((10_000, 256), float(i))])  # 10 MB
before = anonymous()
found = frames.load(folder)
assert [float(found[str(i)][5_000, 7]) for i in range(8)] == list(range(8))
print(anonymous() - before)
"""


def test_memory_does_not_grow_with_the_file(tmp_path):
    """82 MB of frames are loaded with a few MB of memory of our own."""
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc here")
    done = subprocess.run([sys.executable, "-c", MEMORY, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 20
