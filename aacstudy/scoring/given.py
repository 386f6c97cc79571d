"""Loss matrices of other systems: anything that scores captions on audio gets the study's retrieval and bias chapters."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from aacstudy.corpus import Corpus
from aacstudy.scoring.store import Losses


class Scorer(Protocol):
    """What a captioner must do to be studied; ``models/huggingface.py`` does it for transformers' models."""

    def nll(self, frames: Sequence[Any], captions: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Sums [audios, captions] of −log p over each caption's tokens and end mark (nats), and their counts [captions].

        frames: one input per audio, whatever the captioner's own encoder takes.
        """


def score(scorer: Scorer, frames: Sequence[Any], part: Corpus) -> Losses:
    """The loss matrix of one split of a corpus by any captioner; ``frames`` in the order of ``part.clips``.

    ``.write("mine/1.zarr")`` and ``scoring: {matrix: "mine/{seed}.zarr"}`` in a study bring it into the notebooks.
    """
    texts = list(part.captions["text"])
    sums, counts = scorer.nll(frames, texts)
    return Losses(
        np.asarray(sums, np.float32),
        np.asarray(counts),
        np.array(part.owners()),
        list(part.clips["clip"]),
        texts,
    )


def check(matrix: Losses, audios: list[str], captions: list[str], owners: Sequence[int], file: str) -> Losses:
    """A matrix whose rows and columns are put into the corpus' order; ValueError names what does not fit.

    Captions are told apart by text and owner, so identical texts of two clips stay apart.
    """
    for kind, own, theirs in (("audio", audios, matrix.audios), ("caption", captions, matrix.captions)):
        if sorted(own) != sorted(theirs):
            missing = sorted(set(own) - set(theirs)) or sorted(set(theirs) - set(own))
            raise ValueError(
                f"{file}: its {len(theirs)} {kind}s are not the corpus' {len(own)}"
                + (f"; only one of the two has {missing[0]!r}" if missing else "")
            )
    if not np.isfinite(matrix.nll).all() or (matrix.nll < 0).any() or (matrix.tokens < 1).any():
        raise ValueError(f"{file}: losses must be sums of -log p: finite, not negative, of one token or more")
    rows = {audio: row for row, audio in enumerate(matrix.audios)}
    columns: dict[tuple[str, str], list[int]] = {}
    for column, (text, owner) in enumerate(zip(matrix.captions, matrix.owners)):
        columns.setdefault((text, matrix.audios[owner]), []).append(column)
    wanted = [(text, audios[owner]) for text, owner in zip(captions, owners)]
    lost = next((pair for pair in wanted if not columns.get(pair)), None)
    if lost:
        raise ValueError(
            f"{file}: no caption {lost[0]!r} of audio {lost[1]}; owners must be as in the corpus"
        )
    order = [columns[pair][0] for pair in wanted]
    nll = matrix.nll[np.ix_([rows[audio] for audio in audios], order)]
    return Losses(nll, matrix.tokens[order], np.array(owners), audios, captions, {"matrix": Path(file).name})


def fingerprint(path: Path) -> str:
    """Digest of the names and contents of a zarr group's files; ValueError where there is none."""
    if not path.is_dir():
        raise ValueError(f"scoring.matrix: {path}: no such zarr group")
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.is_file():
            digest.update(str(file.relative_to(path)).encode() + file.read_bytes())
    return digest.hexdigest()[:12]
