"""YAMNet: its file is written here, and the network held against a plain computation."""

import csv
import math
import struct
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from aacstudy.corpus.audio import read
from aacstudy.models.checkpoint import load_encoder
from aacstudy.models.encoder import build_encoder
from aacstudy.models.published.encoders import class_names, published_encoder
from aacstudy.models.yamnet import FRONTEND, Yamnet, YamnetLogMel, import_yamnet, read_weights
from aacstudy.options import EncoderOptions, FrontendOptions
from aacstudy.study.parameters import Study
from aacstudy.study.stages import plan

SHARED = Path(__file__).resolve().parents[2] / "shared"
OPTIONS = EncoderOptions(kind="yamnet", weights="yamnet.tflite")
CONV, DEPTHWISE, LINEAR, DEQUANTIZE = range(
    4
)  # places in the list of operator codes, which are not the codes
CODES = (3, 4, 9, 6)
FLOAT32, FLOAT16, INT32, INT8 = 0, 1, 2, 9
BLOCKS = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)] + [(512, 1)] * 5 + [(1024, 2), (1024, 1)]
WAVEFORM = torch.randn(2, 20000, generator=torch.Generator().manual_seed(0)) * 0.1


def flatbuffer(table: dict, out: bytearray | None = None) -> bytearray:
    """A table by its slots: (format, number), array, table or list of tables; parents first."""
    if out is None:
        out = bytearray(struct.pack("<I", 0) + b"TFL3")
        struct.pack_into("<I", out, 0, 12 + 2 * (max(table) + 1))
    slots = max(table) + 1
    offsets = [4 + 8 * slot if slot in table else 0 for slot in range(slots)]
    out += struct.pack(f"<{slots + 2}H", 4 + 2 * slots, 4 + 8 * slots, *offsets)
    at = len(out)
    out += struct.pack("<i", 4 + 2 * slots) + bytes(8 * slots)
    for slot, value in sorted(table.items()):
        place = at + 4 + 8 * slot
        if isinstance(value, tuple):
            struct.pack_into(value[0], out, place, value[1])
            continue
        begin = len(out)
        if isinstance(value, dict):
            flatbuffer(value, out)
            begin += 4 + 2 * (max(value) + 1)  # behind its own list of offsets
        elif isinstance(value, list):
            out += struct.pack("<I", len(value)) + bytes(4 * len(value))
            for i, child in enumerate(value):
                inner = begin + 4 + 4 * i
                struct.pack_into("<I", out, inner, len(out) + 4 + 2 * (max(child) + 1) - inner)
                flatbuffer(child, out)
        else:
            out += struct.pack("<I", len(value)) + value.tobytes()
        struct.pack_into("<I", out, place, begin - place)
    return out


def layers() -> list[tuple[int, int, np.ndarray, np.ndarray]]:
    """Operator, stride, weight as TFLite has it and bias of every layer; float16 holds them."""
    rng = np.random.default_rng(0)
    shapes, width = [(CONV, 2, (32, 3, 3, 1))], 32
    for channels, stride in BLOCKS:
        shapes += [(DEPTHWISE, stride, (1, 3, 3, width)), (CONV, 1, (channels, 1, 1, width))]
        width = channels
    made = []
    for operator, stride, shape in [*shapes, (LINEAR, 1, (521, 1024))]:
        fan, out = (9, shape[3]) if operator == DEPTHWISE else (math.prod(shape[1:]), shape[0])
        integers = rng.integers(-127, 128, shape)
        weight = (integers * 2.0 ** np.round(np.log2(2 / 127 / math.sqrt(fan)))).astype(np.float32)
        made.append((operator, stride, weight, (rng.integers(-8, 16, out) / 128).astype(np.float32)))
    return made


LAYERS = layers()


def described(kind: int = FLOAT32) -> dict:
    """The file of `LAYERS` as tables by slots, with a linear layer in front, as published."""
    tensors, buffers, operators = [], [{0: np.zeros(0, np.uint8)}], []

    def tensor(values: np.ndarray, kind: int, axis: int = 0) -> int:
        about = {0: np.array(values.shape, "<i4"), 1: ("b", kind), 2: ("<I", len(buffers))}
        if kind == INT8:
            across = (
                tuple(i for i in range(values.ndim) if i != axis) if values.ndim == 4 and axis == 0 else None
            )
            step = 2.0 ** np.ceil(np.log2(np.abs(values).max(axis=across, keepdims=True) / 127))
            step = np.where(step > 0, step, 1)
            about[4] = {2: step.ravel().astype("<f4"), 3: np.zeros(step.size, "<i8"), 6: ("<i", axis)}
            values = np.round(values / step)
        types = {FLOAT32: "<f4", FLOAT16: "<f2", INT8: "i1"}
        tensors.append(about)
        buffers.append({0: np.frombuffer(values.astype(types[kind]).tobytes(), np.uint8)})
        return len(tensors) - 1

    operators.append({0: ("<I", LINEAR), 1: np.array([0, 0, -1], "<i4"), 2: np.array([0], "<i4")})
    for operator, stride, weight, bias in LAYERS:
        index = tensor(weight, kind, 3 if operator == DEPTHWISE else 0)
        # as published: through an operator of its own
        if operator == DEPTHWISE and kind != FLOAT32:
            tensors.append({0: tensors[index][0], 1: ("b", FLOAT32)})
            outs = np.array([len(tensors) - 1], "<i4")
            operators.append({0: ("<I", DEQUANTIZE), 1: np.array([index], "<i4"), 2: outs})
            index = len(tensors) - 1
        inputs = np.array([0, index, tensor(bias, FLOAT32)], "<i4")
        options = {0: ("b", 0), 1: ("<i", stride), 2: ("<i", stride), 3: ("b", 1)}
        if operator == DEPTHWISE:
            options |= {3: ("<i", 1), 4: ("b", 1)}
        operators.append({0: ("<I", operator), 1: inputs, 2: np.array([0], "<i4"), 4: options})
    codes = [{0: ("b", code), 3: ("<i", code)} for code in CODES]
    return {0: ("<I", 3), 1: codes, 2: [{0: tensors, 3: operators}], 4: buffers}


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("yamnet") / "yamnet.tflite"
    path.write_bytes(flatbuffer(described(INT8)))
    path.with_name("yamnet_class_map.csv").write_text(
        "index,mid,display_name\n" + "".join(f'{i},/m/{i},"Sound, {i}"\n' for i in range(521))
    )
    return path


@pytest.fixture(scope="module")
def network(file) -> Yamnet:
    return import_yamnet(file)


def plain(patch: torch.Tensor) -> torch.Tensor:
    """Last maps [1024, 3, 2] of a log-mel patch [96, 64], straight from `LAYERS`."""
    x = patch[None, None]
    for operator, stride, weight, bias in LAYERS[:-1]:
        weight = torch.from_numpy(weight)
        # SAME of an even input: a border on both sides, at stride 2 behind alone
        if weight.shape[1] == 3:
            x = F.pad(x, (1, 1, 1, 1) if stride == 1 else (0, 1, 0, 1))
        order, groups = ((3, 0, 1, 2), x.shape[1]) if operator == DEPTHWISE else ((0, 3, 1, 2), 1)
        x = F.relu(F.conv2d(x, weight.permute(order), torch.from_numpy(bias), stride, groups=groups))
    return x[0]


@pytest.mark.parametrize("kind", [FLOAT32, FLOAT16, INT8])
def test_every_type_of_number_gives_the_plain_computation(tmp_path, kind):
    (tmp_path / "y.tflite").write_bytes(flatbuffer(described(kind)))
    encoder = import_yamnet(tmp_path / "y.tflite")
    assert not encoder.training and sum(p.numel() for p in encoder.parameters()) == 3_729_481
    with torch.inference_mode():
        logmel = encoder.logmel(WAVEFORM)  # [2, 1, 123, 64]
        frames, logits = encoder.frames(WAVEFORM), encoder(WAVEFORM)
        padded = F.pad(logmel[:, 0], (0, 0, 0, 192 - 123), value=math.log(0.001))  # [2, 192, 64]
        maps = torch.stack([torch.stack([plain(p) for p in clip.split(96)]) for clip in padded])
        expected = maps.mean(dim=4).transpose(2, 3).flatten(1, 2)  # [2, 6, 1024]
        weight, bias = (torch.from_numpy(one) for one in LAYERS[-1][2:])
        share = torch.sigmoid(maps.mean(dim=(3, 4)) @ weight.T + bias).mean(dim=1)  # [2, 521]
    differences = float((frames - expected[:, :4]).abs().max()), float((logits.sigmoid() - share).abs().max())
    print("frames, probabilities: max difference", differences, "frames' std", float(expected.std()))
    assert frames.shape == (2, 4, 1024) and logits.shape == (2, 521)
    assert expected.std() > 0.01 and share.std() > 0.01 and max(differences) < 1e-5


def test_logmel_is_the_definition():
    log_mel, waveform = YamnetLogMel(FRONTEND), WAVEFORM[0].double().numpy()
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)  # periodic
    starts = range(0, len(waveform) - 399, 160)
    # [time, 257]
    magnitude = np.abs(np.fft.rfft([waveform[s : s + 400] * window for s in starts], 512))

    def mel(hertz):  # HTK
        return 2595 * np.log10(1 + hertz / 700)

    edges, bins = np.linspace(mel(125), mel(7500), 66), mel(np.arange(257) * 31.25)
    filters = [
        np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)).clip(0)
        for low, centre, high in zip(edges, edges[1:], edges[2:])
    ]
    expected = np.log(magnitude @ np.array(filters).T + 0.001)  # [time, 64]
    found = log_mel(WAVEFORM)[0, 0].numpy()
    print("log-mel: max difference", np.abs(found - expected).max())
    assert found.shape == expected.shape == (123, 64) and np.abs(found - expected).max() < 1e-4
    assert torch.allclose(log_mel(torch.zeros(1, 400)), torch.tensor(0.001).log(), atol=1e-6)
    with pytest.raises(ValueError, match="samples >= 400"):
        log_mel(torch.zeros(1, 399))


def test_frame_count_is_exact(network):
    assert network.minimum_samples == 400 and network.frame_dim == 1024
    assert [network.frame_count(n) for n in (399, 400, 15600, 80000, 160000)] == [0, 1, 3, 16, 32]
    edges = [400 + 160 * columns + offset for columns in (31, 32, 95, 96, 128) for offset in (-1, 0)]
    for samples in (400, *edges, 33333):
        with torch.inference_mode():
            assert network.frames(torch.zeros(1, samples)).shape == (1, network.frame_count(samples), 1024)
    with pytest.raises(ValueError, match="399 samples are too few"):
        network(torch.zeros(1, 399))


def test_a_patch_hears_nothing_of_its_neighbours(network):
    with torch.inference_mode():
        logmel = network.logmel(torch.cat([WAVEFORM, WAVEFORM], dim=1))  # [2, 1, 248, 64]
        frames = network.frames_from_logmel(logmel)  # [2, 8, 1024]
        alone = [network.frames_from_logmel(logmel[:, :, 96 * i : 96 * i + 96]) for i in range(3)]
    assert torch.allclose(frames, torch.cat(alone, dim=1), atol=1e-6)


def test_one_patch_has_the_logits_of_its_linear_layer(network):
    with torch.inference_mode():
        logits = network.linear(network.frames(WAVEFORM[:, :15600]).mean(dim=1))
        assert torch.allclose(network(WAVEFORM[:, :15600]), logits, atol=1e-5)


def test_it_is_an_encoder_of_ours(file, network, tmp_path, monkeypatch):
    """Planned, imported with its class names, written and read again; its settings are fixed."""
    monkeypatch.setenv("AACSTUDY_ARTIFACTS", str(tmp_path))
    asked = {
        "encoder": asdict(EncoderOptions(kind="yamnet", weights=str(file))),
        "frontend": asdict(FRONTEND),
    }
    again, classes = load_encoder(plan.encoder(Study.load("demo", asked)).make() / "encoder.safetensors")
    assert (len(classes), classes[520], again.options) == (521, "Sound, 520", OPTIONS)
    with torch.inference_mode():
        assert torch.equal(again(WAVEFORM), network(WAVEFORM))
    assert build_encoder(FRONTEND, OPTIONS, 7).output.out_features == 7
    with pytest.raises(ValueError, match=r"yamnet\.tflite: frontend must be .*n_fft=512"):
        published_encoder(file, FrontendOptions(), OPTIONS)
    with pytest.raises(ValueError, match=r"frontend must be .* for yamnet"):
        build_encoder(FrontendOptions(n_mels=64), OPTIONS, 7)
    with pytest.raises(ValueError, match="yamnet needs weights"):
        EncoderOptions(kind="yamnet")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"index,mid,display_name\n0,/m/0\n", "display_name is empty at index 0"),
        (b"index,mid,display_name\n1,/m/0,Speech\n", "must count from 0 to 0"),
        (b"number,name\n0,Speech\n", "must have the columns index, mid and display_name"),
        (b"", "must have the columns"),
        (b"index,mid,display_name\n0,/m/0,\xff\n", "not a CSV file in UTF-8"),
        (b'index,mid,display_name\n0,/m/0,"' + b"x" * 200_000, "not a CSV file in UTF-8"),
    ],
)
def test_a_class_map_that_cannot_be_used(tmp_path, content, message):
    (tmp_path / "map.csv").write_bytes(content)
    with pytest.raises(ValueError, match=rf"map\.csv: .*{message}"):
        class_names(1, tmp_path / "map.csv")


# Files that are not it


def changed(what) -> bytes:
    tables = described()
    what(tables, tables[2][0][0], tables[2][0][3])
    return bytes(flatbuffer(tables))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (lambda t, tensors, ops: ops.pop(5), "27 layers with weights, not 28"),
        (lambda t, tensors, ops: ops.insert(5, ops[4]), "29 layers with weights, not 28"),
        (lambda t, tensors, ops: ops.insert(2, ops.pop(3)), "layer 2 must be a depthwise convolution"),
        (
            lambda t, tensors, ops: ops[4][4].update({2: ("<i", 1)}),
            r"strides .* of layer 4 are \(0, 2, 1, 1\)",
        ),
        (lambda t, tensors, ops: ops[1][4].update({0: ("b", 1)}), r"layer 1 are \(1, 2, 2, 1\)"),
        (lambda t, tensors, ops: ops[1][4].update({3: ("b", 3)}), r"layer 1 are \(0, 2, 2, 3\)"),
        (lambda t, tensors, ops: ops[3].pop(4), r"layer 3 are \(\)"),
        (
            lambda t, tensors, ops: ops[28].update({1: np.array([0, 54], "<i4")}),
            r"bias of layer 28 .linear layer. is missing",
        ),
        (
            lambda t, tensors, ops: ops[1].update({1: np.array([0, 0, -1], "<i4")}),
            r"bias of layer 1 .* is missing",
        ),
        (
            lambda t, tensors, ops: ops[1].update({1: np.array([0, 999, 1], "<i4")}),
            r"weight of layer 1 .* is miss",
        ),
        (
            lambda t, tensors, ops: tensors[0].update({0: np.array([16, 3, 3, 1], "<i4")}),
            r"shape \(16, 3, 3, 1\), not",
        ),
        (
            lambda t, tensors, ops: tensors[0].update({0: np.full(4, 2**31 - 1, "<i4")}),
            "shape .2147483647, .*not",
        ),
        (lambda t, tensors, ops: tensors[0].update({1: ("b", INT32)}), "schema's type 2"),
        (lambda t, tensors, ops: tensors[0].update({1: ("b", FLOAT16)}), "1152 bytes, not 576"),
        (lambda t, tensors, ops: tensors[0].update({2: ("<I", 2**32 - 1)}), "0 bytes, not 1152"),
        (
            lambda t, tensors, ops: tensors[0].update({1: ("b", INT8), 2: ("<I", 57)}),
            ": .* bytes, not 288",
        ),
        (
            lambda t, tensors, ops: t[4][2].update({0: np.full(128, 255, "u1")}),
            "bias of layer 1 .*: NaN",
        ),
        (lambda t, tensors, ops: t.update({2: []}), "no graph in it"),
        (lambda t, tensors, ops: t.update({1: []}), "0 layers with weights"),
        (lambda t, tensors, ops: t.update({4: [{0: ("b", 0)}] * 10_001}), "10001 tables in one list"),
    ],
)
def test_another_network_is_refused(tmp_path, what, message):
    (tmp_path / "w.tflite").write_bytes(changed(what))
    with pytest.raises(ValueError, match=rf"w\.tflite: .*{message}"):
        import_yamnet(tmp_path / "w.tflite")


@pytest.mark.parametrize("about", [{2: np.ones(5, "<f4")}, {2: np.ones(1, "<f4"), 3: np.ones(1, "<i8")}, {}])
def test_other_scales_are_refused(network, about):
    tables = described(INT8)
    tables[2][0][0][0][4] = about or {0: np.zeros(0, "<f4")}
    with pytest.raises(ValueError, match=r"weight of layer 1 .* int8 with \d scales"):
        read_weights(bytes(flatbuffer(tables)), network)


@pytest.mark.parametrize(
    "content", [b"", b"TFL3", b"PK\x03\x04" * 9, b"\x08\x00\x00\x00TFL3", b"\xff" * 4 + b"TFL3"]
)
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "w.tflite").write_bytes(content)
    with pytest.raises(ValueError, match=r"w\.tflite: (no TFLite file|damaged or cut off)"):
        import_yamnet(tmp_path / "w.tflite")
    with pytest.raises(FileNotFoundError, match=r"none\.tflite"):
        import_yamnet(tmp_path / "none.tflite")
    with open(tmp_path / "large.tflite", "wb") as file:
        file.truncate(10**9)
    with pytest.raises(ValueError, match=r"large\.tflite: no YAMNet: 1000000000 bytes"):
        import_yamnet(tmp_path / "large.tflite")


@pytest.mark.parametrize("share", [0.0001, 0.001, 0.003, 0.1, 0.5, 0.999])
def test_a_file_that_ends_early_is_refused(file, tmp_path, share):
    content = file.read_bytes()
    (tmp_path / "cut.tflite").write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"cut\.tflite: .*(damaged or cut off|no TFLite)"):
        import_yamnet(tmp_path / "cut.tflite")


def candidates() -> list[Path]:
    published = SHARED / "data" / "yamnet" / "yamnet.tflite"
    return [published] if published.is_file() else []


@settings(max_examples=150, deadline=5000)
@given(data=st.data())
def test_flipped_bytes_give_a_network_or_one_kind_of_error(file, network, data):
    """What is not weights lies in the first and last parts of a file; a cut may come on top."""
    path = data.draw(st.sampled_from([file, *candidates()]))
    content = bytearray(path.read_bytes())
    ends = st.integers(8, 30_000) | st.integers(len(content) - 40_000, len(content) - 1)
    for place in data.draw(st.lists(ends, min_size=1, max_size=30)):
        content[place] = data.draw(st.sampled_from([0, 1, 4, 127, 128, 255]) | st.integers(0, 255))
    try:
        weights = read_weights(
            bytes(content[: data.draw(st.just(len(content)) | st.integers(0, len(content)))]), network
        )
    except ValueError as error:
        assert str(error)
    else:
        assert weights.keys() == network.state_dict().keys()


# The published file and real recordings, beside the project

published = pytest.mark.skipif(
    not candidates(), reason="the published yamnet.tflite is not beside the project"
)
CLIPS = SHARED / "real-clips" / "audio"
# a clip of real-clips, and the class names that call it by its name or what it is part of
RIGHT = {
    "car_horn": {"Vehicle horn, car horn, honking"},
    "circular_saw": {"Power tool", "Sawing"},
    "diesel_train_horn": {"Train horn"},
    "explosion": {"Explosion"},
    "factory_whistle": {"Steam whistle", "Whistle"},
    "helicopter": {"Helicopter"},
    "horse": {"Horse"},
    "jackhammer": {"Jackhammer"},
    "jet": {"Jet engine", "Aircraft"},
    "jungle_bird": {"Bird"},
    "level_crossing": {"Train", "Rail transport"},
    "lion": {"Roar"},
    "morse": {"Beep, bleep"},
    "steam": {"Hiss", "Steam"},
    "steam_train": {"Steam whistle", "Train whistle"},
}


@pytest.fixture(scope="module")
def real() -> Yamnet:
    return import_yamnet(candidates()[0])


@published
@pytest.mark.skipif(not CLIPS.is_dir(), reason="real-clips is not beside the project")
def test_real_clips_are_named(real):
    names = class_names(521, candidates()[0].with_name("yamnet_class_map.csv"))
    assert names[0] == "Speech"
    for clip, right in RIGHT.items():
        with torch.inference_mode():
            top = real(torch.from_numpy(read(CLIPS / f"{clip}.wav", 16000))[None])[0].topk(3).indices
        assert right & {names[i] for i in top}, (clip, [names[i] for i in top])


@published
@pytest.mark.slow
def test_neighbours_across_folds_need_patches(real):
    """200 ESC-10 clips; run over whole clips, the same weights are clearly worse."""
    folder, rows = SHARED / "data" / "ESC-50", {}
    with open(folder / "meta" / "esc50.csv", newline="") as file:
        for row in csv.DictReader(file):
            if row["esc10"] == "True":
                rows.setdefault((row["category"], row["fold"]), []).append(row)
    chosen = [row for found in rows.values() for row in found[:4]]
    fold, category = (np.array([row[name] for row in chosen]) for name in ("fold", "category"))
    patches, whole = [], []
    with torch.inference_mode():
        for row in chosen:
            samples, _ = soundfile.read(folder / "audio" / row["filename"], dtype="float32")
            logmel = real.logmel(torch.from_numpy(samples)[None])
            patches.append(real.frames_from_logmel(logmel).mean(dim=1))
            whole.append(real.layers(logmel).mean(dim=(2, 3)))
    shares = []
    for embeddings in (patches, whole):
        unit = F.normalize(torch.cat(embeddings), dim=1).numpy()  # [clips, 1024]
        alike = np.where(fold[:, None] == fold, -1, unit @ unit.T)
        shares.append((category[alike.argmax(axis=1)] == category).mean())
    print(
        f"{len(chosen)} clips: {100 * shares[0]:.1f} % in patches, {100 * shares[1]:.1f} % over whole clips"
    )
    assert len(chosen) == 200 and shares[0] >= 0.95 and shares[1] <= 0.85
