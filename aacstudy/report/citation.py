"""How to cite the study: BibTeX entries from CITATION.cff."""

import re
import unicodedata
from pathlib import Path
from urllib.parse import quote

import yaml

SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    c: f"\\{c}" for c in "&%$#_{}"
}
ACCENTS = {"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0308": '"', "\u030a": "r", "\u030c": "v", "\u0327": "c"}  # fmt: skip


def bibtex(file: Path) -> str:
    """Entries for the software and for each reference of a CITATION.cff, escaped for BibTeX.

    ValueError names the file where it is no such page.
    """
    cff = yaml.safe_load(file.read_text(encoding="utf-8"))
    if not isinstance(cff, dict) or not {"title", "authors"} <= set(cff):
        raise ValueError(f"{file}: a citation page has at least title and authors")
    return "\n\n".join(_entry(one) for one in (cff, *cff.get("references", ())))


def _entry(work: dict) -> str:
    kind = {"software": "software", "conference-paper": "inproceedings", "article": "article"}.get(
        work.get("type"), "misc"
    )
    people = [
        ", ".join(filter(None, (one.get("family-names"), one.get("given-names")))) for one in work["authors"]
    ]
    named = [
        escape(name) if name else f"{{{escape(one['name'])}}}" for name, one in zip(people, work["authors"])
    ]
    given = {
        "author": " and ".join(named),
        "title": f"{{{escape(work['title'])}}}",  # the second pair keeps capitals as they are
        "booktitle": escape((work.get("conference") or {}).get("name")),
        "year": escape(work.get("year") or str(work.get("date-released", ""))[:4]),
        "version": escape(work.get("version")),
        "note": escape(
            next((one["value"] for one in work.get("identifiers", ()) if one.get("type") == "other"), "")
        ),
        "url": quote(work.get("url") or work.get("repository-code") or "", safe=":/?#[]@!$&'()*+,;=%~"),
    }
    fields = [f"  {name} = {{{value}}}" for name, value in given.items() if value]
    return f"@{kind}{{{_label(work)},\n" + ",\n".join(fields) + "\n}"


def _label(work: dict) -> str:
    """First author's family name (or the title's first word) and the year, in ASCII letters and digits."""
    name = work["authors"][0].get("family-names") or work["title"].split()[0]
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9]", "", ascii_name).lower() + str(work.get("year", ""))


def escape(text) -> str:
    """Text as BibTeX reads it: special characters guarded, accented letters as commands, other letters as they are."""
    parts = []
    for letter in unicodedata.normalize("NFC", str(text or "")):
        base, *marks = unicodedata.normalize("NFD", letter)
        command = ACCENTS.get(marks[0]) if len(marks) == 1 else None
        parts.append(f"{{\\{command}{{{base}}}}}" if command else SPECIAL.get(letter, letter))
    return "".join(parts)
