"""Normalisations of captions by location and scale: pure functions `(scores, bank=None)`.

Rows are audios, columns are captions, a higher score is better (score = -loss). Each function maps
every caption column by a strictly increasing map (`percentile` by one that ties), so it can change
audio-to-text results only: the order of audios under a caption stays. `per_audio` turns the axis.

*Transductive* (`bank=None`): the statistics come from the scored audios themselves, that is from
the whole test pool, which a system that answers one query at a time does not have. *Online* (`bank`
given): they come from other audios, `bank [bank audios, captions]` with the same captions, so the
result for an audio does not depend on which others are tested beside it.

Errors: ValueError for a value that is not finite, with its place, or a bank of other captions.
"""

from collections.abc import Callable

import numpy as np

# Turns the median absolute deviation of normal data into its standard deviation.
_MAD_TO_DEVIATION = 1.4826022185056018


def raw(scores, bank=None) -> np.ndarray:
    """Return the scores unchanged, as float64 `[audios, captions]`; `bank` is only checked."""
    scores, _ = check(scores, bank)
    return scores


def min_max(scores, bank=None) -> np.ndarray:
    """Map each caption's scores so that the bank's lowest becomes 0 and its highest 1.

    Values outside the bank's range are not clipped: clipping would tie them. A column that is
    constant in the bank gives 0.5 everywhere. Transductive use gives each caption an exact 1, so an
    audio that is the best of several captions has them tied: state the tie policy. Source: arXiv
    2308.15090, there on losses (lowest loss 0).
    """
    scores, bank = check(scores, bank)
    low, high = bank.min(axis=0), bank.max(axis=0)  # [captions]
    return _standard(scores, low, high - low, low == high, 0.5)


def z_score(scores, bank=None) -> np.ndarray:
    """Centre each caption's scores at the bank's mean, in units of the bank's standard deviation.

    The deviation is the population's. A column that is constant in the bank gives 0 everywhere.
    """
    scores, bank = check(scores, bank)
    return _standard(scores, bank.mean(axis=0), bank.std(axis=0), _constant(bank), 0.0)


def robust_z(scores, bank=None) -> np.ndarray:
    """As `z_score` with the median and the median absolute deviation, scaled to the normal's.

    A column half of whose bank is one value has none; its standard deviation stands in.
    """
    scores, bank = check(scores, bank)
    middle = np.median(bank, axis=0)  # [captions]
    deviation = _MAD_TO_DEVIATION * np.median(np.abs(bank - middle), axis=0)
    deviation = np.where(deviation > 0, deviation, bank.std(axis=0))
    return _standard(scores, middle, deviation, _constant(bank), 0.0)


def centre(scores, bank=None) -> np.ndarray:
    """Subtract each caption's mean over the bank: the location of `z_score` without its scale."""
    scores, bank = check(scores, bank)
    return scores - bank.mean(axis=0)


def scale(scores, bank=None) -> np.ndarray:
    """Divide by each caption's standard deviation over the bank: `z_score` without its location.

    A column that is constant in the bank is left as it is.
    """
    scores, bank = check(scores, bank)
    return scores / np.where(_constant(bank), 1.0, bank.std(axis=0))


def shift_min(scores, bank=None) -> np.ndarray:
    """Subtract each caption's lowest score in the bank: `min_max` without its scale."""
    scores, bank = check(scores, bank)
    return scores - bank.min(axis=0)


def divide_range(scores, bank=None) -> np.ndarray:
    """Divide by each caption's range in the bank: the scale of `min_max` without its location.

    A column that is constant in the bank is left as it is.
    """
    scores, bank = check(scores, bank)
    return scores / np.where(_constant(bank), 1.0, np.ptp(bank, axis=0))


def percentile(scores, bank=None) -> np.ndarray:
    """Share of the bank's audios that score below, per caption; in [0, 1].

    Ties are many, all beyond the bank's ends among them: break them by the raw scores.
    """
    scores, bank = check(scores, bank)
    ordered = np.sort(bank.T, axis=1)  # [captions, bank audios]
    below = [np.searchsorted(one, column) for one, column in zip(ordered, np.ascontiguousarray(scores.T))]
    return np.stack(below, axis=1) / len(bank)


def per_audio(normalise: Callable) -> Callable:
    """Turn a normalisation of captions into the same one of audios.

    The bank is then `[audios, bank captions]`; text-to-audio is what can change.
    """

    def turned(scores, bank=None, **parameters) -> np.ndarray:
        bank = None if bank is None else np.asarray(bank).T
        return np.ascontiguousarray(normalise(np.asarray(scores).T, bank, **parameters).T)

    return turned


# What the paper compares, and the same without ties; methods.py has all.
NORMALISERS = {"raw": raw, "min_max": min_max, "z": z_score}


def check(scores, bank=None, axis: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Scores and bank (without one the scores) as finite float64 matrices that agree in `axis`."""
    scores = _finite("scores", scores)
    if bank is None:
        return scores, scores
    bank = _finite("bank", bank)
    if bank.shape[axis] != scores.shape[axis]:
        kind = ("audios", "captions")[axis]
        raise ValueError(
            f"bank has {bank.shape[axis]} {kind}, scores {scores.shape[axis]}: they must be the same {kind}"
        )
    return scores, bank


def _constant(bank) -> np.ndarray:
    # Equality, not a deviation of 0: rounding can leave a constant column a deviation of 1e-17.
    return bank.min(axis=0) == bank.max(axis=0)


def _standard(scores, location, spread, constant, without) -> np.ndarray:
    return np.where(constant, without, (scores - location) / np.where(constant, 1.0, spread))


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
