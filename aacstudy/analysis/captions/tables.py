"""Candidates and references of any system as CSV files, checked row by row; errors name file, row and field."""

from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pandas as pd

from aacstudy.analysis.captions import METRICS, Evaluation, evaluate
from aacstudy.paths import write_whole

_CLIP = ("file_name", "clip")
_MOST = 10  # names that an error lists


@dataclass(frozen=True)
class Candidates:
    """Clips in the file's order, the chosen caption of each and, where the file has ranks, all candidates of each."""

    clips: list[str]
    captions: list[str]
    beams: list[list[str]] | None


def read_candidates(path: Path) -> Candidates:
    """Read ``file_name,caption``, or our captions.csv: ``clip,rank,caption,score`` with rank 1 the choice.

    An empty caption stays: a system may well have written nothing, and that scores nothing.
    Raises ValueError for missing columns, an empty file name, a clip that stands twice, or a clip without rank 1.
    """
    table, clip = _read(path)
    if "caption" not in table:
        raise ValueError(f"{path}: no column caption; it has {', '.join(table.columns)}")
    if "rank" not in table:
        _no_duplicates(path, table[clip])
        return Candidates(table[clip].tolist(), table["caption"].tolist(), None)
    ranks = pd.to_numeric(table["rank"], errors="coerce")
    if ranks.isna().any() or (ranks < 1).any():
        row = int((ranks.isna() | (ranks < 1)).idxmax())
        raise ValueError(f"{path}: row {row + 2}: rank is {table['rank'][row]!r}; wants 1, 2, …")
    _no_duplicates(path, table[clip] + " rank " + table["rank"])
    clips = list(dict.fromkeys(table[clip]))
    table = table.assign(rank=ranks).sort_values("rank", kind="stable")
    first = dict(table.loc[table["rank"] == 1, [clip, "caption"]].to_numpy())
    if lacking := [name for name in clips if name not in first]:
        raise ValueError(f"{path}: {_listed(lacking)} has no row of rank 1")
    grouped = table.groupby(clip)["caption"].apply(list)
    beams = [grouped[name] for name in clips] if ranks.max() > 1 else None
    return Candidates(clips, [first[name] for name in clips], beams)


def read_references(path: Path) -> dict[str, list[str]]:
    """Captions by clip, from the Clotho layout (``file_name,caption_1..caption_n``) or a row per caption
    (``file_name,caption``; also ``clip,text``). Empty cells after the first caption are left out.

    Raises ValueError for missing columns, an empty file name, a clip that stands twice in the Clotho layout, a clip without
    a caption, or an empty caption in a row of its own.
    """
    table, clip = _read(path)
    wide = [name for name in table.columns if name.startswith("caption_")]
    if wide:
        _no_duplicates(path, table[clip])
        found = {}
        for row, cells in enumerate(table[[clip, *wide]].itertuples(index=False), start=2):
            found[cells[0]] = [text for text in cells[1:] if text.strip()]
            if not found[cells[0]]:
                raise ValueError(f"{path}: row {row}: {cells[0]!r} has no caption in {wide[0]} to {wide[-1]}")
        return found
    text = next((name for name in ("caption", "text") if name in table), None)
    if text is None:
        raise ValueError(f"{path}: no column caption_1 or caption; it has {', '.join(table.columns)}")
    empty = table[text].str.strip() == ""
    if empty.any():
        row = int(empty.idxmax())
        raise ValueError(f"{path}: row {row + 2}: {text} of {table[clip][row]!r} is empty")
    return table.groupby(clip, sort=False)[text].apply(list).to_dict()


def match(
    candidates: Candidates, references: dict[str, list[str]], paths: tuple[Path, Path]
) -> list[list[str]]:
    """References in the order of the candidates; ValueError for clips that only one of the two files has."""
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
    """Score one system's file of captions; returns the table as text, and writes it and the captions' scores where asked."""
    chosen = read_candidates(candidates)
    known = None if training is None else list(chain.from_iterable(read_references(training).values()))
    many = match(chosen, read_references(references), (candidates, references))
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
    """A table to print: metric, corpus value, interval, or what it needs; below it the tokenizer."""
    lines = []
    for row in found.table().itertuples():
        interval = f" [{row.low:.4f}, {row.high:.4f}]" if row.low == row.low else ""
        lines.append(f"{METRICS[row.metric]:30s} " + (row.remark or f"{row.value:10.4f}{interval}"))
    about = f"{len(found.each[0])} clips; tokenizer {found.about['tokenizer']}; aac-metrics {found.about['aac-metrics']}"
    java = f"; Java {found.about['Java']}" if found.about["Java"] else ""
    return "\n".join([*lines, f"{about}{java}; 95 % intervals by bootstrap over clips"])


def _read(path: Path) -> tuple[pd.DataFrame, str]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no CSV file in UTF-8: {error}") from error
    clip = next((name for name in _CLIP if name in table), None)
    if clip is None:
        raise ValueError(f"{path}: no column file_name; it has {', '.join(table.columns)}")
    if table.empty:
        raise ValueError(f"{path} has no rows")
    empty = table[clip].str.strip() == ""
    if empty.any():
        raise ValueError(f"{path}: row {int(empty.idxmax()) + 2}: {clip} is empty")
    return table, clip


def _no_duplicates(path: Path, names: pd.Series) -> None:
    twice = names.duplicated()
    if twice.any():
        row = int(twice.idxmax())
        first = int((names == names[row]).idxmax())
        raise ValueError(f"{path}: row {row + 2}: {names[row]!r} stands already in row {first + 2}")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return ", ".join(map(repr, names[:_MOST])) + more
