"""Published audio taggers as our encoders: the audio ConvNeXt-Tiny, CNN14 and YAMNet.

Names, shapes and settings: arXiv 2306.00830 and 1912.10211, and their public code.
"""

import csv
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from aacstudy.models.checkpoint import fill
from aacstudy.models.cnn14 import CHANNELS
from aacstudy.models.encoder import build_encoder
from aacstudy.models.published.files import read_tensors, without_prefix
from aacstudy.models.tagger import Tagger
from aacstudy.models.yamnet import import_yamnet
from aacstudy.options import EncoderOptions, FrontendOptions

CLASSES = 527  # AudioSet's
LABELS = {  # the class names that are looked for beside a file of weights, by kind of encoder
    "convnext": "class_labels_indices.csv",
    "cnn14": "class_labels_indices.csv",
    "yamnet": "yamnet_class_map.csv",
}
CONVNEXT_FRONTEND = FrontendOptions()
CNN14_FRONTENDS = {  # by their FFT size, which the file shows
    1024: FrontendOptions(n_mels=64),
    512: FrontendOptions(sample_rate=16000, n_fft=512, hop=160, n_mels=64, f_max=8000.0),
}

STFT = "spectrogram_extractor.stft.conv_{}.weight"
MEL = "logmel_extractor.melW"
INSIDE_CONETTE = "preprocessor.encoder."
MEL_TOLERANCE = 1e-3  # of the largest entry; float32 rounding is a hundredth of it

# timm's names -> published names
_CONVNEXT = [
    (r"stem\.([01])\.", r"downsample_layers.0.\1."),
    (r"stages\.(\d)\.downsample\.([01])\.", r"downsample_layers.\1.\2."),
    (r"stages\.(\d)\.blocks\.(\d+)\.conv_dw\.", r"stages.\1.\2.dwconv."),
    (r"stages\.(\d)\.blocks\.(\d+)\.norm\.", r"stages.\1.\2.norm."),
    (r"stages\.(\d)\.blocks\.(\d+)\.mlp\.fc([12])\.", r"stages.\1.\2.pwconv\3."),
    (r"stages\.(\d)\.blocks\.(\d+)\.gamma$", r"stages.\1.\2.gamma"),
    (r"head\.norm\.", r"norm."),
    (r"head\.fc\.", r"head_audioset."),
]


def import_cnn14(path: str | Path) -> Tagger:
    """The published CNN14 of a file, 32 or 16 kHz, in eval mode; 84 tensors, errors as below."""
    path = Path(path)
    tensors = without_prefix(path, read_tensors(path), "conv_block1.conv1.weight")
    spectrum = tensors.get(STFT.format("real"))
    frontend = CNN14_FRONTENDS.get(1024 if spectrum is None else spectrum.shape[-1])
    if frontend is None:
        raise ValueError(
            f"{path}: {spectrum.shape[-1]} samples an FFT are not those of CNN14: {list(CNN14_FRONTENDS)}"
        )
    options = EncoderOptions(kind="cnn14", dims=CHANNELS, weights=path.name)
    return _adopt(path, tensors, frontend, options, "fc_audioset.bias", lambda name: name)


def convnext_of(path: str | Path, tensors: Mapping[str, Tensor]) -> Tagger:
    """The published audio ConvNeXt-Tiny of a file's tensors, in eval mode on the CPU; ``path`` is
    for messages.

    All 190 tensors must be there and no other; layer scale may be called ``gamma`` or
    ``scale_layer``, and names may stand behind a wrapper's prefix. Raises ValueError naming the
    file and the tensors.
    """
    tensors = without_prefix(path, tensors, "downsample_layers.0.0.weight")
    scale = "scale_layer" if any(name.endswith(".scale_layer") for name in tensors) else "gamma"

    def published(name: str) -> str:
        inner = name.removeprefix("convnext.")
        for pattern, theirs in _CONVNEXT if inner != name else ():
            renamed, hits = re.subn(f"^{pattern}", theirs, inner)
            if hits:
                return renamed.replace(".gamma", f".{scale}")
        return name

    options = EncoderOptions(weights=Path(path).name)
    return _adopt(path, tensors, CONVNEXT_FRONTEND, options, "head_audioset.bias", published)


def _adopt(
    path: str | Path,
    tensors: Mapping[str, Tensor],
    frontend: FrontendOptions,
    options: EncoderOptions,
    bias: str,
    published: Callable[[str], str],
) -> Tagger:
    """A new encoder with a file's tensors; ``published`` gives the file's name of one of ours."""
    rest = dict(tensors)
    # torchlibrosa keeps its Fourier transform as weights: checked, not needed
    fourier = (frontend.n_fft // 2 + 1, 1, frontend.n_fft)
    for part in ("real", "imag"):
        found = rest.pop(STFT.format(part), None)
        if found is None or found.shape != fourier:
            shown = "is missing" if found is None else f"is {tuple(found.shape)}"
            raise ValueError(f"{path}: tensor '{STFT.format(part)}' {shown}; it must be {fourier}")
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn, then replaced
        encoder = build_encoder(frontend, options, max(1, rest[bias].numel()) if bias in rest else CLASSES)
    names = {name: published(name) for name in encoder.state_dict()}
    names["log_mel.mel.mel_scale.fb"] = MEL
    rest["log_mel.mel.spectrogram.window"] = encoder.log_mel.mel.spectrogram.window
    filters = encoder.log_mel.mel.mel_scale.fb.clone()  # [n_fft / 2 + 1, mels]
    fill(path, encoder, rest, names)
    taken = encoder.log_mel.mel.mel_scale.fb
    difference = (taken - filters).abs().max() / filters.max()
    if not difference <= MEL_TOLERANCE:
        raise ValueError(
            f"{path}: tensor '{MEL}' is {difference:.2g} of its largest entry away from the mel filters of "
            f"{frontend}"
        )
    return encoder.eval()


def class_names(count: int, labels: str | Path | None = None) -> tuple[str, ...]:
    """Names of an encoder's classes: of a file of ``LABELS``, or ``class_000`` and so on.

    Raises ValueError naming the file where it does not list as many classes, in order.
    """
    if labels is None:
        return tuple(f"class_{i:03d}" for i in range(count))
    try:
        with open(labels, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{labels}: not a CSV file in UTF-8 ({error})") from error
    if not rows or not {"index", "display_name"} <= rows[0].keys():
        raise ValueError(f"{labels}: must have the columns index, mid and display_name")
    if [row["index"] for row in rows] != [str(i) for i in range(count)]:
        raise ValueError(f"{labels}: column index must count from 0 to {count - 1}; it has {len(rows)} rows")
    unnamed = [row["index"] for row in rows if not row["display_name"]]
    if unnamed:
        raise ValueError(f"{labels}: column display_name is empty at index {unnamed[0]}")
    return tuple(row["display_name"] for row in rows)


def _encoder_alone(path: Path) -> dict[str, Tensor]:
    """A file's weights; of CoNeTTE's, which holds a captioner too, the encoder's."""
    tensors = read_tensors(path)
    return {name: one for name, one in tensors.items() if name.startswith(INSIDE_CONETTE)} or tensors


def published_encoder(path: str | Path, frontend: FrontendOptions, options: EncoderOptions) -> Tagger:
    """The encoder of a file of weights, which must be what a study's options say.

    Raises FileNotFoundError, or ValueError where the file is of another kind, size or front-end.
    """
    if options.kind == "yamnet":
        encoder, sizes = import_yamnet(path), ()
    elif options.kind == "cnn14":
        encoder, sizes = import_cnn14(path), ("dims",)
    else:
        encoder, sizes = convnext_of(path, _encoder_alone(path)), ("depths", "dims", "kernel")
    for name in sizes:
        asked, has = getattr(options, name), getattr(encoder.options, name)
        if asked != has:
            raise ValueError(f"{path}: encoder.{name} must be {has} for these weights, got {asked}")
    if frontend != encoder.frontend:
        raise ValueError(f"{path}: frontend must be {encoder.frontend} for these weights, got {frontend}")
    return encoder
