"""What bfloat16 changes on the demo's trained captioners: numbers with intervals.

Random weights say nothing about ranks, so this uses the demo study's captioners and makes them
where they are missing.
"""

import numpy as np
from scipy.stats import rankdata

from aacstudy.analysis.retrieval import grid
from aacstudy.analysis.statistics import paired
from aacstudy.corpus import Corpus
from aacstudy.models import frames as frame_files
from aacstudy.models.checkpoint import load_captioner
from aacstudy.options import StatisticsOptions
from aacstudy.scoring.compiled import why_not
from aacstudy.scoring.engine import Engine
from aacstudy.scoring.matrix import Losses
from aacstudy.study.parameters import Study
from aacstudy.study.stages import plan

KS = (1, 5, 10)


def run(name: str = "demo") -> dict:
    """Rank agreement and hit@k differences; prints a line for each."""
    study = Study.load(name)
    # with C or without
    kinds = {"bfloat16": False} | ({} if why_not() else {"bfloat16, compiled": True})
    exact: list[Losses] = []
    rounded: dict[str, list[Losses]] = {kind: [] for kind in kinds}
    for seed in study.seeds:
        network, vocabulary, part, clips = _captioner(study, seed)
        captions = [vocabulary.encode(text) for text in part.captions["text"]]
        about = np.array(part.owners()), list(part.clips["clip"]), list(part.captions["text"])
        engines = [(Engine(network, captions), exact)]
        engines += [
            (Engine(network, captions, "bfloat16", use_c=c), rounded[kind]) for kind, c in kinds.items()
        ]
        for engine, matrices in engines:
            matrices.append(Losses(engine.nll(clips), engine.tokens, *about))
    return {kind: _compare(kind, matrices, exact) for kind, matrices in rounded.items()}


def _compare(kind: str, rounded: list[Losses], exact: list[Losses]) -> dict:
    """Rank agreement and paired differences of hit@k of two sets of matrices, one per seed."""
    result = {
        "spearman per text query": _spearman(exact, rounded, axis=0),
        "spearman per audio query": _spearman(exact, rounded, axis=1),
        "max abs diff, nats per token": float(
            max(abs(a.mean - b.mean).max() for a, b in zip(exact, rounded))
        ),
    }
    for direction, normaliser in (("t2a", "raw"), ("a2t", "raw"), ("a2t", "min_max"), ("a2t", "z")):
        tables = [[grid.queries(one, direction, normaliser) for one in each] for each in (rounded, exact)]
        for k in KS:
            values = [np.stack([table[f"hit@{k}"] for table in of_seeds]) for of_seeds in tables]
            change = paired(*values, tables[0][0]["audio"].to_numpy(), StatisticsOptions()).interval
            result[f"minus float32: {direction} {normaliser} hit@{k}"] = change._asdict()
            print(f"{kind} minus float32: {direction} {normaliser:8s} hit@{k:<2d} {change.percent(2)}")
    for label in ("spearman per text query", "spearman per audio query"):
        agreement = result[label]
        print(
            f"{kind} against float32: {label}: least {agreement['least']:.5f}, mean {agreement['mean']:.5f}"
        )
    return result


def _captioner(study: Study, seed: int):
    corpus, frames, captioner = (
        one.make() for one in (plan.corpus(study), plan.frames(study), plan.captioner(study, "base", seed))
    )
    network, vocabulary, _ = load_captioner(captioner / "captioner.safetensors")
    part, by_clip = (
        Corpus.load(corpus).split(study.scoring.split),
        frame_files.load(frames),
    )
    return network, vocabulary, part, [by_clip[clip] for clip in part.clips["clip"]]


def _spearman(exact: list[Losses], rounded: list[Losses], axis: int) -> dict[str, float]:
    """Rank correlation of each column (axis 0) or row (axis 1) of two sets of matrices: least and
    mean.
    """
    each = np.concatenate([_correlation(a.mean, b.mean, axis) for a, b in zip(exact, rounded)])
    return {"least": float(each.min()), "mean": float(each.mean())}


def _correlation(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
    a, b = (rankdata(one, axis=axis) for one in (a, b))
    a, b = (one - one.mean(axis=axis, keepdims=True) for one in (a, b))
    return (a * b).sum(axis=axis) / np.sqrt((a * a).sum(axis=axis) * (b * b).sum(axis=axis))
