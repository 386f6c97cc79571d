"""Losses of matched pairs that other systems publish, and the captions those were trained on, from
CSV files."""

import ast
from pathlib import Path

import pandas as pd

from aacstudy.corpus import tables


def read_pairs(path: str | Path) -> pd.DataFrame:
    """Losses of matched pairs from a CSV file: ``audio``, ``caption``, ``loss`` (nats per token),
    one row per pair.

    Either a row per pair with columns ``caption`` and ``loss`` (and ``audio``, else each row is its
    own), or a row per audio as CoNeTTE publishes it: ``fname``, and lists in ``mrefs`` (captions)
    and ``losses``. Raises ValueError naming file, line and column.
    """
    table = tables.read(
        path,
        "caption,loss or mrefs,losses",
        lambda names: {"caption", "loss"} <= set(names) or {"mrefs", "losses"} <= set(names),
    )
    if "mrefs" in table:
        rows = []
        for line, row in table.iterrows():
            texts, losses = (_list(row[name], f"{path}, line {line}, {name}") for name in ("mrefs", "losses"))
            if len(texts) != len(losses):
                raise ValueError(f"{path}, line {line}: {len(texts)} captions in mrefs, {len(losses)} losses")
            rows += [(row.get("fname", str(line)), text, loss) for text, loss in zip(texts, losses)]
        return pd.DataFrame(rows, columns=["audio", "caption", "loss"]).astype({"loss": float})
    losses = tables.read_column(path, table, "loss")
    audio = table["audio"].tolist() if "audio" in table else [str(row) for row in range(len(table))]
    return pd.DataFrame({"audio": audio, "caption": table["caption"].tolist(), "loss": losses})


def read_captions(path: str | Path) -> list[str]:
    """The texts of a CSV file's column ``caption`` or columns ``caption_1`` …; ValueError where
    there is neither.
    """
    wants = "caption or caption_1,...,caption_n"
    table = tables.read(path, wants, lambda names: bool(tables.caption_columns(names)[1]))
    names = tables.caption_columns(list(table))[1]
    return [text for name in names for text in table[name] if text.strip()]


def _list(text: str, where: str) -> list:
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError) as error:
        raise ValueError(f"{where}: {text[:40]!r} is no list") from error
    if not isinstance(found, list):
        raise ValueError(f"{where}: {text[:40]!r} is no list")
    return found
