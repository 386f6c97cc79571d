"""Published taggers in our networks, held against plain computations on the tensors of the file."""

import argparse
import contextlib
import json
import os
import pickle
import subprocess
import sys
from collections import Counter, OrderedDict, defaultdict
from dataclasses import asdict
from functools import partial
from operator import methodcaller
from pathlib import PosixPath
from types import ModuleType
from typing import Any

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

from aacstudy.__main__ import main
from aacstudy.models.checkpoint import load_encoder, save_encoder
from aacstudy.models.frontend import LogMel
from aacstudy.models.published.encoders import (
    CONVNEXT_FRONTEND,
    class_names,
    convnext_of,
    import_cnn14,
    published_encoder,
)
from aacstudy.models.published.files import read_plain, read_tensors
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
    return convnext_of(folder / "nested.pth", read_tensors(folder / "nested.pth"))


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


def container(module: str, name: str, **content):
    """An object of a class of that name, as a library that is not here would have pickled it."""
    sys.modules.setdefault(module, ModuleType(module))
    made = type(name, (), {"__module__": module})
    setattr(sys.modules[module], name, made)
    found = made()
    vars(found).update(content)
    return found


@pytest.fixture
def hyper_parameters(monkeypatch):
    """What Lightning and training scripts keep beside the weights, of real classes where torch or
    Python has them.
    """
    for name in ("omegaconf", "omegaconf.base", "omegaconf.listconfig", "omegaconf.dictconfig"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    parameter = torch.nn.Parameter(torch.ones(2))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(torch.optim.AdamW([parameter]), 3)
    about = container("omegaconf.base", "ContainerMetadata", ref_type=Any, object_type=dict)
    items = container("omegaconf.listconfig", "ListConfig", _metadata=about, _content=[1, 2.0, "x"])
    return {
        "ckpt": PosixPath("/home/somebody/model.ckpt"),
        "cfg": container("omegaconf.dictconfig", "DictConfig", _content={"betas": items}, _parent=None),
        "step": schedule.step,
        "scheduler": schedule,
        "names": Counter("abba"),
        "by_name": defaultdict(list, a=[1]),
        "half": partial(int, base=2),
        "namespace": argparse.Namespace(lr=1e-3),
        "complex": torch.ones(2, dtype=torch.complex64),
        "random": np.random.default_rng(0).bit_generator.state,
        "seen": {PosixPath("a"), PosixPath("b")},
        "dtype": torch.float32,
    } | NUMPY


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("wrapper", ["model", "state_dict"])
def test_hyper_parameters_beside_the_weights_are_left_aside(
    tmp_path, hyper_parameters, zipped, wrapper, capsys
):
    tensors = OrderedDict(
        a=torch.arange(6.0).view(2, 3).T,  # not contiguous
        b=torch.tensor(7),
        c=torch.nn.Parameter(torch.randn(3).half()),
        d=torch.empty(0, 4, dtype=torch.bfloat16),
        e=torch.tensor([True, False]),
    )
    tensors["shared"] = tensors["b"]
    path = tmp_path / "lightning.ckpt"
    if not zipped:
        del hyper_parameters["complex"]
    content = {"epoch": 192, "hyper_parameters": hyper_parameters, wrapper: tensors}
    torch.save(
        content | {"callbacks": {"m": hyper_parameters["ckpt"]}}, path, _use_new_zipfile_serialization=zipped
    )
    for name in [one for one in sys.modules if one.startswith("omegaconf")]:
        del sys.modules[name]  # it is not here
    found = read_tensors(path)
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name
    said = capsys.readouterr().err
    assert "lightning.ckpt: left aside beside the weights, not run: " in said
    assert "omegaconf" not in sys.modules


class Call:
    """Asks for a call of a function when it is read."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call

    def __call__(self):  # what calls it is only read
        raise AssertionError


def traps(mark: str) -> dict[str, object]:
    """Values that would make the file ``mark`` if a reader did what they ask for."""
    command, code = f"touch {mark}", f"open({mark!r}, 'w').close()"
    return {
        "system": Call(os.system, command),
        "eval": Call(eval, code),
        "exec": Call(exec, code),
        "open": Call(open, mark, "w"),
        "Popen": Call(subprocess.Popen, ["touch", mark]),
        "getattr": Call(Call(getattr, Call(__import__, "os"), "system"), command),
        "partial": Call(Call(partial, os.system, command)),
        "methodcaller": Call(Call(methodcaller, "touch"), PosixPath(mark)),
        "loads": Call(pickle.loads, pickle.dumps(Call(os.system, command))),
        "load": Call(torch.load, mark),
        "defaultdict": Call(defaultdict, Call(partial, os.system, command)),
    }


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", traps(""))
def test_a_file_that_would_run_code_runs_none(tmp_path, name, zipped, capsys):
    mark, path = tmp_path / "mark", tmp_path / "trap.pth"
    trap = traps(str(mark))[name]
    good = {"a": torch.ones(1)}

    def read(content: object) -> dict:
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        return read_tensors(path)

    # beside the weights, nested, as a key, and with the weights' own call in it
    for content in ({"trap": trap}, {"deep": [({"x": {1: trap}},)]}, {"set": Call(set, [trap])}):
        assert torch.equal(read({"model": good} | content)["a"], good["a"])
        assert f".{name}" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"trap\.pth: 'b' is \S+, which was not run, not a tensor"):
        read({"model": good | {"b": trap}})
    with pytest.raises(ValueError, match=r"trap\.pth: holds .*, which was not run, not tensors by name"):
        read(trap)
    # where a tensor's storage, size or name should stand
    for call in ((trap, 0, (1,), (1,)), (torch.ones(1).untyped_storage(), 0, trap, (1,))):
        with contextlib.suppress(ValueError):
            read({"model": {"a": Call(torch._utils._rebuild_tensor_v2, *call, False, OrderedDict())}})
    path.write_bytes(pickle.dumps({"model": trap}, protocol=2))
    with pytest.raises(ValueError, match=r"trap\.pth"):
        read_tensors(path)
    assert not mark.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_hand_written_opcodes_run_nothing(tmp_path, protocol):
    """Building, filling and calling what stands for a class, by every opcode that can."""
    mark = tmp_path / "mark"
    system = b"cposix\nsystem\n"
    call = f"(S'touch {mark}'\n".encode()
    programs = [
        system + call + b"tR.",
        b"(" + f"S'touch {mark}'\n".encode() + b"iposix\nsystem\n.",
        b"(" + system + f"S'touch {mark}'\n".encode() + b"o.",
        system + b")\x81" + b"}S'__call__'\n" + system + b"sb.",  # NEWOBJ, then a state
        system + b"(]tR(" + system + b"e.",  # APPENDS
        system + b"S'k'\nS'v'\ns.",  # SETITEM
        system + b"(S'k'\nS'v'\nu.",  # SETITEMS
        system + b"N}S'__new__'\n" + system + b"s\x86b.",  # a state in slots
        b"ctorch._utils\n_rebuild_tensor_v2\nN}S'__defaults__'\n" + system + b"s\x86b.",
        b"ccollections\nOrderedDict\nN}S'__init__'\n" + system + b"s\x86b.",
    ]
    for program in programs:
        data = (b"\x80" + bytes([protocol]) if protocol > 1 else b"") + program
        with contextlib.suppress(ValueError):
            read_plain("x", data)
    assert not mark.exists()
    assert isinstance(OrderedDict(a=1), dict) and list(OrderedDict(a=1)) == ["a"]


def test_damaged_files_of_torch(tmp_path):
    """Cut anywhere, or with storages that the file cannot hold: an error that names the file."""
    for zipped in (True, False):
        path = tmp_path / "x.pth"
        torch.save({"a": torch.arange(40.0)}, path, _use_new_zipfile_serialization=zipped)
        whole = path.read_bytes()
        for size in range(0, len(whole) - 1, 37):
            path.write_bytes(whole[:size])
            with pytest.raises(ValueError, match=r"x\.pth: damaged"):
                read_tensors(path)
        path.write_bytes(whole.replace(b"K(", b"J\xff\xff\xff\x7f", 1)[: len(whole) + 3])
        with pytest.raises(ValueError, match=r"x\.pth: damaged"):
            read_tensors(path)


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


def test_a_study_on_published_weights_trains_no_encoder(folder, tmp_path, monkeypatch, capsys):
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
    # looked at before a corpus is made, and nothing stays of it
    bad = tmp_path / "bad.pth"
    torch.save({"model": {"a": torch.ones(1)}}, bad)
    asked |= {"encoder": asked["encoder"] | {"weights": str(bad)}, "notebooks": ["05_retrieval"]}
    before = sorted((tmp_path / "artifacts").rglob("*"))
    for command in ("plan", "run"):
        assert main([command, "demo", "--overrides", json.dumps(asked)]) == 2
        assert "bad.pth: 0 tensors are called 'downsample_layers.0.0.weight'" in capsys.readouterr().err
    assert sorted((tmp_path / "artifacts").rglob("*")) == before
