"""Networks in safetensors files: tensors, and beside them everything needed to build the network
again.

Nothing is unpickled. What no tensor shows (heads, frame positions, vocabulary, mel settings) is
JSON in the file's header.
"""

import json
import os
from dataclasses import asdict, fields
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from aacstudy.corpus.text import Vocabulary
from aacstudy.models.captioner import Captioner
from aacstudy.models.encoder import build_encoder
from aacstudy.models.tagger import Tagger
from aacstudy.options import DecoderOptions, EncoderOptions, FrontendOptions, told

HEADER = "aacstudy"  # the one key of the safetensors header that we use


def save(path: str | Path, tensors: dict[str, Tensor], metadata: dict) -> None:
    """Write tensors and JSON-able metadata to one safetensors file; the same content gives the same
    bytes.

    The file appears whole or not at all: it is written under a temporary name in its folder and
    renamed. Raises ValueError where the metadata is not JSON.
    """
    path = Path(path)
    try:
        header = json.dumps(metadata, sort_keys=True, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: metadata cannot be written as JSON: {error}") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(contiguous, temporary, metadata={HEADER: header})
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load(path: str | Path) -> tuple[dict[str, Tensor], dict]:
    """Read what `save` wrote: tensors on the CPU and the metadata.

    Raises FileNotFoundError, or ValueError naming the file where it is no safetensors file or lacks
    our metadata.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            header = (file.metadata() or {}).get(HEADER)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file ({error})") from error
    if header is None:
        raise ValueError(f"{path}: no '{HEADER}' metadata in the header; was it written by aacstudy?")
    try:
        metadata = json.loads(header)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: the '{HEADER}' metadata is not JSON ({error})") from error
    if not isinstance(metadata, dict):
        raise ValueError(f"{path}: the '{HEADER}' metadata is a {type(metadata).__name__}, not a mapping")
    return tensors, metadata


def save_encoder(
    path: str | Path, encoder: Tagger, classes: tuple[str, ...], extra: dict | None = None
) -> None:
    """Write an encoder of any kind with its options, front-end, class names in the order of its
    logits, and `extra`.

    Raises ValueError where the number of names is not the encoder's number of classes.
    """
    classes = tuple(classes)
    if len(classes) != encoder.classes:
        raise ValueError(f"{path}: {len(classes)} class names for an encoder of {encoder.classes} classes")
    metadata = {
        "model": "TaggingEncoder",
        "frontend": asdict(encoder.frontend),
        "options": asdict(encoder.options),
        "classes": list(classes),
        "extra": extra or {},
    }
    save(path, encoder.state_dict(), metadata)


def load_encoder(path: str | Path) -> tuple[Tagger, tuple[str, ...]]:
    """Read an encoder of the kind its options say, in eval mode on the CPU, and its class names.

    Raises FileNotFoundError, or ValueError naming the file and what in it is wrong. The global
    random state is kept.
    """
    tensors, metadata = load(path)
    _check_metadata(path, metadata, "TaggingEncoder", {"frontend": dict, "options": dict, "classes": list})
    frontend = _options(path, FrontendOptions, metadata["frontend"])
    options = _options(path, EncoderOptions, metadata["options"])
    classes = tuple(metadata["classes"])
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn, then replaced
        encoder = build_encoder(frontend, options, len(classes))
    fill(path, encoder, tensors)
    return encoder.eval(), classes


def save_captioner(path: str | Path, captioner: Captioner, vocabulary: Vocabulary, extra: dict) -> None:
    """Write a captioner with its options, heads included, its vocabulary with its rules, and
    anything JSON-able.

    Raises ValueError where the vocabulary is not as long as the captioner's, or `extra` is not
    JSON.
    """
    if len(vocabulary) != captioner.vocabulary_size:
        raise ValueError(f"{path}: {len(vocabulary)} words for a captioner of {captioner.vocabulary_size}")
    metadata = {
        "model": "Captioner",
        "frame_dim": captioner.frame_dim,
        "options": asdict(captioner.options),
        "vocabulary": asdict(vocabulary),
        "extra": extra,
    }
    save(path, captioner.state_dict(), metadata)


def load_captioner(path: str | Path) -> tuple[Captioner, Vocabulary, dict]:
    """Read a captioner, in eval mode on the CPU, its vocabulary and the extra mapping.

    Raises FileNotFoundError, or ValueError naming the file and what in it is wrong; no option is
    ever filled with a default, as another number of heads would load and give other losses. The
    global random state is kept.
    """
    tensors, metadata = load(path)
    wanted = {"frame_dim": int, "options": dict, "vocabulary": dict, "extra": dict}
    _check_metadata(path, metadata, "Captioner", wanted)
    options = _options(path, DecoderOptions, metadata["options"])
    vocabulary = _options(path, Vocabulary, metadata["vocabulary"])
    with torch.random.fork_rng(devices=[]):
        captioner = Captioner(metadata["frame_dim"], len(vocabulary), options)
    fill(path, captioner, tensors)
    return captioner.eval(), vocabulary, metadata["extra"]


def _check_metadata(path, metadata: dict, model: str, wanted: dict[str, type]) -> None:
    """Refuse metadata of another model, or in which a field is missing or of another type."""
    if metadata.get("model") != model:
        raise ValueError(f"{path}: holds model {metadata.get('model')!r}, not {model!r}")
    for name, kind in wanted.items():
        if not isinstance(metadata.get(name), kind):
            raise ValueError(f"{path}: metadata field '{name}' is missing or no {kind.__name__}")


def _options(path, cls: type, values: dict):
    """Build a dataclass from exactly its own fields."""
    names = {field.name for field in fields(cls)}
    if names != values.keys():
        raise ValueError(
            f"{path}: {cls.__name__} in the metadata: missing {sorted(names - values.keys())}, "
            f"unknown {sorted(values.keys() - names)}"
        )
    # JSON has no tuples
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {cls.__name__} in the metadata: {told(error)}") from error


def fill(
    path: str | Path, model: nn.Module, tensors: dict[str, Tensor], names: dict[str, str] | None = None
) -> None:
    """Load tensors whose names, shapes and types must be exactly the model's.

    `names` gives the file's name of a tensor for each of the model's that is called otherwise
    there. Raises ValueError listing all that is missing, unexpected or of another shape or type, by
    the file's names.
    """
    own = model.state_dict()
    called = {name: (names or {}).get(name, name) for name in own}  # own name -> name in the file
    problems = [f"missing tensor '{name}'" for name in called.values() if name not in tensors]
    problems += [f"unexpected tensor '{name}'" for name in tensors.keys() - set(called.values())]
    for name, theirs in called.items():
        wanted, found = own[name], tensors.get(theirs, own[name])
        if found.shape != wanted.shape or found.dtype != wanted.dtype:
            shapes = (f"{tuple(one.shape)} {one.dtype}" for one in (found, wanted))
            problems.append(f"tensor '{theirs}' is {', not '.join(shapes)}")
    if problems:
        raise ValueError(f"{path}: the tensors do not fit the network: " + "; ".join(sorted(problems)))
    model.load_state_dict({name: tensors[theirs] for name, theirs in called.items()}, strict=True)
