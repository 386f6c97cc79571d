"""Loss matrices on disk: bands of audios, the whole as a zarr group, those of other systems.

Anything that scores captions on audio gets the study's retrieval and bias chapters: ``score``.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from aacstudy.corpus import Corpus

BAND = 64  # audios per chunk
_PLAIN = {"bytes", "transpose", "zstd", "zlib", "gzip", "blosc", "lz4", "crc32c", "shuffle", None}  # codecs


@dataclass(frozen=True)
class Losses:
    """A scored corpus: rows are audios, columns are captions.

    nll [audios, captions]: sums of −log p over words and EOS, ours float32; tokens [captions]:
    terms of each sum; owners [captions]: row of the audio that a caption describes; audios,
    captions: ids and texts in that order. parameters: what made them.
    """

    nll: np.ndarray
    tokens: np.ndarray
    owners: np.ndarray
    audios: list[str]
    captions: list[str]
    parameters: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        shape = (len(self.audios), len(self.captions))
        if self.nll.shape != shape or self.tokens.shape != shape[1:] or self.owners.shape != shape[1:]:
            raise ValueError(
                f"nll {self.nll.shape}, tokens {self.tokens.shape}, owners {self.owners.shape} do not fit "
                f"{shape[0]} audios and {shape[1]} captions"
            )

    @property
    def mean(self) -> np.ndarray:
        """The paper's loss [audios, captions]: nats per token."""
        return self.nll / self.tokens

    def write(self, path: Path) -> None:
        """Store as a zarr group in bands of audios, each with its checksum; ValueError for a loss
        that is not finite.
        """
        _finite(self.nll, str(path))
        group = zarr.open_group(path, mode="w")
        safe = {"compressors": (ZstdCodec(), Crc32cCodec())}
        # similarities of other systems may differ in the last of 64 bits only
        nll = self.nll.astype(np.result_type(self.nll.dtype, np.float32))
        chunks = min(BAND, len(self.audios)), len(self.captions)
        stored = group.create_array(
            "nll", shape=nll.shape, dtype=nll.dtype, chunks=chunks, fill_value=np.nan, **safe
        )
        stored[:] = nll
        for name in ("tokens", "owners"):
            values = getattr(self, name).astype(np.int64)
            stored = group.create_array(
                name, shape=values.shape, dtype="int64", chunks=values.shape, fill_value=-1, **safe
            )
            stored[:] = values
        group.attrs.update({"audios": self.audios, "captions": self.captions, "parameters": self.parameters})

    @classmethod
    def read(cls, path: Path) -> "Losses":
        """Load what ``write`` stored; ValueError names the file that is missing, cut or changed, or
        that holds more than plain numbers.
        """
        try:
            for name in ("nll", "tokens", "owners"):
                _plain(Path(path) / name)
            group = zarr.open_group(path, mode="r")
            attributes = group.attrs.asdict()
            lists = [list(attributes[name]) for name in ("audios", "captions")]
            columns = len(lists[1])
            shapes = {"nll": (len(lists[0]), columns), "tokens": (columns,), "owners": (columns,)}
            arrays = [_array(Path(path), group[name], name, shape) for name, shape in shapes.items()]
            return cls(*arrays, *lists, dict(attributes["parameters"]))
        except (KeyError, TypeError, OSError) as error:
            raise ValueError(f"{path}: is no zarr group of losses ({error})") from error


def _plain(path: Path) -> None:
    """ValueError for an array whose description, read before zarr acts on it, asks for more than
    numbers: a filter that unpickles runs what somebody else wrote.
    """
    file = path / "zarr.json" if (path / "zarr.json").exists() else path / ".zarray"
    about = json.loads(file.read_text(encoding="utf-8"))
    kind = str(about.get("data_type", about.get("dtype")))
    codecs = about.get("codecs") or [about.get("compressor"), *(about.get("filters") or [])]
    names = {one and one.get("name", one.get("id", "nameless")) for one in codecs}
    if names - _PLAIN or kind.lstrip("<>|=")[:1] not in "fiu":
        raise ValueError(f"{file}: holds {kind} by {', '.join(map(str, names))}; wants plain numbers")


def _array(path: Path, array: zarr.Array, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """An array whole: zarr fills a missing chunk with a number, as if it had been stored."""
    if array.shape != shape:
        raise ValueError(f"{path / name}: its shape {array.shape} does not fit {shape} audios and captions")
    there = {file.relative_to(path / name).as_posix() for file in (path / name).rglob("*") if file.is_file()}
    found = np.empty(shape, array.dtype)
    for place in np.ndindex(array.cdata_shape):
        key = array.metadata.encode_chunk_key(place)
        if key not in there and name != "owners":
            raise ValueError(f"{path}: chunk {name}/{key} is missing; copy the folder again, or make it anew")
        part = tuple(slice(i * n, (i + 1) * n) for i, n in zip(place, array.chunks))
        try:
            found[part] = array[part]
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"{path}: chunk {name}/{key} is damaged ({error}); copy it again") from error
    return found


def _finite(nll: np.ndarray, what: str) -> None:
    bad = np.argwhere(~np.isfinite(nll))
    if len(bad):
        row, column = bad[0]
        raise ValueError(f"{what}: the loss of audio {row} and caption {column} is {nll[row, column]}")


def write_band(path: Path, nll: np.ndarray, tokens: np.ndarray) -> None:
    """Write the sums of a band of audios [audios, captions] and the token counts [captions]."""
    _finite(nll, str(path))
    np.savez(path, nll=nll.astype(np.float32), tokens=tokens.astype(np.int64))


def join(
    bands: Sequence[Path],
    owners: Sequence[int],
    audios: list[str],
    captions: list[str],
    parameters: dict[str, Any],
) -> Losses:
    """The whole matrix from its bands in order; ValueError where they do not make it up."""
    parts = [np.load(path) for path in bands]
    if any(not np.array_equal(one["tokens"], parts[0]["tokens"]) for one in parts):
        raise ValueError(f"bands of different captions: {', '.join(str(path) for path in bands)}")
    nll = np.concatenate([one["nll"] for one in parts])
    return Losses(nll, parts[0]["tokens"], np.array(owners), audios, captions, parameters)


class Scorer(Protocol):
    """What a captioner must do to be studied; see ``models/huggingface.py``."""

    def nll(self, frames: Sequence[Any], captions: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Sums [audios, captions] of −log p over a caption's tokens and end mark, and their counts.

        frames: one input per audio, whatever the encoder takes. Sums in nats, counts [captions].
        """


def score(scorer: Scorer, frames: Sequence[Any], part: Corpus) -> Losses:
    """The matrix of one split by any captioner; ``frames`` in the order of ``part.clips``.

    ``.write("mine/1.zarr")`` it and put ``scoring: {matrix: "mine/{seed}.zarr"}`` in a study.
    """
    clips, texts = list(part.clips["clip"]), list(part.captions["text"])
    sums, counts = scorer.nll(frames, texts)
    owners = np.array(part.owners())
    return Losses(np.asarray(sums, np.float32), np.asarray(counts), owners, clips, texts)


def check(matrix: Losses, audios: list[str], captions: list[str], owners: Sequence[int], file: str) -> Losses:
    """A matrix with rows and columns in the corpus' order; ValueError names what does not fit.

    Captions are told apart by text and owner, so identical texts of two clips stay apart.
    """
    for kind, own, theirs in (("audio", audios, matrix.audios), ("caption", captions, matrix.captions)):
        if sorted(own) != sorted(theirs):
            missing = sorted(set(own) - set(theirs)) or sorted(set(theirs) - set(own))
            raise ValueError(
                f"{file}: its {len(theirs)} {kind}s are not the corpus' {len(own)}"
                + (f"; only one of the two has {missing[0]!r}" if missing else "")
            )
    if not np.isfinite(matrix.nll).all() or (matrix.nll < 0).any() or (matrix.tokens < 1).any():
        raise ValueError(f"{file}: losses must be sums of -log p: finite, not negative, of one token or more")
    rows = {audio: row for row, audio in enumerate(matrix.audios)}
    # of captions that are the same in text and owner the first column counts
    columns: dict[tuple[str, str], int] = {}
    for column, (text, owner) in enumerate(zip(matrix.captions, matrix.owners)):
        columns.setdefault((text, matrix.audios[owner]), column)
    wanted = [(text, audios[owner]) for text, owner in zip(captions, owners)]
    for text, audio in wanted:
        if (text, audio) not in columns:
            raise ValueError(f"{file}: no caption {text!r} of audio {audio}; owners must be as in the corpus")
    order = [columns[pair] for pair in wanted]
    nll = matrix.nll[np.ix_([rows[audio] for audio in audios], order)]
    return Losses(nll, matrix.tokens[order], np.array(owners), audios, captions, {"matrix": Path(file).name})


def fingerprint(path: Path) -> str:
    """Digest of the names and contents of a zarr group's files; ValueError where there is none."""
    if not path.is_dir():
        raise ValueError(f"scoring.matrix: {path}: no such zarr group")
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.is_file():
            digest.update(str(file.relative_to(path)).encode() + file.read_bytes())
    return digest.hexdigest()[:12]
