"""Normalisations in which audios or captions compete: priors, soft-max, neighbours, transport.

Pure functions `(scores, bank=None, ...) -> scores` on `[audios, captions]`, higher is better;
banks, the marks *transductive* and *online* and the errors are those of normalise.py. `pmi` and
`inverted_softmax` shift each caption's column, so they leave text-to-audio alone. `dual_softmax`
maps columns as well; `qb_norm` chooses per audio; `csls`, `double_centre`, `sinkhorn` use both.
"""

import numpy as np
from scipy.special import logsumexp

from aacstudy.analysis.retrieval.normalise import check

SINKHORN_ROUNDS = 50


def log_mean_exp(scores) -> np.ndarray:
    """Log of the mean over audios of exp(scores) `[audios, captions]`: `[captions]`, a caption's
    prior in the bank."""
    scores, _ = check(scores)
    return logsumexp(scores, axis=0) - np.log(len(scores))


def pmi(scores, bank=None, alpha: float = 1.0, prior=None) -> np.ndarray:
    """Subtract `alpha` times each caption's log-prior: log p(c|a) − α log p̂(c).

    scores: sums of log-probabilities. prior `[captions]`: log p̂ from null audio or from a language
    model, else the bank's `log_mean_exp`. With α = 1 this is pointwise mutual information.
    """
    scores, bank = check(scores, bank)
    if prior is None:
        prior = log_mean_exp(bank)
    prior = np.asarray(prior, dtype=np.float64)
    if prior.shape != scores.shape[1:] or not np.isfinite(prior).all():
        raise ValueError(
            f"prior has shape {prior.shape}, expected {scores.shape[1:]}: one finite number per caption"
        )
    return scores - alpha * prior


def inverted_softmax(scores, bank=None, beta: float = 1.0) -> np.ndarray:
    """Log of each caption's soft-max over audios, but for the bank's: s − (1/β) log Σ exp(β s).

    Source: Smith et al., ICLR 2017, there on cosines.
    """
    scores, bank = check(scores, bank)
    return scores - logsumexp(beta * bank, axis=0) / beta


def dual_softmax(scores, bank=None, tau: float = 0.1) -> np.ndarray:
    """Log of exp(s) times each caption's soft-max of s/τ over the audios; always transductive.

    The product is of the likelihood, as s itself is negative and a factor below 1 would raise it.
    Source: Cheng et al. 2021 (arXiv 2109.04290), there on cosines.
    """
    scores = _pooled(scores, bank)
    return scores + scores / tau - logsumexp(scores / tau, axis=0)


def csls(scores, bank=None, across=None, k: int = 10) -> np.ndarray:
    """Cross-domain similarity local scaling: 2s − r(a) − r(c), r the mean of the top k at most.

    bank `[bank audios, captions]` gives r(c), across `[audios, bank captions]` gives r(a); without
    them the scores do. Source: Conneau et al., ICLR 2018.
    """
    scores, bank = check(scores, bank)
    _, across = check(scores, across, axis=0)
    return 2 * scores - _top_mean(across.T, k)[:, None] - _top_mean(bank, k)


def qb_norm(scores, bank=None, beta: float = 1.0, k: int = 1) -> np.ndarray:
    """Inverted soft-max for audios whose best caption is in the top k of a bank audio, else scores.

    With the scored audios as bank every best caption is, so that is `inverted_softmax` itself.
    Source: Bogolin et al., CVPR 2022 (dynamic inverted soft-max).
    """
    scores, bank = check(scores, bank)
    k = min(k, bank.shape[1])
    hubs = np.zeros(bank.shape[1], dtype=bool)
    hubs[np.argpartition(bank, -k, axis=1)[:, -k:]] = True
    chosen = hubs[scores.argmax(axis=1)]  # [audios]
    return np.where(chosen[:, None], inverted_softmax(scores, bank, beta), scores)


def double_centre(scores, bank=None, across=None) -> np.ndarray:
    """Subtract each caption's and each audio's mean and add the grand mean; banks as in `csls`.

    The grand mean changes no ranking; it is the bank's.
    """
    scores, bank = check(scores, bank)
    _, across = check(scores, across, axis=0)
    return scores - bank.mean(axis=0) - across.mean(axis=1, keepdims=True) + bank.mean()


def sinkhorn(scores, bank=None, across=None, tau: float = 0.1, rounds: int = SINKHORN_ROUNDS) -> np.ndarray:
    """Log of exp(s/τ) with rows and columns normalised to equal sums in turn; always transductive.

    Captions come last, so each caption's column sums to exactly 1. Source: Cuturi, NeurIPS 2013.
    """
    scores = _pooled(scores, bank, across)
    log_kernel = scores / tau
    # Now every row and column holds a 1, so no sum can underflow.
    log_kernel -= log_kernel.max(axis=0)
    log_kernel -= log_kernel.max(axis=1, keepdims=True)
    kernel = np.exp(log_kernel)
    audios, captions = scores.shape
    of_caption = np.ones(captions)
    for _ in range(rounds):
        of_audio = captions / audios / (kernel @ of_caption)
        of_caption = 1 / (of_audio @ kernel)
    return log_kernel + np.log(of_audio)[:, None] + np.log(of_caption)


def _pooled(scores, *banks) -> np.ndarray:
    if any(bank is not None for bank in banks):
        raise ValueError("this normalisation is of the whole pool: it has no use for a bank")
    return check(scores)[0]


def _top_mean(scores, k: int) -> np.ndarray:
    """Mean of the k largest of each column."""
    k = min(k, len(scores))
    return np.partition(scores, len(scores) - k, axis=0)[len(scores) - k :].mean(axis=0)
