"""Losses of matched pairs that other systems publish, and the captions those were trained on, from
CSV files."""

import ast
from pathlib import Path

import numpy as np
import pandas as pd


def read_pairs(path: str | Path) -> pd.DataFrame:
    """Losses of matched pairs from a CSV file: ``audio``, ``caption``, ``loss`` (nats per token),
    one row per pair.

    Either a row per pair with columns ``caption`` and ``loss`` (and ``audio``, else each row is its
    own), or a row per audio as CoNeTTE publishes it: ``fname``, and lists in ``mrefs`` (captions)
    and ``losses``. Raises ValueError naming file, line and column.
    """
    table = pd.read_csv(path, keep_default_na=False, dtype=str)
    if {"mrefs", "losses"} <= set(table.columns):
        rows = []
        for line, row in enumerate(table.to_dict("records"), start=2):
            texts, losses = (_list(row[name], f"{path}, line {line}, {name}") for name in ("mrefs", "losses"))
            if len(texts) != len(losses):
                raise ValueError(f"{path}, line {line}: {len(texts)} captions in mrefs, {len(losses)} losses")
            rows += [(row.get("fname", str(line)), text, loss) for text, loss in zip(texts, losses)]
        return pd.DataFrame(rows, columns=["audio", "caption", "loss"]).astype({"loss": float})
    for name in ("caption", "loss"):
        if name not in table:
            raise ValueError(
                f"{path}: no column {name!r} (nor mrefs and losses); it has {', '.join(table.columns)}"
            )
    losses = pd.to_numeric(table["loss"], errors="coerce")
    if not np.isfinite(losses).all():
        row = int(np.flatnonzero(~np.isfinite(losses))[0])
        raise ValueError(f"{path}, line {row + 2}, loss: {table['loss'][row]!r} is no finite number")
    audio = table["audio"] if "audio" in table else pd.Series(range(len(table)), dtype=str)
    return pd.DataFrame({"audio": audio, "caption": table["caption"], "loss": losses})


def read_captions(path: str | Path) -> list[str]:
    """The texts of a CSV file's column ``caption`` or columns ``caption_1`` …; ValueError where
    there is neither."""
    table = pd.read_csv(path, keep_default_na=False, dtype=str)
    names = [name for name in table if name == "caption" or str(name).startswith("caption_")]
    texts = [text for name in names for text in table[name] if text.strip()]
    if not texts:
        raise ValueError(f"{path}: no captions; wants a column caption, or columns caption_1 ...")
    return texts


def _list(text: str, where: str) -> list:
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError) as error:
        raise ValueError(f"{where}: {text[:40]!r} is no list") from error
    if not isinstance(found, list):
        raise ValueError(f"{where}: {text[:40]!r} is no list")
    return found
