"""Captions written about the validation clips and their scores, by which an epoch can be chosen."""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from importlib import import_module
from multiprocessing import get_context

import torch

from aacstudy.models.decoding import write
from aacstudy.options import DecodingOptions

Score = Callable[[Sequence[str], Sequence[Sequence[str]]], float]  # candidates and their references


def judge(metric: str, decoding: DecodingOptions, device: torch.device) -> Callable[..., float]:
    """``(captioner, clips, vocabulary, references)`` -> the ``scorer``'s score of its captions,
    which are written as those of a study are.
    """
    score = scorer(metric, device)

    def of(captioner, clips, vocabulary, references) -> float:
        found = write(captioner, clips, vocabulary, decoding)
        return score([vocabulary.decode(best.tokens) for best, *_ in found], references)

    return of


def scorer(metric: str, device: torch.device) -> Score:
    """The score of captions by ``metric``, cider_d or fense; higher is better.

    Its models are loaded here: before any training FileNotFoundError says what is missing.
    """
    if metric == "fense":
        return _fense(device)
    if metric != "cider_d":
        raise ValueError(f"metric must be cider_d or fense, got {metric!r}")
    # inside, because importing aac_metrics loads transformers: 8 s of processor time
    from aac_metrics.functional import cider_d

    return lambda candidates, references: float(cider_d(candidates, references, return_all_scores=False))


def _fense(device: torch.device) -> Score:
    # by name, so that no trained captioner's key covers it: where files lie changes no number
    found = import_module("aacstudy.analysis.captions.assets").find()
    if lacking := found.missing("fense"):
        raise FileNotFoundError(
            f"training.select is fense, which {lacking} (on a machine with internet access), or select by "
            "cider_d or validation_loss"
        )
    environment = {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "FENSE_DATA": str(found.fluency.parent),
        "HF_HUB_CACHE": str(found.hub),
    }
    # A process of its own, because Hugging Face's libraries read these when they are imported,
    # perhaps long before; one for all epochs, because loading the models takes longer than using
    # them.
    worker = ProcessPoolExecutor(1, get_context("spawn"), _prepare, (environment,))
    models = str(found.sentences), str(device)
    worker.submit(_load, *models).result()
    return lambda candidates, references: worker.submit(_score, *models, candidates, references).result()


def _prepare(environment: Mapping[str, str]) -> None:
    os.environ.update(environment)


@cache
def _metric(sentences: str, device: str):
    from aac_metrics.classes.fense import FENSE

    return FENSE(return_all_scores=False, sbert_model=sentences, device=device)


def _load(sentences: str, device: str) -> None:
    _metric(sentences, device)


def _score(
    sentences: str, device: str, candidates: Sequence[str], references: Sequence[Sequence[str]]
) -> float:
    return float(_metric(sentences, device)(list(candidates), [list(one) for one in references]))
