"""Two systems in a row: the first finds some items for each query, the second orders these."""

import numpy as np

from aacstudy.analysis.retrieval.normalise import check


def rerank(first, second, depth: int = 10, direction: str = "t2a") -> np.ndarray:
    """Scores of a first system whose top ``depth`` of each query a second system puts in order.

    first, second `[audios, captions]`, higher is better; direction ``t2a`` (captions search audios)
    or ``a2t``, the only one in which the result `[audios, captions]` may be ranked. What lies
    behind the top keeps its order; items that tie at the cut all get in. ValueError for unequal
    shapes, another direction or a depth below 1.
    """
    first, second = check(first)[0], check(second)[0]
    if first.shape != second.shape or depth < 1 or direction not in ("t2a", "a2t"):
        raise ValueError(
            f"cannot rerank {first.shape} by {second.shape}: depth {depth}, direction {direction!r}"
        )
    axis = 0 if direction == "t2a" else 1  # the items of a query
    place = first.shape[axis] - min(depth, first.shape[axis])
    cut = np.take(np.partition(first, place, axis=axis), [place], axis=axis)
    above_all = second - second.min() + first.max() + 1
    return np.where(first >= cut, above_all, first)
