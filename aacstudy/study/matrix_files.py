"""A matrix of any audio-caption system from one file.

* zarr: what `Losses.write` stored (a study's ``losses.zarr``).
* NPZ: ``nll`` (sums of −log p) with ``tokens`` [captions], or ``loss`` (lower is better), or
  ``score`` (higher is better), each [audios, captions]; and ``owners`` [captions], the row of each
  caption's audio. Optional: ``audios``, ``captions``, ids as text; with both, ``owners`` may hold
  audio ids instead of rows. Nothing is unpickled.
* CSV: the header holds ``audio`` and the captions' ids, each line an audio's id and its numbers
  (scores, or losses if so said); beside it an owners file with columns ``caption`` and ``audio``.

Errors are ValueError and name file, line or entry, and field.
"""

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

from aacstudy.corpus import tables
from aacstudy.scoring.matrix import Losses

KINDS = ("nll", "loss", "score")


def read(path: str | Path, owners: str | Path | None = None, losses: bool = False) -> Losses:
    """Read a matrix; what has no token counts gets 1 each, so that its loss is the value itself.

    ``owners``: the owners file of a CSV matrix. ``losses``: the CSV's numbers are losses.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such matrix")
    if path.suffix == ".npz":
        found = _npz(path)
    elif path.suffix == ".csv":
        if owners is None:
            raise ValueError(f"{path}: a CSV matrix needs an owners file: columns caption and audio")
        found = _csv(path, Path(owners), losses)
    elif path.is_dir():
        found = Losses.read(path)
    else:
        raise ValueError(f"{path}: a matrix is a zarr folder, an .npz or a .csv file")
    bad = np.argwhere(~np.isfinite(found.nll))
    if len(bad):
        row, column = bad[0]
        raise ValueError(
            f"{path}: the value of audio {found.audios[row]!r} and caption {found.captions[column]!r} "
            f"(row {row}, column {column}) is {found.nll[row, column]}; it must be finite"
        )
    if len(lonely := sorted(set(range(len(found.audios))) - set(found.owners.tolist()))):
        raise ValueError(f"{path}: audio {found.audios[lonely[0]]!r} (row {lonely[0]}) owns no caption")
    return found


def _npz(path: Path) -> Losses:
    try:
        with np.load(path) as file:  # refuses pickled objects
            stored = {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: is no NPZ file of plain arrays ({error})") from error
    kinds = [name for name in KINDS if name in stored]
    if len(kinds) != 1:
        raise ValueError(
            f"{path}: must hold one of {', '.join(KINDS)}; it has {', '.join(stored) or 'nothing'}"
        )
    (kind,) = kinds
    values = stored[kind]
    if values.ndim != 2 or values.dtype.kind not in "fiu":
        raise ValueError(
            f"{path}, {kind}: has shape {values.shape} of {values.dtype}; wants [audios, captions] numbers"
        )
    needed = ("owners", "tokens") if kind == "nll" else ("owners",)
    for name in needed:
        if name not in stored:
            raise ValueError(f"{path}: has no {name} [captions]")
    n_audios, n_captions = values.shape
    audios = _ids(path, stored, "audios", n_audios)
    captions = _ids(path, stored, "captions", n_captions)
    tokens = stored["tokens"] if kind == "nll" else np.ones(n_captions, dtype=np.int64)
    for name, array in (("owners", stored["owners"]), ("tokens", tokens)):
        if array.shape != (n_captions,):
            raise ValueError(
                f"{path}, {name}: has shape {array.shape}; wants one for each of {n_captions} captions"
            )
    if not np.isfinite(tokens.astype(float)).all() or (tokens < 1).any():
        raise ValueError(f"{path}, tokens: each sum is of one token or more")
    owners = _owners(path, stored["owners"], audios)
    nll = np.asarray(-values if kind == "score" else values, dtype=np.float64)
    return Losses(nll, tokens.astype(np.int64), owners, audios, captions, {"matrix": path.name})


def _ids(path: Path, stored: dict[str, np.ndarray], name: str, count: int) -> list[str]:
    if name not in stored:
        return [str(i) for i in range(count)]
    ids = [str(one) for one in stored[name].ravel().tolist()]
    if len(ids) != count:
        raise ValueError(f"{path}, {name}: {len(ids)} ids for {count} {name}")
    if name == "audios" and len(set(ids)) < count:
        twice = next(one for one in ids if ids.count(one) > 1)
        raise ValueError(f"{path}, audios: {twice!r} stands twice")
    return ids


def _owners(path: Path, owners: np.ndarray, audios: list[str]) -> np.ndarray:
    """Rows of the captions' audios, from rows or from ids."""
    if owners.dtype.kind in "iu":
        bad = np.flatnonzero((owners < 0) | (owners >= len(audios)))
        if len(bad):
            place = bad[0]
            raise ValueError(
                f"{path}, owners[{place}]: is {owners[place]}; wants a row from 0 to {len(audios) - 1}"
            )
        return owners.astype(np.int64)
    rows = {audio: row for row, audio in enumerate(audios)}
    found = [str(one) for one in owners.tolist()]
    for place, one in enumerate(found):
        if one not in rows:
            raise ValueError(f"{path}, owners[{place}]: {one!r} is none of the audios")
    return np.array([rows[one] for one in found])


def _csv(path: Path, owners: Path, losses: bool) -> Losses:
    wants = "audio and the captions' ids, below it a line for each audio"
    table = tables.read(path, wants, lambda names: names[:1] == ["audio"] and len(names) > 1)
    audios, captions = _unique(path, table, "audio"), list(table.columns[1:])
    values = np.stack([tables.read_column(path, table, caption) for caption in captions], axis=1)
    nll = values if losses else -values
    owned = tables.read(owners, "caption,audio", lambda names: {"caption", "audio"} <= set(names))
    for line, audio in owned["audio"].items():
        if audio not in audios:
            raise ValueError(f"{owners}, line {line}, audio: {audio!r} is no audio of {path}")
    owner = dict(zip(_unique(owners, owned, "caption"), owned["audio"]))
    for caption in captions:
        if caption not in owner:
            raise ValueError(f"{owners}: no line for caption {caption!r} of {path}")
    rows = np.array([audios.index(owner[caption]) for caption in captions])
    return Losses(nll, np.ones(len(captions), dtype=np.int64), rows, audios, captions, {"matrix": path.name})


def _unique(path: Path, table: pd.DataFrame, name: str) -> list[str]:
    """A column of ids; ValueError where one stands twice."""
    for line, one in table[name][table[name].duplicated()].items():
        raise ValueError(f"{path}, line {line}, {name}: {one!r} stands twice")
    return table[name].tolist()
