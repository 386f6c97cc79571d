"""The test of perturbed captions for any other system: write its items from a table of captions,
score the table back.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from aacstudy.analysis import order
from aacstudy.corpus import tables
from aacstudy.corpus.perturb.controls import majority, trigram_losses
from aacstudy.corpus.perturb.items import perturbations
from aacstudy.options import StatisticsOptions
from aacstudy.paths import write_whole

# What a corpus whose swaps are known tells of each caption.
ANNOTATION = ("swap", "kind", "connective", "form", "mentions")
GIVEN = {"original": "text", "perturbed": "swap"}  # what the table calls the two sides


def read_captions(path: Path) -> pd.DataFrame:
    """Captions as ``clip``, ``text`` from a CSV in a layout of `corpus.tables.captions`, with its
    ANNOTATION, if any.

    Raises ValueError naming file, line and column.
    """
    found = tables.read_captions(path)
    table = tables.read(path, tables.LAYOUTS, bool)
    if "swap" in table:
        if missing := [name for name in ANNOTATION if name not in table]:
            raise ValueError(
                f"{path}, header: swap comes with {', '.join(ANNOTATION[1:])}; {', '.join(missing)} missing"
            )
        found = found.join(table[list(ANNOTATION)])
    return found.reset_index(drop=True)


def write_items(captions: Path, out: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write the items of a table of captions for another system to score; returns them and what was
    left out.

    The written columns: ``item``, ``test``, ``clip``, ``connective``, ``form``, ``original``,
    ``perturbed`` and, to be filled in, ``loss_original``, ``loss_perturbed``: the lower one is
    preferred (a similarity is written as its negative).
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
    """A returned table as order.py reads it: ``own_text``, ``own_swap`` and the controls that can
    be had.

    Optional columns ``blind_original``, ``blind_perturbed`` hold losses on other clips' audio. With
    a table of training captions come the trigram's losses and the majority rule. Raises ValueError
    naming row and column.
    """
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
    wants = f"{','.join(needed)} as `bat captions.csv --out` writes them"
    table = tables.read(path, wants, lambda names: set(needed) <= set(names))
    blind = [f"blind_{side}" for side in GIVEN]
    if any(name in table for name in blind) and not all(name in table for name in blind):
        raise ValueError(f"{path}, header: {' and '.join(blind)} belong together")
    scored = table.rename(columns=GIVEN)
    for source, target in (("loss", "own"), ("blind", "other")):
        for side, name in GIVEN.items():
            if f"{source}_{side}" in table:
                scored[f"{target}_{name}"] = tables.read_column(path, table, f"{source}_{side}")
    if training is not None:
        learnt = read_captions(training)
        for side in GIVEN.values():
            scored[f"ngram_{side}"] = trigram_losses(list(learnt["text"]), list(scored[side]))
        scored["majority"] = majority(scored, perturbations(learnt)[0], list(learnt["text"]))
    return scored


def report(scored: pd.DataFrame) -> pd.DataFrame:
    """Accuracy and controls of every test and connective, one row each, as text with intervals over
    clips.
    """
    found = order.measured([scored], StatisticsOptions()).rename(columns={"n": "clips"})
    return order.written(found, ["test", "part", "items", "clips"])
