"""Published networks, written down once more: every tensor by its published name, and plain
computations on them.

Neither aacstudy's networks nor timm are used here, so that tests can hold ours against them.
"""

import math
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aacstudy.options import FrontendOptions

DEPTHS, DIMS = (3, 3, 9, 3), (96, 192, 384, 768)
CHANNELS = (1, 64, 128, 256, 512, 1024, 2048)


def slaney_hz(mel: np.ndarray) -> np.ndarray:
    """Slaney's mel scale to Hz: linear below 1 kHz (mel 15), logarithmic above."""
    return np.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** ((mel - 15) / 27))


def slaney_mel(hz: float) -> float:
    return hz * 3 / 200 if hz < 1000 else 15 + 27 * np.log(hz / 1000) / np.log(6.4)


def mel_filters(options: FrontendOptions) -> np.ndarray:
    """Triangles of unit area, [n_fft / 2 + 1, mels], in float64 and from the definitions."""
    edges = slaney_hz(np.linspace(slaney_mel(options.f_min), slaney_mel(options.f_max), options.n_mels + 2))
    bins = np.arange(options.n_fft // 2 + 1) * options.sample_rate / options.n_fft
    filters = []
    for low, centre, high in zip(edges, edges[1:], edges[2:]):
        triangle = np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)).clip(0)
        filters.append(triangle * 2 / (high - low))
    return np.stack(filters, axis=1)


def logmel_reference(waveform: np.ndarray, options: FrontendOptions) -> np.ndarray:
    """Log-mel [time, mels] in dB of a waveform [samples], in float64 and from the definitions."""
    n, hop = options.n_fft, options.hop
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)  # periodic Hann
    padded = np.pad(waveform.astype(np.float64), n // 2, mode="reflect")
    starts = range(0, len(padded) - n + 1, hop)
    power = (
        np.abs(np.fft.rfft([padded[s : s + n] * window for s in starts], axis=1)) ** 2
    )  # [time, n / 2 + 1]
    return 10 * np.log10(np.maximum(power @ mel_filters(options), 1e-10))


def _layer(generator: torch.Generator, name: str, *shape: int) -> dict[str, Tensor]:
    """Weight and bias of a convolution or linear layer, scaled by its fan-in."""
    fan = math.prod(shape[1:])
    weight = torch.randn(shape, generator=generator) / math.sqrt(fan)
    return {f"{name}.weight": weight, f"{name}.bias": 0.1 * torch.randn(shape[0], generator=generator)}


def _norm(generator: torch.Generator, name: str, width: int) -> dict[str, Tensor]:
    weight = 1 + 0.2 * torch.randn(width, generator=generator)
    return {f"{name}.weight": weight, f"{name}.bias": 0.1 * torch.randn(width, generator=generator)}


def _batch_norm(
    generator: torch.Generator, name: str, width: int, mean: float, spread: float
) -> dict[str, Tensor]:
    return _norm(generator, name, width) | {
        f"{name}.running_mean": mean + spread / 10 * torch.randn(width, generator=generator),
        f"{name}.running_var": spread**2 * (0.5 + torch.rand(width, generator=generator)),
        f"{name}.num_batches_tracked": torch.tensor(70000),
    }


def _frontend(n_fft: int, filters: np.ndarray, generator: torch.Generator) -> dict[str, Tensor]:
    angle = 2 * math.pi * torch.outer(torch.arange(n_fft // 2 + 1), torch.arange(n_fft)) / n_fft
    window = torch.hann_window(n_fft)
    return {
        "spectrogram_extractor.stft.conv_real.weight": (angle.cos() * window)[:, None],
        "spectrogram_extractor.stft.conv_imag.weight": (-angle.sin() * window)[:, None],
        # away from torchaudio's by more than rounding, to see whose filters are used
        "logmel_extractor.melW": torch.tensor(filters * (1 + 1e-4), dtype=torch.float32),
    } | _batch_norm(generator, "bn0", filters.shape[1], -30.0, 12.0)


@cache  # to be left as it is
def convnext_tensors(scale: str = "gamma", classes: int = 527) -> dict[str, Tensor]:
    """All 190 tensors of the published ConvNeXt-Tiny tagger; ``scale`` is what it calls layer
    scale.
    """
    generator = torch.Generator().manual_seed(0)
    tensors = _frontend(1024, mel_filters(FrontendOptions()), generator)
    tensors |= _layer(generator, "downsample_layers.0.0", 96, 1, 4, 4)
    tensors |= _norm(generator, "downsample_layers.0.1", 96)
    for i in range(1, 4):
        tensors |= _norm(generator, f"downsample_layers.{i}.0", DIMS[i - 1])
        tensors |= _layer(generator, f"downsample_layers.{i}.1", DIMS[i], DIMS[i - 1], 2, 2)
    for i, (d, depth) in enumerate(zip(DIMS, DEPTHS)):
        for block in (f"stages.{i}.{j}" for j in range(depth)):
            tensors[f"{block}.{scale}"] = 0.3 + 0.4 * torch.rand(d, generator=generator)
            tensors |= _layer(generator, f"{block}.dwconv", d, 1, 7, 7) | _norm(generator, f"{block}.norm", d)
            tensors |= _layer(generator, f"{block}.pwconv1", 4 * d, d)
            tensors |= _layer(generator, f"{block}.pwconv2", d, 4 * d)
    return tensors | _norm(generator, "norm", 768) | _layer(generator, "head_audioset", classes, 768)


@cache  # to be left as it is
def cnn14_tensors(classes: int = 527) -> dict[str, Tensor]:
    """All 84 tensors of the published CNN14."""
    generator = torch.Generator().manual_seed(1)
    tensors = _frontend(1024, mel_filters(FrontendOptions(n_mels=64)), generator)
    for n in range(1, 7):
        for k, channels in ((1, CHANNELS[n - 1]), (2, CHANNELS[n])):
            name = f"conv_block{n}.conv{k}"
            weight = _layer(generator, name, CHANNELS[n], channels, 3, 3)[f"{name}.weight"]
            tensors[f"{name}.weight"] = 1.5 * weight  # ReLU and pooling take away as much
            tensors |= _batch_norm(generator, f"conv_block{n}.bn{k}", CHANNELS[n], 0.2, 1.0)
    tensors |= _layer(generator, "fc1", 2048, 2048)
    return tensors | _layer(generator, "fc_audioset", classes, 2048)


def normalised(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """LayerNorm over the last axis."""
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
    return (x - mean) / (variance + eps).sqrt() * weight + bias


def _batch_normalised(x: Tensor, w: dict[str, Tensor], name: str) -> Tensor:
    """BatchNorm of the last axis with the running statistics."""
    centred = x - w[f"{name}.running_mean"]
    return centred / (w[f"{name}.running_var"] + 1e-5).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]


def convnext_plain(w: dict[str, Tensor], logmel: Tensor) -> tuple[Tensor, Tensor]:
    """Log-mel [batch, time, 224] -> frames [batch, frames, 768] and logits [batch, classes], from
    the tables.
    """

    # over the channels of maps [batch, channels, time, mels]
    def norm(x: Tensor, name: str) -> Tensor:
        moved = normalised(x.movedim(1, -1), w[f"{name}.weight"], w[f"{name}.bias"], 1e-6)
        return moved.movedim(-1, 1)

    def conv(x: Tensor, name: str, **settings) -> Tensor:
        return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], **settings)

    x = _batch_normalised(logmel, w, "bn0")[:, None]  # [batch, 1, time, 224]
    x = norm(conv(x, "downsample_layers.0.0", stride=4, padding=(4, 0)), "downsample_layers.0.1")
    for i, depth in enumerate(DEPTHS):
        if i > 0:
            x = conv(norm(x, f"downsample_layers.{i}.0"), f"downsample_layers.{i}.1", stride=2)
        for block in (f"stages.{i}.{j}" for j in range(depth)):
            y = norm(conv(x, f"{block}.dwconv", padding=3, groups=DIMS[i]), f"{block}.norm").movedim(1, -1)
            y = y @ w[f"{block}.pwconv1.weight"].T + w[f"{block}.pwconv1.bias"]
            y = 0.5 * y * (1 + torch.erf(y / math.sqrt(2)))
            y = y @ w[f"{block}.pwconv2.weight"].T + w[f"{block}.pwconv2.bias"]
            scale = w.get(f"{block}.gamma", w.get(f"{block}.scale_layer"))
            x = x + (scale * y).movedim(-1, 1)
    frames = x.mean(dim=3)  # [batch, 768, frames]
    clip = frames.max(dim=2).values + frames.mean(dim=2)
    clip = normalised(clip, w["norm.weight"], w["norm.bias"], 1e-6)
    return frames.movedim(1, 2), clip @ w["head_audioset.weight"].T + w["head_audioset.bias"]


def cnn14_plain(w: dict[str, Tensor], logmel: Tensor) -> tuple[Tensor, Tensor]:
    """Log-mel [batch, time, 64] -> frames [batch, frames, 2048] and logits [batch, classes], from
    the tables.
    """
    x = _batch_normalised(logmel, w, "bn0")[:, None]  # [batch, 1, time, 64]
    for n in range(1, 7):
        for k in (1, 2):
            x = F.conv2d(x, w[f"conv_block{n}.conv{k}.weight"], padding=1).movedim(1, -1)
            x = _batch_normalised(x, w, f"conv_block{n}.bn{k}").movedim(-1, 1).clamp(min=0)
        if n < 6:
            time, mels = x.shape[2] // 2, x.shape[3] // 2
            x = (
                x[:, :, : 2 * time, : 2 * mels]
                .unflatten(2, (time, 2))
                .unflatten(4, (mels, 2))
                .mean(dim=(3, 5))
            )
    frames = x.mean(dim=3)  # [batch, 2048, frames]
    clip = frames.max(dim=2).values + frames.mean(dim=2)
    hidden = (clip @ w["fc1.weight"].T + w["fc1.bias"]).clamp(min=0)
    return frames.movedim(1, 2), hidden @ w["fc_audioset.weight"].T + w["fc_audioset.bias"]


@cache  # to be left as it is
def captioner_tensors(vocabulary: int, layers: int = 6, frame_dim: int = 768) -> dict[str, Tensor]:
    """The published captioner's 112 tensors of the decoder and 2 of the projection, at d_model 256
    and d_ff 2048.
    """
    generator = torch.Generator().manual_seed(2)
    tensors = _layer(generator, "projection.2", 256, frame_dim)
    for n in range(layers):
        name = f"decoder.layers.{n}"
        for attention in ("self_attn", "multihead_attn"):
            projected = _layer(generator, "x", 768, 256)
            tensors[f"{name}.{attention}.in_proj_weight"] = 2 * projected["x.weight"]
            tensors[f"{name}.{attention}.in_proj_bias"] = projected["x.bias"]
            tensors |= _layer(generator, f"{name}.{attention}.out_proj", 256, 256)
        tensors |= _layer(generator, f"{name}.linear1", 2048, 256)
        tensors |= _layer(generator, f"{name}.linear2", 256, 2048)
        for k in (1, 2, 3):
            tensors |= _norm(generator, f"{name}.norm{k}", 256)
    embedding = 0.1 * torch.randn(vocabulary, 256, generator=generator)
    embedding[0] = 0  # padding
    # in float32, as published
    rate = torch.exp(-torch.arange(0, 256, 2) * math.log(10000) / 256)
    angle = torch.arange(5000)[:, None] * rate
    positions = torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)[:, None]  # [5000, 1, 256]
    tensors |= {"decoder.emb_layer.weight": embedding, "decoder.pos_encoding.pos_embedding": positions}
    return tensors | _layer(generator, "decoder.classifier", vocabulary, 256)


def captioner_plain(w: dict[str, Tensor], frames: Tensor, tokens: Tensor, heads: int) -> Tensor:
    """Frames [batch, frames, width] and tokens [batch, n] -> logits [batch, n, vocabulary], from
    the tables.
    """

    def attend(name: str, x: Tensor, y: Tensor, causal: bool) -> Tensor:
        q, k, v = (
            # [batch, heads, n, d]
            (inputs @ weight.T + bias).unflatten(2, (heads, -1)).movedim(2, 1)
            for inputs, weight, bias in zip(
                (x, y, y), w[f"{name}.in_proj_weight"].chunk(3), w[f"{name}.in_proj_bias"].chunk(3)
            )
        )
        scores = q @ k.mT / math.sqrt(q.shape[-1])
        if causal:
            scores = scores + torch.full(scores.shape[-2:], float("-inf")).triu(1)
        heard = (scores.softmax(-1) @ v).movedim(1, 2).flatten(2)
        return heard @ w[f"{name}.out_proj.weight"].T + w[f"{name}.out_proj.bias"]

    def norm(x: Tensor, name: str) -> Tensor:
        return normalised(x, w[f"{name}.weight"], w[f"{name}.bias"], 1e-5)

    memory = (frames @ w["projection.2.weight"].T + w["projection.2.bias"]).clamp(min=0)
    x = (
        w["decoder.emb_layer.weight"][tokens] * 16
        + w["decoder.pos_encoding.pos_embedding"][: tokens.shape[1], 0]
    )
    for n in range(sum(name.endswith("norm1.weight") for name in w)):
        name = f"decoder.layers.{n}"
        x = norm(x + attend(f"{name}.self_attn", x, x, True), f"{name}.norm1")
        x = norm(x + attend(f"{name}.multihead_attn", x, memory, False), f"{name}.norm2")
        y = x @ w[f"{name}.linear1.weight"].T + w[f"{name}.linear1.bias"]
        y = 0.5 * y * (1 + torch.erf(y / math.sqrt(2)))
        x = norm(x + y @ w[f"{name}.linear2.weight"].T + w[f"{name}.linear2.bias"], f"{name}.norm3")
    return x @ w["decoder.classifier.weight"].T + w["decoder.classifier.bias"]
