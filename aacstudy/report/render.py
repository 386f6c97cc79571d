"""The driver's side of the notebooks: execute them, make their HTML pages, gather results, build the index."""

import base64
import json
import os
import re
from pathlib import Path
from urllib.parse import quote

import nbformat

from aacstudy.paths import write_whole
from aacstudy.report import citation, document, records, streams
from aacstudy.report.execute import NotebookError, check_parameters, execute
from aacstudy.report.markup import inline_markdown, markdown_to_html
from aacstudy.report.provenance import private
from aacstudy.report.tables import scorecard_html

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
    merged = records.merge(records.read(folder))
    write_whole(Path(folder) / "results.json", (json.dumps(merged, indent=1) + "\n").encode("utf-8"))
    return merged


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
    pages = records.read(folder)
    path = folder / "results.json"
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    claims = [row for record in pages.values() for row in record.get("scorecard", ())]
    names = [name for name, _ in notebooks]
    sizes, seeds, device = study.get("corpus", {}), study.get("seeds", ()), study.get("device", "")
    return document.write(
        folder / "index.html", "index.html.j2",
        question=QUESTION,
        scorecard=scorecard_html(claims) if claims else "",
        citation=citation.bibtex(cff) if cff else "",
        study={"name": study["name"], "description": study.get("description"), "parameters": private(study.get("parameters", {}))},
        facts={"study": study["name"]} | records.facts(pages, names, sizes, seeds, device),
        headlines=[records.headline(results, *headline) for headline in headlines],
        cards=[_card(folder, name, title, pages.get(name)) for name, title in notebooks],
    )  # fmt: skip


def _card(folder: Path, name: str, title: str, record: dict | None) -> dict:
    """One notebook of the index: question, the first sentence of its answer, a small picture as a data URI, time."""
    card = {"file": f"{name}.html", "title": inline_markdown(title), "run": record is not None}
    if record is None:
        return card
    seconds = (record["provenance"] or {}).get("seconds")
    card |= {
        "answer": inline_markdown(first_sentence(record["answer"])),
        "time": records.duration(seconds) if seconds is not None else None,
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
