"""Ask a study's captioner: which clips of the scored split fit a text, which of its captions fit a
sound.

A notebook may call ``search`` and ``describe`` as the command does; both return tables.
"""

import difflib
import hashlib
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aacstudy.study.artifacts import Artifact
from aacstudy.study.parameters import BASE, Study
from aacstudy.study.stages import plan

TEXT = (
    "score: mean log-probability per token (the captioner's raw score, nats). A correction that depends on "
    "the "
    "caption alone shifts all clips of a query alike and cannot change their order, so z and percentile say "
    "how far a "
    "clip stands out among all clips of the split under this text; posterior: softmax of the summed "
    "log-probability "
    "over the clips, each as likely beforehand."
)
AUDIO = (
    "score: mean log-probability per token (nats) of the caption on this sound. It favours captions that "
    "are likely "
    "whatever is heard; z compares it with the same caption's scores on the clips of the split (mean and "
    "deviation), "
    "which takes that advantage away. rank by z and rank by score stand side by side."
)
WINDOW = 30.0  # seconds: a longer recording is searched in windows that overlap by half
FORMATS = {
    "from": "{:.0f} s",
    "score": "{:.3f}",
    "z": "{:+.2f}",
    "percentile": "{:.1f}",
    "posterior": "{:.3f}",
}


@dataclass(frozen=True)
class Found:
    """An answered query: the best k rows, and the scores of the whole pool, best first."""

    study: Study
    seed: int
    query: str  # the text, or the sound file's name
    kind: str  # text or audio
    table: pd.DataFrame
    scores: np.ndarray  # [clips] of a text, [captions] of a sound
    sounds: tuple[tuple[str, Path, str], ...]  # label, file, text
    unknown: tuple[str, ...] = ()  # words of the text that the captioner was never taught

    @property
    def about(self) -> str:
        """What was searched, in one sentence."""
        of = f"of split {self.study.scoring.split} of study {self.study.study}, captioner of seed {self.seed}"
        if self.kind == "text":
            return f"The best {len(self.table)} of {len(self.scores)} clips {of}."
        return f"The best by z and by score of {len(self.scores)} captions {of}."

    @property
    def remarks(self) -> list[str]:
        """What a reader of the table must know."""
        known = [TEXT if self.kind == "text" else AUDIO]
        if self.unknown:
            words = ", ".join(self.unknown)
            known.insert(
                0, f"The captioner was never taught these words and reads each as one unknown word: {words}."
            )
        return known


def search(study: Study, query: str, k: int = 5, seed: int | None = None) -> Found:
    """The k clips of the scored split on which the captioner finds a text most likely, as
    ``Found``.

    ``table``: ``rank``, ``clip``, ``score`` (mean log-probability per token), ``z`` and
    ``percentile`` of it among all clips, ``posterior`` (of all clips they sum to 1), ``captions``
    (the clip's own, joined by " / "). A recording longer than `WINDOW` counts by its best window,
    and ``from`` says where that begins. seed: the captioner's, by default the study's first. What
    is missing of the study is made first, and said. ValueError for an empty text, one without any
    known word, k below 1, or a study without a captioner.
    """
    from aacstudy.analysis.retrieval.normalise import z_score
    from aacstudy.models import frames
    from aacstudy.scoring.engine import Engine

    seed, part, network, vocabulary = _captioner(study, k, seed)
    ids = vocabulary.encode(query)
    unknown = _unknown(query, vocabulary)
    by_clip = frames.load(_made(plan.frames(study)))
    engine = Engine(network, [ids], study.scoring.dtype, study.scoring.memory)
    cut = [
        _windows(by_clip[clip], seconds) for clip, seconds in zip(*map(part.clips.get, ("clip", "seconds")))
    ]
    first = np.cumsum([0, *map(len, cut[:-1])])  # each clip's first window
    nll = engine.nll([window for windows in cut for _, window in windows])[:, 0].astype(float)
    total = -np.minimum.reduceat(nll, first)  # [clips], of each clip's best window
    score = total / engine.tokens[0]
    n = len(score)
    odds = np.exp(total - total.max())
    order = np.argsort(-score, kind="stable")
    below = np.searchsorted(np.sort(score), score)  # clips of a lower score
    captions = part.captions.groupby("clip")["text"].apply(" / ".join)
    table = pd.DataFrame(
        {
            "clip": part.clips["clip"],
            "score": score,
            "z": z_score(score[:, None])[:, 0],
            "percentile": 100 * below / max(n - 1, 1),
            "posterior": odds / odds.sum(),
            "captions": part.clips["clip"].map(captions).fillna(""),
        }
    ).loc[order[:k]]
    table.insert(0, "rank", np.arange(1, len(table) + 1))
    if any(len(windows) > 1 for windows in cut):
        best = [int(np.argmin(nll[start : start + len(one)])) for start, one in zip(first, cut)]
        table.insert(2, "from", [cut[i][best[i]][0] for i in table.index])
    paths = part.paths()
    sounds = tuple(
        (f"{row.rank}. {row.clip}", paths[i], part.credited(row.captions, row.clip))
        for i, row in zip(table.index, table.itertuples())
    )
    return Found(study, seed, query, "text", table.reset_index(drop=True), score[order], sounds, unknown)


def _windows(frames, seconds: float) -> list[tuple[float, Any]]:
    """A clip's frames in windows of at most `WINDOW`, with the second at which each begins."""
    if seconds <= WINDOW:
        return [(0.0, frames)]
    size = round(WINDOW * len(frames) / seconds)
    starts = [*range(0, len(frames) - size, max(1, size // 2)), len(frames) - size]
    return [(start * seconds / len(frames), frames[start : start + size]) for start in starts]


def describe(study: Study, file: Path, k: int = 5, seed: int | None = None) -> Found:
    """The captions of the scored split that fit a sound file best, as ``Found``: the best k by z
    and by score.

    ``table``: ``rank by z``, ``rank by score``, ``caption``, ``z``, ``score``; z is against the
    loss matrix of the split (retrieval/normalise.py, with its clips as the bank). Equal texts count
    once. Errors as ``search`` and, for the file, AudioError (a ValueError).
    """
    from aacstudy.analysis.retrieval.normalise import z_score
    from aacstudy.models.checkpoint import load_encoder
    from aacstudy.models.device import use
    from aacstudy.models.frames import encode
    from aacstudy.scoring.engine import Engine
    from aacstudy.scoring.matrix import Losses

    seed, _, network, vocabulary = _captioner(study, k, seed)
    encoder, _ = load_encoder(_made(plan.encoder(study)) / "encoder.safetensors")
    (heard,) = encode(encoder.to(use()), [Path(file)])
    matrix = Losses.read(_made(plan.losses(study, BASE, seed)) / "losses.zarr")
    options = study.scoring
    captions = [vocabulary.encode(text) for text in matrix.captions]
    engine = Engine(network, captions, options.dtype, options.memory, options.label_smoothing)
    score = -(engine.nll([heard]) / engine.tokens).astype(float)  # [1, captions]
    z = z_score(score, bank=-matrix.mean)
    table = pd.DataFrame({"caption": matrix.captions, "z": z[0], "score": score[0]}).drop_duplicates(
        "caption"
    )
    scores = np.sort(table["score"].to_numpy())[::-1]
    for name in ("score", "z"):
        table.insert(0, f"rank by {name}", table[name].rank(ascending=False, method="first").astype(int))
    best = table[(table["rank by z"] <= k) | (table["rank by score"] <= k)].sort_values("rank by z")
    sounds = ((Path(file).name, Path(file), ""),)
    return Found(study, seed, Path(file).name, "audio", best.reset_index(drop=True), scores, sounds)


def _captioner(study: Study, k: int, seed: int | None):
    """Checked arguments, the scored split, the network on its device, and its vocabulary."""
    from aacstudy.corpus import Corpus
    from aacstudy.models.checkpoint import load_captioner
    from aacstudy.models.device import use

    if study.scoring.matrix:
        raise ValueError(
            f"study {study.study} is scored by another system's matrices (scoring.matrix): it has no "
            f"captioner to ask"
        )
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    seed = study.seeds[0] if seed is None else seed
    if seed not in study.seeds:
        raise ValueError(
            f"study {study.study} has no captioner of seed {seed}; it has {', '.join(map(str, study.seeds))}"
        )
    part = Corpus.load(_made(plan.corpus(study))).split(study.scoring.split)
    network, vocabulary, _ = load_captioner(
        _made(plan.captioner(study, BASE, seed)) / "captioner.safetensors"
    )
    return seed, part, network.to(use()), vocabulary


def _made(artifact: Artifact) -> Path:
    """An artifact's folder; what is missing is made first, and said."""
    if not artifact.stamp.exists():
        print(
            f"{artifact.stage} {artifact.name} is not there yet; making it and what it needs", file=sys.stderr
        )
    return artifact.make()


def _unknown(query: str, vocabulary) -> tuple[str, ...]:
    """Words of a query that the vocabulary lacks; ValueError where no word is left."""
    from aacstudy.corpus.text import SPECIALS, tokenise

    words = tokenise(query, vocabulary.rules)
    if not words:
        raise ValueError(f"the query {query!r} has no word; ask in a few, such as 'a dog barks'")
    known = set(vocabulary.words) - set(SPECIALS)
    unknown = tuple(dict.fromkeys(word for word in words if word not in known))
    if set(words) == set(unknown):
        near = [match for word in unknown for match in difflib.get_close_matches(word, known, n=1)]
        hint = f"nearest to it: {', '.join(near)}" if near else f"such as {', '.join(sorted(known)[:5])}"
        raise ValueError(f"the captioner knows no word of {query!r}; it knows {len(known)} words, {hint}")
    return unknown


def write_page(found: Found, folder: Path) -> Path:
    """Write an answered query as one whole page below ``folder/search``; returns its path."""
    import matplotlib.pyplot as plt

    from aacstudy.report import figures, html

    shown = {name: form for name, form in FORMATS.items() if name in found.table}
    figure = ""
    if found.kind == "text":
        figures.style()
        _, ax = plt.subplots(figsize=(8, 1.8), layout="constrained")
        figures.standing(found.scores, len(found.table), ax, "mean log-probability per token (nats)")
        caption = (
            f"Each dot is one of the {len(found.scores)} clips; numbered are the best {len(found.table)}."
        )
        svg = html.drawn(ax.figure, "standing", "svg")
        plt.close(ax.figure)
        figure = html.figure_html(svg, "standing", _alt(found), caption)
    index = folder / "index.html"
    return html.write(
        folder / "search" / f"{slug(found)}.html", "search.html.j2",
        found=found,
        study_name=found.study.study,
        players=[html.player(path, None, label, text) for label, path, text in found.sounds],
        # a text's table stands below players that bear the clips' captions
        table=html.table_html(found.table.drop(columns="captions", errors="ignore"), found.about, shown),
        figure=figure,
        index="../index.html" if index.exists() else None,
    )  # fmt: skip


def _alt(found: Found) -> str:
    best, median = found.scores[0], np.median(found.scores)
    return (
        f"Scores of {len(found.scores)} clips as dots: the best {best:.2f}, the median {median:.2f} nats "
        f"per token."
    )


def slug(found: Found) -> str:
    """A file name that tells the query; what it cannot tell is in eight digits of a hash."""
    stem = re.sub(r"[^a-z0-9]+", "-", found.query.lower()).strip("-")[:60]
    whole = (
        stem.replace("-", " ") == found.query and found.kind == "text" and found.seed == found.study.seeds[0]
    )
    digest = hashlib.sha256(f"{found.kind} {found.seed} {found.query}".encode()).hexdigest()[:8]
    return stem if whole else f"{stem or found.kind}-{digest}"


def text(found: Found, width: int = 60) -> str:
    """The answer as plain text, for a terminal."""
    table = found.table.map(
        lambda value: f"{value[: width - 1]}…" if isinstance(value, str) and len(value) > width else value
    )
    formats = {name: form.format for name, form in FORMATS.items() if name in table}
    lines = table.to_string(index=False, formatters=formats)
    return "\n".join([found.about, lines, *found.remarks])
