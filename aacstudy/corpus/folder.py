"""Your own recordings: a folder of audio files and one CSV ``file_name,caption_1..caption_n`` (the Clotho layout)."""

import csv
import hashlib
import io
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from aacstudy.corpus import NO_EVENTS, Corpus, CorpusError
from aacstudy.corpus.audio import AudioError, inspect, read
from aacstudy.corpus.text import tokenise

AUDIO = {".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif", ".opus"}
SPLIT = "test"


def _csv(root: Path) -> Path:
    if not root.is_dir():
        raise CorpusError(
            [f"{root}: no such folder; give the folder that holds the captions CSV and the audio"]
        )
    found = sorted(root.glob("*.csv"))
    if (root / "captions.csv") in found:
        return root / "captions.csv"
    if len(found) != 1:
        raise CorpusError([f"{root}: wants one CSV of captions (captions.csv), and has {len(found)}"])
    return found[0]


def _records(lines: list[str]) -> Iterator[tuple[int, list[str], str]]:
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


def _rows(path: Path) -> tuple[list[tuple[int, str, list[str]]], list[str]]:
    """Rows of the caption CSV as (line number, file name, captions), and the defects found on the way.

    A row that cannot be read gives its file name and no captions.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        return [], [
            f"{path}, line {line}: {error.object[error.start :][:1]!r} is not UTF-8; save the file as UTF-8"
        ]
    records = _records(io.StringIO(text, newline="").readlines())
    _, header, wrong = next(records, (1, [], ""))
    columns = [i for i, name in enumerate(header) if re.fullmatch(r"caption_\d+", name)]
    if "file_name" not in header or not columns or wrong:
        return [], [
            f"{path}, header: wants file_name,caption_1,...,caption_n and is {','.join(header) or 'empty'}"
        ]
    rows, defects, seen = [], [], {}
    for line, row, wrong in records:
        if wrong:
            wrong = f"not CSV ({wrong}); a text with a comma or quote needs quotes, and a quote inside it a second one"
        elif row and len(row) != len(header):
            wrong = f"{len(row)} fields, the header has {len(header)}; unquoted comma?"
        if wrong:
            defects.append(f"{path}, line {line}: {wrong}")
        if wrong or not row:
            rows += [(line, name, []) for name in row[header.index("file_name") :][:1]]
            continue
        name = row[header.index("file_name")]
        if not name:
            defects.append(f"{path}, line {line}, file_name: empty")
        elif name in seen:
            defects.append(f"{path}, line {line}, file_name: {name!r} stands on line {seen[name]} already")
        else:
            seen[name] = line
            # A clip may have fewer captions than others: trailing fields are then empty, but not the first.
            captions = [(header[i], row[i]) for i in columns if row[i].strip() or i == columns[0]]
            defects += [
                f"{path}, line {line}, {field}: no word in {text!r}"
                for field, text in captions
                if not tokenise(text)
            ]
            rows.append((line, name, [text for _, text in captions]))
    return rows, defects if rows or defects else [f"{path}: has no row below its header"]


def check(root: Path) -> tuple[Corpus, list[str]]:
    """Read a folder and list everything wrong with it; each defect names file, row and field."""
    root = Path(root).resolve()
    table = _csv(root)
    rows, defects = _rows(table)
    audio = root / "audio" if (root / "audio").is_dir() else root
    clips, captions = [], []
    for line, name, texts in tqdm(rows, desc=f"checking {root.name}", unit="clip"):
        path = audio / name
        try:
            info = inspect(path)
            read(path, info.samplerate)
        except AudioError as error:
            defects.append(f"{table}, line {line}, file_name: {error}")
            continue
        clip = f"{SPLIT}/{name}"
        clips.append(
            {
                "clip": clip,
                "split": SPLIT,
                "path": str(path),
                "seconds": round(info.frames / info.samplerate, 3),
            }
        )
        captions += [{"clip": clip, "text": text} for text in texts]
    named = {name for _, name, _ in rows}
    if named:  # without any row the table is at fault, not every file
        files = (path for path in sorted(audio.iterdir()) if path.suffix.lower() in AUDIO)
        defects += [f"{path}: has no row in {table.name}" for path in files if path.name not in named]
    corpus = Corpus(
        root,
        pd.DataFrame(clips, columns=["clip", "split", "path", "seconds"]),
        pd.DataFrame(captions, columns=["clip", "text"]),
        NO_EVENTS,
    )
    return corpus, defects


def build(folder: Path, root: str) -> Corpus:
    """Index a checked folder's recordings in ``folder``; the audio stays where it is. Any defect raises."""
    corpus, defects = check(Path(root))
    if defects:
        raise CorpusError(defects)
    corpus = Corpus(folder, corpus.clips, corpus.captions, corpus.events)
    corpus.save()
    return corpus


@lru_cache  # a study asks many times; files do not change while it is planned
def fingerprint(root: str) -> str:
    """Digest of the CSV's text and of the audio files' names, sizes and times: changes when the corpus may have."""
    if not root:
        raise CorpusError(
            ["corpus.root: empty; name the folder of your recordings (make study STUDY=own DATA=folder)"]
        )
    folder = Path(root).resolve()
    digest = hashlib.sha256(_csv(folder).read_bytes())
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in AUDIO:
            stat = path.stat()
            digest.update(f"{path.relative_to(folder)} {stat.st_size} {stat.st_mtime_ns}".encode())
    return digest.hexdigest()[:12]
