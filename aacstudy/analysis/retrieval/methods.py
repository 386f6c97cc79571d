"""The grid of normalisations: which, on which pool, with which bank, with which parameter.

A2T ranks captions for an audio, so there each caption is normalised; T2A ranks audios for a
caption, so there each audio is. Methods that use both axes give one matrix for both directions.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from aacstudy.analysis.retrieval import compete, normalise

ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
BETAS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)  # per nat; of sums 1 is the likelihood itself
TAUS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # nats per token
NEIGHBOURS = (1, 2, 5, 10, 20, 50)
DIRECTIONS = ("a2t", "t2a")
TRANSDUCTIVE, ONLINE = "transductive", "online"


@dataclass(frozen=True)
class Pool:
    """One audio × caption matrix, and what its normalisations may know beside it.

    nll `[audios, captions]`: sums of −log p; tokens, owners `[captions]`. The banks are sums of the
    same model: audio_bank `[bank audios, captions]`, caption_bank `[audios, bank captions]` with
    caption_bank_tokens; None where there is none. priors: log-probabilities `[captions]`.
    """

    nll: np.ndarray
    tokens: np.ndarray
    owners: np.ndarray
    audio_bank: np.ndarray | None = None
    caption_bank: np.ndarray | None = None
    caption_bank_tokens: np.ndarray | None = None
    priors: dict[str, np.ndarray] = field(default_factory=dict)

    def scores(self, sums: bool = False) -> np.ndarray:
        """Log-likelihoods, float64 `[audios, captions]`: per token, or sums."""
        scores = -self.nll.astype(np.float64)
        return scores if sums else scores / self.tokens

    def banks(self, sums: bool = False) -> tuple[np.ndarray | None, np.ndarray | None]:
        """The banks of audios and of captions in the scores' unit."""
        audios, captions = (
            None if bank is None else -bank.astype(np.float64)
            for bank in (self.audio_bank, self.caption_bank)
        )
        if not sums:
            audios = None if audios is None else audios / self.tokens
            captions = None if captions is None else captions / self.caption_bank_tokens
        return audios, captions


@dataclass(frozen=True)
class Method:
    """A normalisation and how it is used.

    sums: works on sums instead of means per token. parameter, choices: what is tuned, and among
    which values; default where nothing can be tuned. prior: takes this entry of the pool's priors,
    needs no other audio, is for captions only. both: uses both axes. pooled: needs the whole pool.
    """

    name: str
    function: Callable
    sums: bool = False
    parameter: str = ""
    choices: tuple[float, ...] = ()
    default: float | None = None
    prior: str = ""
    both: bool = False
    pooled: bool = False

    def marks(self, pool: Pool, direction: str) -> tuple[str, ...]:
        """How it can be used on a pool: without other data, with a bank, or not at all."""
        if self.function is normalise.raw:
            return (ONLINE,)
        if self.prior:
            return (ONLINE,) if direction == "a2t" and self.prior in pool.priors else ()
        needed = (
            (pool.audio_bank, pool.caption_bank)
            if self.both
            else ((pool.audio_bank,) if direction == "a2t" else (pool.caption_bank,))
        )
        possible = not self.pooled and all(bank is not None for bank in needed)
        return (TRANSDUCTIVE, ONLINE) if possible else (TRANSDUCTIVE,)

    def apply(self, pool: Pool, direction: str, mark: str, value: float | None = None) -> np.ndarray:
        """Scores `[audios, captions]` of a pool for one direction; `value` is the parameter's."""
        scores = pool.scores(self.sums)
        if self.function is normalise.raw:
            return scores
        settings = {self.parameter: value} if self.parameter else {}
        if self.prior:
            return self.function(scores, prior=pool.priors[self.prior], **settings)
        audios, captions = pool.banks(self.sums) if mark == ONLINE else (None, None)
        if self.both:
            return self.function(scores, audios, captions, **settings)
        if direction == "t2a":
            return normalise.per_audio(self.function)(scores, captions, **settings)
        return self.function(scores, audios, **settings)


METHODS = (
    Method("raw", normalise.raw),
    Method("raw_sum", normalise.raw, sums=True),
    Method("min_max", normalise.min_max),
    Method("shift_min", normalise.shift_min),
    Method("divide_range", normalise.divide_range),
    Method("centre", normalise.centre),
    Method("centre_sum", normalise.centre, sums=True),
    Method("scale", normalise.scale),
    Method("z", normalise.z_score),
    Method("robust_z", normalise.robust_z),
    Method("percentile", normalise.percentile),
    Method("pmi", compete.pmi, True, "alpha", ALPHAS, 1.0),
    Method("pmi_silence", compete.pmi, True, "alpha", ALPHAS, 1.0, prior="silence"),
    Method("pmi_noise", compete.pmi, True, "alpha", ALPHAS, 1.0, prior="noise"),
    Method("pmi_mean_frame", compete.pmi, True, "alpha", ALPHAS, 1.0, prior="mean_frame"),
    Method("pmi_trigram", compete.pmi, True, "alpha", ALPHAS, 1.0, prior="trigram"),
    Method("inverted_softmax", compete.inverted_softmax, False, "beta", BETAS, 10.0),
    Method("dual_softmax", compete.dual_softmax, False, "tau", TAUS, 0.1, pooled=True),
    Method("csls", compete.csls, False, "k", NEIGHBOURS, 10, both=True),
    Method("qb_norm", compete.qb_norm, False, "beta", BETAS, 10.0),
    Method("double_centre", compete.double_centre, both=True),
    Method("sinkhorn", compete.sinkhorn, False, "tau", TAUS, 0.1, both=True, pooled=True),
)


def tune(method: Method, pool: Pool | None, direction: str, mark: str) -> float | None:
    """The parameter value of best mean reciprocal rank on a pool that is not the test pool.

    None for a method without parameter; its default where there is no pool, or the pool lacks what
    the mark needs. Equal values: the first of the choices.
    """
    if not method.parameter:
        return None
    if pool is None or mark not in method.marks(pool, direction):
        return method.default
    found = [
        reciprocal_rank(method.apply(pool, direction, mark, value), pool.owners, direction)
        for value in method.choices
    ]
    return method.choices[int(np.argmax(found))]


def reciprocal_rank(scores, owners, direction: str) -> float:
    """Mean over queries of 1 / rank of the best relevant item, ties counted in its favour; quick,
    for tuning."""
    own = scores[owners, np.arange(len(owners))]  # [captions]
    if direction == "t2a":
        ranks = 1 + np.count_nonzero(scores > own, axis=0)  # [captions]
    else:
        best = np.full(len(scores), -np.inf)
        np.maximum.at(best, owners, own)
        ranks = 1 + np.count_nonzero(scores > best[:, None], axis=1)[np.isfinite(best)]  # [audios]
    return float(np.mean(1 / ranks))
