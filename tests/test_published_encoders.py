"""Published taggers in our networks, held against plain computations on the tensors of the file."""

import pickle
from dataclasses import asdict

import numpy as np
import pytest
import torch
from published_tensors import (
    cnn14_plain,
    cnn14_tensors,
    convnext_plain,
    convnext_tensors,
    logmel_reference,
)
from safetensors.torch import save_file

from aacstudy.models.checkpoint import load_encoder, save_encoder
from aacstudy.models.frontend import LogMel
from aacstudy.models.published.encoders import (
    CONVNEXT_FRONTEND,
    class_names,
    convnext_of,
    import_cnn14,
    published_encoder,
)
from aacstudy.models.published.files import read_tensors
from aacstudy.options import EncoderOptions, FrontendOptions
from aacstudy.study.parameters import Study
from aacstudy.study.stages import plan

CNN14 = {"kind": "cnn14", "dims": (64, 128, 256, 512, 1024, 2048)}
NUMPY = {"test_mAP": np.float64(0.465), "AP": np.arange(3, dtype=np.float32), "iteration": np.int64(70000)}


@pytest.fixture(scope="module")
def tensors():
    return convnext_tensors()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tensors):
    """The same network as a training script and as a hub would write it, and a CNN14."""
    folder = tmp_path_factory.mktemp("published")
    torch.save({"model": tensors, "iteration": 70000} | NUMPY, folder / "nested.pth")
    renamed = {name.replace(".gamma", ".scale_layer"): tensor for name, tensor in tensors.items()}
    save_file(renamed, folder / "flat.safetensors")
    torch.save({"model": cnn14_tensors()} | NUMPY, folder / "cnn14.pth")
    return folder


@pytest.fixture(scope="module")
def convnext(folder):
    return convnext_of("here", read_tensors(folder / "nested.pth"))


def noise(seconds: float = 1.0, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(int(32000 * seconds))


def assert_equal(encoder, plain, tensors, frontend: FrontendOptions) -> None:
    """Frames and logits of two clips, from the waveform on, against the plain computation."""
    clips = np.stack([noise(seed=1), noise(seed=2)])
    # the synthetic file's mel filters are a ten-thousandth larger than the definition's
    logmel = np.stack([logmel_reference(clip, frontend) for clip in clips]) + 10 * np.log10(1 + 1e-4)
    frames, logits = plain(tensors, torch.tensor(logmel, dtype=torch.float32))
    with torch.inference_mode():
        waveforms = torch.tensor(clips, dtype=torch.float32)
        found = encoder.frames(waveforms), encoder(waveforms)
    differences = [float((ours - theirs).abs().max()) for ours, theirs in zip(found, (frames, logits))]
    print("frames, logits: max difference", differences, "at std", float(frames.std()), float(logits.std()))
    assert found[0].shape == frames.shape == (2, 3, encoder.frame_dim) and found[1].shape == (2, 527)
    assert frames.std() > 0.1 and logits.std() > 0.1
    assert max(differences) < 1e-4


def test_convnext_is_the_published_network(convnext, tensors):
    assert len(tensors) == 190
    assert sum(p.numel() for p in convnext.parameters()) == 28_222_767
    assert not convnext.training and convnext.frontend == FrontendOptions()
    assert_equal(convnext, convnext_plain, tensors, FrontendOptions())


def test_cnn14_is_the_published_network(folder):
    encoder, tensors = import_cnn14(folder / "cnn14.pth"), cnn14_tensors()
    assert len(tensors) == 84
    assert sum(p.numel() for p in encoder.parameters()) == 80_753_615
    names = {name for name in encoder.state_dict() if not name.startswith("log_mel.")}
    assert names == {name for name in tensors if "_extractor." not in name}
    assert_equal(encoder, cnn14_plain, tensors, FrontendOptions(n_mels=64))


def test_both_names_of_layer_scale_both_containers_and_a_wrapper(folder, convnext, tensors):
    expected = convnext.state_dict()
    wrapped = {f"preprocessor.encoder.{name}": tensor for name, tensor in tensors.items()}
    for found in (
        convnext_of("flat", read_tensors(folder / "flat.safetensors")),
        convnext_of("here", wrapped),
    ):
        for name, tensor in found.state_dict().items():
            assert torch.equal(tensor, expected[name]), name


def test_mel_filters_are_the_files(convnext, tensors):
    filters = tensors["logmel_extractor.melW"]
    assert torch.equal(convnext.log_mel.mel.mel_scale.fb, filters)
    ours = LogMel(CONVNEXT_FRONTEND).mel.mel_scale.fb
    assert (filters.sum() / ours.sum()).item() == pytest.approx(1 + 1e-4, abs=1e-5)


def test_an_import_is_ours_from_then_on(convnext, tmp_path):
    save_encoder(tmp_path / "e.safetensors", convnext, class_names(527), {"source": "Zenodo"})
    again, classes = load_encoder(tmp_path / "e.safetensors")
    assert classes[:2] == ("class_000", "class_001") and classes[-1] == "class_526"
    waveform = torch.tensor(noise(), dtype=torch.float32)[None]
    with torch.inference_mode():
        assert torch.equal(again(waveform), convnext(waveform))
    assert again.options == EncoderOptions(weights="nested.pth")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages.4.0.gamma": torch.ones(3)}, r"unexpected tensor 'stages\.4\.0\.gamma'"),
        ({"stages.0.0.scale_layer": torch.ones(96)}, "unexpected tensor 'stages.0.0.gamma'"),
        ({"head.weight": torch.ones(3)}, r"w\.pth: .*unexpected tensor 'head\.weight'"),
        ({"norm.weight": None}, r"missing tensor 'norm\.weight'"),
        ({"bn0.running_var": None}, r"missing tensor 'bn0\.running_var'"),
        ({"stages.2.8.pwconv2.bias": None}, r"missing tensor 'stages\.2\.8\.pwconv2\.bias'"),
        ({"logmel_extractor.melW": None}, r"missing tensor 'logmel_extractor\.melW'"),
        ({"spectrogram_extractor.stft.conv_imag.weight": None}, r"conv_imag\.weight' is missing"),
        ({"downsample_layers.0.0.weight": None}, r"0 tensors are called 'downsample_layers\.0\.0\.weight'"),
        ({"norm.weight": torch.ones(3)}, r"tensor 'norm\.weight' is \(3,\) torch\.float32, not \(768,\)"),
        ({"norm.bias": torch.ones(768).half()}, r"'norm\.bias' is \(768,\) torch\.float16"),
        (
            {"spectrogram_extractor.stft.conv_real.weight": torch.ones(257, 1, 512)},
            r"must be \(513, 1, 1024\)",
        ),
        ({"logmel_extractor.melW": torch.rand(513, 224)}, "away from the mel filters"),
        ({"logmel_extractor.melW": torch.full((513, 224), torch.nan)}, "away from the mel filters"),
    ],
)
def test_what_does_not_fit_is_named(tensors, change, message):
    changed = {name: tensor for name, tensor in (tensors | change).items() if tensor is not None}
    with pytest.raises(ValueError, match=message):
        convnext_of("w.pth", changed)


def test_a_wrapper_around_a_part_only(tensors):
    changed = {f"encoder.{name}": tensor for name, tensor in tensors.items()} | {"stray": torch.ones(1)}
    with pytest.raises(ValueError, match=r"unexpected tensors outside of 'encoder\.': \['stray'\]"):
        convnext_of("w.pth", changed)


def test_a_cnn14_of_other_sizes_is_refused(tmp_path):
    tensors = {"conv_block1.conv1.weight": torch.ones(64, 1, 3, 3)}
    tensors["spectrogram_extractor.stft.conv_real.weight"] = torch.ones(129, 1, 256)
    torch.save(tensors, tmp_path / "small.pth")
    with pytest.raises(ValueError, match=r"small\.pth: 256 samples an FFT .*\[1024, 512\]"):
        import_cnn14(tmp_path / "small.pth")
    with pytest.raises(ValueError, match=r"small\.pth: 0 tensors are called 'downsample_layers"):
        convnext_of("small.pth", read_tensors(tmp_path / "small.pth"))


# Files


def test_numpy_beside_the_weights_is_read(tmp_path):
    """As numpy 2 pickles them, and under the names that numpy 1 wrote."""
    tensors = {"a": torch.arange(3.0)}
    for core in ("_core", "core"):
        path = tmp_path / f"{core}.pth"
        torch.save({"model": tensors, "statistics": [NUMPY]}, path, _use_new_zipfile_serialization=False)
        content = path.read_bytes()
        assert b"numpy._core.multiarray" in content
        path.write_bytes(content.replace(b"numpy._core.multiarray", f"numpy.{core}.multiarray".encode()))
        assert torch.equal(read_tensors(path)["a"], tensors["a"])


def test_a_file_that_would_run_code_is_refused(tmp_path):
    mark = tmp_path / "mark"

    class Trap:
        def __reduce__(self):
            return (open, (str(mark), "w"))

    torch.save({"model": {"a": torch.ones(1)}, "trap": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(ValueError, match=r"trap\.pth: .* more than weights, .*could run code \(.*open"):
        read_tensors(tmp_path / "trap.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"model": Trap()}, protocol=2))
    with pytest.raises(ValueError, match=r"plain\.pth"):
        read_tensors(tmp_path / "plain.pth")
    assert not mark.exists()


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_tensors(tmp_path / "nowhere.pth")
    for name in ("x.pth", "x.safetensors"):
        for content in (b"", b"hello", b"\x80\x02" + b"\xff" * 60):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(ValueError, match=name):
                read_tensors(tmp_path / name)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"list\.pth: holds a list"):
        read_tensors(tmp_path / "list.pth")
    torch.save({"a": torch.ones(1), "epoch": 3}, tmp_path / "mixed.pth")
    with pytest.raises(ValueError, match=r"mixed\.pth: 'epoch' is a int, not a tensor"):
        read_tensors(tmp_path / "mixed.pth")


# Names


def test_class_names(tmp_path):
    labels = tmp_path / "class_labels_indices.csv"
    labels.write_text('index,mid,display_name\n0,/m/09x0r,Speech\n1,/m/05zppz,"Male speech, man speaking"\n')
    assert class_names(2, labels) == ("Speech", "Male speech, man speaking")
    with pytest.raises(ValueError, match=r"class_labels_indices\.csv: .* 0 to 526; it has 2 rows"):
        class_names(527, labels)
    labels.write_text("id,name\n0,Speech\n")
    with pytest.raises(ValueError, match="columns index, mid and display_name"):
        class_names(1, labels)


def test_a_study_gets_the_weights_it_asks_for(folder):
    def asked(file: str, n_mels: int = 224, **options):
        return published_encoder(folder / file, FrontendOptions(n_mels=n_mels), EncoderOptions(**options))

    assert asked("nested.pth").frame_dim == 768
    encoder = asked("cnn14.pth", 64, **CNN14)
    assert encoder.frame_dim == 2048 and asdict(encoder.options)["kind"] == "cnn14"
    with pytest.raises(ValueError, match=r"nested\.pth: frontend must be .*n_mels=224.*got .*n_mels=64"):
        asked("nested.pth", 64)
    with pytest.raises(ValueError, match=r"nested\.pth: encoder\.depths must be \(3, 3, 9, 3\)"):
        asked("nested.pth", depths=(3, 3, 3, 3))
    with pytest.raises(ValueError, match=r"cnn14\.pth: 0 tensors are called 'downsample_layers"):
        asked("cnn14.pth")


def test_a_study_on_published_weights_trains_no_encoder(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("AACSTUDY_ARTIFACTS", str(tmp_path / "artifacts"))
    weights = tmp_path / "mine.pth"
    weights.symlink_to(folder / "nested.pth")
    (folder / "class_labels_indices.csv").write_text(
        "index,mid,display_name\n" + "".join(f"{i},/m/{i},Sound {i}\n" for i in range(527))
    )
    asked = {"encoder": asdict(EncoderOptions(weights=str(weights))), "frontend": asdict(FrontendOptions())}
    artifact = plan.encoder(Study.load("demo", asked))
    assert artifact.stage == "encoder" and artifact.inputs == ()
    encoder, classes = load_encoder(artifact.make() / "encoder.safetensors")
    assert encoder.frame_dim == 768 and classes[526] == "Sound 526"
    asked["encoder"]["weights"] = str(tmp_path / "none.pth")
    with pytest.raises(FileNotFoundError, match=r"none\.pth"):
        plan.encoder(Study.load("demo", asked))
