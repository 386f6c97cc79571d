"""Retrieval of any stored matrix as one table: every normalisation, both directions, with
intervals.
"""

import hashlib
from pathlib import Path

import pandas as pd

from aacstudy.analysis.retrieval import grid
from aacstudy.analysis.retrieval.methods import DIRECTIONS, Pool
from aacstudy.options import StatisticsOptions
from aacstudy.scoring.matrix import Losses
from aacstudy.study import matrix_files


def of_files(
    matrix: Path,
    owners: Path | None = None,
    losses: bool = False,
    tune: Path | None = None,
    tune_owners: Path | None = None,
) -> tuple[pd.DataFrame, str]:
    """The table of a matrix file and a line that says what it is of; see `matrix_files` for formats
    and errors.

    ``tune``: a matrix of the same system on other clips, on which parameters are chosen; without it
    they are defaults.
    """
    scored = matrix_files.read(matrix, owners, losses)
    other = None if tune is None else matrix_files.read(tune, tune_owners, losses)
    ids = "\n".join(sorted(scored.audios))
    about = (
        f"{len(scored.audios)} audios (ids {hashlib.sha256(ids.encode()).hexdigest()[:12]}), "
        f"{len(scored.captions)} captions, one matrix: the intervals are over audios and leave out training "
        "seeds; "
        f"ties by the raw score; parameters {'are defaults' if tune is None else f'chosen on {tune.name}'}"
    )
    return table(scored, other, StatisticsOptions()), about


def table(scored: Losses, tune: Losses | None, options: StatisticsOptions) -> pd.DataFrame:
    """`grid.table` of both directions, with a column ``direction`` in front; what needs a bank is
    left out.
    """
    pools = [tuple(one and Pool(one.nll, one.tokens, one.owners) for one in (scored, tune))]
    found = [
        grid.table(grid.run(pools, direction), options).assign(direction=direction)
        for direction in DIRECTIONS
    ]
    whole = pd.concat(found, ignore_index=True)
    return whole[["direction", *whole.columns.drop("direction")]]


def text(table: pd.DataFrame) -> str:
    """The table for a terminal: metrics in percent, hit@1 with its interval."""
    shown = table[["direction", "method", "mark", "parameter"]].copy()
    for metric in grid.SHOWN:
        shown[metric] = [f"{100 * value:.1f}" for value in table[metric]]
        if metric == "hit@1":
            ends = zip(table["hit@1 low"], table["hit@1 high"])
            shown["95 %"] = [f"{100 * low:.1f}–{100 * high:.1f}" for low, high in ends]
    shown["ties"] = table["ties"]
    return shown.to_string(index=False)
