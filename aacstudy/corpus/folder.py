"""Your own recordings: a folder of audio files, and one CSV of captions (`tables.captions`).

Without a CSV the recordings have no captions: they can be captioned and searched.
"""

import os
from functools import lru_cache
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from aacstudy.corpus import Corpus, CorpusError, write_index
from aacstudy.corpus.audio import AudioError, examine
from aacstudy.corpus.tables import audio_names, captions, digest, matched, unusable
from aacstudy.options import CorpusOptions

SPLIT = "test"


def _csv(root: Path) -> Path | None:
    if not root.is_dir():
        raise CorpusError(
            [f"{root}: no such folder; give the folder that holds the captions CSV and the audio"]
        )
    found = sorted(root.glob("*.csv"))
    if (root / "captions.csv") in found:
        return root / "captions.csv"
    if len(found) > 1:
        raise CorpusError([f"{root}: wants one CSV of captions (captions.csv), and has {len(found)}"])
    if not found and not audio_names(_audio(root)):
        raise CorpusError([f"{root}: has neither audio files nor a captions.csv"])
    return found[0] if found else None


def _audio(root: Path) -> Path:
    return root / "audio" if (root / "audio").is_dir() else root


def check(root: Path, decode: bool = True, workers: int = 1) -> tuple[Corpus, list[str]]:
    """Read a folder and list everything wrong with it; each defect names file, row and field."""
    root = Path(root).resolve()
    table = _csv(root)
    audio = _audio(root)
    rows, defects = captions(table) if table else ([(0, name, []) for name in sorted(audio_names(audio))], [])
    files, wrong = matched(rows, audio, table) if table else ({name: name for _, name, _ in rows}, [])
    clips, texts = [], []
    found = examine([audio / files[name] for _, name, _ in rows], decode, workers)
    for (line, name, own), seconds in zip(
        rows, tqdm(found, f"checking {root.name}", len(rows), unit="clip"), strict=True
    ):
        plain = os.path.normpath(name)
        if os.path.isabs(name) or plain != name or plain.startswith(".."):
            defects.append(
                f"{table}, line {line}, file_name: {name!r} wants the name in {audio}, {Path(plain).name!r}"
            )
            continue
        if isinstance(seconds, AudioError):
            defects.append(unusable(table, line, name, seconds) if table else str(seconds))
            continue
        clip = f"{SPLIT}/{name}"
        clips.append((clip, SPLIT, str(audio / files[name]), seconds))
        texts += [(clip, text) for text in own]
    corpus = Corpus(
        root,
        pd.DataFrame(clips, columns=["clip", "split", "path", "seconds"]),
        pd.DataFrame(texts, columns=["clip", "text"]),
    )
    return corpus, defects + wrong


def build(folder: Path, options: CorpusOptions, cores: int = 1) -> Corpus:
    """Index a checked folder in ``folder``; the audio stays where it is. Any defect raises."""
    return write_index(folder, *check(Path(options.root), True, cores))


@lru_cache  # a study asks many times; files do not change while it is planned
def fingerprint(root: str) -> str:
    """Digest of the CSV's text and of the audio files' names, sizes and times."""
    if not root:
        raise CorpusError(
            ["corpus.root: empty; name the folder of your recordings (make study STUDY=own DATA=folder)"]
        )
    folder = Path(root).resolve()
    table = _csv(folder)
    audio = _audio(folder)
    files = matched(captions(table)[0], audio, table)[0] if table else {}
    names = [audio.relative_to(folder) / name for name in {*audio_names(audio), *files.values()}]
    return digest([table] if table else [], folder, map(str, names))
