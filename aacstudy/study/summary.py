"""What studies found, as Markdown for files in git: a run's facts, findings, headline numbers,
answers and scorecard.

It reads what a finished study left in its reports, and computes nothing.
"""

import html
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aacstudy import paths
from aacstudy.report import index
from aacstudy.report.provenance import FOLDERS, private
from aacstudy.study.findings import FINDINGS, measured, shown
from aacstudy.study.parameters import Study, StudyError
from aacstudy.study.run import SIZES

# Heading and kind of the measures of chapter 8 that are shown.
CHANGES = {
    "t2a.hit@1": ("text-to-audio hit@1, points", "points"),
    "a2t.min_max.hit@1": ("audio-to-text min-max hit@1, points", "points"),
    "captioning.cider_d": ("CIDEr-D", "change"),
}
_CHANGE_HEAD = ("change", *(heading for heading, _ in CHANGES.values()))
# of other studies: make study STUDY=
COMMANDS = {"demo": "make study", "ablations": "make ablations"}
Rows = list[str]  # of a Markdown table, without its head


@dataclass(frozen=True)
class Run:
    """A study that ran to its end: its numbers and its pages' records, by notebook."""

    study: Study
    results: Mapping[str, float]
    records: Mapping[str, dict]

    @classmethod
    def read(cls, study: Study) -> "Run":
        """Read a study's reports; StudyError names what is missing and what makes it."""
        folder = paths.report(study.study)
        file, pages = folder / "results.json", index.read(folder)
        missing = [name for name in study.notebooks if not pages.get(name, {}).get("provenance")]
        missing = [file.name] * (not file.exists()) + [f"the page of {name}" for name in missing]
        again = f"python -m aacstudy run {study.study}"
        if missing:
            raise StudyError(
                f"study {study.study} is not finished: its reports lack {', '.join(missing)}; make them: "
                f"{again}"
            )
        results = json.loads(file.read_text(encoding="utf-8"))
        pages = {name: pages[name] for name in study.notebooks}
        if results != index.merge(pages):
            raise StudyError(
                f"study {study.study}: {file.name} does not hold its pages' numbers; make it anew: {again}"
            )
        return cls(study, results, pages)


def read(names: Sequence[str]) -> list[Run]:
    """The runs of these studies; StudyError where one is not finished or is named twice."""
    runs = [Run.read(Study.load(name)) for name in names]
    if len({run.study.study for run in runs}) < len(runs):
        raise StudyError(f"summary wants different studies, got {', '.join(names)}")
    return runs


def summary(runs: Sequence[Run]) -> str:
    """Everything of every run; what a run before it has to every printed digit is left out."""
    parts: list[str] = []
    said: set[str] = set()
    for run in runs:
        interval = f"{100 * run.study.statistics.confidence:g} % interval"
        blocks = {  # head of a table, and its rows
            _finding_head(run): _finding_rows(run),
            (): [f"- `{name}`: {_inline(record['answer'])}" for name, record in run.records.items()],
            ("", "claim or question", "published", "measured", "n", "verdict"): _claim_rows(run),
            _CHANGE_HEAD: _change_rows(run),
        }
        lines = [line for block in blocks.values() for line in block]
        parts += [f"### `{run.study.study}`", _table(("the run", ""), _fact_rows(run))]
        if shared := sum(line in said for line in lines):
            parts.append(
                f"Of {len(lines)} rows and answers {shared} are as above to every printed digit, and left "
                "out."
            )
        for head, block in blocks.items():
            if head is _CHANGE_HEAD and block:
                parts.append(f"Paired differences to the study itself, with {interval}s:")
            parts.append(_table(head, [line for line in block if line not in said]))
        said |= set(lines)
    return FOLDERS.sub("…/", "\n\n".join(filter(None, parts)))


def findings(runs: Sequence[Run]) -> str:
    """The table of findings of the first run, whole; StudyError names the numbers that it lacks."""
    run = runs[0]
    if lacking := [one.key for one in FINDINGS if one.key not in run.results]:
        raise StudyError(f"study {run.study.study} cannot fill the findings: it has no {', '.join(lacking)}")
    return _table(_finding_head(run), _finding_rows(run))


def ablations(runs: Sequence[Run]) -> str:
    """The table of paired differences of the first run that has some; StudyError where none has."""
    found = next(filter(None, map(_change_rows, runs)), None)
    if not found:
        raise StudyError(
            f"no study of {', '.join(run.study.study for run in runs)} compares changes; name one that "
            "does, such as ablations"
        )
    return _table(_CHANGE_HEAD, found)


# What may stand between marks of a file, such as <!-- findings --> and <!-- /findings -->, each
# alone on a line.
BLOCKS: dict[str, Callable[[Sequence[Run]], str]] = {
    "summary": summary,
    "findings": findings,
    "ablations": ablations,
}


def fill(text: str, runs: Sequence[Run], file: str = "the text") -> str:
    """The text with new content between its marks; StudyError where they are missing or broken."""
    filled = text
    for name, write in BLOCKS.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        found = [line for line in text.splitlines() if line in (begin, end)]
        if found == [begin, end]:
            between = re.compile(rf"^{begin}$.*?^{end}$", re.MULTILINE | re.DOTALL)
            block = f"{begin}\n\n{write(runs)}\n\n{end}"
            filled = between.sub(lambda _, block=block: block, filled)
        elif found:
            raise StudyError(
                f"{file}: wants one line {begin} and after it one line {end}, has {' '.join(found)}"
            )
    if not any(f"<!-- {name} -->" in text.splitlines() for name in BLOCKS):
        marks = ", ".join(f"<!-- {name} --> … <!-- /{name} -->" for name in BLOCKS)
        raise StudyError(f"{file}: has no marks between which to write; lines of their own: {marks}")
    return filled


def fill_files(files: Iterable[Path], runs: Sequence[Run]) -> None:
    """Fill the marks of all files, or of none where one of them cannot be filled."""
    from aacstudy.paths import write_whole

    filled = {file: fill(file.read_text(encoding="utf-8"), runs, file.name) for file in files}
    for file, text in filled.items():
        write_whole(file, text.encode("utf-8"))


def _fact_rows(run: Run) -> Rows:
    """What was run, where and when; of the machine nothing that names it."""
    study, found = run.study, index.provenances(run.records)
    sizes = {label: run.results[key] for label, key in SIZES.items() if key in run.results}
    days = sorted({one["time"][:10] for one in found})
    packages = sorted({f"{name} {version}" for one in found for name, version in one["versions"].items()})
    page = private(study.parameters())
    changed = {name for one in found for name, value in one["parameters"].items() if page.get(name) != value}
    facts = index.facts(run.records, study.notebooks, sizes, study.seeds)
    if "changes" in facts.get("commit", ""):
        facts["commit"] += " (the tree was not clean)"
    if changed := changed - {"description"}:
        facts["not as on the study's page"] = ", ".join(sorted(changed))
    facts |= {
        "date": " to ".join(dict.fromkeys((days[0], days[-1]))),
        "machine": f"{index.distinct(run.records, 'cpu_count')} cores, "
        f"{index.distinct(run.records, 'platform')}",
        "versions": f"Python {index.distinct(run.records, 'python')}, {', '.join(packages)}",
    }
    command = COMMANDS.get(study.study, f"make study STUDY={study.study}")
    return [f"| command | `{command}` |", *_rows(facts.items())]


def _finding_head(run: Run) -> tuple[str, ...]:
    return ("number", f"value, {100 * run.study.statistics.confidence:g} % interval", "n", "beside it")


def _finding_rows(run: Run) -> Rows:
    return _rows(
        (one.label, shown(run.results, one.key, one.kind), run.results.get(f"{one.key}.n"), one.note)
        for one in measured(run.results)
    )


def _claim_rows(run: Run) -> Rows:
    claims = [row for record in run.records.values() for row in record.get("scorecard", ())]
    names = ("id", "claim", "published", "measured", "n", "verdict")
    return _rows([row[name] for name in names] for row in claims)


def _change_rows(run: Run) -> Rows:
    """One row per variant that chapter 8 compared, by what its page says of itself."""
    rows = []
    for name in run.study.ablations.pages:
        keys = {f"ablation.{name}.{measure}.minus_base": kind for measure, (_, kind) in CHANGES.items()}
        if any(key in run.results for key in keys):
            about = (
                Study.load(f"ablations/{name}").description.removeprefix("The demo with ").rstrip(".") or name
            )
            changes = [shown(run.results, *one).replace(" points", "") for one in keys.items()]
            rows.append((about, *changes))
    return _rows(rows)


def _table(head: Sequence[str], rows: Rows) -> str:
    """The rows below their head, or alone where there is none; nothing where there are no rows."""
    above = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)] if head else []
    return "\n".join([*above, *rows]) if rows else ""


def _rows(rows: Iterable[Iterable]) -> Rows:
    return [
        "| " + " | ".join("" if cell is None else _plain(str(cell)) for cell in row) + " |" for row in rows
    ]


def _plain(text: str) -> str:
    """Text that a Markdown table shows as it is."""
    return _inline(re.sub(r"([\\*_|~`])", r"\\\1", text))


def _inline(markdown: str) -> str:
    """Markdown on one line; a caption in it becomes no HTML, link or picture."""
    line = " ".join(filter(None, map(str.strip, markdown.splitlines())))
    return re.sub(r"\](?=[(\[:])", r"\]", html.escape(line, quote=False))
