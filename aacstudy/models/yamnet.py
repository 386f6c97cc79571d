"""YAMNet, a published AudioSet tagger, in torch, with the weights of its ``.tflite`` file.

Source: github.com/tensorflow/models, research/audioset/yamnet.
"""

import math
from itertools import dropwhile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aacstudy.models.published.tflite import CONV, DEPTHWISE, LINEAR, RELU, SAME, layers, values
from aacstudy.models.tagger import Tagger
from aacstudy.options import EncoderOptions, FrontendOptions

FRONTEND = FrontendOptions(sample_rate=16000, n_fft=512, hop=160, n_mels=64, f_min=125.0, f_max=7500.0)
WINDOW = 400  # samples: 25 ms
FLOOR = 0.001  # added to the magnitudes before the logarithm
PATCH = 96  # log-mel columns: 0.96 s
STRIDE = 32  # log-mel columns between two frames
CLASSES = 521
# of the blocks after the first convolution
CHANNELS = (64, 128, 128, 256, 256, *[512] * 6, 1024, 1024)
STRIDES = (1, 2, 1, 2, 1, 2, *[1] * 5, 2, 1)

LARGEST = 100_000_000  # bytes of a file; in float32 it has 15 million

# TFLite's operators: their names, and the axes of a weight of torch in TFLite's order
LAYERS = {
    CONV: ("convolution", (0, 2, 3, 1)),
    DEPTHWISE: ("depthwise convolution", (1, 2, 3, 0)),
    LINEAR: ("linear layer", (0, 1)),
}


class YamnetLogMel(nn.Module):
    """Log of mel magnitudes: Hann window, no padding, HTK's scale, triangles straight in mel."""

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
        # [bins, mels], 0 for bin 0
        filters = torch.minimum(place[:, :-2], -place[:, 2:]).clamp(min=0)
        self.register_buffer("filters", filters.float(), persistent=False)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)

    def time_count(self, samples: int) -> int:
        """Columns of an input of `samples` samples."""
        return max(0, samples - WINDOW) // self.options.hop + (samples >= WINDOW)

    def forward(self, waveform: Tensor) -> Tensor:
        """Waveform [batch, samples] in [-1, 1] -> natural log-mel [batch, 1, time, mels]."""
        if waveform.ndim != 2 or waveform.shape[1] < WINDOW:
            raise ValueError(f"waveform must be [batch, samples >= {WINDOW}], got {tuple(waveform.shape)}")
        pieces = waveform.unfold(1, WINDOW, self.options.hop) * self.window  # [batch, time, WINDOW]
        magnitude = torch.fft.rfft(pieces, self.options.n_fft).abs()  # [batch, time, bins]
        return torch.log(magnitude @ self.filters + FLOOR)[:, None]


class SameConv(nn.Conv2d):
    """Convolution and ReLU with TensorFlow's SAME padding: an odd row or column goes behind."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps [batch, in, time, mels] -> [batch, out, ⌈time / stride⌉, ⌈mels / stride⌉]."""
        padding = []
        # the last axis first
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size, self.stride):
            missing = max(0, (math.ceil(size / stride) - 1) * stride + kernel - size)
            padding += [missing // 2, missing - missing // 2]
        return F.relu(super().forward(F.pad(x, padding)))


class Yamnet(Tagger):
    """MobileNet v1 with folded batch norms, inside patches of 0.96 s: 1024 dimensions each 0.32 s.

    Its receptive field is wider than the patches it was trained on: over a whole clip no frame
    would see the zero borders it knows. 3 729 481 parameters with 521 classes.
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
        # the last patch ends in silence
        x = F.pad(x, (0, 0, 0, -times % PATCH), value=math.log(FLOOR))
        maps = self.layers(x.reshape(-1, 1, PATCH, mels))  # [batch · patches, frame_dim, 3, 2]
        maps = maps.unflatten(0, (batch, -1)).transpose(1, 2)  # [batch, frame_dim, patches, 3, 2]
        return maps.flatten(2, 3)  # [batch, frame_dim, frames, 2]

    def frames_from_logmel(self, logmel: Tensor) -> Tensor:
        """Log-mel [batch, 1, time, mels] -> frame embeddings [batch, frames, frame_dim].

        What fills up the last patch gives no frames of its own: a clip of 5 s has 16, not 18.
        """
        return super().frames_from_logmel(logmel)[:, : self._frames_of(logmel.shape[2])]

    def logits_from_logmel(self, logmel: Tensor) -> Tensor:
        """Log-mel [batch, 1, time, mels] -> logits [batch, classes]: mean of probabilities."""
        frames = super().frames_from_logmel(logmel)  # [batch, 3 · patches, frame_dim]
        # [batch, patches, frame_dim]
        patches = frames.unflatten(1, (-1, PATCH // STRIDE)).mean(dim=2)
        logits = self.linear(patches)  # [batch, patches, classes]
        return F.logsigmoid(logits).logsumexp(1) - F.logsigmoid(-logits).logsumexp(1)


def read_weights(data: bytes, network: Yamnet) -> dict[str, Tensor]:
    """The network's weights by its own names, from the bytes of a ``.tflite`` file.

    Raises ValueError that says what is wrong, without the file's name.
    """
    # the published graph makes its log-mel by linear layers, which come before the convolutions
    found = list(dropwhile(lambda layer: layer.code == LINEAR, layers(data)))
    wanted = [*network.layers, network.linear]
    if len(found) != len(wanted):
        raise ValueError(f"no YAMNet: {len(found)} layers with weights, not {len(wanted)}")
    weights = {}
    for i, (own, layer) in enumerate(zip(wanted, found)):
        kind = LINEAR if isinstance(own, nn.Linear) else DEPTHWISE if own.groups > 1 else CONV
        name, axes = LAYERS[kind]
        if layer.code != kind:
            raise ValueError(f"no YAMNet: layer {i + 1} must be a {name}, got a {LAYERS[layer.code][0]}")
        if kind != LINEAR and layer.settings != (SAME, *own.stride, RELU):
            raise ValueError(
                f"no YAMNet: padding, strides and activation of layer {i + 1} are {layer.settings}"
            )
        parts = {"weight": own.weight.detach().permute(axes), "bias": own.bias}
        for (part, tensor), theirs in zip(parts.items(), [*layer.tensors, None, None]):
            if theirs is None:
                raise ValueError(f"the {part} of layer {i + 1} ({name}) is missing")
            try:
                read = torch.from_numpy(values(theirs, layer.buffers, tuple(tensor.shape)))
            except ValueError as error:
                raise ValueError(f"the {part} of layer {i + 1} ({name}): {error}") from error
            if part == "weight":
                read = read.permute(np.argsort(axes).tolist()).contiguous()
            weights[f"linear.{part}" if kind == LINEAR else f"layers.{i}.{part}"] = read
    return weights


def import_yamnet(path: str | Path) -> Yamnet:
    """The published YAMNet of a ``.tflite`` file of float32, float16 or int8, in eval mode.

    Raises FileNotFoundError, or ValueError naming the file and what in it is not YAMNet's.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such weights")
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path}: no YAMNet: {path.stat().st_size} bytes are too many")
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn, then replaced
        network = Yamnet(FRONTEND, EncoderOptions(kind="yamnet", weights=path.name), CLASSES)
    try:
        network.load_state_dict(read_weights(path.read_bytes(), network))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return network.eval()


Encoder = Yamnet
