"""AudioCaps 1.0 as published: three caption tables, and whatever of its videos could still be had.

    ROOT/AUDIOCAPS/{train,val,test}.csv (or csv_files_v1/) audiocap_id,youtube_id,start_time,caption
    (or train_fixed.csv, as some downloaders call the training table)
    ROOT/AUDIOCAPS/audio_32000Hz/{train,val,test}/{youtube_id}_{start_time}.flac

``AUDIOCAPS`` and ``audio_32000Hz`` may be missing, with what is in them one level up; five other
ways of naming the files are known too (`spellings`). Videos vanish, so every copy lacks clips: one
without a usable file is left out and listed with the reason, not a defect. Source of the layout:
github.com/cdjkim/audiocaps and its downloaders.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from aacstudy.corpus import NO_FILE, Corpus, CorpusError, write_index
from aacstudy.corpus.audio import FOREIGN, READABLE, AudioError, examine
from aacstudy.corpus.tables import audio_names, digest, no_words, records
from aacstudy.options import CorpusOptions

SPLITS = {"train": "train", "validation": "val", "test": "test"}
SIZES = {"train": 49838, "validation": 495, "test": 975}  # clips as published
ROWS_OF_2_0 = 91256  # of its training table, whose columns are the same
COLUMNS = ("audiocap_id", "youtube_id", "start_time", "caption")


@dataclass
class _Clip:
    """The rows of one clip; each caption has an ``audiocap_id`` of its own."""

    youtube_id: str
    start: int  # seconds
    ids: list[str] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)


def _base(root: Path) -> Path:
    if not root.is_dir():
        raise CorpusError([f"{root}: no such folder; give the folder that holds AUDIOCAPS"])
    return root / "AUDIOCAPS" if (root / "AUDIOCAPS").is_dir() else root


def _table(base: Path, split: str) -> Path:
    folder = base / "csv_files_v1" if (base / "csv_files_v1").is_dir() else base
    table, fixed = (folder / f"{SPLITS[split]}{end}.csv" for end in ("", "_fixed"))
    return fixed if fixed.is_file() and not table.is_file() else table


def _audio(base: Path, split: str) -> Path:
    # 32 kHz is what the encoders want, other rates are resampled
    rates = sorted(base.glob("audio_*Hz"))
    folder = base / "audio_32000Hz" if not rates or base / "audio_32000Hz" in rates else rates[0]
    beside = base / SPLITS[split]
    return beside if beside.is_dir() and not rates else folder / SPLITS[split]


def spellings(youtube_id: str, start: int, ids: list[str]) -> Iterator[str]:
    """How the file of a clip may be called, without suffix; ``start`` in seconds.

    A clip has one ``audiocap_id`` per caption, and a file named by it bears one of them.
    """
    yield f"{youtube_id}_{start}"
    yield f"Y{youtube_id}"
    yield youtube_id
    yield f"{youtube_id}_{start}_{start + 10}"
    yield f"{youtube_id}_{start * 1000}_{(start + 10) * 1000}"
    yield from ids


def check(
    root: Path, decode: bool = False, workers: int = 1, may_lack: Collection[str] = ()
) -> tuple[Corpus, list[str]]:
    """Read AudioCaps and list everything wrong with its tables; clips without a usable file are in
    ``missing``.

    Without ``decode`` only the headers of the recordings are read. A clip is named
    split/youtube_id_start. A split of which no clip is left is a defect; one of ``may_lack`` may
    have no table or no folder.
    """
    base = _base(Path(root).resolve())
    clips, texts, missing, defects = [], [], [], []
    for split in SPLITS:
        table, folder = _table(base, split), _audio(base, split)
        if split in may_lack and not (table.is_file() and folder.is_dir()):
            continue
        named, wrong = _clips(table)
        defects += wrong
        files = _match(named, audio_names(folder))
        missing += [(f"{split}/{name}", split, NO_FILE) for name in named if name not in files]
        found = examine([folder / file for file in files.values()], decode, workers)
        kept = 0
        for (name, file), seconds in zip(
            files.items(), tqdm(found, f"checking {split}", len(files), unit="clip"), strict=True
        ):
            clip = f"{split}/{name}"
            if isinstance(seconds, AudioError):
                missing.append((clip, split, str(seconds)))
                continue
            kept += 1
            clips.append((clip, split, str(folder / file), seconds))
            texts += [(clip, text) for text in named[name].captions]
        if named and not kept:
            defects.append(_empty(table, folder, named, missing[-1][2]))
    corpus = Corpus(
        base,
        pd.DataFrame(clips, columns=["clip", "split", "path", "seconds"]),
        pd.DataFrame(texts, columns=["clip", "text"]),
        missing=pd.DataFrame(missing, columns=["clip", "split", "reason"]),
    )
    return corpus, defects


def _clips(table: Path) -> tuple[dict[str, _Clip], list[str]]:
    """The clips of a table by youtube_id_start, and the table's defects."""
    _, rows, defects = records(table, ",".join(COLUMNS), lambda header: set(COLUMNS) <= set(header))
    if table.name.startswith("train") and len(rows) == ROWS_OF_2_0:
        defects.append(
            f"{table}: has {ROWS_OF_2_0} rows, so it is of AudioCaps 2.0; the study is of 1.0, whose "
            f"training table "
            f"has {SIZES['train']}: put the tables of 1.0 into csv_files_v1/"
        )
    clips, seen = {}, {}
    for line, fields, broken in rows:
        if broken:
            defects.append(broken)
            continue
        number, youtube_id, start = (fields[name].strip() for name in COLUMNS[:3])
        wrong = []
        if number in seen:
            wrong.append(f"audiocap_id: {number!r} stands on line {seen[number]} already")
        if not youtube_id:
            wrong.append("youtube_id: empty")
        if not (start.isascii() and start.isdigit()):
            wrong.append(f"start_time: {start!r} is no whole number of seconds")
        wrong = [f"{table}, line {line}, {one}" for one in wrong]
        wrong += no_words(table, line, {"caption": fields["caption"]})
        defects += wrong
        if not wrong:
            seen[number] = line
            clip = clips.setdefault(f"{youtube_id}_{int(start)}", _Clip(youtube_id, int(start)))
            clip.ids.append(number)
            clip.captions.append(fields["caption"])
    return clips, defects


def _match(clips: dict[str, _Clip], there: set[str]) -> dict[str, str]:
    """The file of each clip that has one."""
    files = {}
    for name, clip in clips.items():
        stems = spellings(clip.youtube_id, clip.start, clip.ids)
        names = (stem + suffix for stem in stems for suffix in READABLE + FOREIGN)
        file = next((one for one in names if one in there), None)
        if file:
            files[name] = file
    return files


def _empty(table: Path, folder: Path, clips: dict[str, _Clip], reason: str) -> str:
    first = next(iter(clips.values()))
    names = ", ".join(f"{stem}.flac" for stem in spellings(first.youtube_id, first.start, first.ids[:1]))
    return (
        f"{folder}: has no usable file for any of the {len(clips)} clips of {table}; the last: {reason}; "
        f"wants for the first one of {names} (or .wav, .ogg, .mp3)"
    )


def build(folder: Path, options: CorpusOptions, cores: int = 1) -> Corpus:
    """Index AudioCaps in ``folder``; the audio stays where it is. A defect of a table raises."""
    found = check(Path(options.root), options.decode, cores, options.may_lack)
    return write_index(folder, *found, options.may_lack)


@lru_cache  # a study asks many times; files do not change while it is planned
def fingerprint(root: str) -> str:
    """Digest of the tables and of the recordings' names, sizes and times."""
    if not root:
        raise CorpusError(
            [
                "corpus.root: empty; name the folder that holds AUDIOCAPS (make study STUDY=audiocaps "
                "DATA=folder)"
            ]
        )
    base = _base(Path(root).resolve())
    folders = [_audio(base, split) for split in SPLITS]
    names = [str(folder.relative_to(base) / name) for folder in folders for name in audio_names(folder)]
    return digest([_table(base, split) for split in SPLITS], base, names)
