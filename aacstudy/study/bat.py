"""The test of perturbed captions for any other system: write its items from a table of captions, score the table back."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from aacstudy.analysis import order
from aacstudy.corpus.perturb.controls import majority, trigram_losses
from aacstudy.corpus.perturb.items import perturbations
from aacstudy.options import StatisticsOptions
from aacstudy.paths import write_whole

CLIP_COLUMNS = ("clip", "file_name", "youtube_id")
TEXT_COLUMNS = ("text", "caption")
# What a corpus whose swaps are known tells beside them.
ANNOTATION = ("kind", "connective", "form", "mentions")
GIVEN = {"original": "text", "perturbed": "swap"}  # what the table calls the two sides


def read_captions(path: Path) -> pd.DataFrame:
    """Captions as ``clip``, ``text`` from a CSV, one row a clip (``file_name,caption_1..``) or one row a caption.

    One row a caption has a column ``clip``, ``file_name`` or ``youtube_id`` (AudioCaps) and a column ``text`` or
    ``caption``; the columns of an annotated corpus stay. Raises ValueError naming file, row and column.
    """
    table = _read(path)
    clip = next((name for name in CLIP_COLUMNS if name in table), None)
    wide = [name for name in table if re.fullmatch(r"caption_\d+", name)]
    text = next((name for name in TEXT_COLUMNS if name in table), None)
    if clip is None or not (wide or text):
        raise ValueError(
            f"{path}, header: wants file_name,caption_1..caption_n or one of {', '.join(CLIP_COLUMNS)} and one of "
            f"{', '.join(TEXT_COLUMNS)}; it has {', '.join(table)}"
        )
    if wide:
        table = table.melt(id_vars=clip, value_vars=wide, value_name="text", ignore_index=False)
        table = table[table["text"].str.strip() != ""].sort_index(kind="stable")
        text = "text"
    table = table.rename(columns={clip: "clip", text: "text"})
    for column in ("clip", "text"):
        empty = table.index[table[column].str.strip() == ""]
        if len(empty):
            raise ValueError(f"{path}, row {empty[0] + 1} below the header, {column}: empty")
    if "swap" in table and (missing := [name for name in ANNOTATION if name not in table]):
        raise ValueError(
            f"{path}, header: swap comes with {', '.join(ANNOTATION)}; {', '.join(missing)} missing"
        )
    return table.drop(columns="variable", errors="ignore").reset_index(drop=True)


def write_items(captions: Path, out: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write the items of a table of captions for another system to score; returns them and what was left out.

    The written columns: ``item``, ``test``, ``clip``, ``connective``, ``form``, ``original``, ``perturbed`` and, to be filled
    in, ``loss_original``, ``loss_perturbed``: the lower one is preferred (a similarity is written as its negative).
    """
    items, left_out = perturbations(read_captions(captions))
    if items.empty:
        raise ValueError(f"{captions}: no caption has two words or more")
    table = items.rename(columns={"text": "original", "swap": "perturbed"})
    table.insert(0, "item", np.arange(len(table)))
    table = table.assign(loss_original="", loss_perturbed="")
    write_whole(out, table.to_csv(index=False).encode("utf-8"))
    return items, left_out


def read_scored(path: Path, training: Path | None = None) -> pd.DataFrame:
    """A returned table as order.py reads it: ``own_text``, ``own_swap`` and the controls that can be had.

    Optional columns ``blind_original``, ``blind_perturbed`` hold losses on other clips' audio. With a table of
    training captions come the trigram's losses and the majority rule. Raises ValueError naming row and column.
    """
    table = _read(path)
    needed = [
        "test",
        "clip",
        "connective",
        "form",
        "original",
        "perturbed",
        "loss_original",
        "loss_perturbed",
    ]
    if missing := [name for name in needed if name not in table]:
        raise ValueError(
            f"{path}, header: {', '.join(missing)} missing; `bat captions.csv --out` writes them"
        )
    blind = [f"blind_{side}" for side in GIVEN]
    if any(name in table for name in blind) and not all(name in table for name in blind):
        raise ValueError(f"{path}, header: {' and '.join(blind)} belong together")
    scored = table.rename(columns=GIVEN)
    for source, target in (("loss", "own"), ("blind", "other")):
        for side, name in GIVEN.items():
            if f"{source}_{side}" in table:
                scored[f"{target}_{name}"] = _numbers(table[f"{source}_{side}"], path)
    if training is not None:
        learnt = read_captions(training)
        for side in GIVEN.values():
            scored[f"ngram_{side}"] = trigram_losses(list(learnt["text"]), list(scored[side]))
        scored["majority"] = majority(scored, perturbations(learnt)[0], list(learnt["text"]))
    return scored


def report(scored: pd.DataFrame) -> pd.DataFrame:
    """Accuracy and controls of every test and connective, one row each, as text with intervals over clips."""
    found = order.measured([scored], StatisticsOptions()).rename(columns={"n": "clips"})
    return order.written(found, ["test", "part", "items", "clips"])


def _read(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a CSV table in UTF-8: {error}") from error
    if table.empty:
        raise ValueError(f"{path}: has no row below its header")
    return table


def _numbers(column: pd.Series, path: Path) -> np.ndarray:
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=float)
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise ValueError(
            f"{path}, row {wrong[0] + 1} below the header, {column.name}: {column.iloc[wrong[0]]!r} is no finite number"
        )
    return values
