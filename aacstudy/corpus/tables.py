"""The one reader of CSV tables: every defect names file, line and field, none hides another."""

import csv
import hashlib
import html
import io
import os
import re
import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from aacstudy.corpus.audio import FOREIGN, READABLE
from aacstudy.corpus.text import normalise

CLIP = ("file_name", "clip", "youtube_id")  # what the column of clips may be called
TEXT = ("caption", "text")  # what the column of captions may be called, where each has a row
# What no text holds: NUL and its like, and a line end of old Macs where others end lines.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)")
COLONS = ("_", "-", " ", "", "\uff1a", "\ua789", "%3A")  # what stands for ':' where a disk cannot hold it
LAYOUTS = "file_name,caption_1,...,caption_n or file_name,caption"


def records(
    path: Path, wants: str, fits: Callable[[list[str]], bool], encoding: str = "utf-8-sig"
) -> tuple[list[str], list[tuple[int, dict[str, str], str]], list[str]]:
    """A table's column names, its rows as (line, fields by column, defect), and the defects of the
    table as a whole.

    A row that cannot be read has a defect and the fields before its break. ``fits`` judges the
    header, ``wants`` says what it should be; a header that does not fit gives no rows. Accents are
    composed (NFC), so that texts and names which look the same are.
    """
    if not path.is_file():
        return [], [], [f"{path}: no such file; it wants {wants}"]
    try:
        text = unicodedata.normalize("NFC", path.read_bytes().decode(encoding))
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        byte = error.object[error.start :][:1]
        return [], [], [f"{path}, line {line}: {byte!r} is not UTF-8; save the file as UTF-8"]
    lines = _split(io.StringIO(text, newline="").readlines())
    _, header, wrong = next(lines, (1, [], ""))
    named = [name for name in header if name]
    twice = next((name for name in named if named.count(name) > 1), "")
    if wrong or not fits(header) or twice:
        shown = textwrap.shorten(",".join(header), 200) or "empty"
        also = f"; column {twice!r} stands twice" if twice else ""
        return [], [], [f"{path}, header: wants {wants} and is {shown}{also}"]
    rows = []
    for line, row, wrong in lines:
        if not wrong and row and len(row) != len(header):
            wrong = f"{len(row)} fields, the header has {len(header)}; unquoted comma?"
        if row:
            rows.append((line, dict(zip(header, row)), wrong and f"{path}, line {line}: {wrong}"))
    return header, rows, [] if rows else [f"{path}: has no row below its header"]


def _split(lines: list[str]) -> Iterator[tuple[int, list[str], str]]:
    """Each record's first line, fields and what is wrong; a broken one hides no later line."""
    begin = 0
    while begin < len(lines):
        reader = csv.reader(lines[begin:], strict=True)
        read_lines = 0
        try:
            for row in reader:
                text = "".join(lines[begin + read_lines : begin + reader.line_num])
                found = _CONTROL.search(text) if any(line.endswith("\n") for line in lines) else None
                yield (
                    begin + read_lines + 1,
                    row,
                    f"holds the control character {found[0]!r}" if found else "",
                )
                read_lines = reader.line_num
            return
        except csv.Error as error:
            begin += read_lines
            how = "a text with a comma or quote needs quotes, and a quote inside it a second one"
            yield begin + 1, lines[begin].rstrip("\r\n").split(","), f"not CSV ({error}); {how}"
            begin += 1


def read(path: Path, wants: str, fits: Callable[[list[str]], bool]) -> pd.DataFrame:
    """A table as text, its rows named by their lines; ValueError with all defects, if any."""
    header, rows, defects = records(Path(path), wants, fits)
    lines, fields, broken = zip(*rows) if rows else ((), (), ())
    if defects := [*defects, *filter(None, broken)]:
        raise ValueError("\n".join(defects))
    return pd.DataFrame(fields, index=lines, columns=header, dtype=str)


def read_column(path: Path, table: pd.DataFrame, name: str) -> np.ndarray:
    """A column of `read` as finite numbers; ValueError names file, line and field of any other."""
    numbers = pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=float)
    wrong = np.flatnonzero(~np.isfinite(numbers))
    if len(wrong):
        text = table[name].iloc[wrong[0]]
        raise ValueError(f"{path}, line {table.index[wrong[0]]}, {name}: {text!r} is no finite number")
    return numbers


def captions(path: Path, ragged: bool = True) -> tuple[list[tuple[int, str, list[str]]], list[str]]:
    """Clips of a table as (line, file name, captions), and the defects found on the way.

    Either a row for each clip, ``file_name,caption_1..caption_n``, or one for each caption,
    ``file_name,caption``; see ``CLIP`` and ``TEXT`` for other names. ragged: a clip may have fewer
    captions than others, its other fields are empty (but not the first). A row that cannot be read
    gives its file name and no captions, so that its recording is not blamed for having no row.
    """
    clips: dict[str, tuple[int, str, list[str]]] = {}
    rows, defects = _rows(path, ragged)
    for line, name, texts in rows:
        clips.setdefault(name, (line, name, []))[2].extend(texts)
    return list(clips.values()), defects


def read_captions(path: Path) -> pd.DataFrame:
    """Captions as ``clip``, ``text``, a row each, by line; ValueError lists all defects."""
    rows, defects = _rows(path, True)
    if defects:
        raise ValueError("\n".join(defects))
    found = [(line, name, text) for line, name, texts in rows for text in texts]
    return pd.DataFrame(found, columns=["line", "clip", "text"]).set_index("line")


def _rows(path: Path, ragged: bool) -> tuple[list[tuple[int, str, list[str]]], list[str]]:
    header, table, defects = records(Path(path), LAYOUTS, lambda names: all(caption_columns(names)))
    clip, columns = caption_columns(header)
    rows, seen = [], {}
    for line, fields, broken in table:
        name, given = fields.get(clip, ""), []
        if broken:
            defects.append(broken)
        elif not name.strip():
            defects.append(f"{path}, line {line}, {clip}: empty")
        elif name in seen and columns[0] not in TEXT:
            defects.append(f"{path}, line {line}, {clip}: {name!r} stands on line {seen[name]} already")
        else:
            seen.setdefault(name, line)
            given = [c for c in columns if not ragged or fields[c].strip() or c == columns[0]]
            defects += no_words(path, line, {column: fields[column] for column in given})
        if (broken and name) or given:
            rows.append((line, name, [fields[column] for column in given]))
    return rows, defects


def caption_columns(header: list[str]) -> tuple[str, list[str]]:
    """The column of clips and the columns of captions, empty where there is none."""
    clip = next((name for name in CLIP if name in header), "")
    wide = [name for name in header if re.fullmatch(r"caption_\d+", name)]
    return clip, wide or [name for name in TEXT if name in header][:1]


def no_words(path: Path, line: int, texts: dict[str, str]) -> list[str]:
    """A defect for each field whose caption holds no word."""
    return [
        f"{path}, line {line}, {field}: no word in {text!r}"
        for field, text in texts.items()
        if not normalise(text)
    ]


def unusable(path: Path, line: int, name: str, error: Exception) -> str:
    """The defect of a row whose recording cannot be used; what is not seen of a name is shown."""
    seen = name.isprintable() and name == " ".join(name.split())
    return f"{path}, line {line}, file_name{'' if seen else f' {name!r}'}: {error}"


def matched(
    rows: list[tuple[int, str, list[str]]], folder: Path, table: Path
) -> tuple[dict[str, str], list[str]]:
    """The file of each row's name, or the name itself; and files that have no row, or two.

    A file may be called as the table has it but for HTML entities, composed accents and colons.
    """
    there = {unicodedata.normalize("NFC", name): name for name in audio_names(folder)}
    files, taken, defects = {}, {}, []
    for line, name, _ in rows:
        plain = html.unescape(name)
        colons = (form.replace(":", other) for form in (name, plain) if ":" in form for other in COLONS)
        files[name] = file = next((there[form] for form in (name, plain, *colons) if form in there), name)
        if taken.setdefault(place := os.path.realpath(folder / file), name) != name:
            defects.append(
                f"{table}, line {line}, file_name: {name!r} and {taken[place]!r} are one file, {file!r}"
            )
    if rows:  # without any row the table is at fault, not every file
        unnamed = sorted(set(there.values()) - {Path(file).name for file in files.values()})
        defects += [f"{folder / name}: has no row in {table.name}" for name in unnamed]
    return files, defects


def audio_names(folder: Path) -> set[str]:
    """Names of the audio files in a folder, if there is one; hidden files do not count."""
    if not folder.is_dir():
        return set()
    suffixes = READABLE + FOREIGN
    return {
        name for name in os.listdir(folder) if name.lower().endswith(suffixes) and not name.startswith(".")
    }


def digest(tables: Iterable[Path], root: Path, audio: Iterable[str]) -> str:
    """Digest of tables' content and of audio files' names, sizes and times: changes when the corpus
    may have.

    ``audio`` are paths below ``root``, those of missing files too. The audio itself is not read:
    50 000 files take a second or two.
    """
    found = hashlib.sha256()
    for path in tables:
        found.update(f"{path.name} ".encode() + (path.read_bytes() if path.is_file() else b"none"))
    for name in sorted(set(audio)):
        if os.path.isfile(file := os.path.join(root, name)):
            stat = os.stat(file)
            found.update(os.fsencode(f"{name} {stat.st_size} {stat.st_mtime_ns}"))
    return found.hexdigest()[:12]
