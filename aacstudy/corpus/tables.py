"""CSV tables of captions, read row by row: every defect is found, and none hides another row."""

import csv
import hashlib
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from aacstudy.corpus.audio import FOREIGN, READABLE
from aacstudy.corpus.text import normalise


def records(
    path: Path, wants: str, fits: Callable[[list[str]], bool], encoding: str = "utf-8-sig"
) -> tuple[list[str], list[tuple[int, dict[str, str], str]], list[str]]:
    """A table's column names, its rows as (line, fields by column, defect), and the defects of the table as a whole.

    A row that cannot be read has a defect and the fields before its break. ``fits`` judges the header, ``wants`` says
    what it should be; a header that does not fit gives no rows.
    """
    if not path.is_file():
        return [], [], [f"{path}: no such file; it wants {wants}"]
    try:
        text = path.read_bytes().decode(encoding)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        byte = error.object[error.start :][:1]
        return [], [], [f"{path}, line {line}: {byte!r} is not UTF-8; save the file as UTF-8"]
    lines = _split(io.StringIO(text, newline="").readlines())
    _, header, wrong = next(lines, (1, [], ""))
    named = [name for name in header if name]
    if wrong or not fits(header) or len(set(named)) < len(named):
        return [], [], [f"{path}, header: wants {wants} and is {','.join(header) or 'empty'}"]
    rows = []
    for line, row, wrong in lines:
        if wrong:
            wrong = f"not CSV ({wrong}); a text with a comma or quote needs quotes, and a quote inside it a second one"
        elif row and len(row) != len(header):
            wrong = f"{len(row)} fields, the header has {len(header)}; unquoted comma?"
        if row:
            rows.append((line, dict(zip(header, row)), wrong and f"{path}, line {line}: {wrong}"))
    return header, rows, [] if rows else [f"{path}: has no row below its header"]


def _split(lines: list[str]) -> Iterator[tuple[int, list[str], str]]:
    """Each record's first line, its fields and what is wrong with it; after a broken one goes on with the next line."""
    begin = 0
    while begin < len(lines):
        reader = csv.reader(lines[begin:], strict=True)
        read_lines = 0
        try:
            for row in reader:
                yield begin + read_lines + 1, row, ""
                read_lines = reader.line_num
            return
        except csv.Error as error:
            begin += read_lines
            yield begin + 1, lines[begin].rstrip("\r\n").split(","), str(error)
            begin += 1


def captions(path: Path, ragged: bool) -> tuple[list[tuple[int, str, list[str]]], list[str]]:
    """Rows of ``file_name,caption_1..caption_n`` as (line, file name, captions), and the defects found on the way.

    ragged: a clip may have fewer captions than others, its other fields are empty (but not the first). A row that
    cannot be read gives its file name and no captions, so that its recording is not blamed for having no row.
    """

    def numbered(header: list[str]) -> list[str]:
        return [name for name in header if re.fullmatch(r"caption_\d+", name)]

    wants = "file_name,caption_1,...,caption_n"
    header, table, defects = records(path, wants, lambda names: "file_name" in names and numbered(names))
    columns = numbered(header)
    rows, seen = [], {}
    for line, fields, broken in table:
        name = fields.get("file_name", "")
        if broken:
            defects.append(broken)
            rows += [(line, name, [])] if name else []
        elif not name:
            defects.append(f"{path}, line {line}, file_name: empty")
        elif name in seen:
            defects.append(f"{path}, line {line}, file_name: {name!r} stands on line {seen[name]} already")
        else:
            seen[name] = line
            given = [c for c in columns if not ragged or fields[c].strip() or c == columns[0]]
            defects += no_words(path, line, {column: fields[column] for column in given})
            rows.append((line, name, [fields[column] for column in given]))
    return rows, defects


def no_words(path: Path, line: int, texts: dict[str, str]) -> list[str]:
    """A defect for each field whose caption holds no word."""
    return [
        f"{path}, line {line}, {field}: no word in {text!r}"
        for field, text in texts.items()
        if not normalise(text)
    ]


def audio_names(folder: Path) -> set[str]:
    """Names of the audio files in a folder, none if there is no such folder; hidden files do not count."""
    if not folder.is_dir():
        return set()
    suffixes = READABLE + FOREIGN
    return {
        name for name in os.listdir(folder) if name.lower().endswith(suffixes) and not name.startswith(".")
    }


def digest(tables: Iterable[Path], root: Path, audio: Iterable[str]) -> str:
    """Digest of tables' content and of audio files' names, sizes and times: changes when the corpus may have.

    ``audio`` are paths below ``root``. The audio itself is not read: 50 000 files take a second or two.
    """
    found = hashlib.sha256()
    for path in tables:
        found.update(f"{path.name} ".encode() + (path.read_bytes() if path.is_file() else b"none"))
    for name in sorted(audio):
        stat = os.stat(os.path.join(root, name))
        found.update(os.fsencode(f"{name} {stat.st_size} {stat.st_mtime_ns}"))
    return found.hexdigest()[:12]
