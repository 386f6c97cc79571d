"""Soundscapes of real recordings: each sound of a scene is drawn from the recordings of its class.

    ROOT/meta/esc50.csv, ROOT/audio/*   as ESC-50 is published, in any audio format and rate
    ROOT/CLASS/*                        or a folder of recordings for each class
    ROOT/SOURCES.csv                    optional: filename,title,author,licence,url

ROOT may be the folder above ESC-50. Without SOURCES.csv, ESC-50's own LICENSE names its authors.
All takes of a source are in one split. Source of the layout: github.com/karolpiczak/ESC-50.
"""

import difflib
import hashlib
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from aacstudy import paths
from aacstudy.corpus import SOURCE, Corpus, CorpusError
from aacstudy.corpus.audio import READABLE, AudioError, ahead, inspect, read
from aacstudy.corpus.soundscapes.esc50 import KINDS
from aacstudy.corpus.soundscapes.events import active_rms, faded
from aacstudy.corpus.soundscapes.grammar import ALL_PHRASES
from aacstudy.corpus.soundscapes.scenes import compose, planned, streams
from aacstudy.corpus.tables import audio_names, digest, records
from aacstudy.options import CorpusOptions

SPLITS = ("train", "validation", "test")
FOLDS = {"1": "train", "2": "train", "3": "train", "4": "validation", "5": "test"}
# Split of a scene -> split whose recordings it is made of.
TAKEN_FROM = dict(zip(SPLITS, SPLITS)) | {"tagging_train": "train", "tagging_test": "test", "pairs": "test"}
SILENCE = 2.0**-13  # what lossy coding leaves of digital silence stays below this
_TAKE = re.compile(r"[-_ ](?:take[-_ ]?\w+|[a-z])$", re.IGNORECASE)  # bark-A, bark_b, bark take 2
_LICENSE = re.compile(r"- \[(.+)\.ogg\]: +clip derived from (.*) \((http\S+)\) by (.*) \[([^\]]*)\]\s*")


class Row(NamedTuple):
    """A recording as a layout names it; ``place`` begins the messages about it."""

    place: str
    path: Path
    label: str
    source: str
    split: str = ""


def check(root: Path | str, decode: bool = True, workers: int = 1) -> tuple[Corpus, list[str]]:
    """The recordings as a corpus without captions, and everything wrong with them.

    Each clip has one event, without the digital silence at its ends. Every sample is read, whatever
    ``decode`` says.
    """
    base = _base(root)
    rows, defects = _of_table(base) if _table(base).is_file() else _of_folders(base)
    kinds = {label: _kind(label) for label in dict.fromkeys(row.label for row in rows)}
    for label in (label for label, kind in kinds.items() if kind not in ALL_PHRASES):
        near = difflib.get_close_matches(kinds[label], [*ALL_PHRASES, *KINDS], n=1, cutoff=0.0)[0]
        place = next(row.place for row in rows if row.label == label)
        defects.append(f"{place}: the grammar has no words for class {label!r}; nearest: {near!r}")
    defects += _unsplit(base, rows)
    about, wrong = _attribution(base)
    clips, events, sources = [], [], []
    bar = tqdm(ahead(_edges, [row.path for row in rows], workers), f"checking {base.name}", len(rows))
    for row, found in zip(rows, bar, strict=True):
        if isinstance(found, AudioError):
            defects.append(f"{row.place}: {found}")
            continue
        name, kind = row.path.relative_to(base).as_posix(), kinds[row.label]
        clip = f"{row.split}/{name}"
        known = about.get(
            row.path.stem, about.get(row.path.stem.rpartition("-")[0], (row.path.name, "", "", ""))
        )
        clips.append((clip, row.split, str(row.path), found[2]))
        events.append((clip, kind, *found[:2]))
        sources.append((clip, kind, name, *known))
    corpus = Corpus(
        base,
        pd.DataFrame(clips, columns=["clip", "split", "path", "seconds"]),
        pd.DataFrame({"clip": [], "text": []}, dtype=str),
        pd.DataFrame(events, columns=["clip", "event", "onset", "offset"]),
        sources=pd.DataFrame(sources, columns=["clip", "event", *SOURCE]),
    )
    return corpus, defects + wrong


def _base(root: Path | str) -> Path:
    """The folder of the recordings; where none is named, the one that ESC-50 is downloaded to."""
    base = Path(root).resolve() if str(root) else paths.data() / "ESC-50"
    if not base.is_dir():
        how = "python -m aacstudy download esc50, or make study STUDY=recordings DATA=folder"
        raise CorpusError([f"{base}: no such folder; it wants recordings of sounds: {how}"])
    return base / "ESC-50" if _table(base / "ESC-50").is_file() else base


def _table(base: Path) -> Path:
    return base / "meta" / "esc50.csv"


def _kind(label: str) -> str:
    name = re.sub(r"[-\s]+", "_", label.strip().lower())
    return KINDS.get(name, name)


def _of_table(base: Path) -> tuple[list[Row], list[str]]:
    """Recordings of ESC-50's table, of whatever format, and what is wrong with it.

    Two of its sources are in folds 4 and 5: all takes of a source go where its lowest fold goes.
    """
    table, audio = _table(base), base / "audio"
    needed = ("filename", "fold", "category", "src_file")
    _, found, defects = records(table, ",".join(needed), lambda names: set(needed) <= set(names))
    if found and not (there := audio_names(audio)):
        return [], [*defects, f"{audio}: no audio; it wants the {len(found)} recordings of {table.name}"]
    rows, seen, folds = [], {}, {}
    for line, fields, broken in found:
        if broken:
            defects.append(broken)
            continue
        name, fold, label, source = (fields[column].strip() for column in needed)
        place = f"{table}, line {line}"
        if not name or Path(name).name != name or "\\" in name:
            defects.append(f"{place}, filename: {name!r} leads outside of {audio}")
        elif fold not in FOLDS:
            defects.append(f"{place}, fold: {fold!r} is none of 1 to 5")
        elif name in seen:
            defects.append(f"{place}, filename: {name!r} is listed on line {seen[name]} already")
        else:
            seen[name] = line
            folds[source] = min(fold, folds.get(source, fold))
            other = (f"{Path(name).stem}{suffix}" for suffix in READABLE)
            file = name if name in there else next((one for one in other if one in there), name)
            rows.append(Row(f"{place}, filename", audio / file, label, source))
    return [row._replace(split=FOLDS[folds[row.source]]) for row in rows], defects


def _of_folders(base: Path) -> tuple[list[Row], list[str]]:
    """Recordings of class folders: a fifth of a class's sources each for validation and test."""
    rows = []
    for folder in sorted(path for path in base.iterdir() if path.is_dir() and path.name[0] != "."):
        names = {name: _TAKE.sub("", Path(name).stem) for name in sorted(audio_names(folder))}
        # By digest: no order of names or of the disk decides.
        sources = sorted(set(names.values()), key=lambda source: hashlib.sha256(source.encode()).hexdigest())
        held_out = max(1, round(len(sources) / 5))
        splits = ["validation", "test"] * held_out
        splits = ["train"] * max(1, len(sources) - 2 * held_out) + sorted(splits, reverse=True)
        split = dict(zip(sources, splits))
        rows += [
            Row(str(folder / name), folder / name, folder.name, source, split[source])
            for name, source in names.items()
        ]
    wants = "neither meta/esc50.csv nor a folder of audio for each class"
    return rows, [] if rows else [f"{base}: no audio; it has {wants}"]


def _unsplit(base: Path, rows: list[Row]) -> list[str]:
    """A defect for each class that has no recording for some split."""
    splits: dict[str, list[str]] = {}
    for row in rows:
        splits.setdefault(row.label, []).append(row.split)
    return [
        f"{base}: class {label!r} has {len(found)} recording{'s' * (len(found) > 1)} and none for "
        f"{' and '.join(lacking)}; each class needs other sources for train, validation and test"
        for label, found in splits.items()
        if (lacking := [split for split in SPLITS if split not in found])
    ]


def _edges(path: Path) -> tuple[float, float, float] | AudioError:
    """Where a recording begins and ends but for digital silence, and its length, in s."""
    try:
        rate = inspect(path).samplerate
        samples = read(path, rate)
    except AudioError as error:
        return error
    loud = np.flatnonzero(np.abs(samples) > SILENCE)
    if not len(loud):
        return AudioError(
            f"{path}: is silent, no sample is above {SILENCE:.1g}; replace it or remove its row"
        )
    return round(loud[0] / rate, 4), round((loud[-1] + 1) / rate, 4), round(len(samples) / rate, 3)


def _attribution(base: Path) -> tuple[dict[str, tuple[str, str, str, str]], list[str]]:
    """Title, author, licence and page by the stem of a recording's name, and what is wrong."""
    table, license_ = base / "SOURCES.csv", base / "LICENSE"
    if not table.is_file():
        text = license_.read_text(encoding="utf-8", errors="replace") if license_.is_file() else ""
        lines = filter(None, map(_LICENSE.fullmatch, text.splitlines()))
        return {line[1]: (line[2], line[4], line[5], line[3]) for line in lines}, []
    needed = ("filename", *SOURCE[1:])
    _, rows, defects = records(table, ",".join(needed), lambda names: set(needed) <= set(names))
    about = {}
    for line, fields, broken in rows:
        url = fields.get("url", "")
        if broken:
            defects.append(broken)
        elif url and not url.lower().startswith(("http://", "https://")):
            defects.append(f"{table}, line {line}, url: {url!r} is no web address")
        else:
            about[Path(fields["filename"]).stem] = tuple(fields[name] for name in SOURCE[1:])
    return about, defects


@dataclass(frozen=True)
class Pool:
    """Recordings by split and kind of sound, decoded where they are heard; see scenes.Sounds."""

    # (split, kind) -> clip, path, onset, offset (s)
    recordings: dict[tuple[str, str], list[tuple[str, str, float, float]]]

    @classmethod
    def of(cls, corpus: Corpus) -> "Pool":
        """The pool of a checked corpus of recordings."""
        table = corpus.clips.merge(corpus.events, on="clip").sort_values("clip", kind="stable")
        columns = ["clip", "path", "onset", "offset"]
        groups = table.groupby(["split", "event"], sort=True)
        return cls({key: list(part[columns].itertuples(False, None)) for key, part in groups})

    def choose(self, split: str, event: str, rng: np.random.Generator) -> tuple[tuple, np.random.Generator]:
        """A recording, by one draw from ``rng``, and a generator for all else about it."""
        own = np.random.default_rng(int(rng.integers(2**63)))
        found = self.recordings[TAKEN_FROM[split], event]
        return found[int(own.integers(len(found)))], own

    def __call__(
        self, split: str, event: str, rng: np.random.Generator, seconds: float, sample_rate: int
    ) -> np.ndarray:
        """A recording of the event, cut or repeated to ``seconds``, as `synthesise` gives it."""
        (_, path, onset, offset), own = self.choose(split, event, rng)
        samples = read(Path(path), sample_rate)[round(onset * sample_rate) : round(offset * sample_rate)]
        audio = fitted(samples.astype(np.float64), round(seconds * sample_rate), own, sample_rate)
        return audio / active_rms(audio, sample_rate)


def fitted(samples: np.ndarray, n: int, rng: np.random.Generator, sample_rate: int) -> np.ndarray:
    """A recording [samples] made n samples long, faded at its ends.

    It begins where two seconds have at least half the energy of the loudest two: recordings pause.
    A short one is repeated after pauses of 0.1 to 0.4 s, as long as half of it fits.
    """
    window = min(n, len(samples), 2 * sample_rate)
    latest = len(samples) - (n if len(samples) >= n else window)
    total = np.concatenate([[0.0], np.cumsum(samples**2)])
    starts = np.arange(0, latest + 1, sample_rate // 100)
    energy = total[starts + window] - total[starts]
    start = int(rng.choice(starts[energy >= 0.5 * energy.max()]))
    pause = int(rng.uniform(0.1, 0.4) * sample_rate)
    audio, at, piece = np.zeros(n), 0, samples[start : start + n]
    while at == 0 or n - at >= len(piece) / 2:
        end = min(n, at + len(piece))
        audio[at:end] = faded(piece, sample_rate)[: end - at]
        at, piece = end + pause, samples
    return faded(audio, sample_rate)


def build(folder: Path, options: CorpusOptions, cores: int = 1) -> Corpus:
    """Compose the corpus in ``folder``: audio, clips, captions, events, sources.

    Raises CorpusError with every defect, ValueError for kinds of sound in the options that no
    recording has.
    """
    found, defects = check(options.root, workers=cores)
    if defects:
        raise CorpusError(defects)
    pool, there = Pool.of(found), sorted(found.events["event"].unique())
    kinds = tuple(dict.fromkeys(map(_kind, options.events or there)))
    if unknown := [kind for kind in kinds if kind not in there]:
        raise ValueError(f"corpus.events: no recording of {unknown[0]!r}; there are {', '.join(there)}")
    if len(kinds) < 2:
        raise ValueError(f"corpus.events: one kind of sound makes no pairs; there are {', '.join(there)}")
    options = replace(options, events=kinds)
    scenes = planned(options)
    used = [
        (scene.clip, pool.choose(scene.split, event, rng)[0][0])
        for scene in scenes
        for event, rng in zip(scene.events, streams(scene, options))
    ]
    sources = pd.DataFrame(used, columns=["clip", "of"]).merge(
        found.sources.rename(columns={"clip": "of"}), on="of", how="left", validate="many_to_one"
    )
    corpus = compose(folder, scenes, options, cores, pool)
    corpus = replace(corpus, sources=sources.drop(columns="of"))
    corpus.save()
    return corpus


@lru_cache  # a study asks many times; files do not change while it is planned
def fingerprint(root: str) -> str:
    """Digest of the tables and of the recordings' names, sizes and times."""
    base = _base(root)
    tables = [_table(base), base / "SOURCES.csv", base / "LICENSE"]
    folders = [path for path in base.iterdir() if path.is_dir()]
    names = [str(Path(folder.name) / name) for folder in folders for name in audio_names(folder)]
    rows = _of_table(base)[0] if _table(base).is_file() else []
    return digest(tables, base, [*names, *(str(row.path.relative_to(base)) for row in rows)])
