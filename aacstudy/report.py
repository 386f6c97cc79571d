"""The driver's side of the notebooks: execute them, make their HTML pages, gather results, build the index."""

import base64
import json
import os
import re
from pathlib import Path
from urllib.parse import quote

import nbformat

from . import citation, document, streams
from .execution import NotebookError, check_parameters, execute
from .markup import inline_markdown, markdown_to_html
from .page import write_whole
from .provenance import private
from .tables import scorecard_html

__all__ = ["NotebookError", "check_parameters", "execute", "gather_results", "index", "to_html"]

QUESTION = (
    "Train an audio captioner, then ask how far its own cross-entropy also works as an audio-text search engine, "
    "where it is biased, and whether it hears order."
)
# a first sentence: up to a full stop, question or exclamation mark before a capital
SENTENCE = re.compile(r"(.+?[.!?][*_”\"]*)\s+(?=[*_“\"]*[A-Z])", re.DOTALL)


def to_html(notebook: Path, html: Path, study_name: str, pages: list[tuple[str, str]]) -> None:
    """Convert an executed notebook to one self-contained HTML page.

    `pages` are (file name, title) of all pages in order, for the links to the previous and the next.
    ValueError where the page would load something from elsewhere; a warning where it is larger than 5 MB.
    """
    from nbconvert import HTMLExporter

    notebook, html = Path(notebook), Path(html)
    node = nbformat.read(notebook, as_version=4)
    title, answer = _take_title(node) or notebook.stem, _take_answer(node)
    streams.settle(node)
    headings: list[tuple[int, str, str]] = []
    exporter = HTMLExporter(
        template_name="report",
        extra_template_basedirs=[str(document.TEMPLATES)],
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    for filter in (streams.progress, streams.messages):
        exporter.register_filter(filter.__name__, filter)
    exporter.register_filter("markdown2html", lambda text: markdown_to_html(text, headings, raw_html=True))
    body, _ = exporter.from_notebook_node(node)
    names = [name for name, _ in pages]
    here = names.index(html.name) if html.name in names else None
    document.write(
        html, "page.html.j2",
        study_name=study_name,
        title=inline_markdown(title),
        plain_title=re.sub(r"[*`$]", "", title),
        answer=answer,
        body=body,
        headings=[heading for heading in headings if heading[0] in (2, 3)],
        here=html.name,
        pages=[(name, inline_markdown(question)) for name, question in pages],
        previous=pages[here - 1] if here else None,
        following=pages[here + 1] if here is not None and here + 1 < len(pages) else None,
        notebook=quote(Path(os.path.relpath(notebook, html.parent)).as_posix()),
    )  # fmt: skip


def _take_title(node) -> str | None:
    """Cut the first level-1 heading out of the notebook and return its text."""
    for cell in node.cells:
        if cell.cell_type == "markdown" and (
            match := re.search(r"^#[ \t]+(.+?)[ \t#]*$", cell.source, re.MULTILINE)
        ):
            cell.source = cell.source[: match.start()] + cell.source[match.end() :]
            return match[1]
    return None


def _take_answer(node) -> str:
    """Cut the output of page.answer out of the notebook and return its HTML."""
    for cell in node.cells:
        for output in cell.get("outputs", []):
            if output.get("metadata", {}).get("aacstudy") == "answer":
                cell.outputs.remove(output)
                return output.data["text/html"]
    return ""


def gather_results(folder: Path) -> dict[str, float]:
    """Merge the results in `pages/*.json` into `results.json`, sorted; ValueError where two pages give the same key."""
    merged, owner = {}, {}
    for page in _records(Path(folder)).values():
        for key, value in page["results"].items():
            if key in merged:
                raise ValueError(f"result {key!r} is given by both {owner[key]} and {page['notebook']}")
            merged[key], owner[key] = value, page["notebook"]
    merged = dict(sorted(merged.items()))
    write_whole(Path(folder) / "results.json", (json.dumps(merged, indent=1) + "\n").encode("utf-8"))
    return merged


def _records(folder: Path) -> dict[str, dict]:
    """The pages' records by notebook name."""
    records = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted((folder / "pages").glob("*.json"))
    ]
    return {record["notebook"]: record for record in records}


def index(
    folder: Path,
    study: dict,
    notebooks: list[tuple[str, str]],
    headlines: list[tuple[str, str, str, str]] = (),
    cff: Path | None = None,
) -> Path:
    """Build `index.html` from `pages/*.json` and `results.json`; a notebook without a record is 'not run yet'.

    `study`: name, description, parameters (by section), and optionally corpus (label → size), seeds, device.
    `notebooks`: (name, question) in order; the page of `name` is `<name>.html`.
    `headlines`: (label, key, kind, note); shown are `<key>.mean` (or `<key>` itself), its 95 % interval `<key>.low`
    to `<key>.high` and `<key>.n`. kind "percent" takes fractions in 0…1, "number" anything.
    `cff`: a CITATION.cff that says how to cite. Claims that a page recorded as its scorecard stand on top.
    """
    folder = Path(folder)
    records = _records(folder)
    path = folder / "results.json"
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    claims = [row for record in records.values() for row in record.get("scorecard", ())]
    provenances = [record["provenance"] for record in records.values() if record["provenance"]]

    def distinct(field: str) -> str:
        return ", ".join(sorted({str(p[field]) for p in provenances if p.get(field)}))

    seeds = study.get("seeds") or sorted({seed for p in provenances for seed in p.get("seeds", [])})
    facts = {
        "study": study["name"],
        **{label: _count(size) for label, size in study.get("corpus", {}).items()},
        "seeds": ", ".join(map(str, seeds)),
        "commit": distinct("commit"),
        "device": study.get("device") or distinct("device"),
        "computing time": duration(_computing_seconds(provenances)),
        "notebooks run": f"{sum(name in records for name, _ in notebooks)} of {len(notebooks)}",
    }
    return document.write(
        folder / "index.html", "index.html.j2",
        question=QUESTION,
        scorecard=scorecard_html(claims) if claims else "",
        citation=citation.bibtex(cff) if cff else "",
        study={"name": study["name"], "description": study.get("description"), "parameters": private(study.get("parameters", {}))},
        facts={label: fact for label, fact in facts.items() if fact},
        headlines=[_headline(results, *headline) for headline in headlines],
        cards=[_card(folder, name, title, records.get(name)) for name, title in notebooks],
    )  # fmt: skip


def _computing_seconds(provenances: list[dict]) -> float:
    """Seconds of the notebooks and of every artifact they used, each once; jobs side by side count in full."""
    artifacts = {
        (one["stage"], one["key"]): one.get("seconds", 0)
        for p in provenances
        for one in p.get("artifacts", [])
    }
    return sum(p.get("seconds", 0) for p in provenances) + sum(artifacts.values())


def _count(size) -> str:
    return f"{size:,}".replace(",", "\N{NARROW NO-BREAK SPACE}") if isinstance(size, int) else str(size)


def duration(seconds: float) -> str:
    """Seconds in words: '40 s', '3 min 20 s', '2 h 5 min'."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes} min {seconds} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _headline(results: dict, label: str, key: str, kind: str, note: str = "") -> dict:
    """One row of the headline table, formatted; `bar` are low, value, high in 0…100 where the number is a percentage."""
    if kind not in ("percent", "number"):
        raise ValueError(f"headline {label!r}: kind is {kind!r}, not 'percent' or 'number'")
    keys = (f"{key}.mean" if f"{key}.mean" in results else key, f"{key}.low", f"{key}.high")
    factor, form, unit = (100, ".1f", "\N{NO-BREAK SPACE}%") if kind == "percent" else (1, ".4g", "")
    numbers = [factor * results[k] if k in results else None for k in keys]
    value, low, high = (None if x is None else format(x, form) for x in numbers)
    drawn = kind == "percent" and all(x is not None and 0 <= x <= 100 for x in numbers)
    return {
        "label": label,
        "note": note,
        "value": f"{value}{unit}" if value else None,
        "interval": f"{low} – {high}{unit}" if low and high else None,
        "n": _count(int(results[f"{key}.n"])) if f"{key}.n" in results else None,
        "bar": numbers if drawn else None,
    }


def _card(folder: Path, name: str, title: str, record: dict | None) -> dict:
    """One notebook of the index: question, the first sentence of its answer, a small picture as a data URI, time."""
    card = {"file": f"{name}.html", "title": inline_markdown(title), "run": record is not None}
    if record is None:
        return card
    seconds = (record["provenance"] or {}).get("seconds")
    card |= {
        "answer": inline_markdown(first_sentence(record["answer"])),
        "time": duration(seconds) if seconds is not None else None,
        "picture": None,
    }
    thumbnail = (folder / record["figures"][0]["file"]).with_suffix(".webp") if record["figures"] else None
    if thumbnail and thumbnail.exists():
        uri = "data:image/webp;base64," + base64.b64encode(thumbnail.read_bytes()).decode("ascii")
        card |= {"picture": uri, "alt": record["figures"][0]["alt"]}
    return card


def first_sentence(answer: str) -> str:
    """The first sentence of an answer in markdown; the whole first paragraph where a mark would stay open."""
    paragraph = answer.strip().split("\n\n")[0]
    match = SENTENCE.match(paragraph)
    whole = match and all(match[1].count(mark) % 2 == 0 for mark in ("**", "`", "$"))
    return match[1] if whole else paragraph
