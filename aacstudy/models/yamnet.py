"""YAMNet, a published AudioSet tagger, in torch; its weights come from the published ``.tflite`` file.

A TFLite file is a flatbuffer: tables whose fields are found by their slot. What is read here is so little that it
needs no package. Nothing in the file is run, and no byte is taken without asking whether the file holds it.
Source: github.com/tensorflow/models, research/audioset/yamnet; slots: tensorflow/lite/schema/schema.fbs.
"""

import math
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aacstudy.models.tagger import Tagger
from aacstudy.options import EncoderOptions, FrontendOptions

FRONTEND = FrontendOptions(sample_rate=16000, n_fft=512, hop=160, n_mels=64, f_min=125.0, f_max=7500.0)
WINDOW = 400  # samples: 25 ms
FLOOR = 0.001  # added to the magnitudes before the logarithm
PATCH = 96  # log-mel columns: 0.96 s
STRIDE = 32  # log-mel columns between two frames
CLASSES = 521
CHANNELS = (64, 128, 128, 256, 256, *[512] * 6, 1024, 1024)  # of the blocks after the first convolution
STRIDES = (1, 2, 1, 2, 1, 2, *[1] * 5, 2, 1)

DTYPES = {0: np.dtype("<f4"), 1: np.dtype("<f2"), 9: np.dtype("i1")}  # of the schema's tensor types
CONV, DEPTHWISE, DEQUANTIZE, LINEAR = 3, 4, 6, 9  # of its operators
NAMES = {CONV: "convolution", DEPTHWISE: "depthwise convolution", LINEAR: "linear layer"}
SAME, RELU = 0, 1  # of its paddings and activations
MOST = 10_000  # tables in a list; YAMNet has about a hundred
LARGEST = 100_000_000  # bytes of a file


class YamnetLogMel(nn.Module):
    """Logarithm of mel magnitudes: periodic Hann window, no padding, HTK's mel scale, triangles straight in mel."""

    minimum_samples = WINDOW

    def __init__(self, options: FrontendOptions):
        super().__init__()
        self.options = options

        def mel(hertz: Tensor) -> Tensor:
            return 1127.0 * torch.log1p(hertz / 700.0)

        low, high = mel(torch.tensor([options.f_min, options.f_max], dtype=torch.float64)).tolist()
        edges = torch.linspace(low, high, options.n_mels + 2, dtype=torch.float64)
        bins = mel(torch.linspace(0, options.sample_rate / 2, options.n_fft // 2 + 1, dtype=torch.float64))
        place = (bins[:, None] - edges) / edges.diff()[0]  # in bands, from each edge
        filters = torch.minimum(place[:, :-2], -place[:, 2:]).clamp(min=0)  # [bins, mels], 0 for bin 0
        self.register_buffer("filters", filters.float(), persistent=False)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)

    def time_count(self, samples: int) -> int:
        """Columns of an input of `samples` samples."""
        return max(0, samples - WINDOW) // self.options.hop + (samples >= WINDOW)

    def forward(self, waveform: Tensor) -> Tensor:
        """Waveform [batch, samples] in [-1, 1] -> log-mel [batch, 1, time, mels], natural logarithm."""
        if waveform.ndim != 2 or waveform.shape[1] < WINDOW:
            raise ValueError(f"waveform must be [batch, samples >= {WINDOW}], got {tuple(waveform.shape)}")
        pieces = waveform.unfold(1, WINDOW, self.options.hop) * self.window  # [batch, time, WINDOW]
        magnitude = torch.fft.rfft(pieces, self.options.n_fft).abs()  # [batch, time, bins]
        return torch.log(magnitude @ self.filters + FLOOR)[:, None]


class SameConv(nn.Conv2d):
    """Convolution and ReLU with TensorFlow's SAME padding, which puts an odd row or column behind."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps [batch, channels_in, time, mels] -> [batch, channels, ceil(time / stride), ceil(mels / stride)]."""
        padding = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size, self.stride):  # the last axis first
            missing = max(0, (math.ceil(size / stride) - 1) * stride + kernel - size)
            padding += [missing // 2, missing - missing // 2]
        return F.relu(super().forward(F.pad(x, padding)))


class Yamnet(Tagger):
    """MobileNet v1 with its batch norms folded, run inside patches of 0.96 s, 1024 dimensions each 0.32 s.

    Its receptive field is wider than the patches it was trained on: run over a whole clip, no frame would see the
    zero borders it knows. 3 729 481 parameters; of the options only kind and weights are read.
    """

    def __init__(self, frontend: FrontendOptions, options: EncoderOptions, classes: int):
        if frontend != FRONTEND:
            raise ValueError(f"frontend must be {FRONTEND} for yamnet, got {frontend}")
        super().__init__(frontend, options, classes, YamnetLogMel, nn.Identity)
        layers, width = [SameConv(1, 32, 3, stride=2)], 32
        for channels, stride in zip(CHANNELS, STRIDES):
            layers += [SameConv(width, width, 3, stride, groups=width), SameConv(width, channels, 1)]
            width = channels
        self.layers = nn.Sequential(*layers)
        self.linear = nn.Linear(width, classes)

    @property
    def frame_dim(self) -> int:
        """Width of a frame embedding."""
        return CHANNELS[-1]

    @property
    def output(self) -> nn.Linear:
        """The layer that gives the class logits."""
        return self.linear

    @property
    def _minimum_times(self) -> int:
        return 1

    def _frames_of(self, times: int) -> int:
        return math.ceil(times / STRIDE)

    def _body(self, x: Tensor) -> Tensor:
        batch, _, times, mels = x.shape
        x = F.pad(x, (0, 0, 0, -times % PATCH), value=math.log(FLOOR))  # the last patch ends in silence
        maps = self.layers(x.reshape(-1, 1, PATCH, mels))  # [batch · patches, frame_dim, 3, 2]
        maps = maps.unflatten(0, (batch, -1)).transpose(1, 2)  # [batch, frame_dim, patches, 3, 2]
        return maps.flatten(2, 3)  # [batch, frame_dim, frames, 2]

    def frames_from_logmel(self, logmel: Tensor) -> Tensor:
        """Log-mel [batch, 1, time, mels] -> frame embeddings [batch, frames, frame_dim].

        What fills up the last patch gives no frames of its own: a clip of 5 s has 16, not 18.
        """
        return super().frames_from_logmel(logmel)[:, : self._frames_of(logmel.shape[2])]

    def logits_from_logmel(self, logmel: Tensor) -> Tensor:
        """Log-mel [batch, 1, time, mels] -> logits [batch, classes] of the mean probability of the patches."""
        frames = super().frames_from_logmel(logmel)  # [batch, 3 · patches, frame_dim]
        patches = frames.unflatten(1, (-1, PATCH // STRIDE)).mean(dim=2)  # [batch, patches, frame_dim]
        logits = self.linear(patches)  # [batch, patches, classes]
        return F.logsigmoid(logits).logsumexp(1) - F.logsigmoid(-logits).logsumexp(1)


class Table(NamedTuple):
    """A table of a flatbuffer. Whatever lies outside of the file raises ValueError."""

    data: bytes
    at: int  # of the table in data

    def _read(self, code: str, at: int) -> int:
        if not 0 <= at <= len(self.data) - struct.calcsize(code):
            raise ValueError("damaged or cut off: an offset leads out of the file")
        return struct.unpack_from(code, self.data, at)[0]

    def _place(self, slot: int) -> int:
        """Where a field lies; 0 where the table leaves it out."""
        fields = self.at - self._read("<i", self.at)
        known = 2 * slot + 6 <= self._read("<H", fields)
        offset = self._read("<H", fields + 4 + 2 * slot) if known else 0
        return self.at + offset if offset else 0

    def number(self, slot: int, code: str, default: int = 0) -> int:
        """A number, in the format of struct."""
        place = self._place(slot)
        return self._read(code, place) if place else default

    def table(self, slot: int) -> "Table | None":
        """A table inside of this one, if it has it."""
        place = self._place(slot)
        return Table(self.data, place + self._read("<I", place)) if place else None

    def _vector(self, slot: int) -> tuple[int, int]:
        """Where the items of a vector begin, and their number; one that is left out is empty."""
        place = self._place(slot)
        if not place:
            return 0, 0
        begin = place + self._read("<I", place)
        return begin + 4, self._read("<I", begin)

    def array(self, slot: int, dtype: str | np.dtype) -> np.ndarray:
        """A vector of numbers: a view of the file's bytes."""
        begin, count = self._vector(slot)
        if begin + count * np.dtype(dtype).itemsize > len(self.data):
            raise ValueError("damaged or cut off: a list in it is longer than the file")
        return np.frombuffer(self.data, dtype, count, begin)

    def tables(self, slot: int) -> list["Table"]:
        """A vector of tables."""
        begin, _ = self._vector(slot)
        offsets = self.array(slot, "<u4")
        if len(offsets) > MOST:  # in a damaged file it may be millions
            raise ValueError(f"damaged: {len(offsets)} tables in one list")
        return [Table(self.data, begin + 4 * i + offset) for i, offset in enumerate(offsets.tolist())]


def _values(tensor: Table, buffers: list[Table], shape: tuple[int, ...]) -> np.ndarray:
    """A tensor of this shape as float32; int8 is multiplied by its scales."""
    found = tuple(tensor.array(0, "<i4").tolist())
    if found != shape:
        raise ValueError(f"shape {found}, not {shape}")
    kind, buffer = tensor.number(1, "b"), tensor.number(2, "<I")
    if kind not in DTYPES:
        raise ValueError(f"numbers of the schema's type {kind}; float32, float16 and int8 can be read")
    data = buffers[buffer].array(0, "u1") if buffer < len(buffers) else np.empty(0, "u1")
    if data.nbytes != math.prod(shape) * DTYPES[kind].itemsize:
        raise ValueError(f"{data.nbytes} bytes, not {math.prod(shape) * DTYPES[kind].itemsize}")
    values = data.view(DTYPES[kind]).reshape(shape).astype(np.float32)
    if DTYPES[kind].kind == "i":
        about = tensor.table(4)
        scales = about.array(2, "<f4") if about else np.empty(0, "<f4")
        zeros, axis = (about.array(3, "<i8"), about.number(6, "<i")) if about else (scales, 0)
        axis = axis if len(scales) > 1 else 0
        if not 0 <= axis < len(shape) or len(scales) not in (1, shape[axis]) or zeros.any():
            raise ValueError(
                f"int8 with {len(scales)} scales; one of all or one a channel, around zero, is read"
            )
        with np.errstate(invalid="ignore", over="ignore"):  # said below
            values *= scales.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    if not np.isfinite(values).all():
        raise ValueError("NaN or infinity in it")
    return values


def _read(data: bytes, network: Yamnet) -> dict[str, Tensor]:
    """The network's weights by its own names, from a file's bytes: layers are told by the order of their operators."""
    if data[4:8] != b"TFL3":
        raise ValueError("no TFLite file: its bytes 4 to 8 are not TFL3")
    model = Table(data, struct.unpack_from("<I", data)[0])
    codes = [max(one.number(0, "b"), one.number(3, "<i")) for one in model.tables(1)]
    graphs, buffers = model.tables(2), model.tables(4)
    tensors = graphs[0].tables(0) if graphs else []
    found, source = [], {}  # weighted operators; tensor -> the one it is dequantised from
    for operator in graphs[0].tables(3) if graphs else []:
        index, inputs = operator.number(0, "<I"), operator.array(1, "<i4")
        code = codes[index] if index < len(codes) else None
        if code == DEQUANTIZE and len(inputs) == 1 and len(operator.array(2, "<i4")) == 1:
            source[int(operator.array(2, "<i4")[0])] = int(inputs[0])
        elif code in (CONV, DEPTHWISE) or (
            code == LINEAR and found
        ):  # linear ones before them make the log-mel
            found.append((code, inputs, operator.table(4)))
    wanted = [*network.layers, network.linear]
    if len(found) != len(wanted):
        raise ValueError(f"no YAMNet: {len(found)} layers with weights, not {len(wanted)}")
    weights = {}
    for number, (layer, (code, inputs, settings)) in enumerate(zip(wanted, found), start=1):
        name = f"layers.{number - 1}" if number < len(wanted) else "linear"
        kind = LINEAR if isinstance(layer, nn.Linear) else DEPTHWISE if layer.groups > 1 else CONV
        if code != kind or len(inputs) != 3:
            raise ValueError(
                f"no YAMNet: layer {number} must be a {NAMES[kind]} with a bias, got a {NAMES[code]}"
            )
        if kind != LINEAR:
            # a depthwise one has its depth multiplier in slot 3
            slots = ((0, "b"), (1, "<i"), (2, "<i"), (3 + (kind == DEPTHWISE), "b"))
            has = tuple(settings.number(*slot) for slot in slots) if settings else ()
            if has != (SAME, *layer.stride, RELU):
                raise ValueError(f"no YAMNet: padding, strides and activation of layer {number} are {has}")
        shape = tuple(layer.weight.shape)  # [out, in, height, width] here, channels last in the file
        theirs = {CONV: (0, 2, 3, 1), DEPTHWISE: (1, 2, 3, 0), LINEAR: (0, 1)}[kind]
        for part, index, sizes in (
            ("weight", inputs[1], tuple(shape[axis] for axis in theirs)),
            ("bias", inputs[2], shape[:1]),
        ):
            index = source.get(int(index), int(index))
            if not 0 <= index < len(tensors):
                raise ValueError(f"the {part} of layer {number} is missing")
            try:
                values = torch.from_numpy(_values(tensors[index], buffers, sizes))
            except ValueError as error:
                raise ValueError(f"the {part} of layer {number} ({NAMES[kind]}): {error}") from error
            back = sorted(range(len(theirs)), key=theirs.__getitem__)
            weights[f"{name}.{part}"] = values.permute(back).contiguous() if part == "weight" else values
    return weights


def import_yamnet(path: str | Path) -> Yamnet:
    """The published YAMNet of a ``.tflite`` file, with float32, float16 or int8 weights, in eval mode on the CPU.

    Raises FileNotFoundError, or ValueError naming the file and what in it is not YAMNet's.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such weights")
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path}: no YAMNet: {path.stat().st_size} bytes; in float32 it has 15 million")
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn, then replaced
        network = Yamnet(FRONTEND, EncoderOptions(kind="yamnet", weights=path.name), CLASSES)
    try:
        network.load_state_dict(_read(path.read_bytes(), network))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return network.eval()


Encoder = Yamnet
