"""Candidates and references of any system as CSV files; errors name file, line and field."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from aacstudy.analysis.captions import METRICS, Evaluation, evaluate
from aacstudy.corpus.tables import CLIP, read, read_captions, read_column
from aacstudy.paths import write_whole

_MOST = 10  # names that an error lists


@dataclass(frozen=True)
class Candidates:
    """Clips in the file's order, the caption of each and, with ranks, all candidates of each."""

    clips: list[str]
    captions: list[str]
    beams: list[list[str]] | None


def read_candidates(path: Path) -> Candidates:
    """Read ``file_name,caption``, or our captions.csv: ``clip,rank,caption,score`` with rank 1 the
    choice.

    An empty caption stays: a system may well have written nothing, and that scores nothing. Raises
    ValueError for missing columns, an empty file name, a clip that stands twice, or a clip without
    rank 1.
    """
    table = read(path, "file_name,caption", lambda names: "caption" in names and bool(set(CLIP) & set(names)))
    clip = next(name for name in CLIP if name in table)
    ranks = read_column(path, table, "rank") if "rank" in table else np.ones(len(table))
    found: dict[str, dict[float, str]] = {}
    for line, name, rank, text in zip(table.index, table[clip], ranks, table["caption"]):
        if not name.strip():
            raise ValueError(f"{path}, line {line}, {clip}: empty")
        if rank < 1 or rank % 1:
            raise ValueError(f"{path}, line {line}, rank: {rank:g}; wants 1, 2, …")
        if rank in found.setdefault(name, {}):
            again = f" with rank {rank:g}" if "rank" in table else ""
            raise ValueError(f"{path}, line {line}, {clip}: {name!r} stands above already{again}")
        found[name][rank] = text
    if lacking := [name for name, by_rank in found.items() if 1 not in by_rank]:
        raise ValueError(f"{path}: {_listed(lacking)} has no row of rank 1")
    beams = [[by_rank[rank] for rank in sorted(by_rank)] for by_rank in found.values()]
    several = any(len(one) > 1 for one in beams)
    return Candidates(list(found), [one[0] for one in beams], beams if several else None)


def match(
    candidates: Candidates, references: dict[str, list[str]], paths: tuple[Path, Path]
) -> list[list[str]]:
    """References in the candidates' order; ValueError for clips that only one file has."""
    without = [clip for clip in candidates.clips if clip not in references]
    if without:
        raise ValueError(f"{paths[1]}: no references for {_listed(without)} of {paths[0]}")
    known = set(candidates.clips)
    if unscored := [clip for clip in references if clip not in known]:
        raise ValueError(f"{paths[0]}: no candidate for {_listed(unscored)} of {paths[1]}")
    return [references[clip] for clip in candidates.clips]


def evaluate_files(
    candidates: Path,
    references: Path,
    training: Path | None = None,
    metrics: list[str] | None = None,
    tokenizer: str = "auto",
    table: Path | None = None,
    each: Path | None = None,
) -> str:
    """Score a file of captions: the table as text, and as files where asked."""
    chosen, given = read_candidates(candidates), read_captions(references)
    known = None if training is None else list(read_captions(training)["text"])
    by_clip = given.groupby("clip", sort=False)["text"].apply(list).to_dict()
    many = match(chosen, by_clip, (candidates, references))
    found = evaluate(
        chosen.captions, many, chosen.beams, training=known, metrics=metrics, tokenizer=tokenizer
    )
    if table is not None:
        write_whole(table, found.table().to_csv(index=False).encode())
    if each is not None:
        rows = pd.DataFrame({"file_name": chosen.clips, "caption": chosen.captions})
        write_whole(each, pd.concat([rows, found.each[0]], axis=1).to_csv(index=False).encode())
    empty = sum(not text.strip() for text in chosen.captions)
    return as_text(found) + (f"\n{empty} candidates are empty; they score nothing." if empty else "")


def as_text(found: Evaluation) -> str:
    """A table to print: metric, corpus value, interval, or what it needs; below, the tokenizer."""
    lines = []
    for row in found.table().itertuples():
        interval = f" [{row.low:.4f}, {row.high:.4f}]" if row.low == row.low else ""
        lines.append(f"{METRICS[row.metric]:30s} " + (row.remark or f"{row.value:10.4f}{interval}"))
    about = (
        f"{len(found.each[0])} clips; tokenizer {found.about['tokenizer']}; aac-metrics "
        f"{found.about['aac-metrics']}"
    )
    java = f"; Java {found.about['Java']}" if found.about["Java"] else ""
    return "\n".join([*lines, f"{about}{java}; 95 % intervals over clips"])


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return ", ".join(map(repr, names[:_MOST])) + more
