"""Post-hoc normalisations of the score matrix: pure functions `(scores, bank=None) -> scores`.

Rows are audios, columns are captions, a higher score is better. Each function here rescales every caption column
by an increasing map, so it can change audio-to-text results only: the order of audios under one caption stays.

*Transductive* (`bank=None`): the statistics come from the scored audios themselves, that is from the whole test
pool, which a system that answers one query at a time does not have. *Online* (`bank` given): they come from other
audios, `bank [bank audios, captions]` with the same captions, so the result for an audio does not depend on which
others are tested beside it.

Errors: ValueError for a value that is not finite (naming row and column) and for a bank of other captions.
"""

import numpy as np


def raw(scores, bank=None) -> np.ndarray:
    """Return the scores unchanged, as float64 `[audios, captions]`; `bank` is only checked."""
    scores, _ = _check(scores, bank)
    return scores


def min_max(scores, bank=None) -> np.ndarray:
    """Map each caption's scores so that the bank's lowest becomes 0 and its highest 1.

    scores `[audios, captions]`, bank `[bank audios, captions]` or None. Values outside the bank's range are not
    clipped: clipping would tie them. A column that is constant in the bank gives 0.5 everywhere: it carries no
    information. Transductive use gives each caption an exact 1, so an audio that is the best of several captions
    has them tied: state the tie policy (`metrics.evaluate(tie_break=raw scores)` is the authors').
    Source: arXiv 2308.15090, there on losses (lowest loss 0); here on scores (highest score 1).
    """
    scores, bank = _check(scores, bank)
    low, high = bank.min(axis=0), bank.max(axis=0)  # [captions]
    constant = low == high
    span = np.where(constant, 1.0, high - low)
    return np.where(constant, 0.5, (scores - low) / span)


def z_score(scores, bank=None) -> np.ndarray:
    """Centre each caption's scores at the bank's mean, in units of the bank's standard deviation.

    scores `[audios, captions]`, bank `[bank audios, captions]` or None. The deviation is the population's (divided
    by the number of audios). A column that is constant in the bank gives 0 everywhere.
    """
    scores, bank = _check(scores, bank)
    # Equality, not a deviation of 0: rounding can leave a constant column a deviation of 1e-17.
    constant = bank.min(axis=0) == bank.max(axis=0)
    deviation = np.where(constant, 1.0, bank.std(axis=0))
    return np.where(constant, 0.0, (scores - bank.mean(axis=0)) / deviation)


NORMALISERS = {"raw": raw, "min_max": min_max, "z": z_score}


def _check(scores, bank):
    scores = _finite("scores", scores)
    if bank is None:
        return scores, scores
    bank = _finite("bank", bank)
    if bank.shape[1] != scores.shape[1]:
        raise ValueError(
            f"bank has {bank.shape[1]} captions, scores {scores.shape[1]}: they must be the same captions"
        )
    return scores, bank


def _finite(name, matrix):
    matrix = np.array(matrix, dtype=np.float64)
    if matrix.ndim != 2 or matrix.size == 0:
        raise ValueError(
            f"{name} has shape {matrix.shape}, expected [audios, captions] with at least one element"
        )
    bad = ~np.isfinite(matrix)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise ValueError(f"{name} has {matrix[row, column]} at row {row}, column {column}: it must be finite")
    return matrix
