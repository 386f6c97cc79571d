"""What a study that ran left behind: its pages' records and its numbers, and the index of both."""

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import yaml

from aacstudy.paths import write_whole
from aacstudy.report import html
from aacstudy.report.provenance import private

QUESTION = (
    "Train an audio captioner, then ask how far its own cross-entropy also works as an audio-text "
    "search engine, where it is biased, and whether it hears order."
)
# How numbers are shown: factor, format, unit.
FORMS = {
    "percent": (100, ".1f", "%"),
    "points": (100, "+.1f", "points"),
    "number": (1, ".4g", ""),
    "score": (1, ".3f", ""),
    "change": (1, "+.3f", ""),
    "size": (1, ",.0f", ""),
}
# a first sentence: up to a full stop, question or exclamation mark before a capital
SENTENCE = re.compile(r"(.+?[.!?][*_”\"]*)\s+(?=[*_“\"]*[A-Z])", re.DOTALL)
SPECIAL = str.maketrans(
    {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {letter: f"\\{letter}" for letter in "&%$#_{}"}
)
# combining marks, and the commands that set them
ACCENTS = dict(zip("\u0300\u0301\u0302\u0303\u0308\u030a\u030c\u0327", "`'^~\"rvc"))
KINDS = {"software": "software", "conference-paper": "inproceedings", "article": "article"}


def read(folder: Path) -> dict[str, dict]:
    """The records of ``pages/*.json`` by notebook name."""
    files = sorted((Path(folder) / "pages").glob("*.json"))
    records = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return {record["notebook"]: record for record in records}


def merge(records: Mapping[str, dict]) -> dict[str, float]:
    """The results of all pages, sorted by key; ValueError where two pages give the same key."""
    merged, owner = {}, {}
    for record in records.values():
        for key, value in record["results"].items():
            if key in merged:
                raise ValueError(f"result {key!r} is given by both {owner[key]} and {record['notebook']}")
            merged[key], owner[key] = value, record["notebook"]
    return dict(sorted(merged.items()))


def gather_results(folder: Path) -> dict[str, float]:
    """Merge the pages' results into `results.json`."""
    merged = merge(read(folder))
    write_whole(Path(folder) / "results.json", (json.dumps(merged, indent=1) + "\n").encode("utf-8"))
    return merged


def provenances(records: Mapping[str, dict]) -> list[dict]:
    """The pages' provenances, of those that have one."""
    return [record["provenance"] for record in records.values() if record["provenance"]]


def distinct(records: Mapping[str, dict], field: str) -> str:
    """The values of one field of the pages' provenances, each once."""
    return ", ".join(sorted({str(one[field]) for one in provenances(records) if one.get(field)}))


def facts(
    records: Mapping[str, dict], notebooks: Sequence[str], sizes: Mapping[str, int], seeds: Sequence[int]
) -> dict[str, str]:
    """What was run, in words; a fact that no page knows is left out."""
    found = provenances(records)
    artifacts = {
        (one["stage"], one["key"]): one.get("seconds", 0) for p in found for one in p.get("artifacts", [])
    }
    # of every artifact once; jobs side by side count in full
    seconds = sum(p.get("seconds", 0) for p in found) + sum(artifacts.values())
    known = {label: count(size) for label, size in sizes.items()} | {
        "seeds": ", ".join(map(str, seeds)),
        "commit": distinct(records, "commit"),
        "device": distinct(records, "device"),
        "computing time": duration(seconds),
        "notebooks run": f"{sum(name in records for name in notebooks)} of {len(notebooks)}",
    }
    return {label: fact for label, fact in known.items() if fact}


def count(size: float) -> str:
    return f"{size:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def duration(seconds: float) -> str:
    """Seconds in words: '40 s', '3 min 20 s', '2 h 5 min'."""
    minutes, seconds = divmod(round(seconds), 60)
    if not minutes:
        return f"{seconds} s"
    return f"{minutes} min {seconds} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def formatted(results: Mapping[str, float], key: str, kind: str) -> tuple[list[str | None], str]:
    """Value, low and high of a result as texts, None where missing, and the unit (see `FORMS`)."""
    factor, form, unit = FORMS[kind]
    keys = (f"{key}.mean" if f"{key}.mean" in results else key, f"{key}.low", f"{key}.high")
    return [format(factor * results[one], form) if one in results else None for one in keys], unit


def headline(results: Mapping[str, float], label: str, key: str, kind: str, note: str) -> dict:
    """A row of the headline table; `bar` are value, low, high of a percentage in 0…100."""
    (value, low, high), unit = formatted(results, key, kind)
    unit = f"\N{NO-BREAK SPACE}{unit}" if unit else ""
    numbers = [None if text is None else float(text) for text in (value, low, high)]
    drawn = kind == "percent" and all(x is not None and 0 <= x <= 100 for x in numbers)
    return {
        "label": label,
        "note": note,
        "value": f"{value}{unit}" if value else None,
        "interval": f"{low} – {high}{unit}" if low and high else None,
        "n": count(int(results[f"{key}.n"])) if f"{key}.n" in results else None,
        "bar": numbers if drawn else None,
    }


def index(
    folder: Path,
    study: dict,
    notebooks: Sequence[tuple[str, str]],
    sentences: Sequence[str],
    headlines: Sequence[tuple[str, str, str, str]],
    cff: Path | None,
) -> Path:
    """Build `index.html` from `pages/*.json` and `results.json`; without a record: 'not run yet'.

    `study`: name, description, parameters (by section), corpus (label → size), seeds.
    `notebooks`: (name, question) in order; the page of `name` is `<name>.html`.
    `sentences`: what was found, in Markdown.
    `headlines`: (label, key, kind of `FORMS`, note); shown are `<key>.mean` (or `<key>`), its 95 %
    interval `<key>.low` to `<key>.high` and `<key>.n`.
    `cff`: a CITATION.cff that says how to cite.
    """
    records = read(folder)
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    claims = [claim for record in records.values() for claim in record.get("scorecard", ())]
    known = facts(records, [name for name, _ in notebooks], study["corpus"], study["seeds"])
    return html.write(
        folder / "index.html", "index.html.j2",
        question=QUESTION,
        findings=[html.inline_markdown(one) for one in sentences],
        scorecard=html.scorecard_html(claims) if claims else "",
        citation=bibtex(cff) if cff else "",
        study=study | {"parameters": private(study["parameters"])},
        facts={"study": study["name"]} | known,
        headlines=[headline(results, *row) for row in headlines],
        cards=[_card(folder, name, title, records.get(name)) for name, title in notebooks],
    )  # fmt: skip


def _card(folder: Path, name: str, title: str, record: dict | None) -> dict:
    """One notebook of the index: question, first sentence of its answer, a small picture, time."""
    card = {"file": f"{name}.html", "title": html.inline_markdown(title), "run": record is not None}
    if record is None:
        return card
    card["answer"] = html.inline_markdown(first_sentence(record["answer"]))
    card["time"] = duration(record["provenance"]["seconds"])
    card["picture"] = None
    if record["figures"]:
        thumbnail = (folder / record["figures"][0]["file"]).with_suffix(".webp").read_bytes()
        card |= {"picture": html.data_uri(thumbnail, "image/webp"), "alt": record["figures"][0]["alt"]}
    return card


def first_sentence(answer: str) -> str:
    """The first sentence of an answer; the first paragraph where a mark would stay open."""
    paragraph = answer.strip().split("\n\n")[0]
    match = SENTENCE.match(paragraph)
    whole = match and all(match[1].count(mark) % 2 == 0 for mark in ("**", "`", "$"))
    return match[1] if whole else paragraph


def bibtex(file: Path) -> str:
    """Entries for the software and for each reference of a CITATION.cff, escaped for BibTeX.

    ValueError names the file where it is no such file.
    """
    cff = yaml.safe_load(file.read_text(encoding="utf-8"))
    if not isinstance(cff, dict) or not {"title", "authors"} <= set(cff):
        raise ValueError(f"{file}: a citation file has at least title and authors")
    return "\n\n".join(_entry(work) for work in (cff, *cff.get("references", ())))


def _entry(work: dict) -> str:
    names = [
        _latex(", ".join(filter(None, (one.get("family-names"), one.get("given-names")))))
        or f"{{{_latex(one['name'])}}}"
        for one in work["authors"]
    ]
    notes = [one["value"] for one in work.get("identifiers", ()) if one.get("type") == "other"]
    given = {
        "author": " and ".join(names),
        "title": f"{{{_latex(work['title'])}}}",  # the second pair keeps capitals as they are
        "booktitle": _latex(work.get("conference", {}).get("name")),
        "year": str(work.get("year") or work.get("date-released", ""))[:4],
        "version": _latex(work.get("version")),
        "note": _latex(next(iter(notes), "")),
        "url": quote(work.get("url") or work.get("repository-code") or "", safe=":/?#[]@!$&'()*+,;=%~"),
    }
    # the label: first author's family name (or the title's first word) and the year, in ASCII
    first = work["authors"][0].get("family-names") or work["title"].split()[0]
    first = unicodedata.normalize("NFKD", first).encode("ascii", "ignore").decode().lower()
    label = re.sub(r"[^a-z0-9]", "", first) + str(work.get("year", ""))
    fields = [f"  {name} = {{{value}}}" for name, value in given.items() if value]
    return f"@{KINDS.get(work.get('type'), 'misc')}{{{label},\n" + ",\n".join(fields) + "\n}"


def _latex(text) -> str:
    """Text as BibTeX reads it: special characters guarded, accented letters as commands."""
    escaped = unicodedata.normalize("NFC", str(text or "")).translate(SPECIAL)
    return "".join(_accented(letter) for letter in escaped)


def _accented(letter: str) -> str:
    base, *marks = unicodedata.normalize("NFD", letter)
    command = ACCENTS.get(marks[0]) if len(marks) == 1 else None
    return f"{{\\{command}{{{base}}}}}" if command else letter
