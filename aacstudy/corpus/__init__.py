"""Clips and captions, whatever their origin: one ``Corpus`` type, kept as three or four tables."""

import hashlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd


class CorpusError(ValueError):
    """What is wrong with a corpus: one line per defect, each naming file, row and field."""

    def __init__(self, defects: list[str]):
        self.defects = defects
        count = "1 defect" if len(defects) == 1 else f"{len(defects)} defects"
        super().__init__("\n".join([f"the corpus has {count}:", *(f"  {defect}" for defect in defects)]))


NO_EVENTS = pd.DataFrame({"clip": [], "event": [], "onset": [], "offset": []})
NO_FILE = "no file"  # the reason of a clip in `missing` whose file is not there
SOURCE = ("recording", "title", "author", "licence", "url")
NO_SOURCES = pd.DataFrame({name: [] for name in ("clip", "event", *SOURCE)}, dtype=str)
NONE_MISSING = pd.DataFrame({"clip": [], "split": [], "reason": []}, dtype=str)
_OPTIONAL = ("missing", "sources")  # tables that are written only where they have rows


@dataclass(frozen=True)
class Corpus:
    """Tables of clips, captions and (where known) sound events.

    clips: ``clip`` (unique: split/name), ``split``, ``path`` (absolute, or relative to ``folder``),
    ``seconds``; Clotho adds ``keywords`` (split by ;), ``sound_id`` and ``license``, empty where
    its metadata file is not there.
    captions: ``clip``, ``text``; soundscapes add ``kind``, ``connective``, ``form``, ``mentions``,
    ``swap``.
    events: ``clip``, ``event``, ``onset``, ``offset`` in seconds; no rows without annotation.
    missing: ``clip``, ``split``, ``reason``: clips with captions that were left out (AudioCaps).
    sources: ``clip``, ``event``, and ``SOURCE`` of the recording of that event (recordings).
    """

    folder: Path
    clips: pd.DataFrame
    captions: pd.DataFrame
    events: pd.DataFrame = field(default_factory=NO_EVENTS.copy)
    missing: pd.DataFrame = field(default_factory=NONE_MISSING.copy)
    sources: pd.DataFrame = field(default_factory=NO_SOURCES.copy)

    def split(self, name: str) -> "Corpus":
        """The part of one split, rows in their stored order, indices renewed."""
        clips = self.clips[self.clips["split"] == name].reset_index(drop=True)
        if clips.empty:
            raise ValueError(f"no clip of split {name!r}; there are {sorted(self.clips['split'].unique())}")
        kept = set(clips["clip"])
        captions, events, sources = (
            table[table["clip"].isin(kept)].reset_index(drop=True)
            for table in (self.captions, self.events, self.sources)
        )
        missing = self.missing[self.missing["split"] == name].reset_index(drop=True)
        return Corpus(self.folder, clips, captions, events, missing, sources)

    def pool(self) -> tuple[int, str]:
        """Number of clips, and a hash of their sorted ids, equal where numbers compare."""
        ids = "\n".join(sorted(self.clips["clip"]))
        return len(self.clips), hashlib.sha256(ids.encode()).hexdigest()[:12]

    def credited(self, text: str, clip: str) -> str:
        """A text, and after it who recorded what sounds in a clip and the licence, where known."""
        rows = self.sources[self.sources["clip"] == clip]
        known = "; ".join(f"{row.title} by {row.author}, {row.licence}" for row in rows.itertuples())
        return f"{text} | sounds: {known}" if known else text

    def path(self, clip: str) -> Path:
        """The audio file of a clip."""
        return self.folder / self.clips.loc[self.clips["clip"] == clip, "path"].item()

    def paths(self) -> list[Path]:
        """The audio files of all clips, in the order of ``clips``."""
        return [self.folder / path for path in self.clips["path"]]

    def owners(self) -> list[int]:
        """For each caption the row of its clip in ``clips``."""
        rows = {clip: row for row, clip in enumerate(self.clips["clip"])}
        return [rows[clip] for clip in self.captions["clip"]]

    def save(self) -> None:
        """Write the tables into ``folder`` as CSV, the optional ones only where they have rows."""
        self.clips.to_csv(self.folder / "clips.csv", index=False)
        self.captions.to_csv(self.folder / "captions.csv", index=False)
        self.events.to_csv(self.folder / "events.csv", index=False)
        for name in _OPTIONAL:
            if len(getattr(self, name)):
                getattr(self, name).to_csv(self.folder / f"{name}.csv", index=False)

    @classmethod
    def load(cls, folder: Path) -> "Corpus":
        """Read the tables that ``save`` wrote; a caption may be any text, "NA" too."""
        columns = ("clip", "split", "path", "text", "swap", "keywords", "sound_id", "license", "reason")
        text = dict.fromkeys((*columns, *SOURCE), str)  # a caption may be "1984"
        tables = {
            name: pd.read_csv(folder / f"{name}.csv", keep_default_na=False, dtype=text)
            for name in ("clips", "captions", "events", *_OPTIONAL)
            if name not in _OPTIONAL or (folder / f"{name}.csv").is_file()
        }
        return cls(Path(folder), **tables)


def write_index(folder: Path, corpus: Corpus, defects: list[str], may_lack: Iterable[str] = ()) -> Corpus:
    """Write the tables of a checked corpus; the audio stays where it is. Any defect raises; what of
    the splits that ``may_lack`` is not there is named.
    """
    if defects:
        raise CorpusError(defects)
    corpus = replace(corpus, folder=folder)
    corpus.save()
    if len(corpus.missing):
        print(f"{len(corpus.missing)} clips are left out, missing.csv says why", file=sys.stderr)
    if absent := sorted(set(may_lack) - set(corpus.clips["split"])):
        print(f"not here: {' and '.join(absent)}; what needs them is left out", file=sys.stderr)
    return corpus
