"""Clips and captions, whatever their origin: one ``Corpus`` type, kept as two or three tables."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd


class CorpusError(ValueError):
    """What is wrong with a corpus: one line per defect, each naming file, row and field."""

    def __init__(self, defects: list[str]):
        self.defects = defects
        count = "1 defect" if len(defects) == 1 else f"{len(defects)} defects"
        super().__init__("\n".join([f"the corpus has {count}:", *(f"  {defect}" for defect in defects)]))


@dataclass(frozen=True)
class Corpus:
    """Tables of clips, captions and (where known) sound events.

    clips: ``clip`` (unique: split/name), ``split``, ``path`` (absolute, or relative to ``folder``), ``seconds``.
    captions: ``clip``, ``text``; soundscapes add ``kind``, ``connective``, ``form``, ``mentions``, ``swap``.
    events: ``clip``, ``event``, ``onset``, ``offset`` in seconds; no rows for corpora without annotation.
    """

    folder: Path
    clips: pd.DataFrame
    captions: pd.DataFrame
    events: pd.DataFrame

    def split(self, name: str) -> "Corpus":
        """The part of one split, rows in their stored order, indices renewed."""
        clips = self.clips[self.clips["split"] == name].reset_index(drop=True)
        if clips.empty:
            raise ValueError(f"no clip of split {name!r}; there are {sorted(self.clips['split'].unique())}")
        kept = set(clips["clip"])
        captions = self.captions[self.captions["clip"].isin(kept)].reset_index(drop=True)
        return Corpus(
            self.folder, clips, captions, self.events[self.events["clip"].isin(kept)].reset_index(drop=True)
        )

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
        """Write the tables into ``folder`` as CSV."""
        self.clips.to_csv(self.folder / "clips.csv", index=False)
        self.captions.to_csv(self.folder / "captions.csv", index=False)
        self.events.to_csv(self.folder / "events.csv", index=False)

    @classmethod
    def load(cls, folder: Path) -> "Corpus":
        """Read the tables that ``save`` wrote; a caption may be any text, "NA" and "null" included."""
        text = dict.fromkeys(("clip", "split", "path", "text", "swap"), str)  # a caption may be "1984"
        tables = (
            pd.read_csv(folder / f"{name}.csv", keep_default_na=False, dtype=text)
            for name in ("clips", "captions", "events")
        )
        return cls(Path(folder), *tables)


NO_EVENTS = pd.DataFrame({"clip": [], "event": [], "onset": [], "offset": []})
