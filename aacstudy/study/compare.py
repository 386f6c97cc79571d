"""Studies side by side: the numbers that they share, and the parameters that differ."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from aacstudy import paths
from aacstudy.report import html, index
from aacstudy.study.findings import measured
from aacstudy.study.parameters import Study, StudyError

# What a key of results.json ends with where it is no number of its own.
PARTS = re.compile(r"(.+)\.(low|high|n|seed_\d+)")
# What differs between any two studies and changes no number.
NAMES = ("study", "description", "extends", "notebooks")


@dataclass(frozen=True)
class Results:
    """What a study left: its numbers by key, and the parameters that its pages ran with."""

    name: str
    folder: Path
    numbers: dict[str, float]
    parameters: dict[str, Any]

    @classmethod
    def read(cls, study: Study) -> "Results":
        """Read a study's results and records; StudyError names the command where there are none."""
        folder = paths.report(study.study)
        file = folder / "results.json"
        if not file.exists():
            raise StudyError(
                f"study {study.study} has no results yet ({file.name} is missing in its reports); "
                f"make them first: python -m aacstudy run {study.study}"
            )
        ran = [one.get("parameters") for one in index.provenances(index.read(folder))]
        numbers = json.loads(file.read_text(encoding="utf-8"))
        return cls(study.study, folder, numbers, next(filter(None, ran), {}))

    def interval(self, key: str) -> tuple[float, float] | None:
        """Low and high of a number, where it has an interval."""
        ends = self.numbers.get(f"{key}.low"), self.numbers.get(f"{key}.high")
        return None if None in ends else ends


def shared(studies: Sequence[Results]) -> list[str]:
    """Keys of numbers that all studies have, without their intervals, sizes and single seeds."""
    keys = set.intersection(*(set(one.numbers) for one in studies))
    return sorted(key for key in keys if not (PARTS.fullmatch(key) and PARTS.fullmatch(key)[1] in keys))


def apart(a: tuple[float, float] | None, b: tuple[float, float] | None) -> str:
    """``disjoint`` or ``overlap`` for two closed intervals; a dash where one is missing."""
    if a is None or b is None:
        return "–"
    return "disjoint" if a[1] < b[0] or b[1] < a[0] else "overlap"


def numbers(studies: Sequence[Results]) -> pd.DataFrame:
    """One row per shared number: each study's value and interval, and differences to the first."""
    first, *others = studies
    rows = []
    for key in shared(studies):
        row: dict[str, Any] = {"number": key}
        for one in studies:
            row[one.name] = float(one.numbers[key])
            row[f"{one.name}: interval"] = _range(one.interval(key))
        for one in others:
            row[f"{one.name} − {first.name}"] = one.numbers[key] - first.numbers[key]
            row["intervals" if len(others) == 1 else f"{one.name}: intervals"] = apart(
                one.interval(key), first.interval(key)
            )
        rows.append(row)
    return pd.DataFrame(rows)


def parameters(studies: Sequence[Results]) -> pd.DataFrame:
    """One row per parameter that differs between studies, as their pages ran with it."""
    flat = [next(iter(pd.json_normalize(one.parameters).to_dict("records")), {}) for one in studies]
    keys = sorted(set().union(*flat))
    differing = [
        key
        for key in keys
        if key.split(".")[0] not in NAMES and any(one.get(key) != flat[0].get(key) for one in flat)
    ]
    columns = {one.name: [_plain(values.get(key)) for key in differing] for one, values in zip(studies, flat)}
    return pd.DataFrame({"parameter": differing} | columns)


def compare(names: Sequence[str]) -> Path:
    """Write ``reports/compare/<a>--<b>.html`` and return its path.

    StudyError for fewer than two different studies, and for one that does not exist or has no
    results yet.
    """
    studies = [Results.read(Study.load(name)) for name in names]
    if len(studies) < 2 or len({one.name for one in studies}) < len(studies):
        raise StudyError(f"compare wants two or more different studies, got {', '.join(names) or 'none'}")
    table = numbers(studies)
    if table.empty:
        raise StudyError(f"studies {', '.join(one.name for one in studies)} share no number in results.json")
    path = paths.reports() / "compare" / f"{'--'.join(_flat_name(one.name) for one in studies)}.html"
    changed = parameters(studies)
    differences = [name for name in table.columns if " − " in name]
    formats = {name: "{:.4g}" for name in (one.name for one in studies)} | {
        name: "{:+.4g}" for name in differences
    }
    caption = (
        f"The {len(table)} numbers that the {len(studies)} studies share, in the units of results.json "
        f"(shares as "
        "fractions of 1); intervals are those of each study, at its own confidence."
    )
    what = "Parameters that differ, as the pages ran with them."
    return html.write(
        path, "compare.html.j2",
        studies=[{"name": one.name, "link": _link(one.folder / "index.html", path)} for one in studies],
        warning=_warning(studies),
        rows=[_row(studies, *one) for one in measured(studies[0].numbers) if one.key in set(table["number"])],
        table=html.table_html(table, caption, formats),
        parameters=html.table_html(changed, what, {}) if len(changed) else "",
    )  # fmt: skip


def _warning(studies: Sequence[Results]) -> str:
    """Why ranks and hits, which depend on the pool's size, may not be compared; or nothing."""
    pools = {tuple(one.numbers.get(key) for key in ("n.audios", "n.captions")) for one in studies}
    corpora = {json.dumps(one.parameters.get("corpus"), sort_keys=True) for one in studies}
    if len(pools) > 1:
        return (
            "The studies search pools of different sizes: hit@k, recall@k and ranks depend on the size and "
            "do not compare."
        )
    return "The studies ran on different corpora; their items are not the same." if len(corpora) > 1 else ""


def _row(studies: Sequence[Results], label: str, key: str, kind: str, note: str) -> dict:
    """One headline: each study's line as in the index, its interval against the first's."""
    lines = [
        index.headline(one.numbers, label, key, kind, note)
        | {"apart": "" if one is studies[0] else apart(one.interval(key), studies[0].interval(key))}
        for one in studies
    ]
    return {"label": label, "note": note, "lines": lines}


def _range(ends: tuple[float, float] | None) -> str:
    return "–" if ends is None else f"{ends[0]:.4g}\N{NO-BREAK SPACE}–\N{NO-BREAK SPACE}{ends[1]:.4g}"


def _plain(value) -> str:
    if value is None:
        return "–"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _flat_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.@-]+", "-", name)


def _link(target: Path, page: Path) -> str:
    return quote(Path(os.path.relpath(target, page.parent)).as_posix())
