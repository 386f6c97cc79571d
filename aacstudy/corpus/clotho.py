"""Clotho v2.1 as published: three caption tables, three folders of recordings, every known oddity
of their names.

    ROOT/CLOTHO_v2.1/clotho_csv_files/clotho_captions_{development,validation,evaluation}.csv
    ROOT/CLOTHO_v2.1/clotho_csv_files/clotho_metadata_{...}.csv  (keywords, id, licence)
    ROOT/CLOTHO_v2.1/clotho_audio_files/{development,validation,evaluation}/*.wav

``CLOTHO_v2.1``, ``clotho_csv_files`` and ``clotho_audio_files`` may be missing, with what is in
them one level up. Source of the layout: Zenodo record 4783391.
"""

import html
import unicodedata
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from aacstudy.corpus import Corpus, CorpusError, write_index
from aacstudy.corpus.audio import AudioError, examine
from aacstudy.corpus.tables import audio_names, captions, digest, matched, records, unusable
from aacstudy.options import CorpusOptions

SPLITS = {"train": "development", "validation": "validation", "test": "evaluation"}
SIZES = {"train": 3839, "validation": 1045, "test": 1045}  # clips as published
METADATA = ("keywords", "sound_id", "license")


def _base(root: Path) -> Path:
    if not root.is_dir():
        raise CorpusError([f"{root}: no such folder; give the folder that holds CLOTHO_v2.1"])
    return root / "CLOTHO_v2.1" if (root / "CLOTHO_v2.1").is_dir() else root


def _table(base: Path, kind: str, split: str) -> Path:
    folder = base / "clotho_csv_files" if (base / "clotho_csv_files").is_dir() else base
    return folder / f"clotho_{kind}_{SPLITS[split]}.csv"


def _audio(base: Path, split: str) -> Path:
    published = base / "clotho_audio_files" / SPLITS[split]
    beside = base / SPLITS[split]
    return beside if beside.is_dir() and not published.is_dir() else published


def check(
    root: Path, decode: bool = False, workers: int = 1, may_lack: Collection[str] = ()
) -> tuple[Corpus, list[str]]:
    """Read Clotho and list everything wrong with it; each defect names file, row and field.

    Without ``decode`` only the headers of the recordings are read. A clip is named split/file_name,
    as file names repeat between splits. A split of ``may_lack`` may have no table or no folder.
    """
    base = _base(Path(root).resolve())
    clips, texts, defects = [], [], []
    for split in SPLITS:
        table, folder = _table(base, "captions", split), _audio(base, split)
        if split in may_lack and not (table.is_file() and folder.is_dir()):
            continue
        rows, wrong = captions(table, ragged=False)
        defects += wrong
        about, wrong = _metadata(_table(base, "metadata", split))
        defects += wrong
        if rows and not folder.is_dir():  # one defect, not one for each of its files
            defects.append(f"{folder}: no such folder; it wants the {len(rows)} recordings of {table.name}")
            continue
        files, wrong = matched(rows, folder, table)
        defects += wrong
        found = examine([folder / files[name] for _, name, _ in rows], decode, workers)
        for (line, name, own), seconds in zip(
            rows, tqdm(found, f"checking {split}", len(rows), unit="clip"), strict=True
        ):
            if isinstance(seconds, AudioError):
                defects.append(unusable(table, line, name, seconds))
                continue
            clip = f"{split}/{name}"
            path = str(folder / files[name])
            clips.append((clip, split, path, seconds, *about.get(_plain(name), [""] * len(METADATA))))
            texts += [(clip, text) for text in own]
    corpus = Corpus(
        base,
        pd.DataFrame(clips, columns=["clip", "split", "path", "seconds", *METADATA]),
        pd.DataFrame(texts, columns=["clip", "text"]),
    )
    return corpus, defects


def _metadata(path: Path) -> tuple[dict[str, list[str]], list[str]]:
    """The METADATA of each file name, and what is wrong with the header; nothing where there is no
    such table.

    No number depends on it, so a row that cannot be read is left out.
    """
    if not path.is_file():
        return {}, []
    needed = ("file_name", *METADATA)
    wants = ",".join(needed)
    _, rows, defects = records(path, wants, lambda names: set(needed) <= set(names), "iso-8859-1")
    about = {}
    for _, fields, broken in rows:
        if not broken:
            keywords = ";".join(word.strip() for word in fields["keywords"].split(";") if word.strip())
            about[_plain(fields["file_name"])] = [keywords, *(fields[name] for name in METADATA[1:])]
    return about, defects


def _plain(name: str) -> str:
    """A file name as both tables have it: they need not write entities and accents alike."""
    return unicodedata.normalize("NFC", html.unescape(name))


def build(folder: Path, options: CorpusOptions, cores: int = 1) -> Corpus:
    """Index Clotho in ``folder``; the recordings stay where they are. Any defect raises."""
    found = check(Path(options.root), options.decode, cores, options.may_lack)
    return write_index(folder, *found, options.may_lack)


@lru_cache  # a study asks many times; files do not change while it is planned
def fingerprint(root: str) -> str:
    """Digest of the tables and of the recordings' names, sizes and times."""
    if not root:
        raise CorpusError(
            [
                "corpus.root: empty; name the folder that holds CLOTHO_v2.1 (make study STUDY=clotho "
                "DATA=folder)"
            ]
        )
    base = _base(Path(root).resolve())
    tables = [_table(base, kind, split) for split in SPLITS for kind in ("captions", "metadata")]
    names = []
    for split in SPLITS:
        folder, table = _audio(base, split), _table(base, "captions", split)
        files, _ = matched(captions(table)[0], folder, table)
        names += [folder.relative_to(base) / name for name in {*audio_names(folder), *files.values()}]
    return digest(tables, base, map(str, names))
