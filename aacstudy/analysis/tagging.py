"""Average precision of a tagger; knows arrays only."""

import numpy as np
from sklearn.metrics import average_precision_score

from aacstudy.analysis.statistics import Interval
from aacstudy.options import StatisticsOptions


def average_precision(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Average precision of each class [classes]; NaN for a class without a positive clip.

    labels bool [clips, classes], scores [clips, classes]. mAP is the mean over classes there.
    """
    present = labels.any(axis=0)
    result = np.full(labels.shape[1], np.nan)
    result[present] = [average_precision_score(labels[:, c], scores[:, c]) for c in np.flatnonzero(present)]
    return result


def mean_average_precision(
    labels: np.ndarray, scores: np.ndarray, options: StatisticsOptions, minus: np.ndarray | None = None
) -> Interval:
    """mAP over the classes that occur, with a bootstrap interval over clips.

    labels bool [clips, classes], scores [clips, classes]. ``minus``: another encoder's scores of
    the same clips, whose mAP is subtracted in every resample: a paired difference.
    """
    means = _resampled(labels, scores, options)
    if minus is not None:
        means = means - _resampled(labels, minus, options)
    tail = (1 - options.confidence) / 2
    low, high = np.quantile(means[1:], [tail, 1 - tail])
    return Interval(float(means[0]), float(low), float(high), len(labels), "clips, one encoder")


def _resampled(labels: np.ndarray, scores: np.ndarray, options: StatisticsOptions) -> np.ndarray:
    """mAP of the sample and of each resample [1 + resamples], the same clips for any scores.

    A resample weighs clips; average precision with weights is that of scikit-learn, for all
    resamples at once.
    """
    rng = np.random.default_rng(options.seed)
    n = len(labels)
    drawn = rng.multinomial(n, np.full(n, 1 / n), size=options.resamples).astype(float)
    weights = np.concatenate([np.ones((1, n)), drawn])  # the first row is the sample itself
    per_class = []
    for c in np.flatnonzero(labels.any(axis=0)):
        order = np.argsort(-scores[:, c], kind="stable")
        w, hit = weights[:, order], labels[order, c]
        # Clips of equal score share one threshold: each counts with all of them, whatever their
        # order.
        threshold = np.searchsorted(-scores[order, c], -scores[order, c], side="right") - 1
        found = np.cumsum(w * hit, axis=1)[:, threshold]
        precision = found / np.maximum(np.cumsum(w, axis=1)[:, threshold], 1e-12)
        with np.errstate(invalid="ignore"):
            per_class.append((precision * w * hit).sum(axis=1) / found[:, -1])
    return np.nanmean(np.stack(per_class), axis=0)
